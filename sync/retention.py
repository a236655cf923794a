"""Retention: which blobs may leave a node's disk.

Blobs are kept while anyone can name a reason, after the retention constraints of the Bundle
Protocol (RFC 9171 §5). Pure: ages are measured by the caller, from when this node saw things.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass
from enum import StrEnum

from sync.entries import EntryView
from sync.ids import EntryId, NodeId
from sync.lifecycle import ENDED, EntryState

DEFAULT_HOLD_MS = 72 * 3_600_000


class KeepReason(StrEnum):
    """Why an entry's blobs stay here."""

    NOT_ENDED = "not-ended"  # no tombstone with effect
    FROZEN = "frozen"  # a critical fact that this version does not understand
    RECALLED = "recalled"  # the destination lost it, and its successor is not announced yet
    UNTOLD = "untold"  # withdrawn, and this forwarder has not said yet how much of it had arrived
    DISPUTED = "disputed"  # withdrawn as another node's study than the one that was taken in
    HOLD = "hold"  # delivered, but the origin waits in case the destination loses it
    NOT_MIXED = "not-mixed"  # no completed reconciliation since the hold was over


@dataclass(frozen=True, slots=True)
class Since:
    """What this node has lived through since the tombstone became durable here.

    `ended_ms`: its age here. `mixed_after_hold`: a reconciliation was completed after the hold.
    `disk_pressed`: the disk reserve is touched, to which the hold yields.
    """

    ended_ms: int
    mixed_after_hold: bool
    disk_pressed: bool = False


def reasons_to_keep(
    view: EntryView,
    *,
    is_origin: bool,
    since: Since | None,
    hold_ms: int,
    successor_known: bool = False,
    origin: NodeId | None = None,
    untold: bool = False,
) -> frozenset[KeepReason]:
    """List the reasons to keep an entry's blobs; an empty set means that they may go.

    Args:
        view: what the facts say.
        is_origin: whether this node took the study in.
        since: None if this node has not yet noted the tombstone durably.
        hold_ms: how long the origin keeps a delivered study, in milliseconds of its own life.
        successor_known: for a recalled entry, whether the entry that takes over is in this node's queue
            with its list of blobs (which are the same blobs), or has ended.
        origin: the origin that the study fact named by which this node took the entry in; None if
            unknown. Any ingest node can say of any entry that it was its own, and withdraw that.
        untold: whether this node sent some of it and has not said yet how much of that arrived.
    """
    reasons: set[KeepReason] = set()
    if view.frozen:
        reasons.add(KeepReason.FROZEN)
    if view.state is EntryState.RECALLED:
        if not successor_known:
            reasons.add(KeepReason.RECALLED)
    elif view.state not in ENDED or since is None:
        reasons.add(KeepReason.NOT_ENDED)
    elif view.state is EntryState.WITHDRAWN and origin is not None and view.origin != origin:
        reasons.add(KeepReason.DISPUTED)
    elif view.state is EntryState.WITHDRAWN and untold:
        reasons.add(KeepReason.UNTOLD)
    elif is_origin and not since.disk_pressed:
        if since.ended_ms < hold_ms:
            reasons.add(KeepReason.HOLD)
        elif hold_ms > 0 and not since.mixed_after_hold:
            reasons.add(KeepReason.NOT_MIXED)
    return frozenset(reasons)


@dataclass(frozen=True, slots=True)
class Custodian:
    """Another node that holds an entry. `answers_now`: it said so in this meeting, verified."""

    node: bytes
    forwards: bool
    answers_now: bool


def may_evict(*, is_origin: bool, complete: bool, others: Set[Custodian], announced: bool = True) -> bool:
    """Say whether a copy of an entry that has not ended may go to make room.

    The origin's never; a partial copy always, and a whole one of which nobody was ever told, since
    nobody counts it. Another only while a forwarder answers now that it holds the entry and another
    custodian is known, or two other custodians answer now. What a third party says about a copy counts
    for nothing.
    """
    if is_origin:
        return False
    if not complete or not announced:
        return True
    answering = {c.node for c in others if c.answers_now}
    return has_arrived(others) or len(answering) >= 2


def has_arrived(others: Set[Custodian]) -> bool:
    """Say whether a copy has done its journey: a node that delivers answers now that it holds the entry
    verified, and another custodian is known. Then it carries no promise any more."""
    at_the_way_out = any(c.forwards and c.answers_now for c in others)
    return at_the_way_out and len({c.node for c in others}) >= 2


@dataclass(frozen=True, slots=True)
class Kept:
    """A copy here, or a part of one, that could make room. Times are on this node's own life clock.

    `promised`: it is needed here: its entry has not arrived, and is urgent or has fewer other copies
    than the floor.
    `announced`: this node said that it holds the entry.
    """

    entry: EntryId
    octets: int  # what giving it up frees
    waiting_since: int
    promised: bool
    complete: bool
    announced: bool
    is_origin: bool
    others: Set[Custodian]


def evictable(kept: Iterable[Kept]) -> list[Kept]:
    """Return what may go to make room, in the order in which it goes.

    What carries no promise first, and of that the parts; among equals what would travel last. A whole
    copy that is needed but was not announced yet counts as announced: it is about to be.
    """
    may = [
        k
        for k in kept
        if may_evict(
            is_origin=k.is_origin, complete=k.complete, others=k.others, announced=k.announced or k.promised
        )
    ]
    return sorted(may, key=lambda k: (k.promised, k.complete, -k.waiting_since, -k.octets, k.entry))


def spare_octets(kept: Iterable[Kept]) -> int:
    """Count the octets that make room for whatever carries a promise: of what may go and carries none."""
    return sum(k.octets for k in evictable(kept) if not k.promised)


def to_evict(kept: Iterable[Kept], needed: int) -> list[EntryId]:
    """Choose what goes to free so many octets; nothing goes if all of it would not be enough."""
    chosen: list[EntryId] = []
    for one in evictable(kept):
        if needed <= 0:
            break
        chosen.append(one.entry)
        needed -= one.octets
    return chosen if needed <= 0 else []


def to_clear(kept: Iterable[Kept], octets: int) -> list[EntryId]:
    """Choose what has arrived and goes now, while the one that delivers is there to answer for it.

    So a courier that leaves the town has room again for what waits at the clinics.
    """
    return to_relieve((one for one in kept if has_arrived(one.others)), octets)


def to_relieve(kept: Iterable[Kept], pressure: int) -> list[EntryId]:
    """Choose what goes when there is too much here already; all that may go, if even that is too little."""
    chosen: list[EntryId] = []
    for one in evictable(kept):
        if pressure <= 0:
            break
        chosen.append(one.entry)
        pressure -= one.octets
    return chosen
