"""Data sets without a header: the file meta information that they lack, made from what they say.

Runs in the worker process (`node.intake.worker`). A PACS takes Part 10 files only (PS3.18 §8.7), so the
header is put in front; the data set itself stays as it is. The same data set always gets the same header.
"""

import struct
from dataclasses import dataclass, field

from node.intake.headers import BIG_ENDIAN, EXPLICIT, IMPLICIT, BadHeader, Source, text

KINDS = frozenset({"headless", "headless-big"})
PREAMBLE = bytes(128) + b"DICM"

_CLASS, _INSTANCE = 0x00080016, 0x00080018
_IMPLEMENTATION = b"2.25.2876111296117392022439180827121289"  # this program, as the writer of the header
_LONG = frozenset({b"OB", b"UN", b"UT", b"SQ", b"OW", b"UC", b"UR"})
_SEARCHED = 16 << 10


@dataclass(frozen=True, slots=True)
class Made:
    """A header, and the transfer syntax that it names."""

    header: bytes = field(repr=False)
    syntax: str


def header_for(source: Source, *, little: bool) -> Made:
    """Return the header of a data set that begins with group 0008.

    Raises:
        BadHeader: `no-uids`; it does not begin with what a header needs.
    """
    data = source.fetch(0, _SEARCHED)[:_SEARCHED]
    order = "<" if little else ">"
    explicit = data[4:6].isalpha() and data[4:6].isupper()
    syntax = (EXPLICIT if little else BIG_ENDIAN) if explicit else IMPLICIT
    found: dict[int, bytes] = {}
    at = 0
    while at + 12 <= len(data) and len(found) < 2:
        group, element = struct.unpack_from(order + "HH", data, at)
        tag, vr = group << 16 | element, data[at + 4 : at + 6]
        if tag > _INSTANCE:
            break
        if not explicit:
            length, head = struct.unpack_from(order + "I", data, at + 4)[0], 8
        elif vr in _LONG:
            length, head = struct.unpack_from(order + "I", data, at + 8)[0], 12
        else:
            length, head = struct.unpack_from(order + "H", data, at + 6)[0], 8
        if tag in (_CLASS, _INSTANCE):
            found[tag] = data[at + head : at + head + length]
        at += head + length
    if len(found) < 2 or any(not 0 < len(text(uid)) <= 64 for uid in found.values()):
        raise BadHeader("no-uids")
    elements = (
        _element(1, b"OB", b"\0\1"),
        _element(2, b"UI", text(found[_CLASS]).encode()),
        _element(3, b"UI", text(found[_INSTANCE]).encode()),
        _element(0x10, b"UI", syntax.encode()),
        _element(0x12, b"UI", _IMPLEMENTATION),
    )
    rest = b"".join(elements)
    return Made(PREAMBLE + _element(0, b"UL", struct.pack("<I", len(rest))) + rest, syntax)


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    """Encode an element of group 0002, explicit VR little endian, padded with NUL."""
    value += b"\0" * (len(value) % 2)
    if vr == b"OB":
        return struct.pack("<HH2sHI", 2, number, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value
