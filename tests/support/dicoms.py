"""DICOM files and ZIPs for tests of the intake."""

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence

import pydicom
from pydicom.uid import ExplicitVRLittleEndian
from support.slices import made_slice

DEFLATED = "1.2.840.10008.1.2.1.99"
UID_ROOT = "2.25."


def element(group: int, number: int, vr: str, value: bytes) -> bytes:
    """Return one element in explicit VR little endian."""
    if len(value) % 2:
        value += b"\0" if vr in ("UI", "OB") else b" "
    head = struct.pack("<HH2s", group, number, vr.encode())
    if vr in ("OB", "OW", "SQ", "UN", "UT"):
        return head + struct.pack("<HI", 0, len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def meta(syntax: str = ExplicitVRLittleEndian, class_uid: str = "1.2.840.10008.5.1.4.1.1.2") -> bytes:
    """Return file meta information without its preamble."""
    rest = (
        element(2, 1, "OB", b"\0\1")
        + element(2, 2, "UI", class_uid.encode())
        + element(2, 3, "UI", b"2.25.1")
        + element(2, 0x10, "UI", syntax.encode())
    )
    return element(2, 0, "UL", struct.pack("<I", len(rest))) + rest


def part10(data_set: bytes, **of_meta: str) -> bytes:
    """Return a Part 10 file around an encoded data set."""
    return bytes(128) + b"DICM" + meta(**of_meta) + data_set


def header(
    *, study: int = 1, number: int = 1, charset: str = "ISO_IR 192", name: bytes = b"Doe^Jane"
) -> bytes:
    """Return the elements that an instance needs, up to group 0020."""
    return b"".join(
        (
            element(8, 5, "CS", charset.encode()),
            element(8, 0x16, "UI", b"1.2.840.10008.5.1.4.1.1.2"),
            element(8, 0x18, "UI", f"{UID_ROOT}{study}.1.{number}".encode()),
            element(8, 0x20, "DA", b"20260102"),
            element(8, 0x60, "CS", b"CT"),
            element(8, 0x1030, "LO", b"Chest"),
            element(0x10, 0x10, "PN", name),
            element(0x10, 0x20, "LO", f"P{study}".encode()),
            element(0x20, 0x0D, "UI", f"{UID_ROOT}{study}".encode()),
            element(0x20, 0x0E, "UI", f"{UID_ROOT}{study}.1".encode()),
            element(0x20, 0x11, "IS", b"1"),
        )
    )


PIXELS = element(0x7FE0, 0x10, "OW", bytes(500))


def deflated(data_set: bytes) -> bytes:
    """Return a Part 10 file in the deflated transfer syntax."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return part10(packer.compress(data_set) + packer.flush(), syntax=DEFLATED)


def encapsulated(fragments: list[bytes], *, study: int = 1, number: int = 1) -> bytes:
    """Return a file with encapsulated pixel data and an empty offset table."""
    items = [struct.pack("<HHI", 0xFFFE, 0xE000, len(data)) + data for data in (b"", *fragments)]
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF) + b"".join(items)
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return part10(header(study=study, number=number) + pixels + end, syntax="1.2.840.10008.1.2.4.50")


def dicomdir(listed: Sequence[str] | Mapping[str, str]) -> bytes:
    """Return a DICOMDIR that lists instances: paths with their UIDs, or UIDs alone."""
    if not isinstance(listed, Mapping):
        listed = {f"DICOM\\IM{number}": uid for number, uid in enumerate(listed, 1)}
    records = b""
    for path, uid in listed.items():
        record = element(4, 0x1430, "CS", b"IMAGE") + element(4, 0x1500, "CS", path.encode())
        record += element(4, 0x1511, "UI", uid.encode()) if uid else b""
        records += struct.pack("<HHI", 0xFFFE, 0xE000, len(record)) + record
    return part10(element(4, 0x1220, "SQ", records), class_uid="1.2.840.10008.1.3.10")


def zip_of(files: Mapping[str, bytes], *, method: int = zipfile.ZIP_STORED) -> bytes:
    """Return a ZIP of named files."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return packed.getvalue()


def study_zip(study: int = 1, slices: int = 3, *, octets: int = 2048, name: str = "Doe^Made") -> bytes:
    """Return a ZIP with the slices of one study, stored."""
    return zip_of({f"IM{n:04}": made_slice(study, n, octets=octets, name=name) for n in range(1, slices + 1)})


def jpeg(width: int, height: int, *, more: bytes = b"") -> bytes:
    """Return the outline of a baseline JPEG: every segment that one needs, and a scan of noise."""

    def segment(marker: int, body: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body

    frame = struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0"
    return b"".join(
        (
            b"\xff\xd8",
            segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0"),
            more,
            segment(0xDB, bytes([0, *range(1, 65)])),
            segment(0xC0, frame),
            segment(0xC4, b"\0" + bytes(16)),
            segment(0xDA, b"\1\1\0\0\x3f\0"),
            b"\x5a" * 400,
            b"\xff\xd9",
        )
    )


def png(width: int, height: int) -> bytes:
    """Return a black PNG of 8 bits."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    lines = zlib.compress(bytes((width + 1) * height))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


def uid_of(part10: bytes) -> str:
    """Return the SOP Instance UID of a file, as pydicom reads it."""
    data = pydicom.dcmread(io.BytesIO(part10), force=True, specific_tags=["SOPInstanceUID"])
    return str(data.SOPInstanceUID)
