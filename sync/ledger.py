"""The ledger: a node's set of facts in memory, and what it means.

A mutable value without I/O: `node.store.factlog` keeps the same facts on disk, and the simulation
in tests/mesh runs many ledgers in one process. What it answers depends on the set alone:
admission, voiding and standing are recomputed from facts, never from the order in which they came.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from sync.bodies import (
    Audit,
    Body,
    DestinationBody,
    Device,
    Remains,
    Report,
    Role,
    StickSeen,
    WebLeaf,
    WebRequest,
)
from sync.destinations import Standing, standing
from sync.entries import EntryView, is_void, tombstone_counts, view_of
from sync.errors import BadFact
from sync.facts import Fact, FactClass, parse
from sync.ids import EntryId, FactId, MeshId, NodeId
from sync.membership import MEMBERSHIP_KINDS, Membership
from sync.reconcile import Snapshot

MAX_WAITING = 1_000

_Place = tuple[NodeId, str, EntryId | None, bytes]  # of each, only the newest fact stands


class Outcome(StrEnum):
    """What became of a fact that was offered."""

    ADMITTED = "admitted"
    KNOWN = "known"
    WAITING = "waiting"  # its author is not known yet
    VOID = "void"  # about an entry that has ended, or no longer the newest of its slot
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Added:
    """What adding facts changed.

    `admitted` may hold more than was offered: a new member frees facts that waited for their author.
    `dropped` are facts that became void and may go from disk. `revived` are entries whose tombstone
    lost its standing: who holds their blobs announces them anew.
    """

    outcome: Outcome
    admitted: tuple[Fact, ...] = ()
    dropped: tuple[FactId, ...] = ()
    revived: tuple[EntryId, ...] = ()
    code: str | None = None


class Ledger:
    """A set of facts of one mesh. Not thread-safe: its owner holds a lock."""

    def __init__(self, mesh: MeshId, roots: Iterable[NodeId]) -> None:
        self.mesh = mesh
        self._roots = frozenset(roots)
        self._facts: dict[FactClass, dict[FactId, Fact]] = {kind: {} for kind in FactClass}
        self._waiting: dict[FactId, Fact] = {}
        self._slots: dict[_Place, FactId] = {}
        self._by_entry: dict[EntryId, set[FactId]] = defaultdict(set)
        self._newest: dict[NodeId, int] = {}
        self._snapshots: dict[FactClass, Snapshot | None] = dict.fromkeys(FactClass)
        self._views: dict[EntryId, EntryView] = {}
        self._membership = Membership(self._roots, ())

    # -- adding ---------------------------------------------------------------------------------

    def add(self, raw: bytes) -> Added:
        """Verify one signed fact and take it in. Never raises: what is wrong is refused with a code."""
        fact_id = FactId(hashlib.sha256(raw).digest())
        if self.get(fact_id) is not None:
            return Added(Outcome.KNOWN)
        try:
            fact = parse(raw, mesh=self.mesh)
        except BadFact as error:
            return Added(Outcome.REFUSED, code=error.code)
        return self.add_fact(fact)

    def add_fact(self, fact: Fact) -> Added:
        """Take in a fact that was verified by `sync.facts.parse`."""
        if self.get(fact.id) is not None:
            return Added(Outcome.KNOWN)
        author = fact.header.author
        self._newest[author] = max(self._newest.get(author, 0), fact.header.timestamp)
        if fact.header.kind in MEMBERSHIP_KINDS:
            return self._add_membership(fact)
        if not self._membership.is_known(author):
            return self._let_wait(fact)
        return self._admit(fact)

    def _let_wait(self, fact: Fact) -> Added:
        while len(self._waiting) >= MAX_WAITING:
            del self._waiting[next(iter(self._waiting))]
        self._waiting[fact.id] = fact
        return Added(Outcome.WAITING)

    def _add_membership(self, fact: Fact) -> Added:
        """Take in a fact that may change who is known, and let go those that waited for it."""
        before = self._tombstoned()
        self._waiting.pop(fact.id, None)
        if not self._membership.is_known(fact.header.author):
            return self._let_wait(fact)
        admitted, dropped = [fact], list[FactId]()
        self._keep(fact)
        self._renew_membership()
        while freed := self._freed(membership=True):
            for waiting in freed:
                self._keep(waiting)
            self._renew_membership()
            admitted.extend(freed)
        for waiting in self._freed(membership=False):  # last: judged by all that is known of members
            added = self._admit(waiting)
            admitted.extend(added.admitted)
            dropped.extend(added.dropped)
        after = self._tombstoned()
        for entry in after - before:
            dropped.extend(self._void_entry(entry))
        return Added(
            Outcome.ADMITTED,
            admitted=tuple(f for f in admitted if f.id not in dropped),
            dropped=tuple(dropped),
            revived=tuple(sorted(before - after)),
        )

    def _freed(self, *, membership: bool) -> list[Fact]:
        """Take out the facts, about membership or not, that no longer wait for their author."""
        freed = [
            fact
            for fact in self._waiting.values()
            if (fact.header.kind in MEMBERSHIP_KINDS) is membership
            and self._membership.is_known(fact.header.author)
        ]
        for fact in freed:
            del self._waiting[fact.id]
        return freed

    def _admit(self, fact: Fact) -> Added:
        if is_void(fact, self.is_tombstoned):
            return Added(Outcome.VOID)
        dropped: list[FactId] = []
        if fact.header.slot is not None:
            place = (fact.header.author, fact.header.kind, fact.header.entry, fact.header.slot)
            standing = self._slots.get(place)
            if standing is not None:
                if self._facts[FactClass.LIVE][standing].order > fact.order:
                    return Added(Outcome.VOID)
                self._drop(standing)
                dropped.append(standing)
            self._slots[place] = fact.id
        self._keep(fact)
        entry = fact.header.entry
        if entry is not None and tombstone_counts(fact, self._membership, self.mesh):
            dropped.extend(self._void_entry(entry))
        return Added(Outcome.ADMITTED, admitted=(fact,), dropped=tuple(dropped))

    def _keep(self, fact: Fact) -> None:
        header = fact.header
        self._facts[header.fact_class][fact.id] = fact
        snapshot = self._snapshots[header.fact_class]
        if snapshot is not None:
            self._snapshots[header.fact_class] = None
        if header.entry is not None:
            self._by_entry[header.entry].add(fact.id)
            self._views.pop(header.entry, None)

    def _drop(self, fact_id: FactId) -> None:
        fact = self._facts[FactClass.LIVE].pop(fact_id)
        header = fact.header
        self._snapshots[FactClass.LIVE] = None
        if header.entry is not None:
            self._by_entry[header.entry].discard(fact_id)
            self._views.pop(header.entry, None)
        if header.slot is not None:
            place = (header.author, header.kind, header.entry, header.slot)
            if self._slots.get(place) == fact_id:
                del self._slots[place]

    def _void_entry(self, entry: EntryId) -> list[FactId]:
        live = self._facts[FactClass.LIVE]
        void = [fact_id for fact_id in self._by_entry[entry] if fact_id in live]
        for fact_id in void:
            self._drop(fact_id)
        return void

    def _renew_membership(self) -> None:
        permanent = self._facts[FactClass.PERMANENT].values()
        self._membership = Membership(
            self._roots, (f for f in permanent if f.header.kind in MEMBERSHIP_KINDS)
        )
        self._views.clear()

    def _tombstoned(self) -> set[EntryId]:
        return {entry for entry in self._by_entry if self.is_tombstoned(entry)}

    # -- the set --------------------------------------------------------------------------------

    def get(self, fact_id: FactId) -> Fact | None:
        """Return an admitted fact by its id."""
        for facts in self._facts.values():
            if fact_id in facts:
                return facts[fact_id]
        return None

    def facts(self, fact_class: FactClass) -> Mapping[FactId, Fact]:
        """Return the admitted facts of a class."""
        return self._facts[fact_class]

    def snapshot(self, fact_class: FactClass) -> Snapshot:
        """Return the admitted facts of a class as an immutable set to reconcile."""
        snapshot = self._snapshots[fact_class]
        if snapshot is None:
            snapshot = Snapshot(fact.order for fact in self._facts[fact_class].values())
            self._snapshots[fact_class] = snapshot
        return snapshot

    def note_newest(self, author: NodeId, timestamp: int) -> None:
        """Remember that an author has used a timestamp, though its fact is no longer here."""
        self._newest[author] = max(self._newest.get(author, 0), timestamp)

    def newest_of(self, author: NodeId) -> int:
        """Return the greatest timestamp ever seen of an author, 0 if none; void facts count."""
        return self._newest.get(author, 0)

    # -- what it means --------------------------------------------------------------------------

    @property
    def membership(self) -> Membership:
        """Who may say what."""
        return self._membership

    def is_tombstoned(self, entry: EntryId) -> bool:
        """Say whether a tombstone with effect is here for this entry."""
        permanent = self._facts[FactClass.PERMANENT]
        return any(
            tombstone_counts(permanent[fact_id], self._membership, self.mesh)
            for fact_id in self._by_entry.get(entry, ())
            if fact_id in permanent
        )

    def entry(self, entry: EntryId) -> EntryView:
        """Return what the facts about one entry mean; an unknown entry has the state UNKNOWN."""
        view = self._views.get(entry)
        if view is None:
            here = [fact for fact_id in self._by_entry.get(entry, ()) if (fact := self.get(fact_id))]
            view = view_of(entry, here, self._membership, self.mesh)
            if entry in self._by_entry:
                self._views[entry] = view
        return view

    def entries(self) -> Iterator[EntryView]:
        """Yield every entry that any fact is about."""
        for entry in list(self._by_entry):
            if self._by_entry[entry]:
                yield self.entry(entry)

    def entries_alive(self) -> set[EntryId]:
        """Return the entries that a live fact is about: those that have not ended."""
        live = self._facts[FactClass.LIVE].values()
        return {fact.header.entry for fact in live if fact.header.entry is not None}

    def devices(self) -> dict[bytes, Device]:
        """Return the devices that may log in, by device id. One revocation ends a device for ever.

        A chain only narrows: an administrator's device is one that a node with `admit` enrolled; of
        any other node it is a lead's.
        """
        devices: dict[bytes, Device] = {}
        ended: set[bytes] = set()
        for fact in sorted(self._of_kind(Device.KIND), key=lambda f: f.order):
            body = fact.body
            if isinstance(body, Device) and self._membership.counts(fact, Role.ENROL):
                may_admit = Role.ADMIT in self._membership.granted(fact.header.author)
                devices[body.device] = body if may_admit else _narrowed(body)
                if body.revokes:
                    ended.add(body.device)
        return {device: body for device, body in devices.items() if device not in ended}

    def destinations(self) -> dict[str, DestinationBody]:
        """Return the destinations by name (`sync.destinations`)."""
        return {name: one.body for name, one in self.destination_facts().items()}

    def destination_facts(self) -> dict[str, Standing]:
        """Return the destinations by name, with the facts that say them."""
        return standing(
            f for f in self._of_kind(DestinationBody.KIND) if self._membership.counts(f, Role.ADMIT)
        )

    def reports(self) -> dict[NodeId, Fact]:
        """Return each node's standing report."""
        return self._standing(Report)

    def remains(self) -> dict[NodeId, Fact]:
        """Return what each node says of the ended entries that are still there."""
        return self._standing(Remains)

    def sticks(self) -> list[Fact]:
        """Return what each node says of each stick that it had."""
        live = self._facts[FactClass.LIVE]
        slots = self._slots.items()
        return [live[fact_id] for (_, kind, _, _), fact_id in slots if kind == StickSeen.KIND]

    def audit_heads(self) -> dict[NodeId, Fact]:
        """Return the newest head of each node's audit trail."""
        return self._standing(Audit)

    def web_requests(self) -> dict[NodeId, Fact]:
        """Return by node the newest request for a people's certificate; of members with standing only."""
        members = self._membership.members()
        return {
            author: fact
            for author, fact in self._standing(WebRequest).items()
            if author in members and not members[author].revoked
        }

    def web_leaves(self, node: NodeId) -> list[Fact]:
        """Return the people's certificates that nodes with `admit` have issued to a node."""
        live = self._facts[FactClass.LIVE]
        return [
            live[fact_id]
            for (_, kind, _, slot), fact_id in self._slots.items()
            if kind == WebLeaf.KIND and slot == node and self._membership.counts(live[fact_id], Role.ADMIT)
        ]

    def _standing(self, kind_of: type[Body]) -> dict[NodeId, Fact]:
        live = self._facts[FactClass.LIVE]
        return {
            author: live[fact_id]
            for (author, kind, _, _), fact_id in self._slots.items()
            if kind == kind_of.KIND
        }

    def _of_kind(self, kind: str) -> Iterator[Fact]:
        return (f for f in self._facts[FactClass.PERMANENT].values() if f.header.kind == kind)


def _narrowed(device: Device) -> Device:
    """Return a device as a node without `admit` may enrol it."""
    return replace(device, role="lead") if device.role == "admin" else device
