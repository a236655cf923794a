"""Where native pixel data lies in a Part 10 file, and what it looks like: hints for the codec, nothing else.

Called by `node.store.units`. The attributes are looked for by their bytes (PS3.5 §7.1), not by parsing: that
costs microseconds for headers of hundreds of elements, and needs no trust. A hint that is wrong (an icon's
rows, a value that looks like an element) costs size and never a bit, because what was coded is decoded again
and compared before it is believed.
"""

from dataclasses import dataclass
from typing import Literal

_UNCOMPRESSED = {
    b"1.2.840.10008.1.2": "implicit",
    b"1.2.840.10008.1.2.1": "explicit",
    b"1.2.840.10008.1.2.2": "big",
}
_SYNTAX = b"\x02\x00\x10\x00UI"  # group 0002 is always Explicit VR Little Endian (PS3.10 §7.1)
_GROUP_0002_BYTES = 4096
_HEADER_BYTES = 1 << 20  # pixel data that begins later is left to zstd
_UNDEFINED = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Native:
    """Native pixel data (7FE0,0010) and how to read it. `offset` and `length` in octets of the file."""

    offset: int
    length: int
    rows: int
    columns: int
    samples: int
    allocated: int  # bits
    stored: int  # bits
    signed: bool
    planar: bool  # Planar Configuration 1
    rgb: bool
    big_endian: bool


def find_native(head: bytes, size: int) -> Native | None:
    """Find native pixel data of 8 or 16 bits in a file of `size` octets that begins with `head`."""
    if head[128:132] != b"DICM":
        return None
    coding = _UNCOMPRESSED.get(_syntax(head[:_GROUP_0002_BYTES]))
    if coding is None:
        return None
    place = _pixel_data(head, size, coding)
    if place is None:
        return None
    find = _Finder(head[: place[0]], coding)
    allocated = find.number(0x0100)
    rows, columns, samples = find.number(0x0010), find.number(0x0011), find.number(0x0002) or 1
    if allocated not in (8, 16) or not rows or not columns or samples not in (1, 3):
        return None
    stored = find.number(0x0101) or allocated
    return Native(
        *place,
        rows=rows,
        columns=columns,
        samples=samples,
        allocated=allocated,
        stored=stored if 0 < stored <= allocated else allocated,
        signed=find.number(0x0103) == 1,
        planar=find.number(0x0006) == 1,
        rgb=find.text(0x0004) == b"RGB",
        big_endian=coding == "big",
    )


def _syntax(meta: bytes) -> bytes:
    at = meta.find(_SYNTAX, 132)
    if at < 0:
        return b""
    length = int.from_bytes(meta[at + 6 : at + 8], "little")
    return meta[at + 8 : at + 8 + length].rstrip(b"\0 ")


def _pixel_data(head: bytes, size: int, coding: str) -> tuple[int, int] | None:
    """Return offset and length of the largest value that looks like (7FE0,0010) and fits into the file."""
    order: Literal["little", "big"] = "big" if coding == "big" else "little"
    tag = b"\x7f\xe0\x00\x10" if coding == "big" else b"\xe0\x7f\x10\x00"
    best: tuple[int, int] | None = None
    at = 132
    while (at := head.find(tag, at, _HEADER_BYTES)) >= 0:
        start = at + 8 if coding == "implicit" else at + 12
        length = int.from_bytes(head[start - 4 : start], order)
        whole = coding == "implicit" or head[at + 4 : at + 6] in (b"OW", b"OB")
        if whole and 0 < length <= min(size - start, _UNDEFINED - 1) and (not best or length > best[1]):
            best = start, length
            at = start + length  # its own octets are no elements
            continue
        at += 4
    return best


class _Finder:
    """Looks for elements of group 0028 with a fixed length."""

    def __init__(self, header: bytes, coding: str) -> None:
        self._header = header
        self._coding = coding
        self._order: Literal["little", "big"] = "big" if coding == "big" else "little"

    def number(self, element: int) -> int | None:
        """Return a value of VR US."""
        length = (2).to_bytes(4 if self._coding == "implicit" else 2, self._order)
        value = self._value(element, b"US", length)
        return None if value is None else int.from_bytes(value[:2], self._order)

    def text(self, element: int) -> bytes:
        """Return the first octets of a value of VR CS, as far as three and without its padding."""
        if self._coding == "implicit":
            value = self._value(element, b"", (4).to_bytes(4, "little"))
        else:
            value = self._value(element, b"CS", (4).to_bytes(2, self._order))
        return b"" if value is None else value[:4].rstrip(b"\0 ")

    def _value(self, element: int, vr: bytes, length: bytes) -> bytes | None:
        wanted = (0x0028).to_bytes(2, self._order) + element.to_bytes(2, self._order)
        wanted += length if self._coding == "implicit" else vr + length
        at = self._header.find(wanted, 132)
        return None if at < 0 else self._header[at + len(wanted) : at + len(wanted) + 4]
