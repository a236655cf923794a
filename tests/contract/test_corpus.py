"""Every file of pydicom's test data, of `pydicom-data` and of our real scans: taken, or refused and why."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.corpus import Specimen, expectations, specimens

from node.intake.detect import DICOM, content_of
from node.intake.dicom import HeaderReader
from node.intake.examine import examine
from node.intake.spool import SpoolReader, SpoolWriter, new_key

EXPECTED = expectations()
SPECIMENS = {one.name: one for one in specimens()}


@pytest.fixture(scope="module")
def headers() -> Iterator[HeaderReader]:
    reader = HeaderReader()
    yield reader
    reader.close()


def outcome(specimen: Specimen, headers: HeaderReader, folder: Path) -> str:
    data, key = specimen.path.read_bytes(), new_key()
    path = folder / "spool"
    path.unlink(missing_ok=True)
    writer = SpoolWriter(path, "u", key=key, offset=0, position=0)
    for begin in range(0, len(data), 1 << 20):
        writer.write(data[begin : begin + (1 << 20)])
    writer.close()
    with SpoolReader(path, "u", keys=[(0, key)], position=writer.position, length=len(data)) as file:
        found = examine(file, specimen.path.name, headers)
    if found.code is not None:
        assert found.studies == ()
        return found.code
    ((instance,),) = (study.instances for study in found.studies)
    assert instance.size == len(data) + len(instance.prefix) // 2
    return "accepted"


def test_each_file_is_taken_or_refused_as_the_table_says(headers: HeaderReader, tmp_path: Path) -> None:
    """Twenty years of odd files from real devices: none is lost for a reason that nobody can name."""
    outcomes = {name: outcome(specimen, headers, tmp_path) for name, specimen in SPECIMENS.items()}

    assert outcomes == {name: EXPECTED[name].examination for name in outcomes}


def test_the_table_names_every_file_and_no_other() -> None:
    """A file that nobody judged proves nothing; the scans beside the checkout may be missing."""
    without_scans = {name for name in EXPECTED if not name.startswith("shared/")}

    assert without_scans <= SPECIMENS.keys() <= EXPECTED.keys()
    assert len(without_scans) > 250


def test_nothing_that_looks_like_dicom_is_left_out_silently() -> None:
    """What is refused with DICOM inside is quarantined, with its bytes, or is a disc's table of contents."""
    left_out = {
        name
        for name, specimen in SPECIMENS.items()
        if EXPECTED[name].examination in ("not-dicom", "other-archive")
        and content_of(specimen.path.read_bytes()) in DICOM
    }

    assert left_out == set()
