"""Arriving: which blobs come in at this moment, and from whom.

So that several couriers at one node, and several meetings of one node, share a study in place of each moving
all of it. It only saves octets: whoever moves a blob that is here already does no harm.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from node.clock import Clock
from sync.ids import BlobId, EntryId, NodeId

_ALIVE_MS = 10_000  # a line on which nothing came for so long may be dead, and others may bring it


class Arriving:
    """The blobs that are coming in. Safe to call from many threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._coming: dict[BlobId, tuple[NodeId, int]] = {}  # from whom, and when the last piece came
        self._fetched: Counter[tuple[NodeId, EntryId]] = Counter()

    @contextmanager
    def from_peer(self, peer: NodeId, blob: BlobId) -> Iterator[bool]:
        """Note that a peer brings a blob while the block runs; gives False if another one does already."""
        if self.by_another(peer, blob):
            yield False
            return
        self.progress(peer, blob)
        try:
            yield True
        finally:
            with self._lock:
                if self._coming.get(blob, (None, 0))[0] == peer:
                    del self._coming[blob]

    def progress(self, peer: NodeId, blob: BlobId) -> None:
        """Note that a piece came, or is about to."""
        with self._lock:
            self._coming[blob] = (peer, self._clock.monotonic_ms())

    def by_another(self, peer: NodeId | None, blob: BlobId) -> bool:
        """Say whether somebody else brings a blob now."""
        with self._lock:
            coming = self._coming.get(blob)
        if coming is None or coming[0] == peer:
            return False
        return self._clock.monotonic_ms() - coming[1] < _ALIVE_MS

    @contextmanager
    def fetching(self, peer: NodeId, entry: EntryId) -> Iterator[None]:
        """Note that this node fetches an entry from a peer while the block runs."""
        with self._lock:
            self._fetched[peer, entry] += 1
        try:
            yield
        finally:
            with self._lock:
                self._fetched[peer, entry] -= 1
                self._fetched += Counter()  # drops those that are at zero

    def is_fetched_from(self, peer: NodeId, entry: EntryId) -> bool:
        """Say whether this node fetches an entry from a peer just now; then the peer need not give it."""
        with self._lock:
            return self._fetched[peer, entry] > 0
