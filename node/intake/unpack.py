"""Octets at random places: of a stretch of a file, and of a packed file that only unpacks forwards.

For ZIPs inside ZIPs. Nothing is unpacked to disk, and memory stays flat: going back means unpacking again
from the beginning, except near the end, where ZIPs have their directory.
"""

import io
import os
import threading
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol

_STEP = 1 << 20
_TAIL = 4 << 20
_UNPACKED_LIMIT = 64 << 30
"""How much may be unpacked of one packed file, all passes together. Looking at its files and keeping them
goes in their order and takes three passes each; a person may want its pictures in any order."""


class TooMuch(Exception):
    """More octets at once than were agreed."""


class Octets(Protocol):
    """A file of plaintext of which any part can be read."""

    @property
    def length(self) -> int:
        """How many there are."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Return `size` octets from `offset` on, fewer only at the end. From any thread."""


class Within:
    """A stretch of other octets."""

    def __init__(self, octets: Octets, place: int, length: int) -> None:
        self.length = length
        self._octets = octets
        self._place = place

    def read_at(self, offset: int, size: int) -> bytes:
        """Return octets of the stretch."""
        return self._octets.read_at(self._place + offset, max(0, min(size, self.length - offset)))


class Unpacked:
    """A packed file.

    Args:
        opened: opens it at its beginning.
        length: the octets that it unpacks to.

    Raises:
        BadZipFile: it holds fewer, or what it holds is read back and forth too often.
    """

    def __init__(self, opened: Callable[[], BinaryIO], length: int) -> None:
        self.length = length
        self._opened = opened
        self._lock = threading.Lock()
        self._stream: BinaryIO | None = None
        self._window, self._base = b"", 0
        self._tail, self._tail_at = b"", length
        self._left = _UNPACKED_LIMIT

    def read_at(self, offset: int, size: int) -> bytes:
        """Return octets of the unpacked file."""
        end = min(offset + size, self.length)
        if offset >= end:
            return b""
        with self._lock:
            if offset >= self._tail_at:
                return self._tail[offset - self._tail_at : end - self._tail_at]
            if self._stream is None or offset < self._base:
                self._restart()
            while self._base + len(self._window) < end:
                self._unpack(offset)
            return self._window[offset - self._base : end - self._base]

    def _restart(self) -> None:
        if self._stream is not None:
            self._stream.close()
        try:
            self._stream = self._opened()
        except (zlib.error, EOFError, ValueError, RuntimeError, NotImplementedError):
            raise zipfile.BadZipFile from None
        self._window, self._base = b"", 0

    def _unpack(self, wanted: int) -> None:
        """Unpack one more step; forget what lies before `wanted`, but for the tail of the file."""
        assert self._stream is not None
        try:
            piece = self._stream.read(_STEP)
        except (zlib.error, EOFError, ValueError, RuntimeError):
            raise zipfile.BadZipFile from None
        self._left -= len(piece)
        if not piece or self._left < 0:
            raise zipfile.BadZipFile
        window = self._window + piece
        end = self._base + len(window)
        keep = min(wanted, max(0, self.length - _TAIL)) if end > self.length - _TAIL else wanted
        drop = min(len(window), max(0, keep - self._base))
        self._window, self._base = window[drop:], self._base + drop
        if end >= self.length:
            self._tail_at = max(self._base, self.length - _TAIL)
            self._tail = self._window[self._tail_at - self._base :]


class Seekable(io.RawIOBase):
    """Octets as a file, for `zipfile`, which reads a whole directory at once whatever its length claims.

    Args:
        octets: what it reads.
        limit: how much it may read at once.

    Raises:
        TooMuch: it asks for more.
    """

    def __init__(self, octets: Octets, limit: int) -> None:
        super().__init__()
        self._octets = octets
        self._limit = limit
        self._at = 0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be read at random."""
        return True

    def tell(self) -> int:
        """Return the offset of the next octet."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to an offset."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._octets.length}[whence]
        if start + offset < 0:
            raise OSError("negative offset")  # what files do, and zipfile counts on
        self._at = start + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Return the next octets."""
        left = max(0, self._octets.length - self._at)
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted > self._limit:
            raise TooMuch
        data = self._octets.read_at(self._at, wanted)
        self._at += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as there are octets."""
        part = self.read(len(buffer))
        buffer[: len(part)] = part
        return len(part)
