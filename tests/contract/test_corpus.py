"""Every file of pydicom's test data, of `pydicom-data` and of our real scans: taken, or refused and why."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.corpus import Specimen, expectations, specimens
from support.dicoms import zip_of

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


def spooled(data: bytes, folder: Path) -> SpoolReader:
    """Return bytes as an upload."""
    path, key = folder / "spool", new_key()
    path.unlink(missing_ok=True)
    writer = SpoolWriter(path, "u", key=key, offset=0, position=0)
    for begin in range(0, len(data), 1 << 20):
        writer.write(data[begin : begin + (1 << 20)])
    writer.close()
    return SpoolReader(path, "u", keys=[(0, key)], position=writer.position, length=len(data))


def outcome(specimen: Specimen, headers: HeaderReader, folder: Path) -> str:
    data = specimen.path.read_bytes()
    with spooled(data, folder) as file:
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


@pytest.mark.parametrize(
    "directory", ["DICOMDIR", "DICOMDIR-bigEnd", "DICOMDIR-implicit", "DICOMDIR-reordered"]
)
def test_a_real_disc_is_whole_or_says_what_is_missing(
    headers: HeaderReader, tmp_path: Path, directory: str
) -> None:
    """The table of contents of a real CD, in each of its codings, with the images that belong to it."""
    top = "pydicom/test_files/dicomdirtests/"
    files = {
        name.removeprefix(top): one.path.read_bytes()
        for name, one in SPECIMENS.items()
        if name.startswith(top) and not name.startswith((f"{top}DICOMDIR", f"{top}TINY", f"{top}README"))
    }
    table = {"DICOMDIR": SPECIMENS[top + directory].path.read_bytes()}
    gone = sorted(files)[7]
    with spooled(zip_of({**table, **files}), tmp_path) as file:
        whole = examine(file, "disc", headers).directory
    with spooled(zip_of({**table, **{n: d for n, d in files.items() if n != gone}}), tmp_path) as file:
        broken = examine(file, "disc", headers).directory

    assert whole is not None and broken is not None
    assert (whole.listed, whole.present, whole.missing) == (31, 31, ())
    assert (broken.listed, broken.present, broken.missing) == (31, 30, (gone,))
