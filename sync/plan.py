"""What to fetch from a peer and what to give it, in which order, and what to refuse for lack of room.

Urgent studies first, then those that have waited longest as seen here, then the smallest rest
(DESIGN: measured on a month of courier meetings). Pure: the caller says what is where.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import nsmallest

from sync.bodies import Role
from sync.entries import EntryView
from sync.ids import BlobId, EntryId, NodeId

COPIES_FLOOR = 4  # the origin and three more; beyond it copies go into free space only
FOR_FIRST_COPIES, FOR_URGENT = 2, 16  # parts of the quota: a half, a sixteenth
HEARD_WITHIN_MS = 14 * 86_400_000  # copies of nodes that were silent for longer do not count


@dataclass(frozen=True, slots=True)
class Wanted:
    """An entry that could be moved. Times are on this node's own life clock, in milliseconds.

    `arrived`: a node that delivers says that it holds it; further copies are for safety only.
    """

    entry: EntryId
    urgent: bool
    waiting_since: int
    missing: int  # octets still to move
    copies: int  # verified copies known, the origin's included
    arrived: bool = False


@dataclass(frozen=True, slots=True)
class Room:
    """How much a node may still take in, in octets: within its quota, and above its reserve.

    `quota`: all that this node carries for others. `spare`: what may go for a copy that carries a promise;
    None on a node that gives nothing up.
    """

    quota_left: int
    free_above_reserve: int
    quota: int
    spare: int | None = None


def is_on_its_way(view: EntryView) -> bool:
    """Say whether an entry is announced and has not ended: only then do its blobs travel."""
    return view.is_on_its_way


def fetchable(view: EntryView, *, peer: NodeId) -> bool:
    """Say whether a peer is known to hold an entry that is on its way."""
    if not is_on_its_way(view):
        return False
    return peer in view.holders or (peer == view.origin and view.origin_holds)


def offerable(view: EntryView, *, peer: NodeId, roles: frozenset[str]) -> bool:
    """Say whether a peer with these roles should be asked what it lacks of an entry."""
    if not is_on_its_way(view) or not roles & {Role.CARRY, Role.FORWARD}:
        return False
    return peer not in view.holders and not (peer == view.origin and view.origin_holds)


def passes(view: EntryView, *, whole: bool, peer: NodeId, roles: frozenset[str]) -> bool:
    """Say whether an entry goes before what moves between two nodes already: it is urgent, and one lacks it.

    Args:
        view: what the facts say.
        whole: it is whole on this node.
        peer, roles: the other node.
    """
    if not view.urgent:
        return False
    return offerable(view, peer=peer, roles=roles) if whole else fetchable(view, peer=peer)


def turn_of(wanted: Wanted) -> tuple[bool, int, int, EntryId]:
    """Return the key that sorts what could be moved: urgent, then longest waiting, then smallest rest."""
    return not wanted.urgent, wanted.waiting_since, wanted.missing, wanted.entry


def in_order(wanted: Iterable[Wanted]) -> list[Wanted]:
    """Sort what could be moved: what should go first comes first."""
    return sorted(wanted, key=turn_of)


def first_of(wanted: Iterable[Wanted], most: int) -> list[Wanted]:
    """Return so many of what could be moved, in the same order: what a meeting begins with."""
    return nsmallest(most, wanted, key=turn_of)


def holders_that_count(
    view: EntryView, *, heard_ms: Mapping[NodeId, int], me: NodeId, now_ms: int
) -> frozenset[NodeId]:
    """Return the nodes that hold an entry whole and were heard of lately; this node needs no news of itself.

    Args:
        view: what the facts say.
        heard_ms: when this node last took in a new fact of each author, on its own life clock.
        me: this node.
        now_ms: the present moment of the same clock.
    """
    origin = {view.origin} if view.origin_holds and view.origin is not None else set()
    oldest = now_ms - HEARD_WITHIN_MS
    return frozenset(
        holder
        for holder in view.holders | origin
        if holder == me or heard_ms.get(holder, oldest - 1) >= oldest
    )


def room(
    *, quota: int, held: int, free: int, reserve: int, promised: int = 0, spare: int | None = None
) -> Room:
    """Say how much may still come in, in octets.

    Args:
        quota: how much this node carries for others.
        held: how much of that is here, parts included.
        free: what the disk has left.
        reserve: what stays free whatever happens: erasing, too, needs to write.
        promised: the rest of what is coming in now; it is not written yet, and not to be given away twice.
        spare: what may go for a copy that carries a promise (`sync.retention.spare_octets`); None if this
            node gives nothing up.
    """
    return Room(max(quota - held - promised, 0), max(free - reserve - promised, 0), quota, spare)


def carries_promise(wanted: Wanted) -> bool:
    """Say whether a copy is needed: who holds it says so, and others rely on it.

    Urgent entries go everywhere; of others the first copies are needed, up to the floor. Any further
    one is a spare: it lies where there is room, nobody is told of it, and it goes first.
    """
    return wanted.urgent or wanted.copies < COPIES_FLOOR


def is_told_of(wanted: Wanted, *, can_open: bool) -> bool:
    """Say whether a node that holds an entry whole tells the others: if they need to rely on it.

    A node that delivers always does: what is there has arrived.
    """
    return can_open or carries_promise(wanted)


def accepts(wanted: Wanted, room: Room, *, can_open: bool) -> bool:
    """Say whether a node with this room takes an entry in.

    A node that delivers takes everything that fits its disk: it is the way out. Others take spare
    copies into what is free, if they give those up for copies that carry a promise. Among these half of
    the quota is for entries that only their origin holds, so that what the neighbours have already does
    not shut out what nobody has, and the last sixteenth is for urgent ones (measured on months of courier
    meetings, docs/performance.md). For what has arrived nothing is given up: what was given up for it
    would come back in its turn.
    """
    promised = carries_promise(wanted)
    spare = (room.spare or 0) if can_open or (promised and not wanted.arrived) else 0
    if wanted.missing > room.free_above_reserve + spare:
        return False
    if can_open:
        return True
    return wanted.missing + _kept_free(wanted, room) <= room.quota_left + spare


def _kept_free(wanted: Wanted, room: Room) -> int:
    """Return how much of the quota an entry must leave to those that come before it."""
    if wanted.urgent or (not carries_promise(wanted) and room.spare is not None):
        return 0
    return room.quota // (FOR_URGENT if wanted.copies <= 1 else FOR_FIRST_COPIES)


def shortfall(wanted: Wanted, room: Room, *, can_open: bool = False) -> int:
    """Return how many octets must be given up before an accepted entry can come in.

    The quota does not bind a node that delivers.
    """
    left = room.free_above_reserve if can_open else min(room.quota_left, room.free_above_reserve)
    return max(wanted.missing - left, 0)


def overfull(*, quota: int, held: int) -> int:
    """Return how many octets lie in the half of the quota that is for what nobody else has yet."""
    return max(held - quota // FOR_FIRST_COPIES, 0)


def pressure(*, quota: int, held: int, free: int, reserve: int, can_open: bool) -> int:
    """Return how many octets too many are here: the reserve is touched, or the quota was made smaller."""
    return max(reserve - free, 0 if can_open else held - quota, 0)


def blobs_to_move(
    blobs: Iterable[tuple[BlobId, int]], already: dict[BlobId, int], *, start: int = 0
) -> list[tuple[BlobId, int]]:
    """Return (blob, offset to go on at) for what is missing, beginning at the `start`-th for spreading.

    Several couriers at one receiver begin at different places, so that they share a study.
    """
    missing = [(blob, already.get(blob, 0)) for blob, size in blobs if already.get(blob, 0) < size]
    if not missing:
        return []
    turn = start % len(missing)
    return missing[turn:] + missing[:turn]
