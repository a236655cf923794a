"""When two files are the same image: the last look before the only other copy is erased."""

from io import BytesIO

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless
from support.slices import made_slice, pydicom_file, written

from node.deliver.compare import same_data_set, same_metadata

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

OURS = made_slice(1, 1)


def changed(part10: bytes = OURS, syntax: str = ExplicitVRLittleEndian, **values: object) -> bytes:
    """Return a file with some attributes set, or removed where the value is None."""
    data_set = pydicom.dcmread(BytesIO(part10))
    for keyword, value in values.items():
        if value is None:
            delattr(data_set, keyword)
        else:
            setattr(data_set, keyword, value)
    return written(data_set, syntax)


def test_a_file_written_anew_is_the_same() -> None:
    """Padding, lengths and the file's head are not content."""
    assert same_data_set(OURS, changed())
    assert same_data_set(OURS, changed(syntax=ImplicitVRLittleEndian))


@pytest.mark.parametrize(
    "values",
    [
        {"PatientID": "P2"},
        {"PatientID": None},
        {"PatientComments": "added"},
        {"Rows": 16},
        {"PixelData": None},
        {"PixelData": b"\1" * 2048},
        {"PixelData": b"\0" * 4096},
    ],
)
def test_any_change_of_content_is_seen(values: dict[str, object]) -> None:
    """What was changed, left out or added."""
    assert not same_data_set(OURS, changed(**values))


def test_a_coerced_attribute_is_looked_over_wherever_it_stands() -> None:
    """But the others are not."""
    theirs = changed(PatientID="P2")

    assert same_data_set(OURS, theirs, frozenset({0x00100020}))
    assert not same_data_set(OURS, theirs, frozenset({0x00100010}))


def test_sequences_are_compared_item_by_item() -> None:
    """A lost item of a sequence is a lost part of the image's meaning."""
    items = [Dataset(), Dataset()]
    for number, item in enumerate(items):
        item.CodeValue = str(number)
    both = changed(ProcedureCodeSequence=Sequence(items))
    one = changed(ProcedureCodeSequence=Sequence(items[:1]))
    swapped = changed(ProcedureCodeSequence=Sequence(items[::-1]))

    assert same_data_set(both, changed(both, syntax=ImplicitVRLittleEndian))
    assert not same_data_set(both, one)
    assert not same_data_set(both, swapped)


def test_another_compression_cannot_be_checked_and_is_not_the_same() -> None:
    """The same coded bytes under another name are another image."""
    coded = pydicom_file("JPEG2000.dcm")
    data_set = pydicom.dcmread(BytesIO(coded))

    assert same_data_set(coded, written(data_set, data_set.file_meta.TransferSyntaxUID))
    assert not same_data_set(coded, written(data_set, JPEGBaseline8Bit))
    assert not same_data_set(coded, written(data_set, RLELossless))


@pytest.mark.parametrize("theirs", [b"", b"noise" * 100, OURS[:-500], OURS[:400]])
def test_what_cannot_be_read_is_not_the_same(theirs: bytes) -> None:
    """Half a file is no file."""
    assert not same_data_set(OURS, theirs)


def test_metadata_that_lacks_an_attribute_proves_nothing_and_contradicts_nothing() -> None:
    """Some archives show less than they keep."""
    shown = pydicom.dcmread(BytesIO(OURS)).to_json_dict()
    assert same_metadata(OURS, shown) is True

    assert same_metadata(OURS, shown | {"00100020": {"vr": "LO"}}) is None
    assert same_metadata(OURS, shown | {"00100020": {"vr": "LO", "Value": ["P2"]}}) is False
    assert same_metadata(OURS, shown | {"00280010": {"vr": "US", "Value": [99]}}) is False
