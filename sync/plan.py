"""What to fetch from a peer and what to give it, in which order, and what to refuse for lack of room.

Urgent studies first, then those that have waited longest as seen here, then the smallest rest
(DESIGN: measured on a month of courier meetings). Pure: the caller says what is where.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sync.bodies import Role
from sync.entries import EntryView
from sync.ids import BlobId, EntryId, NodeId
from sync.lifecycle import ENDED

COPIES_FLOOR = 4  # the origin and three more; beyond it copies go into free space only


@dataclass(frozen=True, slots=True)
class Wanted:
    """An entry that could be moved. Times are on this node's own life clock, in milliseconds."""

    entry: EntryId
    urgent: bool
    waiting_since: int
    missing: int  # octets still to move
    copies: int  # verified copies known, the origin's included


@dataclass(frozen=True, slots=True)
class Room:
    """How much a node may still take in, in octets: within its quota, and above its reserve."""

    quota_left: int
    free_above_reserve: int


def is_on_its_way(view: EntryView) -> bool:
    """Say whether an entry is announced and has not ended: only then do its blobs travel."""
    return view.study is not None and view.tombstone is None and view.state not in ENDED


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


def in_order(wanted: Iterable[Wanted]) -> list[Wanted]:
    """Sort what could be moved: what should go first comes first."""
    return sorted(wanted, key=lambda w: (not w.urgent, w.waiting_since, w.missing, w.entry))


def accepts(wanted: Wanted, room: Room, *, can_open: bool) -> bool:
    """Say whether a node with this room takes an entry in.

    A node that delivers takes everything that fits its disk: it is the way out. Others take
    urgent entries and those below the floor within their quota, and further copies only while
    half of the quota is left, since these carry no promise.
    """
    if wanted.missing > room.free_above_reserve:
        return False
    if can_open:
        return True
    if wanted.urgent or wanted.copies < COPIES_FLOOR:
        return wanted.missing <= room.quota_left
    return wanted.missing * 2 <= room.quota_left


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
