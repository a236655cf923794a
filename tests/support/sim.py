"""Simulated nodes: the real `sync` code on a disk that can fail, and the rules that a node follows.

`Rules` is what `node` does with blobs, facts and proofs, in few lines; tests replace one rule by a wrong one
and demand that the simulation notices. `support.sim_world` brings time, meetings, faults and the invariants.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from support.facts import MeshMaker
from support.sim_disk import Disk, Pacs, Row

from sync import facts, segments
from sync.bodies import Body, Custody, Recall, Role, Study, Tombstone
from sync.entries import EntryView
from sync.errors import BadFact
from sync.facts import Fact
from sync.forwarding import Deliverable, choose, delay_after
from sync.hlc import next_timestamp
from sync.ids import BlobId, EntryId, HlcMs, NodeId
from sync.ledger import Ledger
from sync.lifecycle import ENDED, EntryState
from sync.manifest import (
    entry_id,
    open_index,
    open_key,
    parse_manifest,
    recalled,
)
from sync.membership import MEMBERSHIP_KINDS
from sync.plan import Wanted, accepts, is_on_its_way, room
from sync.retention import Custodian, Since, may_evict, reasons_to_keep

HOUR = 3_600_000
HOLD_MS = 72 * HOUR
RECHECK_MS = 24 * HOUR
_PARSED: dict[bytes, Fact] = {}


@dataclass(eq=False)
class Patient:
    """One study as the simulation knows it: what must reach the PACS."""

    name: bytes
    plaintext: bytes
    stream: BlobId
    entries: set[EntryId]
    acknowledged: bool = False
    over: bool = False  # withdrawn by a person, or lost by somebody whom no rule of ours can stop


class Node:
    """One simulated node. `up` says whether it runs; what is in memory is lost with the power."""

    def __init__(
        self, name: str, mesh: MeshMaker, disk: Disk, random: Random, rules: "Rules", *, quota: int = 10**9
    ) -> None:
        self.name, self.mesh, self.disk, self.random = name, mesh, disk, random
        self.key = mesh.key(name.rstrip("'"))  # a clone has a name like another's, and its key
        self.id = NodeId(bytes(self.key.verify_key))
        self.rules = rules
        self.quota = quota
        self.up = True
        self.stolen = False
        self.wall_ms = 0  # set by the world: its clock may be anywhere
        self.ledger = self.load()

    @property
    def rows(self) -> dict[EntryId, Row]:
        return self.disk.durable.rows

    @property
    def life_ms(self) -> int:
        return self.disk.durable.carried_ms

    @property
    def roles(self) -> frozenset[str]:
        return self.ledger.membership.roles(self.id)

    def load(self) -> Ledger:
        """Read the facts from disk, members first."""
        ledger = Ledger(self.mesh.id, self.mesh.root_ids)
        loaded = [self.parsed(raw) for raw in self.disk.durable.facts.values()]
        for fact in sorted(loaded, key=lambda f: f.header.kind not in MEMBERSHIP_KINDS):
            ledger.add_fact(fact)
        return ledger

    def parsed(self, raw: bytes) -> Fact:
        if raw not in _PARSED:
            _PARSED[raw] = facts.parse(raw, mesh=self.mesh.id)
        return _PARSED[raw]

    def crash(self, *, power: bool = True) -> None:
        self.up = False
        if power:
            self.disk.lose_power(self.random)

    def start(self) -> None:
        self.up = True
        self.disk.blobs = dict(self.disk.durable.blobs)
        self.ledger = self.load()
        self.rules.clear_away(self)
        self.rules.follow(self)
        self.rules.adopt(self)

    def take(self, raws: Iterable[bytes], *, follow: bool = True) -> None:
        """Take facts in, durably, in one transaction."""

        def change() -> None:
            for raw in raws:
                try:
                    added = self.ledger.add_fact(self.parsed(raw))
                except BadFact:
                    continue
                for fact in added.admitted:
                    self.disk.durable.facts[fact.id] = fact.raw
                for fact_id in added.dropped:
                    self.disk.durable.facts.pop(fact_id, None)

        self.disk.commit(change)
        if follow:
            self.rules.follow(self)

    def sign(self, body: Body, entry: EntryId | None = None) -> bytes:
        newest = self.ledger.newest_of(self.id)
        at = next_timestamp(self.wall_ms, HlcMs(newest) if newest else None)
        return facts.sign(body, key=self.key, mesh=self.mesh.id, timestamp=at, entry=entry)

    def whole(self, row: Row) -> bool:
        """Say whether every file of an entry is here, by name."""
        return bool(row.blobs) and all(blob in self.disk.blobs for blob, _ in row.blobs)

    def sound(self, row: Row) -> bool:
        """Say whether every file of an entry is what its name says."""
        return bool(row.blobs) and all(self.disk.good(blob) for blob, _ in row.blobs)

    def held_bytes(self) -> int:
        return sum(size for row in self.rows.values() if row.complete for _, size in row.blobs)


class Rules:
    """What a node does. Each method is one rule; everything that is decided is decided by `sync`."""

    # -- taking in ------------------------------------------------------------------------------

    def keep(
        self, node: Node, patient: Patient, entry: EntryId, blobs: dict[BlobId, bytes], study: Study
    ) -> None:
        """Keep a study of this node's own; when this returns, the person is told that it is safe."""
        for blob, data in blobs.items():
            node.disk.write(blob, data)
        node.disk.sync()
        self._announce(node, entry, blobs, study)

    def _announce(self, node: Node, entry: EntryId, blobs: dict[BlobId, bytes], study: Study) -> None:
        raw = node.sign(study, entry)
        row = Row(entry, raw, study.origin == node.id, node.life_ms, complete=True)
        row.blobs = tuple((blob, len(data)) for blob, data in blobs.items())

        def change() -> None:
            node.rows[entry] = row
            for fact in node.ledger.add(raw).admitted:
                node.disk.durable.facts[fact.id] = fact.raw

        node.disk.commit(change)

    def clear_away(self, node: Node) -> None:
        """Delete what was written for a study that was never acknowledged; its submission is still there."""
        listed = {blob for row in node.rows.values() for blob, _ in (*row.blobs, (row.entry, 0))}
        for blob in [blob for blob in node.disk.blobs if blob not in listed]:
            node.disk.unlink(blob)
        node.disk.sync()

    # -- in step with the facts -----------------------------------------------------------------

    def ended(self, node: Node, view: EntryView) -> bool:
        return view.state in ENDED

    def follow(self, node: Node) -> None:
        """Bring the rows in step with the facts. By state, not by event: a crash may have been in between."""
        for view in list(node.ledger.entries()):
            row, ended = node.rows.get(view.entry), self.ended(node, view)
            if row is None:
                if view.study is not None and not ended:
                    origin = view.origin == node.id
                    new = Row(view.entry, view.study.raw, origin, node.life_ms)
                    node.disk.commit(lambda new=new: node.rows.setdefault(new.entry, new))  # type: ignore[misc]
            elif ended and row.ended_ms is None:
                node.disk.commit(lambda row=row: setattr(row, "ended_ms", node.life_ms))  # type: ignore[misc]
            elif view.state is EntryState.RECALLED and node.sound(row):
                self._follow_recall(node, row, view)
        for row in list(node.rows.values()):
            view = node.ledger.entry(row.entry)
            if self.ended(node, view) or view.state is EntryState.RECALLED:
                continue
            if row.ended_ms is not None or row.erasing or row.erased:  # its tombstone lost its standing
                node.disk.commit(lambda row=row: self._revive(row))  # type: ignore[misc]
            if view.study is None and any(blob in node.disk.blobs for blob, _ in row.blobs):
                node.take([row.study], follow=False)
        self.own_up(node)

    def _revive(self, row: Row) -> None:
        row.ended_ms, row.erasing, row.erased, row.complete = (
            None,
            False,
            False,
            row.complete and not row.erasing,
        )

    def _follow_recall(self, node: Node, row: Row, view: EntryView) -> None:
        body = None if view.recall is None else view.recall.body
        if not isinstance(body, Recall) or Role.CARRY not in node.ledger.membership.structural(node.id):
            return
        manifest = recalled(node.disk.blobs[BlobId(row.entry)], body.recall)
        entry = entry_id(manifest)
        known = node.rows.get(entry)
        if known is not None and (known.complete or known.ended_ms is not None):
            return
        old = node.parsed(row.study).body
        assert isinstance(old, Study)
        blobs = {BlobId(entry): manifest} | {blob: node.disk.blobs[blob] for blob, _ in row.blobs[1:]}
        node.disk.write(BlobId(entry), manifest)
        node.disk.sync()
        study = Study(BlobId(entry), old.size, old.blobs, old.priority, old.destination, old.submission,
                      old.origin, old.again or row.study)  # fmt: skip
        self._announce(node, entry, blobs, study)

    def own_up(self, node: Node) -> None:
        """Say anew what this node's facts say wrongly of its own copies: after a loss, a backup, a clone."""
        for row in list(node.rows.values()):
            view = node.ledger.entry(row.entry)
            said = view.origin_holds if view.origin == node.id else node.id in view.holders
            if is_on_its_way(view) and said != row.complete and node.roles:
                node.take([node.sign(Custody(row.complete), row.entry)], follow=False)

    # -- copies ---------------------------------------------------------------------------------

    def accepts(self, node: Node, row: Row, view: EntryView, missing: int) -> bool:
        if row.origin:
            return True
        if not node.roles & {Role.CARRY, Role.FORWARD}:
            return False
        wanted = Wanted(row.entry, view.urgent, row.seen_ms, missing, view.copies)
        left = room(quota=node.quota, held=node.held_bytes(), free=10**9, reserve=0)
        return accepts(wanted, left, can_open=Role.FORWARD in node.roles)

    def finish(self, node: Node, row: Row) -> None:
        """Announce custody when every blob is durable and verified."""
        if row.complete or not node.sound(row):
            return
        node.disk.sync()

        def change() -> None:
            row.complete = True

        node.disk.commit(change)
        self.own_up(node)

    def noticed_loss(self, node: Node, row: Row) -> None:
        """Take custody back before anything else is done about a damaged copy."""
        bad = [blob for blob, _ in row.blobs if not node.disk.good(blob)]
        for other in node.rows.values():
            if other.complete and {blob for blob, _ in other.blobs} & set(bad):
                node.disk.commit(lambda other=other: setattr(other, "complete", False))  # type: ignore[misc]
        self.own_up(node)
        for blob in bad:
            node.disk.unlink(blob)
        node.disk.sync()

    def answers(self, node: Node, entry: EntryId) -> bool:
        """Say whether this node holds an entry, by reading it, to one that wants to give up its copy."""
        row = node.rows.get(entry)
        if row is None or not row.complete:
            return False
        if not node.sound(row):
            self.noticed_loss(node, row)
            return False
        return True

    def custodians(self, node: Node, view: EntryView, present: list[Node]) -> frozenset[Custodian]:
        holders = set(view.holders) | ({view.origin} if view.origin_holds and view.origin else set())
        answering = {p.id for p in present if p.id != node.id and p.up and self.answers(p, view.entry)}
        roles = node.ledger.membership.roles
        return frozenset(
            Custodian(h, Role.FORWARD in roles(h), h in answering)
            for h in holders | answering
            if h != node.id
        )

    def make_room(self, node: Node, present: list[Node]) -> None:
        """Give copies up while more than half of the quota is used."""
        for row in sorted(node.rows.values(), key=lambda r: (r.seen_ms, r.entry)):
            if node.held_bytes() * 2 <= node.quota:
                return
            view = node.ledger.entry(row.entry)
            if not row.complete or not is_on_its_way(view):
                continue
            others = self.custodians(node, view, present)
            if may_evict(is_origin=row.origin, complete=True, others=others):
                self.evict(node, row)

    def evict(self, node: Node, row: Row) -> None:
        node.disk.fuses.counts["copy given up"] += 1
        node.disk.commit(lambda: setattr(row, "complete", False))
        self.own_up(node)
        shared = self._shared(node, row)
        for blob, _ in row.blobs[1:]:
            if blob not in shared:
                node.disk.unlink(blob)
        node.disk.sync()

    def scrub(self, node: Node) -> None:
        for row in list(node.rows.values()):
            if any(blob in node.disk.blobs and not node.disk.good(blob) for blob, _ in row.blobs):
                self.noticed_loss(node, row)
        self.adopt(node)

    def adopt(self, node: Node) -> None:
        """Announce what is whole here and was not announced: the power went just before it."""
        for row in list(node.rows.values()):
            if is_on_its_way(node.ledger.entry(row.entry)):
                self.finish(node, row)

    # -- delivering -----------------------------------------------------------------------------

    def deliver(self, node: Node, pacs: Pacs, secret: bytes) -> EntryId | None:
        """Deliver the study whose turn it is; return its entry if it was proven."""
        deliverable = []
        for row in node.rows.values():
            view = node.ledger.entry(row.entry)
            if row.complete and is_on_its_way(view) and not view.waits_for_person:
                deliverable.append(Deliverable(row.entry, "pacs", view.urgent, row.seen_ms, row.try_at))
        chosen = choose(deliverable, now=node.life_ms)
        if chosen is None or Role.FORWARD not in node.roles:
            return None
        row = node.rows[chosen.entry]
        if not node.sound(row):
            self.noticed_loss(node, row)
            return None
        uid, plaintext = opened(node, row, secret)
        if not self.proven(pacs, uid, plaintext):
            delay = delay_after(row.failures + 1, jitter=node.random.random())

            def later() -> None:
                row.failures, row.try_at = row.failures + 1, node.life_ms + delay

            node.disk.commit(later)
            return None
        said = node.ledger.entry(row.entry).announced
        assert said is not None
        tombstone = Tombstone(
            "delivered", "pacs", "read-back", 1, 1, hashlib.sha256(uid).digest(), said.size, said.origin
        )
        raw = node.sign(tombstone, row.entry)
        node.disk.commit(lambda: setattr(row, "delivered_ms", node.life_ms))
        node.take([raw])
        return row.entry

    def proven(self, pacs: Pacs, uid: bytes, plaintext: bytes) -> bool:
        """Send what is not there; it is proven when the PACS gives the same back."""
        if pacs.read_back(uid) is None:
            pacs.store(uid, plaintext)
        return pacs.read_back(uid) == plaintext

    def recheck(self, node: Node, pacs: Pacs, uid_of: dict[EntryId, bytes]) -> None:
        """Look at the PACS again after a day, and recall what it lost."""
        for row in list(node.rows.values()):
            if row.delivered_ms is None or node.life_ms - row.delivered_ms < RECHECK_MS or pacs.down:
                continue
            view = node.ledger.entry(row.entry)
            if pacs.read_back(uid_of[row.entry]) is None and view.state is EntryState.DELIVERED:
                node.take([node.sign(Recall("lost", hashlib.sha256(row.entry).digest()[:16]), row.entry)])
            node.disk.commit(lambda row=row: setattr(row, "delivered_ms", None))  # type: ignore[misc]

    # -- erasing --------------------------------------------------------------------------------

    def sweep(self, node: Node) -> None:
        for row in list(node.rows.values()):
            view = node.ledger.entry(row.entry)
            if row.erased or not self.may_erase(node, row, view):
                continue
            node.disk.commit(lambda row=row: setattr(row, "erasing", True))  # type: ignore[misc]
            shared = self._shared(node, row)
            for blob, _ in reversed(row.blobs or ((BlobId(row.entry), 0),)):
                if blob not in shared:
                    node.disk.unlink(blob)
            node.disk.sync()

            def done(row: Row = row) -> None:
                row.erased, row.complete = True, False

            node.disk.commit(done)

    def may_erase(self, node: Node, row: Row, view: EntryView) -> bool:
        since = None
        if row.ended_ms is not None:
            mixed = node.disk.durable.mixed_ms >= row.ended_ms + HOLD_MS
            since = Since(node.life_ms - row.ended_ms, mixed)
        body = node.parsed(row.study).body
        origin = body.origin if isinstance(body, Study) else None
        return not reasons_to_keep(
            view, is_origin=row.origin, since=since, hold_ms=HOLD_MS, origin=origin,
            successor_known=self._successor_known(node, row, view),
        )  # fmt: skip

    def _successor_known(self, node: Node, row: Row, view: EntryView) -> bool:
        body = None if view.recall is None else view.recall.body
        manifest = node.disk.blobs.get(BlobId(row.entry))
        if not isinstance(body, Recall) or manifest is None or not node.disk.good(BlobId(row.entry)):
            return not node.whole(row)  # nothing left here that a successor could be made of
        entry = entry_id(recalled(manifest, body.recall))
        successor = node.rows.get(entry)
        listed = successor is not None and bool(successor.blobs)
        return listed or node.ledger.is_tombstoned(entry)

    def _shared(self, node: Node, row: Row) -> set[BlobId]:
        others = (r for r in node.rows.values() if r.entry != row.entry and not r.erased and not r.erasing)
        return {blob for other in others for blob, _ in other.blobs}


def opened(node: Node, row: Row, secret: bytes) -> tuple[bytes, bytes]:
    """Return a study's UID and plaintext, opened with a forwarder's (or the recovery) key."""
    manifest = parse_manifest(node.disk.blobs[BlobId(row.entry)])
    key = open_key(manifest, secret)
    index = open_index(manifest, key)
    segment = node.disk.blobs[manifest.blobs[0][0]]
    opened_ = segments.open_at(key, segment, kind=segments.Kind.STREAM, counter=0, final=True, prefix=None)
    assert hashlib.sha256(opened_.plaintext).digest() == index.instances[0].sha256
    return index.study_uid.encode(), opened_.plaintext
