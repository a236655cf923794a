"""The world that can fail: disks that forget what was not synced, lines that break, a PACS that lies."""

import copy
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from sync.ids import BlobId, EntryId, FactId


class PowerCut(Exception):
    """A node lost power here."""

    def __init__(self, disk: "Disk") -> None:
        super().__init__("power cut")
        self.disk = disk


class LineCut(Exception):
    """The connection broke here."""


class Fuses:
    """Burn down at every step of a disk or a line; whoever is there when one ends is hit."""

    def __init__(self) -> None:
        self.power: int | None = None
        self.line: int | None = None
        self.counts: Counter[str] = Counter()

    def at_disk(self, disk: "Disk") -> None:
        if self.power is not None:
            self.power -= 1
            if self.power < 0:
                self.power = None
                self.counts["power cut"] += 1
                raise PowerCut(disk)

    def on_line(self) -> None:
        if self.line is not None:
            self.line -= 1
            if self.line < 0:
                self.line = None
                self.counts["line cut"] += 1
                raise LineCut


@dataclass
class Row:
    """What a node's database says of an entry; times are of the node's own life."""

    entry: EntryId
    study: bytes
    origin: bool
    seen_ms: int
    blobs: tuple[tuple[BlobId, int], ...] = ()
    complete: bool = False
    ended_ms: int | None = None
    erasing: bool = False
    erased: bool = False
    failures: int = 0
    try_at: int = 0
    delivered_ms: int | None = None


@dataclass
class State:
    """What a disk holds durably."""

    blobs: dict[BlobId, bytes] = field(default_factory=dict)
    facts: dict[FactId, bytes] = field(default_factory=dict)
    rows: dict[EntryId, Row] = field(default_factory=dict)
    carried_ms: int = 0
    mixed_ms: int = -1


class Disk:
    """A disk of one node: files are durable after `sync`, the database after `commit`."""

    def __init__(self, fuses: Fuses, state: State | None = None) -> None:
        self.fuses = fuses
        self.durable = State() if state is None else state
        self.blobs = dict(self.durable.blobs)  # as the running node sees its files
        self.on_unlink: Callable[[BlobId], None] = lambda blob: None

    def write(self, blob: BlobId, data: bytes) -> None:
        self.fuses.at_disk(self)
        self.blobs[blob] = data

    def unlink(self, blob: BlobId) -> None:
        self.fuses.at_disk(self)
        if blob in self.blobs:
            self.on_unlink(blob)
            del self.blobs[blob]

    def sync(self) -> None:
        self.fuses.at_disk(self)
        self.durable.blobs = dict(self.blobs)

    def commit(self, change: Callable[[], None]) -> None:
        """Change the database, whole or not at all."""
        self.fuses.at_disk(self)
        change()
        self.fuses.at_disk(self)

    def good(self, blob: BlobId) -> bool:
        """Say whether a file is what its name says, as a reader of the disk would find."""
        data = self.blobs.get(blob)
        return data is not None and hashlib.sha256(data).digest() == blob

    def lose_power(self, random: Random) -> None:
        """Leave of each file that was not synced the old one, the new one, or a torn one."""
        for blob in sorted(self.blobs.keys() | self.durable.blobs.keys()):
            before, after = self.durable.blobs.get(blob), self.blobs.get(blob)
            if before is after:
                continue
            left = random.choice((before, after, b"" if before is None else before))
            if left is None:
                self.durable.blobs.pop(blob, None)
            else:
                self.durable.blobs[blob] = left
        self.blobs = dict(self.durable.blobs)

    def rot(self, blob: BlobId) -> None:
        """Flip a bit of a file, or lose it with its block."""
        data = self.blobs[blob]
        bad = bytes([data[0] ^ 1]) + data[1:] if data else b""
        self.blobs[blob] = self.durable.blobs[blob] = bad

    def image(self) -> State:
        """Return a copy of what is durable, as a backup or a cloned disk has it."""
        return copy.deepcopy(self.durable)


class Pacs:
    """A destination. It may answer 200 and keep nothing, be down, or lose what it showed before."""

    def __init__(self, fuses: Fuses, random: Random) -> None:
        self.fuses = fuses
        self.random = random
        self.held: dict[bytes, bytes] = {}
        self.honest = True
        self.down = False

    def store(self, name: bytes, data: bytes) -> bool:
        """Take a study; the answer says that all is well, or nothing."""
        if self.down:
            return False
        if not self.honest and self.random.random() < 0.5:
            self.fuses.counts["stored by word only"] += 1
            return True
        self.held[name] = data
        return True

    def read_back(self, name: bytes) -> bytes | None:
        return None if self.down else self.held.get(name)

    def lose(self, name: bytes) -> None:
        self.fuses.counts["lost by the PACS"] += 1
        del self.held[name]
