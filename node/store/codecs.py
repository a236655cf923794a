"""Codecs: how instances' bytes are made smaller before they are sealed, and brought back bit for bit.

Called by the vault. A codec is trusted only after what it made was decoded and found equal; what does not
get smaller is stored. Codecs that are decoded and no longer written stay here for ever: a study may come
back after a year.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, Protocol, cast

import zstandard

from node.errors import CodecUnknown, NodeError, StoreDamaged
from node.store import units
from node.store.units import LARGEST_UNIT_BYTES, UNIT_BYTES, Part

log = logging.getLogger(__name__)

STORED = "stored"
ZSTD = "zstd"  # written by version 0.1.0
PACK = "pack"  # units, each behind its length

WHOLE_BYTES = UNIT_BYTES  # instances up to this size are coded whole, larger ones in pieces
PIECE_BYTES = UNIT_BYTES

_WORTH_IT = 0.97  # of the size; below, decoding costs less than what is carried
_WINDOW_BYTES = 8 * 1024 * 1024  # no frame may ask for more memory than this
_READ_BYTES = 256 * 1024
_LENGTH_BYTES = 4
_OF_LIBRARIES = (ImportError, RuntimeError, ValueError, TypeError, ArithmeticError, LookupError, MemoryError)


class Source(Protocol):
    """Something to read coded bytes from."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` octets; none at the end."""


Run = Callable[[Callable[[bytes], bytes], Iterator[bytes]], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class Coded:
    """Instances, or a piece of one, as they go into the stream."""

    codec: str
    data: bytes = field(repr=False)


def code(parts: Sequence[Part]) -> Coded:
    """Return the smaller form, which decodes to the same bytes, of some instances or a first piece."""
    size = sum(len(part.data) for part in parts)
    unit = _verified(parts) or _verified(_plain(parts))
    if unit is not None and len(unit) + _LENGTH_BYTES <= _WORTH_IT * size:
        return Coded(PACK, _framed(unit))
    return Coded(STORED, b"".join(part.data for part in parts))


def code_next(codec: str, part: Part) -> Coded:
    """Return a further piece of an instance, in the codec that `code` chose for the first.

    Raises:
        StoreDamaged: what was coded does not decode to the same bytes.
    """
    if codec == STORED:
        return Coded(STORED, part.data)
    unit = _verified([part]) or _verified(_plain([part]))
    if unit is None:
        raise StoreDamaged("an instance was coded wrongly")
    return Coded(codec, _framed(unit))


def _verified(parts: Sequence[Part]) -> bytes | None:
    """Return a unit, or None if it does not decode to the same bytes; a codec that fails costs size only."""
    try:
        unit = units.pack(parts)
        if _same(units.unpacked(unit), parts):
            return unit
        log.warning("a unit did not come back as it was parts=%d", len(parts))
    except (NodeError, *_OF_LIBRARIES) as error:  # a codec must not keep a study from being kept
        log.warning("a unit was not coded parts=%d error=%s", len(parts), type(error).__name__)
    return None


def _plain(parts: Sequence[Part]) -> list[Part]:
    """Return the same octets, without a word of pixels."""
    return [replace(part, native=None) for part in parts]


def _same(pieces: Iterator[memoryview], parts: Sequence[Part]) -> bool:
    """Tell whether pieces make the same octets as the parts, without a copy of either."""
    wanted = deque(part.data for part in parts)
    at = 0
    for piece in pieces:
        left = piece
        while left:
            while wanted and at == len(wanted[0]):
                wanted.popleft()
                at = 0
            if not wanted:
                return False
            count = min(len(left), len(wanted[0]) - at)
            # Not `==` of memoryviews: that goes octet by octet, 50 times slower, and holds the interpreter.
            if not wanted[0].startswith(left[:count], at):
                return False
            left, at = left[count:], at + count
    return sum(map(len, wanted)) == at


def _framed(unit: bytes) -> bytes:
    return len(unit).to_bytes(_LENGTH_BYTES, "big") + unit


def decode(codec: str, source: Source, size: int, run: Run = map) -> Iterator[bytes]:
    """Yield the original bytes, in pieces; memory stays bounded whatever the source claims.

    The caller checks the digest. `run` maps units to what they hold, in order, maybe ahead.

    Raises:
        CodecUnknown: this program is too old for the codec.
        StoreDamaged: the coded bytes are malformed, or make more or less than `size` octets.
    """
    try:
        decoder = _DECODERS[codec]
    except KeyError:
        raise CodecUnknown("a codec that this program does not know") from None
    pieces = decoder(source, run)
    left = size
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            break
        yield piece
    if left:
        raise StoreDamaged("an instance decodes to another size")


def _decode_stored(source: Source, _run: Run) -> Iterator[bytes]:
    while piece := source.read(_READ_BYTES):
        yield piece


def _decode_zstd(source: Source, _run: Run) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES)
    try:
        with decompressor.stream_reader(
            cast(IO[bytes], source), read_size=_READ_BYTES, closefd=False
        ) as reader:
            while piece := reader.read(_READ_BYTES):
                yield piece
    except zstandard.ZstdError:
        raise StoreDamaged("an instance does not decode") from None


def _decode_pack(source: Source, run: Run) -> Iterator[bytes]:
    yield from run(units.unpack, _units_in(source))


def _units_in(source: Source) -> Iterator[bytes]:
    while length := _read(source, _LENGTH_BYTES):
        size = int.from_bytes(length, "big")
        if len(length) < _LENGTH_BYTES or size > LARGEST_UNIT_BYTES:
            raise StoreDamaged("a unit of an impossible size")
        unit = _read(source, size)
        if len(unit) != size:
            raise StoreDamaged("a unit is cut short")
        yield unit


def _read(source: Source, size: int) -> bytes:
    """Return `size` octets, fewer at the end."""
    pieces: list[bytes] = []
    while size and (piece := source.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


_DECODERS: dict[str, Callable[[Source, Run], Iterator[bytes]]] = {
    STORED: _decode_stored,
    ZSTD: _decode_zstd,
    PACK: _decode_pack,
}
