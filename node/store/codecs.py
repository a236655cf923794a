"""Codecs: how an instance's bytes are made smaller before they are sealed, and brought back bit for bit.

Called by the vault. A codec is trusted only after what it made was decoded and found equal. A codec that
needs to understand the instance (JPEG-LS of native pixels) joins `_CODERS` and returns None where it does
not apply. Home of zstandard.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Protocol, cast

import zstandard

from node.errors import CodecUnknown, StoreDamaged

STORED = "stored"
ZSTD = "zstd"

WHOLE_BYTES = 4 * 1024 * 1024  # instances up to this size are coded as one, larger ones in pieces
PIECE_BYTES = (
    4 * 1024 * 1024
)  # each is a frame of its own: only whole frames are coded without the interpreter

_LEVEL = 3  # real CT: 218 MB/s a core to 0.40 of the size; level 1: 352 to 0.44; level 6: 84 to 0.39
_WORTH_IT = 0.97  # of the size; below, decoding costs less than what is carried
_WINDOW_BYTES = 8 * 1024 * 1024  # no frame may ask for more memory than this
_READ_BYTES = 256 * 1024


class Source(Protocol):
    """Something to read coded bytes from."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` octets; none at the end."""


@dataclass(frozen=True, slots=True)
class Coded:
    """An instance as it goes into the stream."""

    codec: str
    data: bytes = field(repr=False)


class _Contexts(threading.local):
    """zstd contexts cost a megabyte to make and serve one thread at a time."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES)


_contexts = _Contexts()


def _zstd(data: bytes) -> bytes | None:
    """Return one frame, or None if it does not decode to the same bytes."""
    coded = _contexts.compressor.compress(data)
    return coded if _contexts.decompressor.decompress(coded, max_output_size=len(data)) == data else None


# Each returns the coded bytes, already decoded again and compared, or None if it cannot.
_CODERS: dict[str, Callable[[bytes], bytes | None]] = {ZSTD: _zstd}


def code(data: bytes) -> Coded:
    """Return the smallest form that decodes to the same bytes, of an instance or of its first piece."""
    tried = [Coded(name, coded) for name, coder in _CODERS.items() if (coded := coder(data)) is not None]
    best = min(tried, key=lambda result: len(result.data), default=Coded(STORED, data))
    return best if len(best.data) <= _WORTH_IT * len(data) else Coded(STORED, data)


def code_next(codec: str, data: bytes) -> Coded:
    """Return a further piece of an instance, in the codec that `code` chose for the first.

    Raises:
        StoreDamaged: what was coded does not decode to the same bytes.
    """
    coded = data if codec == STORED else _CODERS[codec](data)
    if coded is None:
        raise StoreDamaged("an instance was coded wrongly")
    return Coded(codec, coded)


def decode(codec: str, source: Source, size: int) -> Iterator[bytes]:
    """Yield the original bytes, in pieces; memory stays bounded whatever the source claims.

    The caller checks the digest.

    Raises:
        CodecUnknown: this program is too old for the codec.
        StoreDamaged: the coded bytes are malformed, or make more or less than `size` octets.
    """
    try:
        pieces = _DECODERS[codec](source)
    except KeyError:
        raise CodecUnknown("a codec that this program does not know") from None
    left = size
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            break
        yield piece
    if left:
        raise StoreDamaged("an instance decodes to another size")


def _decode_stored(source: Source) -> Iterator[bytes]:
    while piece := source.read(_READ_BYTES):
        yield piece


def _decode_zstd(source: Source) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES)
    try:
        with decompressor.stream_reader(
            cast(IO[bytes], source), read_size=_READ_BYTES, closefd=False
        ) as reader:
            while piece := reader.read(_READ_BYTES):
                yield piece
    except zstandard.ZstdError:
        raise StoreDamaged("an instance does not decode") from None


_DECODERS: dict[str, Callable[[Source], Iterator[bytes]]] = {STORED: _decode_stored, ZSTD: _decode_zstd}
