"""Headers: walk a DICOM file from element to element and pick what the examination wants to know.

Runs in the worker process (`node.intake.worker`). pydicom accepts a file whose pixel data end early, and
reads nested sequences recursively; so the structure is checked here, without recursion and without
holding values: every element must end inside the file (PS3.5 §7.1). The few elements that are picked are
left encoded as they came; decoding them is pydicom's part. Reading only goes forward.
"""

import struct
import zlib
from dataclasses import dataclass, field
from typing import Protocol

DICOMDIR = "1.2.840.10008.1.3.10"  # Media Storage Directory Storage
DEFLATED = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"

META_CLASS = 0x00020002
META_SYNTAX = 0x00020010
RECORDS = 0x00041220  # Directory Record Sequence
RECORD_FILE = 0x00041500  # Referenced File ID
RECORD_UID = 0x00041511  # Referenced SOP Instance UID in File
ROWS = 0x00280010
PIXELS = frozenset(
    {0x7FE00008, 0x7FE00009, 0x7FE00010, 0x00287FE0}
)  # or where they are: Pixel Data Provider URL

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_FETCH_BYTES = 64 << 10
_VALUE_LIMIT = 16 << 10
_DEPTH_LIMIT = 10_000
_RECORD_LIMIT = 100_000
_ELEMENT_LIMIT = 1_500_000  # twice what 5,000 frames with 150 elements each would have; a second's work
_INFLATE_RATIO = 200
_INFLATE_FLOOR = 256 << 20  # a black image packs by 1,000, and up to this size it harms no PACS
_INFLATE_STEP = 1 << 20


class BadHeader(Exception):
    """The file is not sound; `code` is one of `node.intake.reasons`. `walked`: what was read before that."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code
        self.walked: Walked | None = None


class Source(Protocol):
    """The octets of a file, read forward only."""

    def fetch(self, at: int, size: int) -> bytes:
        """Return at least `size` octets from `at` on, fewer only at the end.

        Raises:
            BadHeader: `truncated`; the file ends before `at`.
        """


@dataclass(slots=True)
class Walked:
    """What was picked: the encoded elements, how they are encoded, and what a directory's records refer to.

    `rows` and `pixels` say whether it describes an image, and whether it has one; `fragments`, whether that
    is encapsulated.
    """

    meta: dict[int, bytes] = field(default_factory=dict, repr=False)
    picked: bytearray = field(default_factory=bytearray, repr=False)
    implicit: bool = False
    little: bool = True
    records: list[dict[int, bytes]] = field(default_factory=list, repr=False)
    rows: bool = False
    pixels: bool = False
    fragments: bool = False


def walk(source: Source, start: int, wanted: frozenset[int], syntax: str = "") -> Walked:
    """Walk a whole file and pick the elements `wanted` of its top level.

    Args:
        source: the file.
        start: where the file meta information begins: 132, or 0 without a preamble.
        wanted: tags, `group << 16 | element`.
        syntax: of a data set that has no file meta information.

    Raises:
        BadHeader: `truncated`, `malformed`, `too-complex` or `inflates-too-much`.
    """
    walked = Walked()
    try:
        _walk(_Cursor(source, start, little=True), walked, wanted, syntax)
    except BadHeader as error:
        error.walked = walked
        raise
    return walked


def _walk(cursor: "_Cursor", walked: Walked, wanted: frozenset[int], syntax: str) -> None:
    """Fill in `walked` as far as the file is sound."""
    if not syntax:
        _meta(cursor, walked.meta)
    meta, picked, records = walked.meta, walked.picked, walked.records
    syntax = syntax or text(meta.get(META_SYNTAX, b""))
    if not syntax:
        raise BadHeader("malformed")
    if syntax in DEFLATED:
        cursor = _Cursor(_Inflated(cursor.source, cursor.at), 0, little=True)
    cursor.little = walked.little = syntax != BIG_ENDIAN
    implicit = walked.implicit = syntax == IMPLICIT
    directory = text(meta.get(META_CLASS, b"")) == DICOMDIR
    # Containers that we are in: (is it a sequence, are its elements of implicit VR, where it ends if it says)
    stack: list[tuple[bool, bool, int | None]] = []
    elements = 0
    while True:
        while stack and stack[-1][2] is not None and cursor.at >= stack[-1][2]:
            if cursor.at > stack[-1][2]:
                raise BadHeader("malformed")
            stack.pop()
        elements += 1
        if len(stack) > _DEPTH_LIMIT or elements > _ELEMENT_LIMIT:
            raise BadHeader("too-complex")
        begin = cursor.at
        if not cursor.has(8):
            if stack or (cursor.left() and not walked.pixels):
                raise BadHeader("truncated")
            break
        tag = cursor.tag()
        if tag >> 16 == 0xFFFE:
            length = cursor.u32(4)
            cursor.at += 8
            if not stack:
                raise BadHeader("malformed")
            in_sequence, inner, _ = stack[-1]
            if tag == _ITEM and in_sequence:
                if directory and len(stack) == 1:
                    if len(records) == _RECORD_LIMIT:
                        raise BadHeader("too-complex")
                    records.append({})
                if length == _UNDEFINED or (directory and len(stack) == 1):
                    stack.append((False, inner, None if length == _UNDEFINED else cursor.at + length))
                else:
                    cursor.at += length
            elif tag == (_SEQUENCE_END if in_sequence else _ITEM_END):
                stack.pop()
            else:
                raise BadHeader("malformed")
            continue
        if stack and stack[-1][0]:
            raise BadHeader("malformed")
        inside_implicit = stack[-1][1] if stack else implicit
        try:
            vr, length, head = _element(cursor, implicit=inside_implicit)
        except BadHeader:
            if walked.pixels and not stack:
                break  # padding after the pixels, as some writers leave it
            raise
        if length == _UNDEFINED:
            cursor.at += head
            if vr in (b"SQ", b"UN", b""):
                stack.append((True, inside_implicit or vr == b"UN", None))
            else:
                walked.fragments = True
                _skip_fragments(cursor)
        elif directory and tag == RECORDS and not stack:
            cursor.at += head
            stack.append((True, inside_implicit, cursor.at + length))
        else:
            if not stack and tag in wanted and length <= _VALUE_LIMIT:
                picked += cursor.take(head + length)
            elif records and tag in (RECORD_FILE, RECORD_UID) and len(stack) == 2 and length <= 256:
                records[-1][tag] = cursor.take(head + length)[head:]
            cursor.at = begin + head + length
        if not stack:
            walked.rows = walked.rows or tag == ROWS
            walked.pixels = walked.pixels or tag in PIXELS


def text(value: bytes) -> str:
    """Return the text of a UID or code: ASCII, padded with NUL or space (PS3.5 §6.2)."""
    return value.rstrip(b"\0 ").decode("ascii", "replace")


def _meta(cursor: "_Cursor", meta: dict[int, bytes]) -> None:
    """Read the file meta information, which is always explicit VR little endian (PS3.10 §7.1)."""
    while cursor.has(8) and (tag := cursor.tag()) >> 16 == 2:
        _, length, head = _element(cursor, implicit=False)
        if length == _UNDEFINED:
            raise BadHeader("malformed")
        if length <= _VALUE_LIMIT:
            meta[tag] = cursor.take(head + length)[head:]
        cursor.at += head + length


def _element(cursor: "_Cursor", *, implicit: bool) -> tuple[bytes, int, int]:
    """Return an element's VR (empty if implicit), its length and the size of its header."""
    if implicit:
        return b"", cursor.u32(4), 8
    vr = cursor.vr()
    if vr in _LONG_VRS:
        if not cursor.has(12):
            raise BadHeader("truncated")
        return vr, cursor.u32(8), 12
    if not (vr.isalpha() and vr.isupper()):
        raise BadHeader("malformed")
    return vr, cursor.u16(6), 8


def _skip_fragments(cursor: "_Cursor") -> None:
    """Hop over encapsulated pixel data (PS3.5 §A.4)."""
    while True:
        if not cursor.has(8):
            raise BadHeader("truncated")
        tag, length = cursor.tag(), cursor.u32(4)
        cursor.at += 8
        if tag == _SEQUENCE_END:
            return
        if tag != _ITEM or length == _UNDEFINED:
            raise BadHeader("malformed")
        cursor.at += length


class _Cursor:
    """A place in a source, with the octets around it at hand."""

    def __init__(self, source: Source, at: int, *, little: bool) -> None:
        self.at = at
        self.source = source
        self._data = b""
        self._base = at
        self.little = little

    @property
    def little(self) -> bool:
        return self._little

    @little.setter
    def little(self, little: bool) -> None:
        self._little = little
        order = "<" if little else ">"
        self._tag, self._u16, self._u32 = (struct.Struct(order + code) for code in ("HH", "H", "I"))

    def has(self, size: int) -> bool:
        """Say whether `size` octets follow, and have them at hand."""
        if self.at + size <= self._base + len(self._data):
            return True
        self._data = self.source.fetch(self.at, max(size, _FETCH_BYTES))
        self._base = self.at
        return len(self._data) >= size

    def left(self) -> int:
        """Return how many octets follow, after `has` found too few."""
        return len(self._data) - (self.at - self._base)

    def take(self, size: int) -> bytes:
        if not self.has(size):
            raise BadHeader("truncated")
        begin = self.at - self._base
        return self._data[begin : begin + size]

    def tag(self) -> int:
        group, element = self._tag.unpack_from(self._data, self.at - self._base)
        return int(group << 16 | element)

    def vr(self) -> bytes:
        begin = self.at - self._base + 4
        return self._data[begin : begin + 2]

    def u16(self, ahead: int) -> int:
        return int(self._u16.unpack_from(self._data, self.at - self._base + ahead)[0])

    def u32(self, ahead: int) -> int:
        return int(self._u32.unpack_from(self._data, self.at - self._base + ahead)[0])


class _Inflated:
    """The inflated data set of the deflated transfer syntax (PS3.5 §A.5), a step at a time."""

    def __init__(self, source: Source, start: int) -> None:
        self._source = source
        self._start = self._from = start
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._data = b""
        self._base = 0

    def fetch(self, at: int, size: int) -> bytes:
        while self._base + len(self._data) < at + size and self._step(at):
            pass
        if at > self._base + len(self._data):
            raise BadHeader("truncated")
        return self._data[at - self._base :]

    def _step(self, at: int) -> bool:
        """Inflate one more step, and forget what lies before `at`; say whether there was more."""
        if self._inflate.eof:
            return False
        packed = self._inflate.unconsumed_tail
        if not packed:
            packed = self._source.fetch(self._from, _FETCH_BYTES)
            self._from += len(packed)
        try:
            more = self._inflate.decompress(packed, _INFLATE_STEP)
        except zlib.error:
            raise BadHeader("malformed") from None
        if not more and not packed:
            raise BadHeader("truncated")
        data = self._data + more
        drop = min(len(data), max(0, at - self._base))
        self._data, self._base = data[drop:], self._base + drop
        packed_octets = self._from - self._start - len(self._inflate.unconsumed_tail)
        if self._base + len(self._data) > max(_INFLATE_FLOOR, _INFLATE_RATIO * packed_octets):
            raise BadHeader("inflates-too-much")
        return True
