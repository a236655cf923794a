"""Sweep: erase what has ended, when no reason to keep it is left, and say so.

Erasing goes on after a power cut: the intent is in the queue before the first blob goes. After each
batch the database is checkpointed, so that nothing of an erased entry stays in the write-ahead log.
"""

import logging

from node.clock import Clock
from node.config import Settings
from node.mesh.space import GB
from node.store.holdings import Holdings
from node.store.notes import Notes
from node.store.queue import QueueEntry
from sync import manifest
from sync.bodies import Role, Study
from sync.entries import EntryView
from sync.facts import parse
from sync.ids import BlobId, EntryId, NodeId
from sync.lifecycle import ENDED
from sync.retention import Since, reasons_to_keep

log = logging.getLogger(__name__)
LAST_MIXED = "last_mixed_ms"
_STORING = frozenset({Role.INGEST, Role.CARRY, Role.FORWARD})


def sweep(holdings: Holdings, notes: Notes, settings: Settings, clock: Clock) -> int:
    """Erase every ended entry that nothing keeps; return how many."""
    pressed = holdings.blobs.free_bytes() < settings.reserve_gb * GB
    mixed_ms = None if _alone(holdings) else notes.number(LAST_MIXED)
    erased = 0
    for held in holdings.queue.all():
        if held.erasing or _may_go(holdings, held, settings, clock.carried_ms(), mixed_ms, pressed=pressed):
            erased += holdings.erase(held.entry)
    if erased:
        holdings.facts.database.checkpoint()
    return erased


def _may_go(
    holdings: Holdings,
    held: QueueEntry,
    settings: Settings,
    now_ms: int,
    mixed_ms: int | None,
    *,
    pressed: bool,
) -> bool:
    if held.ended_ms is None:
        return False
    hold_ms = int(settings.hold_hours * 3_600_000)
    view = holdings.view(held.entry)
    since = Since(
        ended_ms=now_ms - held.ended_ms,
        mixed_after_hold=mixed_ms is None or mixed_ms >= held.ended_ms + hold_ms,
        disk_pressed=pressed,
    )
    return not reasons_to_keep(
        view,
        is_origin=held.origin,
        since=since,
        hold_ms=hold_ms,
        successor_known=_successor_known(holdings, held.entry, view),
        origin=_origin(holdings, held),
        untold=_untold(holdings, held.entry),
    )


def _untold(holdings: Holdings, entry: EntryId) -> bool:
    """Say whether this node sent some of an entry, and must still say how much of that arrived."""
    me = holdings.facts.node_id
    may = Role.FORWARD in holdings.facts.ask(lambda ledger: ledger.membership.roles(me))
    return may and bool(holdings.queue.proofs(entry))


def _origin(holdings: Holdings, held: QueueEntry) -> NodeId | None:
    """Return who the study fact named by which this node took the entry in."""
    body = parse(held.study, mesh=holdings.facts.ledger.mesh, verified_before=True).body
    return body.origin if isinstance(body, Study) else None


def _successor_known(holdings: Holdings, entry: EntryId, view: EntryView) -> bool:
    """Say whether the entry that takes over a recalled one keeps the blobs here, or has ended."""
    body = None if view.recall is None else view.recall.body
    recall = getattr(body, "recall", None)
    if recall is None or not holdings.has_manifest(entry):
        return recall is None
    successor = manifest.entry_id(manifest.recalled(holdings.blobs.get(BlobId(entry)), recall))
    ended = holdings.view(successor).state in ENDED
    return ended or bool(holdings.queue.blobs(successor))


def _alone(holdings: Holdings) -> bool:
    """Say whether no other member stores anything: then there is nobody to wait for."""
    me = holdings.facts.node_id
    members = holdings.facts.ask(lambda ledger: ledger.membership.members())
    return not any(node != me and info.roles & _STORING for node, info in members.items())
