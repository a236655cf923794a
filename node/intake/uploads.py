"""Uploads: what a tus client sends becomes a sealed spool file, and a row that says how much of it counts.

Called by `node.api.uploads`, which speaks tus, and by the flow of submissions. The order of writing is
the same everywhere: frames → fsync → commit of (offset, position) → answer. Erasing runs the other way
round: the row loses its keys first, then the file goes.

While an upload is under way its key is in memory. After a restart only the intake secret would open it,
so what comes then is sealed under a new key: uploads go on while the node is locked.
"""

import base64
import logging
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from node.clock import Clock
from node.config import Settings
from node.errors import DiskFull, Locked, Refused, UploadDamaged, WrongOffset
from node.intake import spool
from node.intake.ahead import Growing
from node.intake.coding import CodingAhead
from node.store import files
from node.store.intake import IntakeStore, SubmissionState, Upload
from sync.errors import CannotOpen
from sync.ids import short

log = logging.getLogger(__name__)

GB = 1_000_000_000
EXPIRE_MS = 30 * 24 * 3600 * 1000
_OPEN_STATES = (SubmissionState.WAITING, SubmissionState.CONFIRMED)


class IntakeKeys(Protocol):
    """What seals uploads to this node, and opens them while it is unlocked."""

    def seal(self, plaintext: bytes) -> bytes:
        """Return a box that only this node opens."""

    def open(self, box: bytes) -> bytes:
        """Return what a box holds.

        Raises:
            Locked: the passphrase is needed.
        """


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is taken. `free_bytes` asks the disk; `reserve_bytes` of it are never used for uploads.

    `device_bytes` may be under way at once of one device, `node_bytes` of all; what is kept, taken back or
    expired counts no more.
    """

    max_bytes: int = 64 << 30
    device_bytes: int = 1 << 60
    node_bytes: int = 1 << 60
    reserve_bytes: int = 2 << 30
    free_bytes: Callable[[], int] = field(default=lambda: 1 << 60)

    @classmethod
    def of(cls, settings: Settings, free_bytes: Callable[[], int]) -> "Limits":
        """Return what the settings say."""
        return cls(
            max_bytes=int(settings.max_upload_gb * GB),
            device_bytes=int(settings.device_uploads_gb * GB),
            node_bytes=int(settings.uploads_gb * GB),
            reserve_bytes=int(settings.reserve_gb * GB),
            free_bytes=free_bytes,
        )


@dataclass(frozen=True, slots=True)
class _LiveKey:
    """The key of an upload under way. Only the first one opens what the client called it."""

    key: bytes = field(repr=False)
    first: bool


class Uploads:
    """The uploads of this node. Safe to call from many threads; one `Part` at a time for each upload.

    Args:
        store: the rows.
        folder: the spool; made if it is missing.
        keys: seal and open upload keys.
        clock: uploads that rest for 30 days of its carried time expire.
        limits: how much is taken.
        received: called with a submission's id when all of its octets are durable.
        grown: called when more of an upload is durable, but not all; see `growing`.
    """

    def __init__(
        self,
        store: IntakeStore,
        folder: Path,
        keys: IntakeKeys,
        clock: Clock,
        limits: Limits,
        received: Callable[[str], None],
        grown: Callable[[], None] = lambda: None,
    ) -> None:
        self.limits = limits
        self._store = store
        self._folder = folder
        self._keys = keys
        self._clock = clock
        self._received = received
        self._grown = grown
        self.growing = Growing()
        self.coding = CodingAhead(folder, self._need)
        self._live: dict[str, _LiveKey] = {}
        self._lock = threading.Lock()
        self._recover()

    def create(self, device: str, submission_id: str, *, length: int, metadata: bytes) -> Upload:
        """Make the upload of a submission; the one that it has already is given again.

        Args:
            device: who asks; the submission must be its own.
            submission_id: whose bytes these are.
            length: all octets.
            metadata: the client's names for it; sealed before it is stored.

        Raises:
            Refused: `submission-unknown`, `wrong-state`, `too-large`, `device-quota`, `node-quota`, or
                `upload-differs` if there is one of another length.
            DiskFull: it does not fit beside the reserve.
        """
        if length > self.limits.max_bytes:
            raise Refused("too-large", "This is more than the node takes at once. Send it in several parts.")
        upload_id = secrets.token_hex(16)
        key = spool.new_key()
        with self._store.change() as change:
            submission = change.submission(submission_id)
            if submission is None or submission.device != device:
                raise Refused("submission-unknown", "There is no such submission of this device.")
            present = change.upload_of(submission_id)
            if present is not None and not self._expired(present):
                if present.length != length:
                    raise Refused("upload-differs", "This submission has an upload of another length.")
                return present
            if submission.state not in _OPEN_STATES:
                raise Refused("wrong-state", "This submission takes no more bytes.")
            self._need(length)
            self._within_quota(device, length)
            upload = Upload(
                id=upload_id,
                submission=submission_id,
                device=device,
                length=length,
                offset=0,
                position=0,
                keys=((0, self._keys.seal(key)),),
                metadata_box=spool.seal_note(key, upload_id, metadata),
                touched_ms=self._clock.carried_ms(),
            )
            change.put_upload(upload)
            done = length == 0 and submission.state is SubmissionState.WAITING
            state = SubmissionState.RECEIVED if done else submission.state
            change.put_submission(replace(submission, state=state, length=length))
        log.info("upload begun upload=%s size=%d", short(bytes.fromhex(upload_id)), length)
        if length == 0:
            self._received(submission_id)
        else:
            with self._lock:
                self._live[upload_id] = _LiveKey(key, first=True)
        return upload

    def get(self, device: str, upload_id: str) -> Upload:
        """Return an upload of a device.

        Raises:
            Refused: `upload-unknown`, also if it is another device's; `gone` if it expired.
        """
        upload = self._store.upload(upload_id)
        if upload is None or upload.device != device:
            raise Refused("upload-unknown", "There is no such upload of this device.")
        if not upload.finished and (upload.erased or self._expired(upload)):
            raise Refused("gone", "This upload rested too long and was erased. Send it again from the start.")
        return upload

    def metadata(self, upload: Upload) -> bytes:
        """Return what the client called an upload; empty when its key cannot be had now."""
        with self._lock:
            live = self._live.get(upload.id)
        if upload.erased:
            return b""
        if live is not None and live.first:
            return spool.open_note(live.key, upload.id, upload.metadata_box)
        try:
            return spool.open_note(self._keys.open(upload.keys[0][1]), upload.id, upload.metadata_box)
        except (Locked, CannotOpen):
            return b""

    def expires_ms(self, upload: Upload) -> int:
        """Return the wall time at which an unfinished upload expires if it rests and the node runs on."""
        return self._clock.now_ms() + self._rests_ms(upload)

    def begin(self, upload: Upload, offset: int) -> "Part":
        """Begin to write at `offset`. The caller sees to it that nobody else writes to this upload.

        Raises:
            WrongOffset: this is not where the upload ends.
            DiskFull: the reserve is reached.
        """
        if offset != upload.offset:
            raise WrongOffset(upload.offset)
        self._need(0)
        with self._lock:
            live = self._live.get(upload.id)
        keys = upload.keys
        if live is None:
            live = _LiveKey(spool.new_key(), first=False)
            # A key from which nothing was committed is replaced; the first one also seals the metadata.
            kept = tuple(pair for pair in keys if pair[0] < upload.offset)
            keys = (*(kept or keys[:1]), (upload.offset, self._keys.seal(live.key)))
        return Part(self, replace(upload, keys=keys), live)

    def terminate(self, device: str, upload_id: str) -> None:
        """Forget an unfinished upload and erase what came of it.

        Raises:
            Refused: `upload-unknown`, `gone`, or `wrong-state` if all its octets are here.
        """
        upload = self.get(device, upload_id)
        if upload.finished:
            raise Refused("wrong-state", "All bytes are here. Take the submission back instead.")
        with self._store.change() as change:
            change.put_upload(erased(upload))
        self.remove_file(upload)
        with self._store.change() as change:
            change.drop_upload(upload_id)
        log.info("upload ended by its sender upload=%s", short(bytes.fromhex(upload_id)))

    def expire(self) -> int:
        """Erase the uploads that rested too long; return how many."""
        late = [u for u in self._store.uploads() if not u.finished and not u.erased and self._expired(u)]
        for upload in late:
            with self._store.change() as change:
                change.put_upload(erased(upload))
            self.remove_file(upload)
            log.info("upload expired upload=%s", short(bytes.fromhex(upload.id)))
        return len(late)

    def remove_file(self, upload: Upload) -> None:
        """Remove an upload's file, durably, after its row says `erased`."""
        with self._lock:
            self._live.pop(upload.id, None)
        self.growing.forget(upload.id)
        self.coding.forget(upload.id)
        if files.remove(self._path(upload.id)):
            files.sync_dir(self._folder)

    def reader(self, upload: Upload, *, held: bool = False) -> spool.SpoolReader:
        """Open an upload for reading, as far as it came; what is held in memory too, or from the disk alone.

        Raises:
            Locked: the passphrase is needed.
            UploadDamaged: the file or its keys are not what was written.
        """
        try:
            keys = [(start, self._keys.open(box)) for start, box in upload.keys]
        except CannotOpen:
            raise UploadDamaged("an upload's key does not open") from None
        return spool.SpoolReader(
            self._path(upload.id),
            upload.id,
            keys=keys,
            position=upload.position,
            length=upload.offset,
            recent=(lambda offset: self.growing.recent(upload.id, offset)) if held else None,
        )

    def _path(self, upload_id: str) -> Path:
        return self._folder / upload_id

    def _rests_ms(self, upload: Upload) -> int:
        """Return for how long an upload may still rest."""
        return max(0, upload.touched_ms + EXPIRE_MS - self._clock.carried_ms())

    def _expired(self, upload: Upload) -> bool:
        return not upload.finished and self._rests_ms(upload) == 0

    def _need(self, octets: int) -> None:
        if self.limits.free_bytes() - octets < self.limits.reserve_bytes:
            raise DiskFull("The node's disk is full. Nothing was lost; it goes on when there is room.")

    def _within_quota(self, device: str, length: int) -> None:
        here = [upload for upload in self._store.uploads() if not upload.erased]
        if sum(one.length for one in here if one.device == device) + length > self.limits.device_bytes:
            raise Refused(
                "device-quota",
                "This device has more under way than the node takes from one. Nothing was lost; it goes on "
                "when its other studies are confirmed and kept, or taken back.",
            )
        if sum(one.length for one in here) + length > self.limits.node_bytes:
            raise Refused(
                "node-quota",
                "This node has as many uploads under way as it takes. Nothing was lost; it goes on when some "
                "are kept.",
            )

    def _commit(self, upload: Upload) -> None:
        """Note how far an upload is, durably."""
        with self._store.change() as change:
            if not change.grow_upload(upload):
                files.remove(self._path(upload.id))
                raise Refused("gone", "This upload was ended meanwhile.")
            if upload.finished:
                submission = change.submission(upload.submission)
                if submission is not None and submission.state is SubmissionState.WAITING:
                    change.put_submission(replace(submission, state=SubmissionState.RECEIVED))

    def _recover(self) -> None:
        """Finish what a crash interrupted: erase what is to go, cut off what was never acknowledged."""
        files.make_dirs(self._folder)
        uploads = {upload.id: upload for upload in self._store.uploads()}
        for path in self._folder.iterdir():
            upload = uploads.get(path.name)
            if upload is None or upload.erased:
                files.remove(path)
            else:
                spool.cut(path, upload.position)
        files.sync_dir(self._folder)


class Part:
    """What one request adds to an upload. Ends with `commit` or `discard`, then `close`."""

    def __init__(self, uploads: Uploads, upload: Upload, live: "_LiveKey") -> None:
        self.upload = upload
        self._uploads = uploads
        self._live = live
        self._writer = spool.SpoolWriter(
            uploads._path(upload.id), upload.id, key=live.key, offset=upload.offset, position=upload.position
        )

    @property
    def offset(self) -> int:
        """How far the upload is, uncommitted octets included."""
        return self._writer.offset

    def write(self, piece: bytes) -> None:
        """Write the next piece, at most 1 MiB. Not durable before `commit`.

        Raises:
            Refused: `too-large` if it goes beyond the upload's length.
            DiskFull: the reserve is reached.
        """
        if self.offset + len(piece) > self.upload.length:
            raise Refused("too-large", "More bytes came than were announced.")
        self._uploads._need(len(piece))
        self._uploads.growing.hold(self.upload.id, self.offset, piece)
        self._writer.write(piece)

    def commit(self) -> Upload:
        """Make everything written so far durable and return the upload.

        Raises:
            Refused: `gone` if it was ended meanwhile.
            DiskFull: nothing since the last commit counts.
        """
        if self.offset == self.upload.offset:
            return self.upload
        self._writer.sync()
        upload = replace(
            self.upload,
            offset=self.offset,
            position=self._writer.position,
            touched_ms=self._uploads._clock.carried_ms(),
        )
        self._uploads._commit(upload)
        self.upload = upload
        with self._uploads._lock:
            if upload.finished:
                self._uploads._live.pop(upload.id, None)
            else:
                self._uploads._live[upload.id] = self._live
        if upload.finished:
            log.info("upload complete upload=%s size=%d", short(bytes.fromhex(upload.id)), upload.length)
            self._uploads._received(upload.submission)
        elif self._uploads.growing.note(upload.id, upload.offset):
            self._uploads._grown()
        return upload

    def discard(self) -> None:
        """Drop what was written since the last commit."""
        self._writer.cut(self.upload.position)

    @property
    def closed(self) -> bool:
        """Whether the file was let go."""
        return self._writer.closed

    def close(self) -> None:
        """Let go of the file."""
        self._writer.close()


def erased(upload: Upload) -> Upload:
    """Return the row of an upload that is to be erased: without its keys nothing of it can be read."""
    return replace(upload, keys=(), metadata_box=b"", erased=True)


def file_name(metadata: bytes) -> str:
    """Return the name that the sender gave (tus: `key base64, key base64`), or nothing."""
    for pair in metadata.decode("ascii", "ignore").split(","):
        key, _, value = pair.strip().partition(" ")
        if key == "filename":
            with suppress(ValueError):
                return base64.b64decode(value, validate=True).decode("utf-8", "replace")
    return ""
