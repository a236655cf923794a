"""Blob stores: sealed bytes by the SHA-256 of what they are.

Called by the vault, the meetings, the sweep and the scrub. A store never sees a key and knows nothing of
studies. `DiskBlobStore` is the real one, `MemoryBlobStore` its equal in tests; tests/contract/test_blobs.py
is what both promise. On disk: `ab/<64 hex>` for blobs, `part/<64 hex>` for those on their way in,
`damaged/<64 hex>` for what the scrub set aside.
"""

import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from node.errors import BlobMissing, DiskFull, StoreDamaged, WrongOffset
from node.store import files
from sync.errors import BadBlob
from sync.ids import BlobId, short


class BlobStore(Protocol):
    """What every store of blobs does. Safe to call from many threads."""

    def put(self, data: bytes) -> BlobId:
        """Keep `data`; it is durable on return.

        Raises:
            DiskFull: nothing was kept.
        """

    def put_verified(self, blob_id: BlobId, data: bytes) -> None:
        """Keep `data`, durable on return, if its hash is `blob_id`.

        Raises:
            BadBlob: the hash differs; nothing was kept.
            DiskFull: nothing was kept.
        """

    def get(self, blob_id: BlobId) -> bytes:
        """Return the whole blob, its hash checked.

        Raises:
            BlobMissing: it is not here.
            StoreDamaged: the bytes are not what the name says.
        """

    def read(self, blob_id: BlobId, offset: int, length: int) -> bytes:
        """Return at most `length` octets from `offset`, unchecked: the receiver checks the whole.

        Raises:
            BlobMissing: it is not here.
        """

    def size(self, blob_id: BlobId) -> int | None:
        """Return the blob's size in octets, or None if it is not here."""

    def has(self, blob_id: BlobId) -> bool:
        """Tell whether the blob is here."""

    def verify(self, blob_id: BlobId) -> bool:
        """Tell whether the blob's bytes are what its name says.

        Raises:
            BlobMissing: it is not here.
        """

    def set_aside(self, blob_id: BlobId) -> None:
        """Move a damaged blob away, durably, so that a good copy can take its place.

        Raises:
            BlobMissing: it is not here.
        """

    def delete(self, blob_id: BlobId) -> None:
        """Remove the blob, its partial and its damaged copy, durably; what is not there is no error."""

    def ids(self) -> Iterator[BlobId]:
        """List all whole blobs, in no order."""

    def partial_ids(self) -> Iterator[BlobId]:
        """List the blobs of which a part is here, in no order."""

    def partial_size(self, blob_id: BlobId) -> int:
        """Return how many octets of a blob on its way are here; 0 if none."""

    def append_partial(self, blob_id: BlobId, offset: int, data: bytes) -> int:
        """Add `data` to a blob on its way and return its new size. Not durable before `finish_partial`.

        Raises:
            WrongOffset: `offset` is not where the last part ended; nothing was added.
            DiskFull: nothing was added.
        """

    def finish_partial(self, blob_id: BlobId) -> None:
        """Make a complete partial blob a whole one, durable on return.

        Raises:
            BlobMissing: no part of it is here.
            BadBlob: the hash is wrong; the parts are dropped.
        """

    def drop_partial(self, blob_id: BlobId) -> None:
        """Forget what is here of a blob on its way."""

    def free_bytes(self) -> int:
        """Return how many octets the volume still takes."""


class DiskBlobStore:
    """Blobs as files below `folder`, which is made if it is not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts = folder / "part"
        self._damaged = folder / "damaged"
        self._locks = tuple(threading.Lock() for _ in range(64))  # of the partial files, by id
        # All folders now: one made later, by one thread, could be used by another before it is durable.
        files.make_dirs(folder, ("part", "damaged", *(f"{n:02x}" for n in range(256))))
        files.remove_temporary_files(self._parts)

    def put(self, data: bytes) -> BlobId:
        blob_id = BlobId(hashlib.sha256(data).digest())
        self._keep(blob_id, data)
        return blob_id

    def put_verified(self, blob_id: BlobId, data: bytes) -> None:
        _check(blob_id, data)
        self._keep(blob_id, data)

    def get(self, blob_id: BlobId) -> bytes:
        data = self.read(blob_id, 0, -1)
        if hashlib.sha256(data).digest() != blob_id:
            raise StoreDamaged(f"blob {short(blob_id)} is damaged")
        return data

    def read(self, blob_id: BlobId, offset: int, length: int) -> bytes:
        try:
            with files.disk_errors(), self._path(blob_id).open("rb", buffering=0) as file:
                file.seek(offset)
                return file.read(length)
        except FileNotFoundError:
            raise BlobMissing(f"blob {short(blob_id)} is not here") from None

    def size(self, blob_id: BlobId) -> int | None:
        return _size(self._path(blob_id))

    def has(self, blob_id: BlobId) -> bool:
        return self.size(blob_id) is not None

    def verify(self, blob_id: BlobId) -> bool:
        try:
            self.get(blob_id)
        except BlobMissing:
            raise
        except StoreDamaged:
            return False
        return True

    def set_aside(self, blob_id: BlobId) -> None:
        path = self._path(blob_id)
        with files.disk_errors():
            try:
                files.replace(path, self._damaged / path.name)
            except FileNotFoundError:
                raise BlobMissing(f"blob {short(blob_id)} is not here") from None
            files.sync_dir(self._damaged)
            files.sync_dir(path.parent)

    def delete(self, blob_id: BlobId) -> None:
        path = self._path(blob_id)
        with self._lock(blob_id), files.disk_errors():
            for gone in (path, self._parts / path.name, self._damaged / path.name):
                if files.remove(gone):
                    files.sync_dir(gone.parent)

    def ids(self) -> Iterator[BlobId]:
        for folder in self._folder.iterdir():
            if len(folder.name) == 2:
                yield from _ids_in(folder)

    def partial_ids(self) -> Iterator[BlobId]:
        yield from _ids_in(self._parts)

    def partial_size(self, blob_id: BlobId) -> int:
        return _size(self._parts / blob_id.hex()) or 0

    def append_partial(self, blob_id: BlobId, offset: int, data: bytes) -> int:
        path = self._parts / blob_id.hex()
        with self._lock(blob_id), files.disk_errors():
            size = self.partial_size(blob_id)
            if offset != size:
                raise WrongOffset(size)
            with open(path, "ab", opener=_private, buffering=0) as file:
                try:
                    files.write_all(file.fileno(), data)
                except OSError:
                    file.truncate(size)
                    raise
            return size + len(data)

    def finish_partial(self, blob_id: BlobId) -> None:
        path = self._parts / blob_id.hex()
        with self._lock(blob_id), files.disk_errors():
            try:
                with path.open("r+b", buffering=0) as file:
                    right = hashlib.sha256(file.read()).digest() == blob_id
                    if right:
                        files.sync_file(file.fileno())
            except FileNotFoundError:
                raise BlobMissing(f"no part of blob {short(blob_id)} is here") from None
            if not right:
                files.remove(path)
                raise BadBlob("the hash is not the blob's name")
            target = self._path(blob_id)
            files.replace(path, target)
            files.sync_dir(target.parent)

    def drop_partial(self, blob_id: BlobId) -> None:
        with self._lock(blob_id):
            files.remove(self._parts / blob_id.hex())

    def free_bytes(self) -> int:
        return shutil.disk_usage(self._folder).free

    def _lock(self, blob_id: BlobId) -> threading.Lock:
        return self._locks[blob_id[0] % len(self._locks)]

    def _path(self, blob_id: BlobId) -> Path:
        name = blob_id.hex()
        return self._folder / name[:2] / name

    def _keep(self, blob_id: BlobId, data: bytes) -> None:
        path = self._path(blob_id)
        if _size(path) == len(data) and self.verify(blob_id):
            with files.disk_errors():
                files.sync_dir(path.parent)  # another thread may be between its rename and its flush
            return
        files.write_durably(path, data, temporary_dir=self._parts)


class MemoryBlobStore:
    """Blobs in memory, for tests and simulations; `capacity` is the size of its disk in octets."""

    def __init__(self, capacity: int = 1 << 40) -> None:
        self._capacity = capacity
        self._blobs: dict[BlobId, bytes] = {}
        self._partial: dict[BlobId, bytes] = {}
        self._damaged: dict[BlobId, bytes] = {}

    def put(self, data: bytes) -> BlobId:
        blob_id = BlobId(hashlib.sha256(data).digest())
        self._keep(blob_id, data)
        return blob_id

    def put_verified(self, blob_id: BlobId, data: bytes) -> None:
        _check(blob_id, data)
        self._keep(blob_id, data)

    def get(self, blob_id: BlobId) -> bytes:
        data = self._find(blob_id)
        if hashlib.sha256(data).digest() != blob_id:
            raise StoreDamaged(f"blob {short(blob_id)} is damaged")
        return data

    def read(self, blob_id: BlobId, offset: int, length: int) -> bytes:
        data = self._find(blob_id)
        return data[offset:] if length < 0 else data[offset : offset + length]

    def size(self, blob_id: BlobId) -> int | None:
        return len(self._blobs[blob_id]) if blob_id in self._blobs else None

    def has(self, blob_id: BlobId) -> bool:
        return blob_id in self._blobs

    def verify(self, blob_id: BlobId) -> bool:
        return hashlib.sha256(self._find(blob_id)).digest() == blob_id

    def set_aside(self, blob_id: BlobId) -> None:
        self._damaged[blob_id] = self._find(blob_id)
        del self._blobs[blob_id]

    def delete(self, blob_id: BlobId) -> None:
        for place in (self._blobs, self._partial, self._damaged):
            place.pop(blob_id, None)

    def ids(self) -> Iterator[BlobId]:
        yield from list(self._blobs)

    def partial_ids(self) -> Iterator[BlobId]:
        yield from list(self._partial)

    def partial_size(self, blob_id: BlobId) -> int:
        return len(self._partial.get(blob_id, b""))

    def append_partial(self, blob_id: BlobId, offset: int, data: bytes) -> int:
        size = self.partial_size(blob_id)
        if offset != size:
            raise WrongOffset(size)
        self._need(len(data))
        self._partial[blob_id] = self._partial.get(blob_id, b"") + data
        return size + len(data)

    def finish_partial(self, blob_id: BlobId) -> None:
        data = self._partial.pop(blob_id, None)
        if data is None:
            raise BlobMissing(f"no part of blob {short(blob_id)} is here")
        _check(blob_id, data)
        self._blobs[blob_id] = data

    def drop_partial(self, blob_id: BlobId) -> None:
        self._partial.pop(blob_id, None)

    def free_bytes(self) -> int:
        places = (self._blobs, self._partial, self._damaged)
        return self._capacity - sum(len(data) for place in places for data in place.values())

    def corrupt(self, blob_id: BlobId, data: bytes) -> None:
        """Put `data` under a wrong name, as a failing disk would."""
        self._blobs[blob_id] = data

    def _find(self, blob_id: BlobId) -> bytes:
        try:
            return self._blobs[blob_id]
        except KeyError:
            raise BlobMissing(f"blob {short(blob_id)} is not here") from None

    def _need(self, octets: int) -> None:
        if octets > self.free_bytes():
            raise DiskFull("no room in memory")

    def _keep(self, blob_id: BlobId, data: bytes) -> None:
        if self._blobs.get(blob_id) != data:
            self._need(len(data))
            self._blobs[blob_id] = data


def _check(blob_id: BlobId, data: bytes) -> None:
    if hashlib.sha256(data).digest() != blob_id:
        raise BadBlob("the hash is not the blob's name")


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _ids_in(folder: Path) -> Iterator[BlobId]:
    for path in folder.iterdir():
        if len(path.name) == 64 and not path.name.endswith(files.TEMPORARY_SUFFIX):
            yield BlobId(bytes.fromhex(path.name))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
