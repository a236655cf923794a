"""An open study: the original bytes of its instances, bit for bit, from sealed blobs.

Made by the vault for the forwarder and for salvage. Memory stays flat whatever the study weighs: a few units
are decoded ahead of the reader, in threads of their own, and a few segments are kept.
"""

import hashlib
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from node.errors import StoreDamaged
from node.store import codecs
from node.store.blobs import BlobStore
from sync import manifest as manifests
from sync import segments
from sync.errors import BadBlob, CannotOpen
from sync.manifest import IndexedInstance, Manifest
from sync.segments import SEGMENT_BYTES, Kind

_THREADS = 2
_UNITS_AHEAD = 2
_CACHED_UNITS = 4
_CACHED_SEGMENTS = 2
_PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class _Unit:
    """Coded octets that hold instances of `size` octets, one after another."""

    offset: int
    coded: int
    size: int


class OpenStudy:
    """A study that is open for reading. Instances may be read from several threads."""

    def __init__(self, blobs: BlobStore, manifest: Manifest, study_key: bytes) -> None:
        self.manifest = manifest
        self.index = manifests.open_index(manifest, study_key)
        self._blobs = blobs
        self._study_key = study_key
        self._units, self._places = _units_of(self.index.instances)
        self._pool = ThreadPoolExecutor(_THREADS, "decode")
        self._lock = threading.Lock()
        self._decoded: OrderedDict[_Unit, Future[bytes]] = OrderedDict()
        self._latest = -1  # unit
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
        for piece in self._pieces(instance):
            digest.update(piece)
            if held:
                yield held
            held = piece
        if digest.digest() != instance.sha256:
            raise StoreDamaged("an instance is not what was sealed")
        if held:
            yield held

    def _pieces(self, instance: IndexedInstance) -> Iterator[bytes]:
        """Yield the octets that the index promises for an instance, unchecked."""
        if instance.codec != codecs.PACK or instance.size > codecs.WHOLE_BYTES:
            source = _Slice(self._segment, instance.offset, instance.coded)
            yield from codecs.decode(instance.codec, source, instance.size, self._ahead)
            return
        number, start = self._places[instance.uid]
        unit = self._units[number]
        if instance.coded:  # the caller's word counts
            unit = replace(unit, offset=instance.offset, coded=instance.coded)
        held = memoryview(self._unit(number, unit))[start : start + instance.size]
        if len(held) != instance.size:
            raise StoreDamaged("an instance decodes to another size")
        for at in range(0, len(held), _PIECE_BYTES):
            yield bytes(held[at : at + _PIECE_BYTES])

    def _ahead(self, unpack: Callable[[bytes], bytes], coded: Iterator[bytes]) -> Iterator[bytes]:
        """Unpack the units of a large instance, the next ones while one is read."""
        waiting: deque[Future[bytes]] = deque()
        for unit in coded:
            waiting.append(self._pool.submit(unpack, unit))
            if len(waiting) > _UNITS_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _unit(self, number: int, unit: _Unit) -> bytes:
        """Return what a unit holds. Who reads one after another finds the next ones decoded."""
        with self._lock:
            in_order = number in (self._latest, self._latest + 1)
            onward = self._units[number + 1 : number + 1 + _UNITS_AHEAD] if in_order else ()
            self._latest = number
            for wanted in (unit, *onward):
                if wanted not in self._decoded:
                    self._decoded[wanted] = self._pool.submit(self._decode, wanted)
                self._decoded.move_to_end(wanted)
            future = self._decoded[unit]
            while len(self._decoded) > _CACHED_UNITS:
                self._decoded.popitem(last=False)
        try:
            return future.result()
        except BaseException:
            with self._lock:
                self._decoded.pop(unit, None)  # the next reader may find a good copy
            raise

    def _decode(self, unit: _Unit) -> bytes:
        source = _Slice(self._segment, unit.offset, unit.coded)
        return b"".join(codecs.decode(codecs.PACK, source, unit.size))

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


def _units_of(instances: Sequence[IndexedInstance]) -> tuple[list[_Unit], dict[str, tuple[int, int]]]:
    """Return the units of a study, and where each of their instances begins: number and octet.

    The first instance of a unit has its octets, the others have none.
    """
    units: list[_Unit] = []
    places: dict[str, tuple[int, int]] = {}
    for instance in instances:
        if instance.codec != codecs.PACK or instance.size > codecs.WHOLE_BYTES:
            continue
        if instance.coded or not units:
            units.append(_Unit(instance.offset, instance.coded, 0))
        places[instance.uid] = len(units) - 1, units[-1].size
        units[-1] = replace(units[-1], size=units[-1].size + instance.size)
    return units, places
