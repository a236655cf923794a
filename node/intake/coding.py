"""Coding ahead: what of an upload was examined is coded and compared while the rest of it still comes.

Coding takes most of the time that a study needs to be kept, and waits for nobody's word. What a person then
confirms is taken from here; what is not here is coded when the study is kept. Units lie sealed beside the
upload, under a key that only this process knows: after a restart they are coded once more, and what is left
of them is removed with what else the spool does not know. Called by the flow of submissions.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from node.errors import NodeError, StoreDamaged, UploadDamaged
from node.intake import spool
from node.intake.keeping import FindReady, none_ready
from node.intake.spool import FRAME_BYTES, SpoolReader, SpoolWriter
from node.store import codecs, files
from node.store.codecs import Coded
from node.store.pixels import find_native
from node.store.units import Part
from node.store.vault import Ready

_THREADS = 2  # as many as the vault's
_UNDER_WAY = 2  # units; a third waits for the first
_SMALLEST_BYTES = 128 << 10  # of smaller instances their headers take longer than their pixels
_WORTH_BYTES = codecs.WHOLE_BYTES // 2  # of what another study or a small instance interrupts


@dataclass(slots=True)
class _Batch:
    """Instances of one study that are to be coded together."""

    study_uid: str = field(default="", repr=False)
    digests: list[bytes] = field(default_factory=list, repr=False)
    parts: list[Part] = field(default_factory=list, repr=False)
    octets: int = 0


@dataclass(frozen=True, slots=True)
class _Unit:
    """Where what was made of some instances lies in the file beside the upload."""

    digests: tuple[bytes, ...] = field(repr=False)
    codec: str
    offset: int
    length: int


class Coding:
    """The units of one upload. `add` is for one thread at a time; the rest may be called from any.

    Args:
        path: where the units are kept, until `close`.
        upload_id: whose they are.
        pool: codes.
    """

    def __init__(self, path: Path, upload_id: str, pool: ThreadPoolExecutor) -> None:
        self._path = path
        self._upload_id = upload_id
        self._pool = pool
        self._key = spool.new_key()
        self._lock = threading.RLock()
        self._batch = _Batch()
        self._running: deque[tuple[tuple[bytes, ...], Future[Coded]]] = deque()
        self._units: dict[bytes, _Unit] = {}  # by the digest of the first instance
        self._writer: SpoolWriter | None = None
        self._reader: SpoolReader | None = None
        self._closed = False

    def add(self, study_uid: str, digest: bytes, data: bytes) -> None:
        """Code an instance with those of its study that came just before; waits while much is under way.

        Args:
            study_uid: the study that it is of.
            digest: its SHA-256.
            data: all of its octets, at most `codecs.WHOLE_BYTES`.

        Raises:
            DiskFull: no room for what was coded; this upload is coded ahead no further.
        """
        with self._lock:
            if self._closed:
                return
            batch, small = self._batch, len(data) < _SMALLEST_BYTES
            if small or batch.study_uid != study_uid or batch.octets + len(data) > codecs.WHOLE_BYTES:
                if batch.octets >= _WORTH_BYTES:
                    self._start(batch)
                self._batch = batch = _Batch(study_uid)
            if small:
                return
            batch.digests.append(digest)
            batch.parts.append(Part(data, 0, find_native(data, len(data))))
            batch.octets += len(data)

    def rest(self) -> None:
        """Wait for what is under way, and let go of instances that are no unit yet: the vault codes those."""
        with self._lock:
            self._batch = _Batch()
            try:
                while self._running:
                    self._write(*self._running.popleft())
            except NodeError:
                self._running.clear()  # the vault codes it again, and tells

    def ready(self, digest: bytes) -> Ready | None:
        """Return the unit that begins with an instance, if there is one."""
        with self._lock:
            unit = None if self._closed else self._units.get(digest)
            return None if unit is None else Ready(unit.digests, partial(self._load, unit))

    def close(self) -> None:
        """Forget all units, and remove them from the disk."""
        with self._lock:
            self._closed = True
            self._batch = _Batch()
            self._units.clear()
            for _, future in self._running:
                future.cancel()
            self._running.clear()
            if self._reader is not None:
                self._reader.close()
            if self._writer is not None:
                self._writer.close()
                files.remove(self._path)

    def _start(self, batch: _Batch) -> None:
        while len(self._running) >= _UNDER_WAY:
            self._write(*self._running.popleft())
        self._running.append((tuple(batch.digests), self._pool.submit(codecs.code, batch.parts)))

    def _write(self, digests: tuple[bytes, ...], future: Future[Coded]) -> None:
        coded = future.result()
        if self._writer is None:
            self._writer = SpoolWriter(self._path, self._upload_id, key=self._key, offset=0, position=0)
        offset = self._writer.offset
        with memoryview(coded.data) as view:
            for begin in range(0, len(view), FRAME_BYTES):
                self._writer.write(bytes(view[begin : begin + FRAME_BYTES]))
        self._units[digests[0]] = _Unit(digests, coded.codec, offset, len(coded.data))

    def _load(self, unit: _Unit) -> Coded:
        """Return a unit; if it does not open, all are forgotten, and coded anew at the next try.

        Raises:
            StoreDamaged: it does not open, or all were forgotten. The upload itself may be sound.
        """
        with self._lock:
            if self._closed:
                raise StoreDamaged("what was coded ahead is gone")
            try:
                return Coded(unit.codec, self._opened().read_at(unit.offset, unit.length))
            except UploadDamaged:
                self.close()
                raise StoreDamaged("what was coded ahead does not open") from None

    def _opened(self) -> SpoolReader:
        if self._reader is None:
            assert self._writer is not None  # a unit was written
            self._reader = SpoolReader(
                self._path,
                self._upload_id,
                keys=[(0, self._key)],
                position=self._writer.position,
                length=self._writer.offset,
            )
        return self._reader


class CodingAhead:
    """The units of all uploads under way. Safe to call from many threads.

    Args:
        folder: the spool; what is in it and not known as an upload is removed when the node starts.
        need: raises DiskFull if so many octets would leave too little room.
    """

    def __init__(self, folder: Path, need: Callable[[int], None]) -> None:
        self._folder = folder
        self._need = need
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(_THREADS, "code-ahead")  # starts no thread before it is used
        self._known: dict[str, Coding] = {}
        self._latest: Coding | None = None

    def add(self, upload_id: str, study_uid: str, digest: bytes, data: bytes) -> None:
        """Code an instance of an upload ahead, as `Coding.add`; on trouble the upload is left alone.

        Only one upload holds instances in memory: when another one grows, the one before rests.
        """
        with self._lock:
            coding = self._known.get(upload_id)
            if coding is None:
                path = self._folder / f"{upload_id}.coded"
                coding = self._known[upload_id] = Coding(path, upload_id, self._pool)
            before, self._latest = self._latest, coding
        if before is not None and before is not coding:
            before.rest()
        try:
            self._need(len(data))
            coding.add(study_uid, digest, data)
        except NodeError:
            coding.close()

    def ready(self, upload_id: str) -> FindReady:
        """Return what finds the units of an upload that has come whole."""
        with self._lock:
            coding = self._known.get(upload_id)
        if coding is None:
            return none_ready
        coding.rest()
        return coding.ready

    def forget(self, upload_id: str) -> None:
        """Remove the units of an upload."""
        with self._lock:
            coding = self._known.pop(upload_id, None)
        if coding is not None:
            coding.close()

    def close(self) -> None:
        """Remove all units, and end the threads."""
        for upload_id in list(self._known):
            self.forget(upload_id)
        self._pool.shutdown(cancel_futures=True)
