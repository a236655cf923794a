"""The vault: studies in, sealed blobs out, and the original bytes back again, bit for bit.

`keep_study` is called once a submission is confirmed and complete; `open_study` by the forwarder and by
salvage. Both stream: memory stays flat whatever the study weighs. The vault knows nothing of DICOM, of the
database or of facts. Coding, sealing and flushing run side by side in a few threads, because zstandard,
libsodium, SHA-256 and the disk all let go of the interpreter.
"""

import hashlib
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from node.errors import ContentDiffers, NodeError, StoreDamaged
from node.store import codecs
from node.store.blobs import BlobStore
from node.store.prefetch import prefetched, resized
from sync import manifest as manifests
from sync import segments
from sync.errors import BadBlob, CannotOpen
from sync.ids import BlobId, EntryId, MeshId
from sync.manifest import IndexedInstance, Manifest, StudyIndex
from sync.segments import SEGMENT_BYTES, Kind

_THREADS = 3
_CODED_AHEAD = 3  # instances of at most codecs.WHOLE_BYTES, or pieces of one
_SEALED_AHEAD = 2  # segments
_CACHED_SEGMENTS = 2


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
        with ThreadPoolExecutor(_THREADS, "vault") as pool:
            stream = _SealedStream(self._blobs, study_key, prefix, pool)
            try:
                for number, incoming, coded in _coded(instances, pool):
                    if number == len(indexed):
                        indexed.append(_indexed(incoming, coded.codec, stream.position))
                    stream.add(coded.data)
                    indexed[-1] = replace(indexed[-1], coded=stream.position - indexed[-1].offset)
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

    def open_study(self, manifest: bytes, secret: bytes) -> "OpenStudy":
        """Open a study with an X25519 secret key of one of its recipients; blobs are read when needed.

        Raises:
            BadManifest: the manifest is malformed, or parts of two studies were mixed.
            CannotOpen: it is not sealed for this key, or was changed.
        """
        parsed = manifests.parse_manifest(manifest)
        return OpenStudy(self._blobs, parsed, manifests.open_key(parsed, secret))

    def open_granted(self, manifest: bytes, box: bytes, secret: bytes) -> "OpenStudy":
        """Open a study with a sealed box from a `grant` fact.

        Raises:
            BadManifest: the manifest is malformed, or the box is another study's.
            CannotOpen: the box is not for this key, or was changed.
        """
        parsed = manifests.parse_manifest(manifest)
        return OpenStudy(self._blobs, parsed, manifests.open_box(parsed, box, secret))


class OpenStudy:
    """A study that is open for reading. Instances may be read from several threads."""

    def __init__(self, blobs: BlobStore, manifest: Manifest, study_key: bytes) -> None:
        self.manifest = manifest
        self.index = manifests.open_index(manifest, study_key)
        self._blobs = blobs
        self._study_key = study_key
        self._lock = threading.Lock()
        self._prefix: bytes | None = None
        self._cache: OrderedDict[int, bytes] = OrderedDict()

    def read(self, instance: IndexedInstance) -> Iterator[bytes]:
        """Yield the original bytes of an instance, in pieces; only the segments that it needs are read.

        The last piece is yielded only after the SHA-256 of all was compared with the index, so that a
        damaged instance never comes out whole.

        Raises:
            BlobMissing: a blob is not here.
            StoreDamaged: the bytes are not those that were sealed.
            CodecUnknown: a newer program coded it.
        """
        digest = hashlib.sha256()
        held = b""
        source = _Slice(self._segment, instance.offset, instance.coded)
        for piece in codecs.decode(instance.codec, source, instance.size):
            digest.update(piece)
            if held:
                yield held
            held = piece
        if digest.digest() != instance.sha256:
            raise StoreDamaged("an instance is not what was sealed")
        if held:
            yield held

    def _segment(self, counter: int) -> bytes:
        """Return the plaintext of one segment."""
        with self._lock:
            if counter in self._cache:
                self._cache.move_to_end(counter)
                return self._cache[counter]
        plaintext = self._open_segment(counter)
        with self._lock:
            self._cache[counter] = plaintext
            while len(self._cache) > _CACHED_SEGMENTS:
                self._cache.popitem(last=False)
        return plaintext

    def _open_segment(self, counter: int) -> bytes:
        if not 0 <= counter < len(self.manifest.blobs):
            raise StoreDamaged("the index points beyond the study")
        blob_id, _ = self.manifest.blobs[counter]
        try:
            segment = segments.open_at(
                self._study_key,
                self._blobs.get(blob_id),
                kind=Kind.STREAM,
                counter=counter,
                final=counter == len(self.manifest.blobs) - 1,
                prefix=self._prefix,
            )
        except (BadBlob, CannotOpen):
            raise StoreDamaged("a segment is not what was sealed") from None
        self._prefix = segment.prefix
        return segment.plaintext


class _Slice:
    """A stretch of the stream, to be read from once."""

    def __init__(self, segment: Callable[[int], bytes], offset: int, length: int) -> None:
        self._segment = segment
        self._position = offset
        self._end = offset + length

    def read(self, size: int, /) -> bytes:
        counter, start = divmod(self._position, SEGMENT_BYTES)
        stop = min(start + size, start + self._end - self._position, SEGMENT_BYTES)
        if stop <= start:
            return b""
        piece = self._segment(counter)[start:stop]
        if len(piece) != stop - start:
            raise StoreDamaged("the index points beyond the study")
        self._position += len(piece)
        return piece


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


def _coded(
    instances: Iterable[Incoming], pool: ThreadPoolExecutor
) -> Iterator[tuple[int, Incoming, codecs.Coded]]:
    """Yield the coded pieces of all instances in order: one thread reads, the pool codes ahead.

    With each comes the number of its instance.
    """
    waiting: deque[tuple[int, Incoming, Future[codecs.Coded]]] = deque()
    codec, last = "", -1
    for number, incoming, piece in prefetched(_pieces(instances)):
        if number == last:
            codec = codec or waiting[-1][2].result().codec
            future = pool.submit(codecs.code_next, codec, piece)
        else:
            future = pool.submit(codecs.code, piece)
            codec, last = "", number
        waiting.append((number, incoming, future))
        if len(waiting) > _CODED_AHEAD:
            yield _result(*waiting.popleft())
    while waiting:
        yield _result(*waiting.popleft())


def _result(
    number: int, incoming: Incoming, future: Future[codecs.Coded]
) -> tuple[int, Incoming, codecs.Coded]:
    return number, incoming, future.result()


def _pieces(instances: Iterable[Incoming]) -> Iterator[tuple[int, Incoming, bytes]]:
    """Read the instances, small ones whole, large ones in pieces."""
    for number, incoming in enumerate(instances):
        large = incoming.size > codecs.WHOLE_BYTES
        size = codecs.PIECE_BYTES if large else max(1, incoming.size)
        for piece in resized(_checked(incoming), size):
            yield number, incoming, piece
        if incoming.size == 0:
            yield number, incoming, b""


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


def _indexed(incoming: Incoming, codec: str, offset: int) -> IndexedInstance:
    return IndexedInstance(
        uid=incoming.uid,
        sop_class=incoming.sop_class,
        syntax=incoming.syntax,
        offset=offset,
        coded=0,
        codec=codec,
        size=incoming.size,
        sha256=incoming.sha256,
    )
