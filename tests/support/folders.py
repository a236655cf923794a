"""Folders of files that a person may pick: studies with numbers of their own, of any size."""

import hashlib
import secrets
from pathlib import Path

import pydicom
from pydicom.data import get_testdata_file


def new_uid() -> str:
    """Return a UID that nothing else has."""
    return f"2.25.{secrets.randbits(100)}"


def write_study(
    folder: Path, *, images: int = 3, octets: int = 2048, name: str = "Made^Anna"
) -> dict[str, bytes]:
    """Write a CT of one patient; return the files by SOP Instance UID.

    Args:
        folder: where to; it is made.
        images: how many.
        octets: of the pixels of each.
        name: the patient's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study, series = new_uid(), new_uid()
    files = {}
    for number in range(images):
        slice_ = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
        slice_.PatientName, slice_.PatientID = name, f"ID-{name}"
        slice_.StudyInstanceUID, slice_.SeriesInstanceUID = study, series
        slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = new_uid()
        slice_.InstanceNumber = number + 1
        slice_.Columns = 64
        slice_.Rows = max(1, octets // 128)
        slice_.PixelData = secrets.token_bytes(slice_.Rows * 128)
        path = folder / f"IM{number:04}"
        slice_.save_as(path)
        files[str(slice_.SOPInstanceUID)] = path.read_bytes()
    return files


def cut_off_inside(path: Path) -> None:
    """Make an object without pixels of an image, and cut it off inside a sequence, which no header tells."""
    data = pydicom.dcmread(path)
    for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit"):
        delattr(data, keyword)
    data.save_as(path)
    with path.open("ab") as file:
        file.write(b"\x40\x00\x30\xa7SQ\0\0" + (5000).to_bytes(4, "little") + b"\xfe\xff\x00\xe0\x10\0\0\0")


def digests(files: dict[str, bytes]) -> dict[str, str]:
    """Return the SHA-256 of each file."""
    return {uid: hashlib.sha256(data).hexdigest() for uid, data in files.items()}
