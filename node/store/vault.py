"""The vault: studies in, sealed blobs out, and the original bytes back again, bit for bit.

`keep_study` is called once a submission is confirmed and complete; `open_study` by the forwarder and by
salvage. Both stream: memory stays flat whatever the study weighs. The vault knows nothing of DICOM, of the
database or of facts. Coding, sealing and flushing run side by side in a few threads, because CharLS,
zstandard, libsodium, SHA-256 and the disk all let go of the interpreter. How a study is read again:
`node.store.opened`.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from node.errors import ContentDiffers, NodeError
from node.store import codecs
from node.store.blobs import BlobStore
from node.store.opened import OpenStudy
from node.store.pixels import Native, find_native
from node.store.prefetch import prefetched, resized
from node.store.units import Part
from sync import manifest as manifests
from sync import segments
from sync.ids import BlobId, EntryId, MeshId
from sync.manifest import IndexedInstance, StudyIndex
from sync.segments import SEGMENT_BYTES, Kind

_THREADS = 2  # that code: it takes all of a core, and the memory for what is coded
_CODED_AHEAD = 2  # of what is coded together: at most codecs.WHOLE_BYTES, or a piece of one instance
_SEALED_AHEAD = 2  # segments


@dataclass(frozen=True, slots=True)
class Incoming:
    """An instance to be kept. `size` and `sha256` are what was confirmed.

    `open` yields the original Part 10 bytes from the start. It is called once, in another thread, after the
    instance before was read to its end: instances may share one file.
    """

    uid: str = field(repr=False)
    sop_class: str
    syntax: str
    size: int
    sha256: bytes = field(repr=False)
    open: Callable[[], Iterator[bytes]] = field(repr=False)
    ready: "Ready | None" = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Ready:
    """Whole instances, by their SHA-256, that were coded and compared before they were confirmed.

    `load` gives what was made of them; it is called in another thread. The first one carries it as its
    `ready`; if the next instances are not the others, it is left, and they are coded like any.
    """

    digests: tuple[bytes, ...] = field(repr=False)
    load: Callable[[], codecs.Coded] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Kept:
    """A study whose blobs and manifest are durable. `size` counts all their octets."""

    entry_id: EntryId
    manifest: bytes = field(repr=False)
    blobs: tuple[tuple[BlobId, int], ...]
    size: int


class Vault:
    """Keeps studies in a blob store. `random` gives so many unpredictable octets."""

    def __init__(self, blobs: BlobStore, random: Callable[[int], bytes]) -> None:
        self._blobs = blobs
        self._random = random

    def keep_study(
        self,
        study_uid: str,
        instances: Iterable[Incoming],
        confirmed: Mapping[str, Any],
        *,
        recipients: Sequence[bytes],
        mesh: MeshId,
        named: Callable[[EntryId], None] = lambda _entry: None,
    ) -> Kept:
        """Seal a study and keep it; blobs and manifest are durable on return, nothing else is written.

        Args:
            study_uid: the Study Instance UID, for the sealed index.
            instances: in the order in which they are to be delivered.
            confirmed: what the clinician confirmed, for the sealed index; CBOR values.
            recipients: X25519 public keys of every forwarder, and the mesh's recovery key.
            mesh: the mesh that the study belongs to.
            named: called with the entry's id when all blobs are durable, before the manifest is written.

        Raises:
            ContentDiffers: an instance is not the one that was confirmed; nothing is left behind.
            DiskFull: there is no room; nothing is left behind.
            BadValue: there is no instance, or one comes twice, or no recipient.
        """
        study_key = self._random(segments.KEY_BYTES)
        prefix = self._random(segments.PREFIX_BYTES)
        indexed: list[IndexedInstance] = []
        with ThreadPoolExecutor(_THREADS, "code") as pool, ThreadPoolExecutor(1, "seal") as sealing:
            stream = _SealedStream(self._blobs, study_key, prefix, sealing)
            try:
                for batch, coded in _coded(instances, pool):
                    if batch.begins:
                        indexed += _indexed(batch, coded, stream.position)
                    else:
                        last = indexed[-1]
                        indexed[-1] = replace(last, coded=last.coded + len(coded.data))
                    stream.add(coded.data)
                blobs = stream.finish()
                data = manifests.build_manifest(
                    StudyIndex(study_uid, tuple(indexed), confirmed),
                    blobs,
                    study_key=study_key,
                    mesh=mesh,
                    recipients=recipients,
                    index_prefix=self._random(segments.PREFIX_BYTES),
                    ephemeral_seeds=[self._random(32) for _ in recipients],
                )
                named(manifests.entry_id(data))
                entry_id = EntryId(self._blobs.put(data))
            except BaseException:
                stream.abandon()
                raise
        return Kept(entry_id, data, tuple(blobs), len(data) + sum(size for _, size in blobs))

    def open_study(self, manifest: bytes, secret: bytes) -> OpenStudy:
        """Open a study with an X25519 secret key of one of its recipients; blobs are read when needed.

        Raises:
            BadManifest: the manifest is malformed, or parts of two studies were mixed.
            CannotOpen: it is not sealed for this key, or was changed.
        """
        parsed = manifests.parse_manifest(manifest)
        return OpenStudy(self._blobs, parsed, manifests.open_key(parsed, secret))

    def open_granted(self, manifest: bytes, box: bytes, secret: bytes) -> OpenStudy:
        """Open a study with a sealed box from a `grant` fact.

        Raises:
            BadManifest: the manifest is malformed, or the box is another study's.
            CannotOpen: the box is not for this key, or was changed.
        """
        parsed = manifests.parse_manifest(manifest)
        return OpenStudy(self._blobs, parsed, manifests.open_box(parsed, box, secret))


class _SealedStream:
    """Cuts what is added into segments, and seals and keeps them in the pool, a few at a time."""

    def __init__(self, blobs: BlobStore, study_key: bytes, prefix: bytes, pool: ThreadPoolExecutor) -> None:
        self.position = 0
        self._blobs = blobs
        self._study_key = study_key
        self._prefix = prefix
        self._pool = pool
        self._buffer = bytearray()
        self._counter = 0
        self._running: deque[Future[tuple[BlobId, int]]] = deque()
        self._done: list[tuple[BlobId, int]] = []

    def add(self, data: bytes) -> None:
        """Append to the stream; waits while too many segments are under way."""
        self._buffer += data
        self.position += len(data)
        # A full buffer waits for the next octet: only then is it known not to be the last segment.
        while len(self._buffer) > SEGMENT_BYTES:
            with memoryview(self._buffer) as view:
                plaintext = bytes(view[:SEGMENT_BYTES])
            self._start(plaintext, final=False)
            del self._buffer[:SEGMENT_BYTES]

    def finish(self) -> list[tuple[BlobId, int]]:
        """Seal the rest and return all ids and sizes in order, once they are durable."""
        self._start(bytes(self._buffer), final=True)
        while self._running:
            self._wait()
        return self._done

    def abandon(self) -> None:
        """Remove what was kept; best effort, the sweep finds the rest."""
        for future in self._running:
            with suppress(Exception):
                self._done.append(future.result())
        for blob_id, _ in self._done:
            with suppress(NodeError, OSError):
                self._blobs.delete(blob_id)

    def _start(self, plaintext: bytes, *, final: bool) -> None:
        while len(self._running) >= _SEALED_AHEAD:
            self._wait()
        self._running.append(self._pool.submit(self._seal, self._counter, plaintext, final))
        self._counter += 1

    def _wait(self) -> None:
        self._done.append(self._running.popleft().result())

    def _seal(self, counter: int, plaintext: bytes, final: bool) -> tuple[BlobId, int]:
        blob = segments.seal(self._study_key, self._prefix, counter, plaintext, kind=Kind.STREAM, final=final)
        return self._blobs.put(blob), len(blob)


@dataclass(frozen=True, slots=True)
class _Batch:
    """What is coded together: instances, or a piece of a large one, which `begins` it or goes on.

    Of one that is `ready` there are no parts.
    """

    begins: bool
    members: tuple[Incoming, ...]
    parts: tuple[Part, ...] = ()
    ready: Ready | None = None

    @property
    def lengths(self) -> list[int]:
        """Octets of each member that are in it."""
        return [len(part.data) for part in self.parts] or [member.size for member in self.members]


def _coded(instances: Iterable[Incoming], pool: ThreadPoolExecutor) -> Iterator[tuple[_Batch, codecs.Coded]]:
    """Yield all batches, coded, in order: one thread reads, the pool codes ahead."""
    waiting: deque[tuple[_Batch, Future[codecs.Coded]]] = deque()
    codec = ""
    for batch in prefetched(_batches(instances), ahead=1):
        if batch.ready is not None:
            future, codec = pool.submit(batch.ready.load), ""
        elif batch.begins:
            future, codec = pool.submit(codecs.code, batch.parts), ""
        else:
            codec = codec or waiting[-1][1].result().codec
            future = pool.submit(codecs.code_next, codec, batch.parts[0])
        waiting.append((batch, future))
        if len(waiting) > _CODED_AHEAD:
            yield _result(*waiting.popleft())
    while waiting:
        yield _result(*waiting.popleft())


def _result(batch: _Batch, future: Future[codecs.Coded]) -> tuple[_Batch, codecs.Coded]:
    return batch, future.result()


def _batches(instances: Iterable[Incoming]) -> Iterator[_Batch]:
    """Read the instances: small ones whole and some together, large ones in pieces; none that is ready."""
    members: list[Incoming] = []
    parts: list[Part] = []
    room = codecs.WHOLE_BYTES
    left = deque(instances)
    while left:
        ready = _ready(left)
        incoming = left.popleft()
        if (ready is not None or incoming.size > room) and members:
            yield _Batch(True, tuple(members), tuple(parts))
            members, parts, room = [], [], codecs.WHOLE_BYTES
        if ready is not None:
            others = (left.popleft() for _ in ready.digests[1:])
            yield _Batch(True, (incoming, *others), ready=ready)
            continue
        if incoming.size > codecs.WHOLE_BYTES:
            yield from _pieces(incoming)
            continue
        data = b"".join(_checked(incoming))
        members.append(incoming)
        parts.append(Part(data, 0, find_native(data, incoming.size)))
        room -= incoming.size
    if members:
        yield _Batch(True, tuple(members), tuple(parts))


def _ready(left: Sequence[Incoming]) -> Ready | None:
    """Return what was made of the next instances before, if these are all that it was made of."""
    ready = left[0].ready
    if ready is None or tuple(one.sha256 for one in islice(left, len(ready.digests))) != ready.digests:
        return None
    return ready


def _pieces(incoming: Incoming) -> Iterator[_Batch]:
    start = 0
    native: Native | None = None
    for piece in resized(_checked(incoming), codecs.PIECE_BYTES):
        if not start:
            native = find_native(piece, incoming.size)
        yield _Batch(not start, (incoming,), (Part(piece, start, native),))
        start += len(piece)


def _checked(incoming: Incoming) -> Iterator[bytes]:
    """Yield what comes in; raise ContentDiffers, at its end at the latest, if it was not confirmed so."""
    left = incoming.size
    digest = hashlib.sha256()
    for piece in incoming.open():
        left -= len(piece)
        if left < 0:
            break
        digest.update(piece)
        yield piece
    if left or digest.digest() != incoming.sha256:
        raise ContentDiffers("an instance is not what was confirmed")


def _indexed(batch: _Batch, coded: codecs.Coded, offset: int) -> Iterator[IndexedInstance]:
    """Yield the index of what begins at `offset`: of a unit, its first member has all the octets."""
    end = offset + len(coded.data)
    for incoming, octets in zip(batch.members, batch.lengths, strict=True):
        length = octets if coded.codec == codecs.STORED else end - offset
        yield IndexedInstance(
            uid=incoming.uid,
            sop_class=incoming.sop_class,
            syntax=incoming.syntax,
            offset=offset,
            coded=length,
            codec=coded.codec,
            size=incoming.size,
            sha256=incoming.sha256,
        )
        offset += length
