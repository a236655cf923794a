"""Real DICOM files, as many as this machine has, and made ones with native pixels of any kind."""

import importlib.util
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom.data

ROOT = Path(__file__).resolve().parents[2]


def folders() -> dict[str, Path]:
    """Return folders of real files: pydicom's, pydicom-data's, ../shared/data or TEST_SCANS."""
    found = {"pydicom": Path(pydicom.data.__file__).parent / "test_files"}
    spec = importlib.util.find_spec("data_store")
    if spec is not None and spec.submodule_search_locations:
        found["pydicom-data"] = Path(next(iter(spec.submodule_search_locations)))
    scans = Path(os.environ.get("TEST_SCANS", ROOT.parent / "shared" / "data"))
    if scans.is_dir():
        found["scans"] = scans
    return found


def files_of(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder that may be DICOM, in order."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in (".py", ".pyc", ".md", ".txt", ".json", ".sha256"):
            yield path


@dataclass(frozen=True)
class Pixels:
    """What a made file says of its pixels. `trailing`: octets after the pixel data."""

    rows: int
    columns: int
    frames: int = 1
    samples: int = 1
    allocated: int = 16
    stored: int = 16
    signed: bool = False
    planar: bool = False
    photometric: str = "MONOCHROME2"
    syntax: str = "1.2.840.10008.1.2.1"
    private: bytes = b""
    trailing: bytes = b""

    @property
    def octets(self) -> int:
        """How long the pixel data is, without padding."""
        return self.rows * self.columns * self.frames * self.samples * self.allocated // 8


def made_file(pixels: Pixels, data: bytes, uid: str = "2.25.1") -> bytes:
    """Return a Part 10 file with native pixels, whose header is made by hand (PS3.5 §7.1)."""
    big = pixels.syntax.endswith(".2.2")
    implicit = pixels.syntax == "1.2.840.10008.1.2"
    order = ">" if big else "<"

    def element(group: int, number: int, vr: bytes, value: bytes, order: str, implicit: bool) -> bytes:
        value += b"\0" * (len(value) % 2)
        tag = struct.pack(order + "HH", group, number)
        if implicit:
            return tag + struct.pack(order + "I", len(value)) + value
        if vr in (b"OB", b"OW", b"UN"):
            return tag + vr + b"\0\0" + struct.pack(order + "I", len(value)) + value
        return tag + vr + struct.pack(order + "H", len(value)) + value

    def us(value: int) -> bytes:
        return struct.pack(order + "H", value)

    meta = element(2, 0x10, b"UI", pixels.syntax.encode(), "<", False)
    head = [
        (8, 0x18, b"UI", uid.encode()),
        (0x11, 0x10, b"LO", b"MADE"),
        (0x11, 0x1001, b"UN", pixels.private),
    ]
    head += [(0x28, 2, b"US", us(pixels.samples)), (0x28, 4, b"CS", pixels.photometric.encode())]
    head += [(0x28, 6, b"US", us(pixels.planar))] if pixels.samples > 1 else []
    head += [(0x28, 8, b"IS", str(pixels.frames).encode())]
    head += [(0x28, 0x10, b"US", us(pixels.rows)), (0x28, 0x11, b"US", us(pixels.columns))]
    head += [(0x28, 0x100, b"US", us(pixels.allocated)), (0x28, 0x101, b"US", us(pixels.stored))]
    head += [(0x28, 0x102, b"US", us(pixels.stored - 1)), (0x28, 0x103, b"US", us(pixels.signed))]
    made = b"".join(element(*one, order, implicit) for one in head)
    made += element(0x7FE0, 0x10, b"OW" if pixels.allocated > 8 else b"OB", data, order, implicit)
    return bytes(128) + b"DICM" + meta + made + pixels.trailing
