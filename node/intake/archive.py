"""Archives: the files inside a ZIP, and in a ZIP inside of it, one after the other, never unpacked to disk.

What makes a ZIP dangerous is looked for before anything is read: names that climb out, passwords, files on
top of each other, more than can be meant. What concerns one file only is said of that file. Names serve for
showing alone. Home of zipfile.
"""

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, BinaryIO, cast

from node.intake.unpack import Octets, Seekable, TooMuch, Unpacked, Within

MEMBER_LIMIT = 20_000
SIZE_LIMIT = 16 << 30
_DIRECTORY_LIMIT = 8 << 20  # 20,000 files with paths of 350 letters; zipfile holds 10 times as much for it
RATIO_LIMIT = 200
RATIO_FLOOR = 16 << 20  # a black image packs by 1,000, and up to this size it harms nobody
_LOCAL_HEADER = 30
_LOCAL = struct.Struct("<4s2xHH8xIIHH")  # signature, flags, method, sizes, lengths of name and extra field
_SIGNATURE = b"PK\x03\x04"
DESCRIPTOR_SIGNATURE = b"PK\x07\x08"
_DESCRIPTOR, _LONG_DESCRIPTOR = struct.Struct("<4sIII"), struct.Struct("<4sIQQ")
LONGEST_DESCRIPTOR = _LONG_DESCRIPTOR.size
_UNREADABLE_FLAGS = 0x1 | 0x20 | 0x40 | 0x2000  # encrypted in one way or another, or a patch
_SIZES_FOLLOW, _UTF8_NAME = 0x8, 0x800
_SIZE_ELSEWHERE = 0xFFFFFFFF  # Zip64
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
    """A ZIP on octets that can be read at random. Members may be read from several threads.

    Args:
        file: the ZIP.
        spent: how many files and octets other ZIPs of the same upload took of what one may hold.

    Raises:
        BadArchive: the whole archive is refused.
        UploadDamaged: the file below is not what was written.
    """

    def __init__(self, file: Octets, spent: tuple[int, int] = (0, 0)) -> None:
        self._file = file
        try:
            self._zip = zipfile.ZipFile(cast("IO[bytes]", Seekable(file, _DIRECTORY_LIMIT)))
        except TooMuch:
            raise BadArchive("zip-too-large") from None
        except (*_READ_ERRORS, OverflowError, LookupError):
            # zipfile raises these and more on archives that were made to confuse it.
            raise BadArchive("zip-damaged") from None
        self._infos = self._zip.infolist()
        _check(self._infos, self._zip.start_dir, spent)
        self.members = [
            Member(number, info.filename, info.file_size, _code(info))
            for number, info in enumerate(self._infos)
            if not info.is_dir()
        ]
        if not self.members:
            raise BadArchive("empty-archive")

    def in_order(self) -> list[Member]:
        """Return the members in the order in which their octets lie."""
        return sorted(self.members, key=lambda member: self._infos[member.number].header_offset)

    @property
    def spent(self) -> tuple[int, int]:
        """How many files it holds, and how many octets these have."""
        return len(self._infos), sum(info.file_size for info in self._infos)

    @property
    def kind(self) -> str | None:
        """The code of what this ZIP is if it is not meant as one: a document, or a Java program."""
        names = {info.filename for info in self._infos}
        if "[Content_Types].xml" in names or self._infos[0].filename == "mimetype":
            return "other-document"
        return "program" if "META-INF/MANIFEST.MF" in names else None

    def inner(self, number: int) -> Octets:
        """Return a member as octets that can be read at random, for a ZIP in a ZIP.

        Raises:
            BadArchive: `zip-member-damaged`.
        """
        info = self._infos[number]
        if info.compress_type == zipfile.ZIP_STORED:
            return Within(self._file, self.place(number), info.file_size)
        return Unpacked(lambda: cast("BinaryIO", self._zip.open(info)), info.file_size)

    @contextmanager
    def open(self, number: int, *, checked: bool = True) -> Iterator[BinaryIO]:
        """Open a member for reading; `checked` by its CRC-32, which a stored one can do without.

        Raises:
            BadArchive: `zip-member-damaged`, also while it is read.
        """
        info = self._infos[number]
        try:
            if info.compress_type == zipfile.ZIP_STORED:
                stretch = Stretch(self._file, self.place(number), info.file_size, info.CRC, checked=checked)
                yield cast("BinaryIO", stretch)
                return
            with self._zip.open(info) as stream:
                yield cast("BinaryIO", stream)
        except _READ_ERRORS:
            raise BadArchive("zip-member-damaged") from None

    def place(self, number: int) -> int:
        """Return where the octets of a stored member begin.

        Raises:
            BadArchive: `zip-member-damaged`; the headers at both ends do not agree.
        """
        local = local_header(self._file, self._infos[number].header_offset)
        if local is None or not self.agrees(number, local):
            raise BadArchive("zip-member-damaged")
        return local.place

    def agrees(self, number: int, local: "Local") -> bool:
        """Say whether the header in front of a stored member is of what the directory lists."""
        info = self._infos[number]
        charset = "utf-8" if info.flag_bits & _UTF8_NAME else "cp437"
        name = local.name.decode(charset, "replace")
        return name == info.orig_filename and info.compress_size == info.file_size

    def stored(self, number: int) -> tuple[int, int, int] | None:
        """Return where the header of a stored member is, its size and CRC-32; None if it is packed."""
        info = self._infos[number]
        if info.compress_type != zipfile.ZIP_STORED:
            return None
        return info.header_offset, info.file_size, info.CRC


@dataclass(frozen=True, slots=True)
class Local:
    """The header in front of a member. `size` is None where it does not say; maybe since it `follows`."""

    place: int  # of its first octet
    name: bytes = field(repr=False)
    stored: bool
    size: int | None
    follows: bool = False


def local_header(file: Octets, at: int) -> Local | None:
    """Return the header at an offset (APPNOTE 6.3.10 §4.3.7); None if there is none that can be used."""
    data = file.read_at(at, _LOCAL_HEADER)
    if len(data) < _LOCAL_HEADER:
        return None
    signature, flags, method, _, size, name_length, extra_length = _LOCAL.unpack(data)
    name = file.read_at(at + _LOCAL_HEADER, name_length)
    if signature != _SIGNATURE or flags & _UNREADABLE_FLAGS or len(name) < name_length:
        return None
    follows = bool(flags & _SIZES_FOLLOW)
    told = not follows and size != _SIZE_ELSEWHERE
    place = at + _LOCAL_HEADER + name_length + extra_length
    return Local(place, name, method == zipfile.ZIP_STORED, size if told else None, follows)


def descriptor_at(data: bytes, size: int) -> tuple[int, int] | None:
    """Return the CRC-32 that follows `size` octets of a stored member, and how long what says so is.

    A data descriptor with its signature (APPNOTE 6.3.10 §4.3.9), with sizes of four or eight octets; None if
    there is none that names this size.
    """
    for form in (_DESCRIPTOR, _LONG_DESCRIPTOR):
        if len(data) >= size + form.size:
            signature, crc, packed, unpacked = form.unpack_from(data, size)
            if signature == DESCRIPTOR_SIGNATURE and packed == unpacked == size:
                return crc, form.size
    return None


class Stretch:
    """Octets of a file as they are, to be read once; checked by their CRC-32 if it is known.

    `zipfile` would copy each of them three times.
    """

    def __init__(
        self, file: Octets, place: int, size: int, wanted: int | None = None, *, checked: bool = True
    ) -> None:
        self.crc = 0
        self._checked = checked
        self._file = file
        self._at = place
        self._left = size
        self._wanted = wanted

    def read(self, size: int) -> bytes:
        """Return the next octets, none at the end.

        Raises:
            BadZipFile: they end early, or the CRC-32 differs.
        """
        wanted = min(size, self._left)
        data = self._file.read_at(self._at, wanted)
        if len(data) < wanted:
            raise zipfile.BadZipFile
        self._at += len(data)
        self._left -= len(data)
        if self._checked:
            self.crc = zlib.crc32(data, self.crc)
            if not self._left and self._wanted not in (None, self.crc):
                raise zipfile.BadZipFile
        return data


def _check(infos: list[zipfile.ZipInfo], directory_at: int, spent: tuple[int, int]) -> None:
    files, octets = spent
    if files + len(infos) > MEMBER_LIMIT or octets + sum(info.file_size for info in infos) > SIZE_LIMIT:
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
