"""Space: what may come in, what is given up for it, and what this node has promised to keep a while.

What is decided is decided by `sync.plan` and `sync.retention`; this module tells them what is on the disk,
who else holds it, and who said so just now. Called by `node.mesh.exchange`, meetings and the sweep.

A peer that is asked whether it holds an entry (`POST /holds`) keeps it for a while after a yes: two nodes
that rely on each other's copies at the same moment must not both give theirs up.
"""

import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from node.clock import Clock
from node.config import Settings
from node.store.ballast import Ballast
from node.store.holdings import Holdings
from node.store.queue import QueueEntry
from sync.bodies import Role
from sync.entries import EntryView
from sync.ids import EntryId, NodeId, short
from sync.lifecycle import ENDED
from sync.plan import Room, Wanted, accepts, carries_promise, overfull, pressure, room, shortfall
from sync.retention import Custodian, Kept, has_arrived, spare_octets, to_clear, to_evict, to_relieve

log = logging.getLogger(__name__)
GB = 1_000_000_000
_COMING_MS = 60_000  # how long room is kept for an entry of which nothing comes
_NOW_MS = 60_000  # how long an answer counts as given now
_PINNED_MS = 10 * 60_000  # how long this node keeps what it said that it holds
_COUNTED_MS = 1_000  # how long a look at the disk is good


@dataclass(slots=True)
class _Counted:
    """What one look at the disk found."""

    at_ms: int = -_COUNTED_MS
    held: int = 0
    coming: dict[EntryId, int] = field(default_factory=dict)  # octets that are still to come


class Space:
    """The room on this node's disk. Safe to call from many threads."""

    def __init__(
        self, holdings: Holdings, settings: Settings, clock: Clock, ballast: Ballast | None = None
    ) -> None:
        self._holdings = holdings
        self._quota = int(settings.quota_gb * GB)
        self._reserve = int(settings.reserve_gb * GB)
        self._clock = clock
        self._ballast = ballast
        self._lock = threading.RLock()
        self._coming: dict[EntryId, int] = {}  # until when, monotonic
        self._answers: dict[tuple[NodeId, EntryId], int] = {}
        self._pinned: dict[EntryId, int] = {}
        self._counted = _Counted()

    # -- taking in ------------------------------------------------------------------------------

    def takes(self, held: QueueEntry, view: EntryView, missing: int) -> bool:
        """Say whether the rest of an entry is taken in; room is kept for it, and made if need be."""
        if held.origin:
            return True  # its own study, damaged here: repaired from whoever has it
        opens = Role.FORWARD in self._roles()
        wanted = self._holdings.wanted(held, view, missing)
        with self._lock:
            if not self._fits(wanted):
                return False
            left = self._room(but=held.entry)
            if not accepts(wanted, left, can_open=opens) or shortfall(wanted, left, can_open=opens):
                kept = self._kept(but=held.entry)
                needed = shortfall(
                    wanted, self._room(but=held.entry, spare=spare_octets(kept)), can_open=opens
                )
                if needed and not self._give_up(to_evict(kept, needed)):
                    return False
            self._expect(held.entry, missing)
        return True

    def could_take(self, held: QueueEntry, view: EntryView, missing: int) -> bool:
        """Say whether there is, or could be made, room for the rest of an entry; changes nothing."""
        if held.origin:
            return True
        with self._lock:
            return self._fits(self._holdings.wanted(held, view, missing))

    def _fits(self, wanted: Wanted) -> bool:
        """Say whether this node carries at all, and what is spare here would make room enough."""
        roles = self._roles()
        if not roles & {Role.CARRY, Role.FORWARD}:
            return False
        opens = Role.FORWARD in roles
        if accepts(wanted, self._room(but=wanted.entry), can_open=opens):
            return True
        spare = spare_octets(self._kept(but=wanted.entry))
        return accepts(wanted, self._room(but=wanted.entry, spare=spare), can_open=opens)

    def expects(self, entry: EntryId) -> bool:
        """Say whether room is kept for an entry, and keep it a while longer: something of it came."""
        with self._lock:
            if self._coming.get(entry, 0) <= self._clock.monotonic_ms():
                return False
            self._coming[entry] = self._clock.monotonic_ms() + _COMING_MS
            return True

    def free_above_reserve(self) -> int:
        """Return how many octets may still come in without touching the reserve."""
        return max(self._holdings.blobs.free_bytes() - self._reserve, 0)

    def held(self) -> int:
        """Return how many octets this node carries for others, parts included."""
        with self._lock:
            return self._look().held

    # -- giving up ------------------------------------------------------------------------------

    def too_much(self) -> int:
        """Return how many octets too many are here."""
        with self._lock:
            return pressure(
                quota=self._quota,
                held=self._look().held,
                free=self._holdings.blobs.free_bytes(),
                reserve=self._reserve,
                can_open=Role.FORWARD in self._roles(),
            )

    def relieve(self) -> int:
        """Give up what may go if too much is here; return how many entries went."""
        with self._lock:
            needed = self.too_much()
            return self._give_up(to_relieve(self._kept(), needed)) if needed else 0

    def overfull(self) -> int:
        """Return how many octets lie in the half for what nobody else has; none if this node delivers."""
        if Role.FORWARD in self._roles():
            return 0
        with self._lock:
            return overfull(quota=self._quota, held=self._look().held)

    def clear(self) -> int:
        """Give up what has arrived, while who has it answers, until half of the quota is free."""
        with self._lock:
            needed = self.overfull()
            return self._give_up(to_clear(self._kept(), needed)) if needed else 0

    def to_ask(self, peer: NodeId) -> list[EntryId]:
        """Return the whole copies here that this peer, too, says that it holds, the longest known first."""
        me = self._holdings.facts.node_id
        entries = []
        for held in self._holdings.queue.all():
            view = self._holdings.view(held.entry)
            others = self._holdings.holders(view) - {me}
            if held.complete and not held.origin and held.ended_ms is None and peer in others:
                entries.append(held.entry)
        return entries

    def note_answers(self, peer: NodeId, entries: Iterable[EntryId]) -> None:
        """Take note that a peer has just said that it holds these entries."""
        now = self._clock.monotonic_ms()
        with self._lock:
            self._answers = {key: at for key, at in self._answers.items() if now - at < _NOW_MS}
            self._answers.update({(peer, entry): now for entry in entries})

    def pin(self, entries: Iterable[EntryId]) -> list[EntryId]:
        """Return those of these entries that are whole here now; they are not given up for a while."""
        now = self._clock.monotonic_ms()
        with self._lock:
            self._pinned = {entry: until for entry, until in self._pinned.items() if until > now}
            here = [entry for entry in entries if self._holdings.holds_now(entry)]
            self._pinned.update(dict.fromkeys(here, now + _PINNED_MS))
        return here

    # -- a full disk ----------------------------------------------------------------------------

    def ease(self) -> None:
        """Make sure that there is room to write what erasing needs."""
        if self._ballast is not None:
            self._ballast.ease()

    def drop_ballast(self) -> bool:
        """Make room after a write failed; say whether that helped."""
        return self._ballast is not None and self._ballast.drop()

    def restore_ballast(self) -> None:
        """Take the ballast aboard again, if there is room for it."""
        if self._ballast is not None:
            self._ballast.restore()

    # -- looking --------------------------------------------------------------------------------

    def _roles(self) -> frozenset[str]:
        me = self._holdings.facts.node_id
        return self._holdings.facts.ask(lambda ledger: ledger.membership.roles(me))

    def _expect(self, entry: EntryId, missing: int) -> None:
        self._coming[entry] = self._clock.monotonic_ms() + _COMING_MS
        self._counted.coming[entry] = missing

    def _look(self) -> _Counted:
        """Count what is here and what is coming, at one moment; a second later it is counted anew."""
        now = self._clock.monotonic_ms()
        if now - self._counted.at_ms < _COUNTED_MS:
            return self._counted
        self._coming = {entry: until for entry, until in self._coming.items() if until > now}
        whole = self._holdings.queue.octets_whole()
        found = _Counted(now)
        for held in self._holdings.queue.all():
            here = whole[held.entry] if held.entry in whole else self._holdings.octets_here(held.entry)
            if not held.origin:
                found.held += here
            if held.entry in self._coming and held.entry not in whole:
                view = self._holdings.view(held.entry)
                size = view.announced.size if view.announced and view.state not in ENDED else 0
                found.coming[held.entry] = max(size - here, 0)
        self._counted = found
        return found

    def _room(self, *, but: EntryId, spare: int = 0) -> Room:
        counted = self._look()
        return room(
            quota=self._quota,
            held=counted.held,
            free=self._holdings.blobs.free_bytes(),
            reserve=self._reserve,
            promised=sum(octets for entry, octets in counted.coming.items() if entry != but),
            spare=spare,
        )

    def _kept(self, *, but: EntryId | None = None) -> list[Kept]:
        """Return what is here and could make room: not what is coming in, delivered, or promised to stay."""
        now, me = self._clock.monotonic_ms(), self._holdings.facts.node_id
        whole = self._holdings.queue.octets_whole()
        kept = []
        for held in self._holdings.queue.all():
            entry = held.entry
            coming = not held.complete and self._coming.get(entry, 0) > now
            busy = entry == but or coming or self._pinned.get(entry, 0) > now
            if busy or held.ended_ms is not None or held.erasing:
                continue
            view = self._holdings.view(entry)
            octets = whole[entry] if held.complete else self._holdings.octets_here(entry)
            if not octets or me in view.claims:
                continue
            others = self._others(view, now)
            needed = carries_promise(self._holdings.wanted(held, view, 0)) and not has_arrived(others)
            kept.append(
                Kept(
                    entry=entry,
                    octets=octets,
                    waiting_since=held.seen_ms,
                    promised=needed,
                    complete=held.complete,
                    announced=me in view.holders,
                    is_origin=held.origin or view.origin == me,
                    others=others,
                )
            )
        return kept

    def _others(self, view: EntryView, now: int) -> frozenset[Custodian]:
        me = self._holdings.facts.node_id
        holders = self._holdings.holders(view) - {me}
        delivers = self._holdings.facts.ask(
            lambda ledger: {one for one in holders if Role.FORWARD in ledger.membership.roles(one)}
        )
        return frozenset(
            Custodian(
                one, one in delivers, now - self._answers.get((one, view.entry), now - _NOW_MS) < _NOW_MS
            )
            for one in holders
        )

    def _give_up(self, entries: list[EntryId]) -> int:
        for entry in entries:
            held = self._holdings.queue.get(entry)
            if held is not None:
                self._holdings.evict(held)
                log.info("given up to make room entry=%s", short(entry))
        self._counted.at_ms -= _COUNTED_MS
        return len(entries)
