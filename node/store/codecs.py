"""Codecs: how an instance's bytes are made smaller before they are sealed, and brought back bit for bit.

Called by the vault. A codec is trusted only after what it made was decoded and found equal. A codec that
needs to understand the instance (JPEG-LS of native pixels) joins `_WHOLE`: it sees one instance in memory.
Home of zstandard.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Protocol, cast

import zstandard

from node.errors import CodecUnknown, StoreDamaged

STORED = "stored"
ZSTD = "zstd"

WHOLE_BYTES = 8 * 1024 * 1024  # instances up to this size are coded in memory, larger ones as a stream
SAMPLE_BYTES = 1024 * 1024  # from so many of its first octets it is decided how to code a large one

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


def _zstd_whole(data: bytes) -> bytes | None:
    coded = _contexts.compressor.compress(data)
    if len(coded) > _WORTH_IT * len(data):
        return None
    back = _contexts.decompressor.decompress(coded, max_output_size=len(data))
    return coded if back == data else None


# Each returns the coded bytes, already decoded again and compared, or None if it cannot or should not.
_WHOLE: dict[str, Callable[[bytes], bytes | None]] = {ZSTD: _zstd_whole}


def code(data: bytes) -> Coded:
    """Return the smallest form of a whole instance that decodes to the same bytes."""
    tried = [Coded(name, coded) for name, coder in _WHOLE.items() if (coded := coder(data)) is not None]
    return min((*tried, Coded(STORED, data)), key=lambda result: len(result.data))


class StreamCoder:
    """Codes a large instance piece by piece in bounded memory, and decodes along to check itself.

    Whether coding is worth it is decided from the first piece; `SAMPLE_BYTES` of it are a fair sample.
    """

    def __init__(self, first: bytes, size: int) -> None:
        sample = first[:SAMPLE_BYTES]
        worth_it = len(_contexts.compressor.compress(sample)) <= _WORTH_IT * len(sample)
        self.codec = ZSTD if worth_it else STORED
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL).compressobj(size=size)
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES).decompressobj()
        self._original = hashlib.sha256()
        self._decoded = hashlib.sha256()

    def feed(self, piece: bytes) -> bytes:
        """Take the next piece of the instance; return what is ready to be sealed, perhaps nothing."""
        self._original.update(piece)
        return piece if self.codec == STORED else self._checked(self._compressor.compress(piece))

    def finish(self) -> tuple[bytes, bytes]:
        """Return the rest of the coded bytes, and the SHA-256 of the original.

        Raises:
            StoreDamaged: what was coded does not decode to what came in.
        """
        original = self._original.digest()
        if self.codec == STORED:
            return b"", original
        rest = self._checked(self._compressor.flush())
        if self._decoded.digest() != original:
            raise StoreDamaged("an instance was coded wrongly")
        return rest, original

    def _checked(self, coded: bytes) -> bytes:
        if coded:
            self._decoded.update(self._decompressor.decompress(coded))
        return coded


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
