"""Studies to measure with: CT and MR slices whose noise and headers weigh what real ones do.

Used by the other scripts of this folder. Real CT of 512 kB shrinks by zstd to about 0.43 and so do the made
ones; real MR slices of 27 kB have headers of hundreds of elements, and so have these. Their noise costs
JPEG-LS more than real noise; `scanned_ct` and `scanned_mr` make many slices of the few real ones at hand.
"""

import random
import struct
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian
from support.scans import folders

CT_OCTETS: Final = 512 * 1024
MR_OCTETS: Final = 27_000
_CT, _MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
_TEMPLATE = 9_999_999_999_999  # the study of the patterns
_PATTERNS = 16  # different pixels; the slices' UIDs differ all the same


def ct_study(study: int, slices: int, patterns: int = _PATTERNS) -> list[bytes]:
    """Return a CT of slices of 512 x 512 pixels, as Part 10 bytes; `study`, of 13 digits, makes its UIDs."""
    made = range(min(slices, patterns))
    return _numbered(study, slices, [_slice(_CT, "CT", n, 512, noise=18, texts=40) for n in made])


def mr_study(study: int, slices: int, patterns: int = _PATTERNS) -> list[bytes]:
    """Return an MR of slices of 27 kB, a third of which is their header."""
    made = range(min(slices, patterns))
    return _numbered(study, slices, [_slice(_MR, "MR", n, 96, noise=14, texts=220) for n in made])


def scanned_ct(study: int, slices: int) -> list[bytes]:
    """Return a CT of real slices of 512 x 512 pixels; each has its own UID, and no two the same pixels."""
    return _scanned(study, slices, "ct-ge")


def scanned_mr(study: int, slices: int) -> list[bytes]:
    """Return an MR of real slices of 25 kB, made as `scanned_ct` is."""
    return _scanned(study, slices, "mr-ge/mr_0004")


def uid_of(study: int, number: int) -> str:
    """Return the SOP Instance UID of a slice."""
    return f"2.25.{study}.1{number:06}"


def packed(files: list[bytes], *, descriptors: bool = False) -> bytes:
    """Return a ZIP with stored members as the app makes it, or with sizes after them as the command line."""
    file = BytesIO()
    with zipfile.ZipFile(_Unseekable(file) if descriptors else file, "w", zipfile.ZIP_STORED) as archive:
        for number, data in enumerate(files):
            archive.writestr(f"IM{number:06}", data)
    return file.getvalue()


class _Unseekable:
    """A file that zipfile cannot go back in."""

    def __init__(self, file: BytesIO) -> None:
        self.write, self.flush = file.write, file.flush


def peak_mb(pid: int) -> float:
    """Return the most memory that a process ever held, in MB (VmHWM); 0 when it is gone."""
    return _status_mb(pid, "VmHWM:")


def resident_mb(pid: int) -> float:
    """Return the memory that a process holds now, in MB (VmRSS); 0 when it is gone."""
    return _status_mb(pid, "VmRSS:")


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process and of its children, living or ended, in seconds."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / 100 + sum(map(cpu_s, children(pid)))


def children(pid: int) -> list[int]:
    """Return the living children of a process."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        found += map(int, path.read_text(encoding="ascii").split())
    return found


def _status_mb(pid: int, name: str) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    return int(status.partition(name)[2].split()[0]) * 1024 / 1e6


def _numbered(study: int, slices: int, patterns: list[bytes]) -> list[bytes]:
    """Return slices made from the patterns, with UIDs of their own."""
    return [
        patterns[n % len(patterns)]
        .replace(uid_of(_TEMPLATE, n % len(patterns)).encode(), uid_of(study, n).encode())
        .replace(f"2.25.{_TEMPLATE}".encode(), f"2.25.{study}".encode())
        for n in range(slices)
    ]


def _scanned(study: int, slices: int, name: str) -> list[bytes]:
    """Repeat real slices; each time around their pixels move on by a few, over the edge to the other side."""
    scans = [path.read_bytes() for path in sorted((folders()["scans"] / name).rglob("*.dcm"))]
    return [_as_another(scans[n % len(scans)], study, n, n // len(scans)) for n in range(slices)]


def _as_another(data: bytes, study: int, number: int, moved: int) -> bytes:
    """Return a slice (Explicit VR Little Endian) with other UIDs and moved pixels, else octet for octet."""
    was = dcmread(BytesIO(data))
    before = was.PixelData
    begin = data.rindex(before)
    pixels = np.roll(np.frombuffer(before, "<u2").reshape(was.Rows, was.Columns), 3 * moved, (0, 1))
    head = data[:begin]
    for old, new in (
        (was.SOPInstanceUID, uid_of(study, number)),
        (was.StudyInstanceUID, f"2.25.{study}"),
        (was.SeriesInstanceUID, f"2.25.{study}.2"),
    ):
        head = head.replace(_element(old), _element(new))
    end = 144 + struct.unpack_from("<I", data, 140)[0]  # of group 0002, whose length is its first element
    shorter = len(_element(was.SOPInstanceUID)) - len(_element(uid_of(study, number)))
    head = head[:140] + struct.pack("<I", end - 144 - shorter) + head[144:]
    return head + pixels.tobytes() + data[begin + len(before) :]


def _element(uid: str) -> bytes:
    value = uid.encode() + b"\0" * (len(uid) % 2)
    return b"UI" + struct.pack("<H", len(value)) + value


def _pixels(number: int, side: int, *, noise: float) -> bytes:
    """Return a round body with soft structures and noise, air around it with a little."""
    lots = np.random.default_rng(number)
    y, x = np.mgrid[:side, :side]
    inside = np.hypot(x - side / 2, (y - side / 2) * 1.2) < side * 0.42
    body = inside * (1040 + 40 * np.cos(y / 30 + number) + 40 * np.sin(x / 40))
    grain = lots.normal(0, noise, (side, side)) * np.where(inside, 1.0, 0.2)
    return np.maximum(body + grain, 0).astype("<u2").tobytes()


def _slice(sop_class: str, modality: str, number: int, side: int, *, noise: float, texts: int) -> bytes:
    lots = random.Random(number)
    data = Dataset()
    data.SpecificCharacterSet = "ISO_IR 100"
    data.SOPClassUID = sop_class
    data.SOPInstanceUID = uid_of(_TEMPLATE, number)
    data.StudyInstanceUID = f"2.25.{_TEMPLATE}"
    data.SeriesInstanceUID = f"2.25.{_TEMPLATE}.2"
    data.StudyDate, data.Modality = "20250102", modality
    data.StudyDescription, data.SeriesDescription = "Measured", "Axial"
    data.PatientName, data.PatientID = "Doe^Measured", "M1"
    data.PatientBirthDate, data.PatientSex = "19700101", "O"
    data.InstanceNumber, data.SeriesNumber = number, 1
    data.ImagePositionPatient = ["-120.5", "-120.5", str(number)]
    data.PixelSpacing = ["0.7", "0.7"]
    block = data.private_block(0x0019, "MEASURED 1.0", create=True)
    for element in range(texts):
        block.add_new(element, "LO", f"parameter {element} = {lots.random():.6f}")
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows = data.Columns = side
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.PixelData = _pixels(number, side, noise=noise)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, data.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta = meta
    file = BytesIO()
    dcmwrite(file, data, enforce_file_format=True)
    return file.getvalue()
