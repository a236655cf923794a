"""The spool: uploads on disk, sealed as they arrive and read back at random.

A spool file is a row of frames, `[u32 length][24 nonce][XChaCha20-Poly1305 ciphertext and tag]`, big-endian,
each at most 1 MiB of plaintext; `length` counts the ciphertext with its tag. The authenticated data are the
upload's id and the offset at which the frame starts, so frames cannot be exchanged, between uploads or
within one. Which key seals the frames from which offset on stands in the upload's row. What is durable is
said by the row as well: octets of the file past its `position` were never acknowledged and are cut off.
Nothing here knows DICOM, HTTP or the database.
"""

import errno
import io
import os
import struct
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nacl import bindings, utils
from nacl.exceptions import CryptoError

from node.errors import StoreDamaged, UploadDamaged
from node.store import files
from node.xchacha import KEY_BYTES, NONCE_BYTES, SALT_BYTES, TAG_BYTES, Box

FRAME_BYTES = 1 << 20

_LENGTH = struct.Struct(">I")
_HEAD = _LENGTH.size + NONCE_BYTES
_OPENED_FRAMES = 4
_BOXES = 8
_READ_LIMIT = 64 << 20  # zipfile reads a whole central directory at once, whatever its length claims
_BINARY = getattr(os, "O_BINARY", 0)  # Windows would translate line ends


def new_key() -> bytes:
    """Return a fresh random key."""
    return utils.random(KEY_BYTES)


def seal_note(key: bytes, upload_id: str, note: bytes) -> bytes:
    """Seal something small that belongs to an upload."""
    nonce = utils.random(NONCE_BYTES)
    return nonce + bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(note, _note_of(upload_id), nonce, key)


def open_note(key: bytes, upload_id: str, box: bytes) -> bytes:
    """Return what `seal_note` sealed.

    Raises:
        UploadDamaged: it was altered, or belongs to another upload.
    """
    try:
        return bytes(
            bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
                box[NONCE_BYTES:], _note_of(upload_id), box[:NONCE_BYTES], key
            )
        )
    except (CryptoError, ValueError, TypeError):
        raise UploadDamaged("a note of an upload does not open") from None


class SpoolWriter:
    """Writes the frames of one upload from a committed place on. Not durable before `sync`.

    Raises:
        DiskFull: no room; what is written past the committed place is cut off later.
        UploadDamaged: the device reports an error, or the file is shorter than was committed.
    """

    def __init__(self, path: Path, upload_id: str, *, key: bytes, offset: int, position: int) -> None:
        self.offset = offset
        self.position = position
        self._upload_id = upload_id
        self._box = Box(key, utils.random(SALT_BYTES))
        self._buffer = bytearray()  # a new one for each frame would be zeroed by the system
        with files.disk_errors():
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _BINARY, 0o600)
            try:
                if os.fstat(self._descriptor).st_size < position:
                    raise UploadDamaged("a spool file is shorter than what was committed")
                os.truncate(self._descriptor, position)
                os.lseek(self._descriptor, position, os.SEEK_SET)
                if position == 0:
                    files.sync_dir(path.parent)
            except BaseException:
                os.close(self._descriptor)
                raise

    def write(self, plaintext: bytes) -> None:
        """Seal `plaintext`, at most 1 MiB, as the next frame; nothing makes no frame."""
        if not plaintext:
            return
        end = _HEAD + len(plaintext) + TAG_BYTES
        if len(self._buffer) < end:
            self._buffer = bytearray(end)
        with memoryview(self._buffer)[:end] as frame:
            context = _frame_of(self._upload_id, self.offset)
            nonce = self._box.seal_into(frame[_HEAD:], plaintext, context)
            frame[:_HEAD] = _LENGTH.pack(end - _HEAD) + nonce
            with files.disk_errors():
                files.write_all(self._descriptor, frame)
        self.offset += len(plaintext)
        self.position += end

    def sync(self) -> None:
        """Make everything written so far durable."""
        with files.disk_errors():
            files.sync_file(self._descriptor)

    def cut(self, position: int) -> None:
        """Cut off what was written past a committed place."""
        with files.disk_errors():
            os.truncate(self._descriptor, position)

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._descriptor < 0

    def close(self) -> None:
        """Close the file."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def cut(path: Path, position: int) -> None:
    """Cut off what lies past the committed place of a spool file; one that is not there stays so."""
    with files.disk_errors():
        if path.exists() and path.stat().st_size > position:
            os.truncate(path, position)


@dataclass(frozen=True, slots=True)
class _Frame:
    position: int
    sealed: int


class SpoolReader(io.RawIOBase):
    """A sealed upload as a seekable file of plaintext, for `zipfile`. Nothing is decrypted to disk.

    Args:
        path: the spool file.
        upload_id: whose it is.
        keys: (first offset, opened key), in order.
        position: how far the file counts.
        length: the octets of plaintext that it must hold.
        recent: gives the plaintext of the frame at an offset if it is still in memory.

    Raises:
        UploadDamaged: the file is not what was written.
    """

    def __init__(
        self,
        path: Path,
        upload_id: str,
        *,
        keys: Sequence[tuple[int, bytes]],
        position: int,
        length: int,
        recent: Callable[[int], bytes | None] | None = None,
    ) -> None:
        super().__init__()
        self._recent = recent
        self._upload_id = upload_id
        self._keys = list(keys)
        self._key_starts = [start for start, _ in keys]
        self._length = length
        self._at = 0
        self._lock = threading.Lock()
        self._opener = ThreadPoolExecutor(1, "spool")  # starts no thread before it is used
        self._opened: OrderedDict[int, Future[bytes]] = OrderedDict()
        self._starts: list[int] = []
        self._frames: list[_Frame] = []
        self._buffer = bytearray(NONCE_BYTES + FRAME_BYTES + TAG_BYTES)  # of the opener
        self._boxes: OrderedDict[tuple[bytes, bytes], Box] = OrderedDict()
        self._file: io.FileIO | None = None
        if length == 0:
            return
        with files.disk_errors():
            try:
                self._file = path.open("rb", buffering=0)
            except FileNotFoundError:
                raise UploadDamaged("a spool file is missing") from None
            try:
                self._index(self._file, position)
            except BaseException:
                self._file.close()
                raise

    @property
    def length(self) -> int:
        """Octets of plaintext."""
        return self._length

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
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        if start + offset < 0:
            raise OSError(errno.EINVAL, "negative offset")  # what files do, and zipfile counts on
        self._at = start + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Return the next `size` octets, fewer only at the end. Never more than 64 MiB at once."""
        left = max(0, self._length - self._at)
        data = self.read_at(self._at, left if size is None or size < 0 else min(size, left))
        self._at += len(data)
        return data

    def read_at(self, offset: int, size: int) -> bytes:
        """Return `size` octets from `offset` on, fewer only at the end; `tell` stays. From any thread."""
        wanted = min(size, max(0, self._length - offset))
        if wanted > _READ_LIMIT:
            raise ValueError("more than may be read at once")
        parts: list[bytes | memoryview] = []
        while wanted > 0:
            number = bisect_right(self._starts, offset) - 1
            frame = self._frame(number)
            inside = offset - self._starts[number]
            whole = inside == 0 and wanted >= len(frame)
            part = frame if whole else memoryview(frame)[inside : inside + wanted]
            parts.append(part)
            offset += len(part)
            wanted -= len(part)
        return parts[0] if len(parts) == 1 and isinstance(parts[0], bytes) else b"".join(parts)

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as there are octets."""
        part = self.read(len(buffer))
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        """Close the file and forget what was decrypted."""
        self._opener.shutdown(cancel_futures=True)
        self._opened.clear()
        if self._file is not None:
            self._file.close()
        super().close()

    def _index(self, file: io.FileIO, position: int) -> None:
        """Find the frames by hopping over their headers."""
        at = offset = 0
        while at < position:
            file.seek(at)
            head = file.read(_LENGTH.size)
            sealed = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else 0
            if not TAG_BYTES < sealed <= FRAME_BYTES + TAG_BYTES or at + _HEAD + sealed > position:
                raise UploadDamaged("a spool file has a malformed frame")
            self._starts.append(offset)
            self._frames.append(_Frame(at, sealed))
            at += _HEAD + sealed
            offset += sealed - TAG_BYTES
        if offset != self._length:
            raise UploadDamaged("a spool file does not hold what was committed")

    def _frame(self, number: int) -> bytes:
        """Return a frame's plaintext; the next one is opened meanwhile if they are read in order."""
        with self._lock:
            future = self._frame_begun(number)
            if number + 1 < len(self._frames) and number - 1 in self._opened:
                self._frame_begun(number + 1)
            while len(self._opened) > _OPENED_FRAMES:
                self._opened.popitem(last=False)
        return future.result()

    def _frame_begun(self, number: int) -> "Future[bytes]":
        future = self._opened.get(number)
        if future is None:
            held = None if self._recent is None else self._recent(self._starts[number])
            if held is None or len(held) != self._frames[number].sealed - TAG_BYTES:
                future = self._opener.submit(self._open_frame, number)
            else:
                future = Future()
                future.set_result(held)
            self._opened[number] = future
        else:
            self._opened.move_to_end(number)
        return future

    def _open_frame(self, number: int) -> bytes:
        """Read and decrypt a frame; in the opener's thread."""
        frame, start = self._frames[number], self._starts[number]
        assert self._file is not None
        with files.disk_errors():
            self._file.seek(frame.position + _LENGTH.size)
            data = memoryview(self._buffer)[: NONCE_BYTES + frame.sealed]
            if self._file.readinto(data) != len(data):
                raise UploadDamaged("a spool file is shorter than it was")
        key, nonce = self._keys[bisect_right(self._key_starts, start) - 1][1], bytes(data[:NONCE_BYTES])
        try:
            return self._box(key, nonce[:SALT_BYTES]).open(
                nonce, data[NONCE_BYTES:], _frame_of(self._upload_id, start)
            )
        except StoreDamaged:
            raise UploadDamaged("a spool file does not open") from None

    def _box(self, key: bytes, salt: bytes) -> Box:
        """Return what opens the frames of a salt: those that one request sent."""
        box = self._boxes.get((key, salt)) or Box(key, salt)
        self._boxes[key, salt] = box
        self._boxes.move_to_end((key, salt))
        if len(self._boxes) > _BOXES:
            self._boxes.popitem(last=False)
        return box


def _frame_of(upload_id: str, offset: int) -> bytes:
    return b"clinicmesh/spool/1:" + upload_id.encode() + offset.to_bytes(8)


def _note_of(upload_id: str) -> bytes:
    return b"clinicmesh/spool-note/1:" + upload_id.encode()
