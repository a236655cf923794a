"""Packing: several files as one stored ZIP, made while it is sent; nothing is copied to disk.

The archive is walked twice: once to learn its length, which tus wants first, and once to send it. Both
give the same octets as long as the files do not change; if they do, the checksums of the parts tell.
"""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

_PIECE = 1024 * 1024
_NO_DATE = (1980, 1, 1, 0, 0, 0)  # dates of files may say more than they should


@dataclass(frozen=True, slots=True)
class Picked:
    """A file to send, and its name in the archive."""

    path: Path
    name: str


def pick(paths: list[Path]) -> list[Picked]:
    """Return all files of these paths; folders are walked, links are not followed."""
    picked: list[Picked] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(one for one in path.rglob("*") if one.is_file() and not one.is_symlink())
            picked += [Picked(one, one.relative_to(path.parent).as_posix()) for one in inside]
        else:
            picked.append(Picked(path, path.name))
    return picked


class StoredZip:
    """A ZIP with stored members over files, read from its beginning to its end."""

    def __init__(self, picked: list[Picked]) -> None:
        self._picked = picked
        self.length = sum(len(piece) for piece in self._pieces(measure=True))
        self._walk: Iterator[bytes] = iter(())
        self.seek(0)

    def seek(self, offset: int) -> None:
        """Go to an offset, by walking there."""
        self._walk = self._pieces(measure=False)
        self._rest = b""
        while offset > 0:
            skipped = self.read(min(offset, _PIECE))
            if not skipped:
                return
            offset -= len(skipped)

    def read(self, size: int) -> bytes:
        """Return the next octets, `size` of them unless it ends before."""
        parts = [self._rest]
        have = len(self._rest)
        while have < size:
            piece = next(self._walk, None)
            if piece is None:
                break
            parts.append(piece)
            have += len(piece)
        data = b"".join(parts)
        self._rest = data[size:]
        return data[:size]

    def _pieces(self, *, measure: bool) -> Iterator[bytes]:
        """Yield the archive's octets; to measure it, files are not read and zeros stand for them."""
        sink = _Sink()
        with zipfile.ZipFile(cast("IO[bytes]", sink), "w", zipfile.ZIP_STORED) as archive:
            for one in self._picked:
                size = one.path.stat().st_size
                info = zipfile.ZipInfo(one.name, _NO_DATE)
                info.file_size = size
                with archive.open(info, "w", force_zip64=size > 2**31) as member:
                    for piece in _zeros(size) if measure else _read(one.path, size):
                        member.write(piece)
                        yield sink.take()
                yield sink.take()
        yield sink.take()


class _Sink:
    """Where zipfile writes; it cannot seek, so lengths and checksums follow each member."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Take octets."""
        self._written.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing."""

    def take(self) -> bytes:
        """Return what was written since the last time."""
        data, self._written = b"".join(self._written), []
        return data


def _read(path: Path, size: int) -> Iterator[bytes]:
    """Yield a file's first `size` octets; what was appended since the archive was measured stays out."""
    with path.open("rb") as file:
        while size > 0 and (piece := file.read(min(_PIECE, size))):
            size -= len(piece)
            yield piece


def _zeros(size: int) -> Iterator[bytes]:
    piece = bytes(_PIECE)
    while size > 0:
        yield piece[:size]
        size -= len(piece)
