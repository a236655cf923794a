"""What a simulated month of couriers is made of: studies, nodes and links, and what their facts say.

What the facts of a node mean stands in `EntryView`s, as `sync.ledger` makes them. Blobs are bits of a mask.
`support.couriers_run` moves them.
"""

from dataclasses import dataclass, field
from math import inf

from support.couriers import CLINICS, CLOUD, COURIERS, HOSPITAL, Taken
from support.facts import digest

from sync.bodies import Role, Study, Tombstone
from sync.entries import EntryView
from sync.facts import Fact, FactClass, Header
from sync.ids import BlobId, EntryId, FactId, HlcMs, NodeId
from sync.lifecycle import EntryEvent, fold
from sync.retention import Kept
from sync.segments import OVERHEAD_BYTES, SEGMENT_BYTES

LAN = 3e6  # octets a second
CLINIC_DISK = 100 * 10**9
MANIFEST, FACT = 1_000, 350  # octets of a manifest and of a signed fact
UNLIMITED = 10**15
IDS = [NodeId(digest("node", n)) for n in range(HOSPITAL + 1)]


@dataclass(frozen=True, slots=True)
class Setting:
    """What is varied: rates in octets a second, a courier's disk in octets."""

    uplink: float
    courier_disk: int
    lan: float = LAN
    clinic_disk: int = CLINIC_DISK

    def oracle(self) -> "Setting":
        """The same uplink, with an infinitely fast LAN and infinite disks."""
        return Setting(self.uplink, UNLIMITED, inf, UNLIMITED)


@dataclass(eq=False, slots=True)
class Item:
    """One study and its blobs, the manifest first."""

    taken: Taken
    entry: EntryId
    blobs: tuple[int, ...]
    total: int
    full: int  # the mask of all blobs
    study: Fact
    tombstone: Fact
    views: dict[int, EntryView] = field(default_factory=dict)  # by the mask of its holders
    delivered_at: float | None = None


@dataclass(eq=False, slots=True)
class Node:
    """One node: what its facts say, and what is on its disk."""

    index: int
    id: NodeId
    roles: frozenset[str]
    disk: int
    views: dict[int, EntryView] = field(default_factory=dict)  # of entries that have not ended
    seen: dict[int, int] = field(default_factory=dict)
    custody: dict[int, dict[int, int]] = field(default_factory=dict)  # entry -> node -> how new; odd: holds
    ended: dict[int, int] = field(default_factory=dict)  # entry -> when noted, ms
    reports: dict[int, int] = field(default_factory=dict)
    heard: dict[NodeId, int] = field(default_factory=dict)
    have: dict[int, int] = field(default_factory=dict)  # entry -> mask of whole blobs
    parts: dict[int, dict[int, int]] = field(default_factory=dict)  # entry -> blob -> octets here
    got: dict[int, int] = field(default_factory=dict)  # entry -> octets here
    held: int = 0
    whole: set[int] = field(default_factory=set)
    spares: set[int] = field(default_factory=set)  # whole, and nobody was told
    links: list["Link"] = field(default_factory=list)
    version: int = 0
    could_go: tuple[int, list[Kept], int] = (-1, [], 0)


@dataclass(eq=False, slots=True)
class Link:
    """A contact under way. `queue` holds what could be moved, by turn; one thing moves at a time."""

    opener: Node
    peer: Node
    rate: float
    queue: list[tuple[object, ...]] = field(default_factory=list)
    refused: list[tuple[object, ...]] = field(default_factory=list)
    item: int | None = None
    giver: Node | None = None
    taker: Node | None = None
    moves: list[tuple[int, int]] = field(default_factory=list)  # blob, offset
    flying: tuple[int, ...] = ()
    offset: int = 0
    started: float = 0.0
    promised: int = 0
    token: int = 0
    facts: int = 0
    open: bool = True

    def other(self, node: Node) -> Node:
        return self.peer if node is self.opener else self.opener

    def clear(self) -> None:
        """Forget what was moving; an event that was due for it comes to nothing."""
        self.item = self.giver = self.taker = None
        self.moves, self.flying, self.promised = [], (), 0
        self.token += 1


@dataclass(frozen=True, slots=True)
class Result:
    """What a month came to. Shares are of all studies; hours are from intake to the cloud."""

    delivered: float
    urgent: float
    median_hours: float
    urgent_hours: float
    overhead: float  # octets moved for each octet delivered
    lost: int
    evicted: int


def item_of(n: int, taken: Taken) -> Item:
    segments = [SEGMENT_BYTES] * (taken.size // SEGMENT_BYTES)
    if taken.size % SEGMENT_BYTES:
        segments.append(taken.size % SEGMENT_BYTES)
    blobs = (MANIFEST, *(octets + OVERHEAD_BYTES for octets in segments))
    entry, origin = EntryId(digest("study", n)), IDS[taken.clinic]
    priority = "urgent" if taken.urgent else "routine"
    study = Study(BlobId(entry), sum(blobs), len(blobs), priority, "pacs", bytes(16), origin)
    tombstone = Tombstone("delivered", "pacs", "read-back", 1, 1, bytes(32), sum(blobs), origin)
    return Item(
        taken, entry, blobs, sum(blobs), (1 << len(blobs)) - 1,
        _fact(study, origin, entry), _fact(tombstone, IDS[CLOUD], entry),
    )  # fmt: skip


def _fact(body: Study | Tombstone, author: NodeId, entry: EntryId) -> Fact:
    kind = FactClass.LIVE if body.LIVE else FactClass.PERMANENT
    header = Header(body.KIND, author, HlcMs(1), kind, entry)
    return Fact(FactId(digest(body.KIND, entry.hex())), header, body, b"")


def node_of(n: int, setting: Setting) -> Node:
    if n == CLOUD:
        return Node(n, IDS[n], frozenset({Role.CARRY, Role.FORWARD}), UNLIMITED)
    if n in COURIERS:
        return Node(n, IDS[n], frozenset({Role.CARRY}), setting.courier_disk)
    roles = {Role.CARRY, Role.INGEST} if n in CLINICS else {Role.CARRY}
    return Node(n, IDS[n], frozenset(roles), setting.clinic_disk)


def view_of(item: Item, said: dict[int, int]) -> EntryView:
    """Return what facts of a study and of custodies mean, as `sync.entries.view_of` does."""
    mask = sum((value & 1) << who for who, value in said.items())
    if mask not in item.views:
        holders = frozenset(IDS[who] for who in range(len(IDS)) if mask >> who & 1)
        events = [EntryEvent.STUDY] + [EntryEvent.CUSTODY for _ in holders]
        item.views[mask] = EntryView(
            entry=item.entry, state=fold(events), study=item.study, holders=holders, claims={}, troubles=(),
            decisions=(), grants=(), tombstone=None, recall=None, waits_for_person=False, frozen=False,
            origin_holds=True,
        )  # fmt: skip
    return item.views[mask]


def ended_view_of(item: Item) -> EntryView:
    return EntryView(
        entry=item.entry, state=fold([EntryEvent.DELIVERY]), study=None, holders=frozenset(), claims={},
        troubles=(), decisions=(), grants=(), tombstone=item.tombstone, recall=None, waits_for_person=False,
        frozen=False, origin_holds=True,
    )  # fmt: skip
