"""Packing: several files as one stored ZIP, made while it is sent; nothing is copied to disk.

The archive is walked twice: once to learn its length, which tus wants first, and once to send it. Both
give the same octets as long as the files do not change; if they do, the checksums of the parts tell.
"""

import os
import stat
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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

    @contextmanager
    def opened(self) -> Iterator["OneFile"]:
        """Open it for reading.

        Raises:
            Unreadable: it cannot be.
        """
        try:
            file = self.path.open("rb", buffering=0)
        except OSError:
            raise Unreadable(self) from None
        with file:
            yield OneFile(self, file)


class Unreadable(Exception):
    """A file cannot be read to its end: a bad disc, no permission, or it became shorter."""

    def __init__(self, picked: Picked) -> None:
        super().__init__("a file cannot be read")
        self.picked = picked


class OneFile:
    """A file that is read from any place on, as long as it was when it was opened."""

    def __init__(self, picked: Picked, file: IO[bytes]) -> None:
        self._picked = picked
        self._file = file
        self.length = os.fstat(file.fileno()).st_size
        self._at = 0

    def seek(self, offset: int) -> None:
        """Go to an offset."""
        self._at = offset

    def read(self, size: int) -> bytes:
        """Return the next octets, `size` of them unless it ends before.

        Raises:
            Unreadable: they do not come.
        """
        wanted = min(size, self.length - self._at)
        parts = []
        while wanted > 0:
            try:
                self._file.seek(self._at)
                part = self._file.read(wanted)
            except OSError:
                raise Unreadable(self._picked) from None
            if not part:
                raise Unreadable(self._picked)
            parts.append(part)
            self._at += len(part)
            wanted -= len(part)
        return b"".join(parts)


def pick(paths: Sequence[Path]) -> list[Picked]:
    """Return all files of these paths, each once; folders are walked, links in them are not followed."""
    picked: dict[Path, Picked] = {}
    tops: set[str] = set()
    for path in map(Path.resolve, paths):
        top = _unlike(path.name or "disc", tops)
        tops.add(top)
        for one in _inside(path) if path.is_dir() else [path]:
            inside = one.relative_to(path).as_posix()
            picked.setdefault(one, Picked(one, top if one == path else f"{top}/{inside}"))
    return list(picked.values())


def readable(picked: Picked) -> bool:
    """Say whether a file can be read to its end."""
    try:
        with picked.opened() as file:
            while file.read(_PIECE):
                pass
    except Unreadable:
        return False
    return True


def _inside(folder: Path) -> list[Path]:
    """Return the ordinary files below a folder, in order; what may not be looked into holds none."""
    found = []
    for where, folders, names in os.walk(folder, followlinks=False):
        folders.sort()
        for name in sorted(names):
            path = Path(where, name)
            try:
                mode = path.lstat().st_mode
            except OSError:
                mode = stat.S_IFREG  # let the reading of it tell
            if stat.S_ISREG(mode):
                found.append(path)
    return found


def _unlike(name: str, others: set[str]) -> str:
    """Return a name that none of the others is, for two files that are called the same."""
    number, unlike = 1, name
    while unlike in others:
        number += 1
        unlike = f"{number}-{name}"
    return unlike


class StoredZip:
    """A ZIP with stored members over files, read from its beginning to its end.

    Raises:
        Unreadable: a file is not there, or ends before it should.
    """

    def __init__(self, picked: Sequence[Picked]) -> None:
        self._picked = [(one, _size(one)) for one in picked]
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
            for one, size in self._picked:
                info = zipfile.ZipInfo(one.name, _NO_DATE)
                info.file_size = size
                with archive.open(info, "w", force_zip64=size > 2**31) as member:
                    for piece in _zeros(size) if measure else _read(one, size):
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


def _size(picked: Picked) -> int:
    try:
        return picked.path.stat().st_size
    except OSError:
        raise Unreadable(picked) from None


def _read(picked: Picked, size: int) -> Iterator[bytes]:
    """Yield a file's first `size` octets; what was appended since the archive was measured stays out."""
    with picked.opened() as file:
        while size > 0:
            piece = file.read(min(_PIECE, size))
            if not piece:
                raise Unreadable(picked)
            size -= len(piece)
            yield piece


def _zeros(size: int) -> Iterator[bytes]:
    piece = bytes(_PIECE)
    while size > 0:
        yield piece[:size]
        size -= len(piece)
