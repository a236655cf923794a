"""Pictures and PDFs: whether they are whole, and how large, by walking their structure.

Runs in the worker process (`node.intake.worker`). Nothing is decoded here. Reading only goes forward, over
the same source as DICOM headers.
"""

import struct
import zlib
from dataclasses import dataclass

from node.intake.headers import BadHeader, Source

SIDE_LIMIT = 65_535  # DICOM counts rows and columns in 16 bits
PIXEL_LIMIT = 1 << 27  # 134 million; a phone's largest has 108

_PIECE = 64 << 10
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_FRAME_HEADERS = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_CHUNK_CHECKED = 1 << 20
_PARTS_LIMIT = 50_000  # 256 MiB in chunks of 8 KiB are 32,768


@dataclass(frozen=True, slots=True)
class Picture:
    """Width and height in pixels as they are stored; a PDF has none."""

    width: int | None = None
    height: int | None = None


def look_at_jpeg(source: Source, size: int) -> Picture:
    """Walk the segments of a JPEG to the end of its image (ITU-T T.81 §B.1).

    Raises:
        BadHeader: `picture-damaged`, `truncated` or `picture-too-large`.
    """
    at, picture = 2, None
    for _ in range(_PARTS_LIMIT):
        head = _take(source, at, 4)
        if head[0] != 0xFF:
            raise BadHeader("picture-damaged")
        marker = head[1]
        if marker == 0xFF:  # a fill octet
            at += 1
            continue
        if marker in _STANDALONE:
            at += 2
            continue
        if marker == 0xD9 or (marker == 0xDA and picture is None):
            raise BadHeader("picture-damaged")
        (length,) = struct.unpack_from(">H", head, 2)
        if length < 2:
            raise BadHeader("picture-damaged")
        if marker in _FRAME_HEADERS and picture is None:
            height, width = struct.unpack_from(">HH", _take(source, at + 5, 4))
            picture = _measured(width, height)
        at += 2 + length
        if marker == 0xDA and picture is not None:
            _find(source, at, size, b"\xff\xd9")
            return picture
    raise BadHeader("picture-damaged")


def look_at_png(source: Source, size: int) -> Picture:
    """Walk the chunks of a PNG (RFC 2083 §3.2), and check those that matter by their CRC.

    Raises:
        BadHeader: `picture-damaged`, `truncated` or `picture-too-large`.
    """
    head = _take(source, 8, 16)
    length, name, width, height = struct.unpack_from(">I4sII", head)
    if name != b"IHDR" or length != 13:
        raise BadHeader("picture-damaged")
    picture, at, seen_data = _measured(width, height), 8, False
    for _ in range(_PARTS_LIMIT):
        length, name = struct.unpack_from(">I4s", _take(source, at, 8))
        if length > 1 << 31 or not name.isalpha():
            raise BadHeader("picture-damaged")
        if at + 12 + length > size:
            raise BadHeader("truncated")
        if length <= _CHUNK_CHECKED:
            body = _take(source, at + 4, length + 8)
            if zlib.crc32(body[: length + 4]) != struct.unpack_from(">I", body, length + 4)[0]:
                raise BadHeader("picture-damaged")
        seen_data = seen_data or name == b"IDAT"
        at += 12 + length
        if name == b"IEND":
            if not seen_data:
                raise BadHeader("picture-damaged")
            return picture
    raise BadHeader("picture-damaged")


def look_at_pdf(source: Source, size: int) -> Picture:
    """Check that a PDF has its end (ISO 32000-1 §7.5.5: within the last 1024 octets).

    Raises:
        BadHeader: `truncated`.
    """
    _find(source, max(0, size - 2048), size, b"%%EOF")
    return Picture()


LOOKS = {"jpeg": look_at_jpeg, "png": look_at_png, "pdf": look_at_pdf}
"""By kind, as `node.intake.detect.Content` names it."""


def _measured(width: int, height: int) -> Picture:
    if not width or not height:
        raise BadHeader("picture-damaged")
    if max(width, height) > SIDE_LIMIT or width * height > PIXEL_LIMIT:
        raise BadHeader("picture-too-large")
    return Picture(width, height)


def _take(source: Source, at: int, size: int) -> bytes:
    data = source.fetch(at, size)
    if len(data) < size:
        raise BadHeader("truncated")
    return data[:size]


def _find(source: Source, at: int, size: int, wanted: bytes) -> None:
    """Go forward to some octets; without them the file is cut off."""
    while at + len(wanted) <= size:
        data = source.fetch(at, _PIECE)
        if wanted in data:
            return
        at += max(1, len(data) - len(wanted) + 1)
    raise BadHeader("truncated")
