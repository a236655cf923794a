"""Where an ended entry is gone for certain: "erased on n of m".

A storing member, and a stick that is under way, counts when what it last said takes the tombstone into
account and does not list the entry. What was heard of no one is named as missing, never assumed.

To know the newest tombstone of a forwarder is not to know all of them, so whoever speaks names the set: per
forwarder a point in its time, and a digest of all its tombstones up to there. He is believed when the same
set is known here; else there may be one that he has not heard of, and he would not list its entry.
"""

import hashlib
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from sync.bodies import Remains, Role, StickSeen, Tombstone
from sync.entries import EntryView
from sync.facts import Fact, FactClass
from sync.ids import EntryId, NodeId
from sync.ledger import Ledger
from sync.lifecycle import ENDED

MAX_STILL = 500
_MAX_AUTHORS = 64
_STORING = frozenset({Role.INGEST, Role.CARRY, Role.FORWARD})


@dataclass(frozen=True, slots=True)
class Erasure:
    """Which members and sticks are known to hold nothing more of an entry, and which are not."""

    done: frozenset[NodeId]
    missing: frozenset[NodeId]
    sticks_done: frozenset[str] = frozenset()
    sticks_missing: frozenset[str] = frozenset()

    @property
    def n(self) -> int:
        """On how many it is erased."""
        return len(self.done) + len(self.sticks_done)

    @property
    def of(self) -> int:
        """How many there are."""
        return self.n + len(self.missing) + len(self.sticks_missing)

    @property
    def complete(self) -> bool:
        """Whether nobody is missing."""
        return not self.missing and not self.sticks_missing


class Tombstones:
    """All tombstones that are known, whatever their standing, by author and in order of time."""

    def __init__(self, facts: Iterable[Fact]) -> None:
        found: dict[NodeId, list[tuple[int, bytes]]] = defaultdict(list)
        for fact in facts:
            if isinstance(fact.body, Tombstone):
                found[fact.header.author].append(fact.order)
        self._of = {author: sorted(orders) for author, orders in found.items()}
        self._digests: dict[tuple[NodeId, int], bytes] = {}

    @classmethod
    def of_ledger(cls, ledger: Ledger) -> "Tombstones":
        """Return those of a ledger."""
        return cls(ledger.facts(FactClass.PERMANENT).values())

    def covered(self) -> dict[bytes, Sequence[int | bytes]]:
        """Return what is known, as a node says it: per author the newest timestamp and the digest."""
        newest = sorted(self._of.items(), key=lambda pair: -pair[1][-1][0])[:_MAX_AUTHORS]
        return {author: [orders[-1][0], self.digest(author, orders[-1][0])] for author, orders in newest}

    def digest(self, author: NodeId, point: int) -> bytes:
        """Return what stands for all tombstones of an author up to a point."""
        if (author, point) not in self._digests:
            orders = self._of.get(author, [])
            upto = orders[: bisect_right(orders, point, key=lambda order: order[0])]
            ids = b"".join(sorted(fact_id for _, fact_id in upto))
            self._digests[(author, point)] = hashlib.sha256(ids).digest()[:16]
        return self._digests[(author, point)]

    def takes_into_account(self, covers: Mapping[bytes, Sequence[int | bytes]], tombstone: Fact) -> bool:
        """Say whether somebody who says this is certain to know a tombstone."""
        said = covers.get(tombstone.header.author)
        if said is None:
            return False
        point, digest = said
        if not isinstance(point, int) or point < tombstone.header.timestamp:
            return False
        return digest == self.digest(tombstone.header.author, point)


class Whereabouts:
    """What all members and sticks last said, to be asked about many entries."""

    def __init__(self, ledger: Ledger) -> None:
        membership = ledger.membership
        self._tombstones = Tombstones.of_ledger(ledger)
        self._storing = {
            node
            for node, info in membership.members().items()
            if membership.granted(node) & _STORING and not info.revoked
        }
        self._remains = {
            node: fact.body for node, fact in ledger.remains().items() if isinstance(fact.body, Remains)
        }
        self._sticks = [body for body in sticks_of(ledger).values() if not body.gone]

    def erasure_of(self, view: EntryView) -> Erasure:
        """Say where an entry is erased; nowhere while it has no tombstone with effect."""
        tombstone = view.tombstone
        if tombstone is None:
            return Erasure(frozenset(), frozenset(self._storing))
        done = {
            node
            for node in self._storing
            if (said := self._remains.get(node)) is not None
            and self._is_gone(view.entry, tombstone, said.covers, said.still, said.unlisted)
        }
        off = {
            one.stick
            for one in self._sticks
            if self._is_gone(view.entry, tombstone, one.covers, one.aboard, one.unlisted)
        }
        return Erasure(
            frozenset(done),
            frozenset(self._storing - done),
            frozenset(one.name for one in self._sticks if one.stick in off),
            frozenset(one.name for one in self._sticks if one.stick not in off),
        )

    def _is_gone(
        self,
        entry: EntryId,
        tombstone: Fact,
        covers: Mapping[bytes, Sequence[int | bytes]],
        there: Sequence[bytes],
        more: int,
    ) -> bool:
        """Say whether somebody holds nothing of an ended entry. Lists are sorted; beyond them may be more."""
        if entry in there or (more and (not there or entry > there[-1])):
            return False
        return self._tombstones.takes_into_account(covers, tombstone)


def sticks_of(ledger: Ledger) -> dict[bytes, StickSeen]:
    """Return what is known of each stick: what the last node that had it said, by the stick's own count."""
    newest: dict[bytes, tuple[int, int, bytes, StickSeen]] = {}
    for fact in ledger.sticks():
        body = fact.body
        if isinstance(body, StickSeen) and ledger.membership.roles(fact.header.author) & _STORING:
            said = (body.turn, *fact.order, body)
            if body.stick not in newest or said[:3] > newest[body.stick][:3]:
                newest[body.stick] = said
    return {stick: said[3] for stick, said in newest.items()}


def remains_of(tombstones: Tombstones, still: Set[EntryId]) -> Remains:
    """Return what a node says of the ended entries that are still on its disk."""
    listed = sorted(still)
    return Remains(tombstones.covered(), tuple(listed[:MAX_STILL]), max(len(listed) - MAX_STILL, 0))


def is_aboard_in_vain(ledger: Ledger, entry: bytes) -> bool:
    """Say whether an entry on a stick has ended: it goes at the next export."""
    return ledger.entry(EntryId(entry)).state in ENDED
