"""Every file that the libraries bring along to be read by DICOM programs, and the real scans beside us."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pydicom

_TOP = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Specimen:
    """A file, and its name in the table: where it comes from, then its path there."""

    name: str
    path: Path


def specimens() -> Iterator[Specimen]:
    """Yield pydicom's test files, those of `pydicom-data`, and ../shared/data if it is there, in order."""
    folder = Path(pydicom.__file__).parent / "data"
    for part in ("test_files", "charset_files"):
        yield from _below(f"pydicom/{part}", folder / part)
    listed = metadata.files("pydicom-data") or []
    tops = {Path(str(one.locate())).parent for one in listed if one.name == "__init__.py"}
    for top in sorted(tops):
        yield from _below("pydicom-data", top / "data")
    yield from _below("shared", _TOP.parent / "shared" / "data")


def _below(source: str, folder: Path) -> Iterator[Specimen]:
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).as_posix()
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            yield Specimen(f"{source}/{inside}", path)


@dataclass(frozen=True, slots=True)
class Expected:
    """What the table says of a file: `accepted` or a code, and what Orthanc does with it."""

    examination: str
    pacs: str


def expectations() -> dict[str, Expected]:
    """Return the table `corpus.tsv`, by name."""
    lines = Path(__file__).with_name("corpus.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return {name: Expected(examination, pacs) for name, examination, pacs in rows}
