"""Files that survive a power cut: write, flush, rename, flush the folder.

Called by the blob store, the spool and the keystore. Nothing here knows what it writes. Errors of the
disk become the node's: no room is `DiskFull`, a failing device is `StoreDamaged`. After a flush that
failed, Linux takes the pages for clean; so a failed flush is never tried again, the file is given up.
"""

import errno
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from node.errors import DiskFull, StoreDamaged

TEMPORARY_SUFFIX = ".tmp"

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_FAILING = {errno.EIO, errno.EROFS}
_BINARY = getattr(os, "O_BINARY", 0)  # Windows would translate line ends
_RETRY_FOR_S = 2.0


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn the disk's errors into the node's; others, such as a missing file, pass.

    Raises:
        DiskFull: no room, or the quota is reached.
        StoreDamaged: the device reports an error, or went read-only.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise DiskFull("no room on the disk") from None
        if error.errno in _FAILING:
            raise StoreDamaged(f"the disk reported error {error.errno}") from None
        raise


def write_durably(path: Path, data: bytes, *, temporary_dir: Path | None = None) -> None:
    """Write `data` to `path` so that after a power cut either all of it is there or nothing.

    On return it is durable. An older file at `path` is replaced. The mode is 0600. `temporary_dir` must
    be on the same volume; it is the folder of `path` if not given. Nothing is left over after an error.

    Raises:
        DiskFull: nothing was written.
        StoreDamaged: the device reports an error.
    """
    folder = path.parent if temporary_dir is None else temporary_dir
    temporary = folder / f"{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
    with disk_errors():
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600)
            try:
                write_all(descriptor, data)
                sync_file(descriptor)
            finally:
                os.close(descriptor)
            replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_dir(path.parent)


def write_stream_durably(path: Path, pieces: Iterable[bytes]) -> None:
    """Write `pieces` to `path` as they come; on return it is durable. A file that is cut off does not stay.

    Raises:
        DiskFull: nothing was kept.
        StoreDamaged: the device reports an error.
    """
    with disk_errors():
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _BINARY, 0o600)
            try:
                for piece in pieces:
                    write_all(descriptor, piece)
                sync_file(descriptor)
            finally:
                os.close(descriptor)
        except BaseException:
            with suppress(OSError):
                path.unlink()
            raise
        sync_dir(path.parent)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of `data` at the descriptor's position; the system may take it in parts."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_file(descriptor: int) -> None:
    """Flush a file to the disk, through the drive's cache as well."""
    if sys.platform == "darwin":
        import fcntl

        # On macOS fsync stops at the drive's cache; some network volumes know only fsync.
        with suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def sync_dir(folder: Path) -> None:
    """Flush a folder's list of names, so that a new, renamed or removed file stays so.

    Windows has no such call and writes names through.
    """
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(source: Path, target: Path) -> None:
    """Rename `source` to `target`, also over an older file. Not durable before `sync_dir`."""
    _patiently(lambda: source.replace(target))


def remove(path: Path) -> bool:
    """Remove a file; False if there was none. Not durable before `sync_dir`."""
    try:
        _patiently(path.unlink)
    except FileNotFoundError:
        return False
    return True


def make_dirs(folder: Path, names: Iterable[str] = ()) -> None:
    """Make `folder` and the folders `names` in it, for the owner only, durably; what is there stays."""
    with disk_errors():
        if not folder.is_dir():
            make_dirs(folder.parent)
            folder.mkdir(mode=0o700, exist_ok=True)
            sync_dir(folder.parent)
        missing = [name for name in names if not (folder / name).is_dir()]
        for name in missing:
            (folder / name).mkdir(mode=0o700, exist_ok=True)
        if missing:
            sync_dir(folder)


def remove_temporary_files(folder: Path) -> int:
    """Remove what interrupted calls of `write_durably` left in `folder`; return how many."""
    stale = [path for path in folder.iterdir() if path.name.endswith(TEMPORARY_SUFFIX)]
    return sum(remove(path) for path in stale)


def _patiently(act: Callable[[], object]) -> None:
    """Try again for a while on PermissionError.

    Windows refuses to rename or remove a file that someone has open, a virus scanner for instance.
    """
    deadline = time.monotonic() + _RETRY_FOR_S
    while True:
        try:
            act()
            return
        except PermissionError:
            if sys.platform != "win32" or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
