"""Looking ahead: examine the files of a ZIP whose end has not come yet.

What a file is and what it hashes to follows from its octets alone; so it is remembered by where they lie,
and the examination, which knows the archive's directory and checks it, asks here before it reads them again.
A guess that was wrong is never asked for. Called by the flow of submissions while an upload grows.
"""

import io
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from node.intake.archive import (
    DESCRIPTOR_SIGNATURE,
    LONGEST_DESCRIPTOR,
    MEMBER_LIMIT,
    Local,
    Stretch,
    descriptor_at,
    local_header,
)
from node.intake.dicom import Found
from node.intake.spool import SpoolReader
from node.store.codecs import WHOLE_BYTES

_LONGEST_HEADER = 30 + 2 * 0xFFFF
_PIECE_BYTES = 1 << 20
_WORTH_BYTES = 8 << 20  # less is not worth the opening of a file
_UPLOADS = 4  # remembered at once
_RECENT_BYTES = 16 << 20

Look = Callable[[BinaryIO, int, bytes | None], Found]
"""Examines a file of so many octets; they are given as well if they are few enough to be coded whole."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A member that was looked at: the header in front of it, and what it is."""

    local: Local
    found: Found


@dataclass(frozen=True, slots=True)
class _Next:
    """A member that is here whole, and where it ends; its octets and CRC-32 if they were read already."""

    local: Local
    size: int
    end: int
    data: bytes | None = field(default=None, repr=False)
    crc: int | None = None


class _NotYet(Exception):
    """The next member is not here whole."""


@dataclass(slots=True)
class Ahead:
    """What is known of an upload whose end has not come. `at`: where the next header is expected."""

    at: int | None = 0
    _seen: dict[tuple[int, int, int], Seen] = field(default_factory=dict, repr=False)
    _last_size: int = 0

    def known(self, at: int, size: int, crc: int) -> Seen | None:
        """Return what the member with its header at `at` is, if it was looked at and has this CRC-32."""
        return self._seen.get((at, size, crc))

    def go_on(self, file: SpoolReader, octets: int, look: Look) -> bool:
        """Examine files that are here whole, until so many octets were read; False if none is left.

        Args:
            file: the upload, as far as it is durable.
            octets: how much to read at most, one file more or less.
            look: examines one of them.

        Raises:
            UploadDamaged: the spool file is not what was written.
        """
        while octets > 0 and self.at is not None:
            try:
                member = self._next(file, self.at)
            except _NotYet:
                return False
            if member is None:
                self.at = None
                return False
            found, crc = _looked_at(file, member, look)
            self._seen[self.at, member.size, crc] = Seen(member.local, found)
            self.at, self._last_size = member.end, member.size
            octets -= member.size + _LONGEST_HEADER
        return octets <= 0

    def _next(self, file: SpoolReader, at: int) -> _Next | None:
        """Return the member with its header at an offset; None if what is there has to wait for the end.

        Raises:
            _NotYet: it may be a member, and is not here whole.
        """
        local = local_header(file, at)
        if local is None:
            if at + _LONGEST_HEADER > file.length:
                raise _NotYet
            return None  # the directory, or something that only the directory explains
        if not local.stored or len(self._seen) >= MEMBER_LIMIT:
            return None
        if local.follows:
            return self._before_descriptor(file, local)
        if local.size is None:
            return None
        if local.place + local.size > file.length:
            raise _NotYet
        return _Next(local, local.size, local.place + local.size)

    def _before_descriptor(self, file: SpoolReader, local: Local) -> _Next | None:
        """Return a member whose size stands behind it, as programs write that cannot go back.

        It ends where a descriptor names the distance to its beginning and the right CRC-32. A file may hold
        such octets itself, a ZIP for one: then the examination finds no member like this, and reads it again.
        """
        here = file.length - local.place
        for limit in (self._last_size + LONGEST_DESCRIPTOR, _PIECE_BYTES, WHOLE_BYTES + LONGEST_DESCRIPTOR):
            data = file.read_at(local.place, min(limit, here))
            place = self._last_size if limit < _PIECE_BYTES else 0
            crc = checked = 0
            while (place := data.find(DESCRIPTOR_SIGNATURE, place)) >= 0:
                said = descriptor_at(data, place)
                if said is not None:
                    crc, checked = zlib.crc32(memoryview(data)[checked:place], crc), place
                    if crc == said[0]:
                        return _Next(local, place, local.place + place + said[1], data[:place], crc)
                place += 1
            if here <= limit:
                raise _NotYet
        return None


def _looked_at(file: SpoolReader, member: _Next, look: Look) -> tuple[Found, int]:
    """Examine a member; return what it is and its CRC-32."""
    data = member.data
    if data is None and member.size <= WHOLE_BYTES:
        data = file.read_at(member.local.place, member.size)
    if data is not None:
        found = look(cast("BinaryIO", io.BytesIO(data)), member.size, data)
        return found, zlib.crc32(data) if member.crc is None else member.crc
    stretch = Stretch(file, member.local.place, member.size)
    found = look(cast("BinaryIO", stretch), member.size, None)
    while stretch.read(_PIECE_BYTES):
        pass  # what was not looked at counts in the CRC-32 all the same
    return found, stretch.crc


class Growing:
    """The uploads that still come, and what is known of them already. Safe to call from many threads.

    Only the few that grew last are remembered; the others are examined when they are here.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Ahead] = OrderedDict()
        self._looked_at: dict[str, int] = {}
        self._wanted: OrderedDict[str, None] = OrderedDict()
        self._recent: dict[int, bytes] = {}  # of one upload, by offset
        self._recent_of = ""

    def hold(self, upload_id: str, offset: int, piece: bytes) -> None:
        """Hold a piece just written, so that it need not be opened again to look at it.

        Only the last ones of the upload that grew last; a piece at the same offset takes its place.
        """
        with self._lock:
            known = self._known.get(upload_id)
            if upload_id != self._recent_of or (known is not None and known.at is None):
                self._recent, self._recent_of = {}, upload_id
            if known is not None and known.at is None:
                return
            self._recent.pop(offset, None)
            self._recent[offset] = piece
            held = sum(map(len, self._recent.values()))
            while held > _RECENT_BYTES:
                held -= len(self._recent.pop(next(iter(self._recent))))

    def recent(self, upload_id: str, offset: int) -> bytes | None:
        """Return the piece at an offset, if it is held."""
        with self._lock:
            return self._recent.get(offset) if upload_id == self._recent_of else None

    def note(self, upload_id: str, offset: int) -> bool:
        """Note how much of an upload is durable; say whether it is worth to look at it."""
        with self._lock:
            if upload_id not in self._known:
                self._known[upload_id], self._looked_at[upload_id] = Ahead(), 0
            self._known.move_to_end(upload_id)
            while len(self._known) > _UPLOADS:
                self._drop(next(iter(self._known)))
            done = self._known[upload_id].at is None  # no ZIP, or all of it that can be looked at
            if done or offset - self._looked_at[upload_id] < _WORTH_BYTES:
                return False
            self._looked_at[upload_id] = offset
            self._wanted[upload_id] = None
            return True

    def wanted(self) -> tuple[str, Ahead] | None:
        """Return an upload to look at."""
        with self._lock:
            upload_id = next(iter(self._wanted), None)
            return None if upload_id is None else (upload_id, self._known[upload_id])

    def looked_at(self, upload_id: str) -> None:
        """Note that nothing is left to look at before it grows again."""
        with self._lock:
            self._wanted.pop(upload_id, None)

    def known(self, upload_id: str) -> Ahead | None:
        """Return what is known of an upload."""
        with self._lock:
            return self._known.get(upload_id)

    def forget(self, upload_id: str) -> None:
        """Forget what is known of an upload, and what is held of it."""
        with self._lock:
            self._drop(upload_id)

    def _drop(self, upload_id: str) -> None:
        if upload_id == self._recent_of:
            self._recent, self._recent_of = {}, ""
        self._looked_at.pop(upload_id, None)
        self._wanted.pop(upload_id, None)
        self._known.pop(upload_id, None)
