"""Looking ahead: examine the files of a ZIP whose end has not come yet.

What a file is and what it hashes to follows from its octets alone; so it is remembered by where they lie,
and the examination, which knows the archive's directory and checks it, asks here before it reads them again.
A guess that was wrong is never asked for. Called by the flow of submissions while an upload grows.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from node.intake.archive import MEMBER_LIMIT, Stretch, local_header
from node.intake.dicom import Found
from node.intake.spool import SpoolReader

_LONGEST_HEADER = 30 + 2 * 0xFFFF
_PIECE_BYTES = 1 << 20
_WORTH_BYTES = 8 << 20  # less is not worth the opening of a file
_UPLOADS = 4  # remembered at once
_RECENT_BYTES = 16 << 20

Look = Callable[[BinaryIO, int], Found]
"""Examines a file of so many octets."""


@dataclass(slots=True)
class Ahead:
    """What is known of an upload whose end has not come. `at`: where the next header is expected."""

    at: int | None = 0
    _found: dict[tuple[int, int, int], Found] = field(default_factory=dict, repr=False)

    def known(self, place: int, size: int, crc: int) -> Found | None:
        """Return what the octets at `place` are, if they were looked at and have this CRC-32."""
        return self._found.get((place, size, crc))

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
            local = local_header(file, self.at)
            if local is None:
                if self.at + _LONGEST_HEADER <= file.length:
                    self.at = None  # the directory, or something that only the directory explains
                return False
            if not local.stored or local.size is None or len(self._found) >= MEMBER_LIMIT:
                self.at = None
                return False
            if local.place + local.size > file.length:
                return False
            stretch = Stretch(file, local.place, local.size)
            found = look(cast("BinaryIO", stretch), local.size)
            while stretch.read(_PIECE_BYTES):
                pass  # what was not looked at counts in the CRC-32 all the same
            self._found[local.place, local.size, stretch.crc] = found
            self.at = local.place + local.size
            octets -= local.size + _LONGEST_HEADER
        return octets <= 0


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
