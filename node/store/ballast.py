"""The ballast: a file that only takes up room, to be dropped when the disk is full.

Erasing, too, needs to write: the intent, the facts that say what has ended, the report. On a disk without an
octet left nothing could be erased and so nothing would ever get better. Dropped at the start, before facts
are taken in and before each sweep if next to nothing is free; made again when there is room.
"""

import logging
import os
import secrets
import shutil
from pathlib import Path

from node.store import files

log = logging.getLogger(__name__)
BALLAST_BYTES = 16 * 1024 * 1024
_LOW_BYTES = 8 * 1024 * 1024  # free; a transaction and a checkpoint need a part of it
_PIECE = 1024 * 1024


class Ballast:
    """The file at `path`."""

    def __init__(self, path: Path, size: int = BALLAST_BYTES) -> None:
        self._path = path
        self._size = size

    def ease(self) -> bool:
        """Drop it if next to nothing is free; say whether that made room."""
        return self._free() < _LOW_BYTES and self.drop()

    def drop(self) -> bool:
        """Drop it; say whether it was there."""
        dropped = files.remove(self._path)
        if dropped:
            files.sync_dir(self._path.parent)
            log.warning("the disk is full: the ballast was dropped so that erasing can go on")
        return dropped

    def restore(self) -> bool:
        """Make it again if there is plenty of room for it; say whether it is there."""
        with_room = self._free() >= self._size + 2 * _LOW_BYTES
        if self._path.exists() and self._path.stat().st_size == self._size:
            return True
        files.remove(self._path)
        if not with_room:
            return False
        try:
            self._write()
        except OSError:
            files.remove(self._path)
            return False
        return True

    def _write(self) -> None:
        """Write what no file system can leave out: blocks that are reserved, or octets that do not shrink."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, self._size)
            else:
                for _ in range(self._size // _PIECE):
                    files.write_all(descriptor, secrets.token_bytes(_PIECE))
            files.sync_file(descriptor)
        finally:
            os.close(descriptor)

    def _free(self) -> int:
        return shutil.disk_usage(self._path.parent).free
