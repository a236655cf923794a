"""Archives: the files inside a ZIP, one after the other, never unpacked to disk.

What makes a ZIP dangerous is looked for before anything is read: names that climb out, passwords, files on
top of each other, more than can be meant. What concerns one file only is said of that file. Names serve for
showing alone. Home of zipfile.
"""

import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, BinaryIO, cast

from node.intake.spool import SpoolReader

MEMBER_LIMIT = 20_000
SIZE_LIMIT = 16 << 30
RATIO_LIMIT = 200
RATIO_FLOOR = 16 << 20  # a black image packs by 1,000, and up to this size it harms nobody
_LOCAL_HEADER = 30
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_READ_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError),
    OSError,  # a place before the beginning; errors of the disk have their own class
)


class BadArchive(Exception):
    """The ZIP, or one file of it, cannot be used; `code` is one of `node.intake.reasons`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a ZIP. `code`: why it is not to be read."""

    number: int
    name: str = field(repr=False)
    size: int
    code: str | None


class Archive:
    """A ZIP on a seekable file of plaintext. Members may be read from several threads.

    Raises:
        BadArchive: the whole archive is refused.
        UploadDamaged: the file below is not what was written.
    """

    def __init__(self, file: SpoolReader) -> None:
        try:
            self._zip = zipfile.ZipFile(cast("IO[bytes]", file))
        except (*_READ_ERRORS, OverflowError, LookupError):
            # zipfile raises these and more on archives that were made to confuse it.
            raise BadArchive("zip-damaged") from None
        self._infos = self._zip.infolist()
        _check(self._infos, self._zip.start_dir)
        self.members = [
            Member(number, info.filename, info.file_size, _code(info))
            for number, info in enumerate(self._infos)
            if not info.is_dir()
        ]
        if not self.members:
            raise BadArchive("empty-archive")

    @contextmanager
    def open(self, number: int) -> Iterator[BinaryIO]:
        """Open a member for reading.

        Raises:
            BadArchive: `zip-member-damaged`, also while it is read.
        """
        try:
            with self._zip.open(self._infos[number]) as stream:
                yield cast("BinaryIO", stream)
        except _READ_ERRORS:
            raise BadArchive("zip-member-damaged") from None


def _check(infos: list[zipfile.ZipInfo], directory_at: int) -> None:
    if len(infos) > MEMBER_LIMIT or sum(info.file_size for info in infos) > SIZE_LIMIT:
        raise BadArchive("zip-too-large")
    if any(_climbs(info.orig_filename) for info in infos):
        raise BadArchive("zip-climbs-out")
    if any(info.flag_bits & 0x1 for info in infos):
        raise BadArchive("zip-encrypted")
    by_place = sorted(infos, key=lambda info: info.header_offset)
    ends = [*(info.header_offset for info in by_place[1:]), directory_at]
    for info, end in zip(by_place, ends, strict=False):
        if info.header_offset + _LOCAL_HEADER + len(info.orig_filename) + info.compress_size > end:
            raise BadArchive("zip-overlaps")


def _climbs(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return ".." in parts or name[:1] in ("/", "\\") or name[1:2] == ":"


def _code(info: zipfile.ZipInfo) -> str | None:
    if stat.S_ISLNK(info.external_attr >> 16):
        return "zip-link"
    if info.compress_type not in _METHODS:
        return "zip-method"
    if info.file_size > max(RATIO_FLOOR, info.compress_size * RATIO_LIMIT):
        return "zip-ratio"
    return None
