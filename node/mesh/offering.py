"""What this node could give a peer, and what it offers before the line is dialled (docs/protocol.md §5).

Decided from what is known of the peer: the facts, and what it did not want when it was asked last. The peer
corrects it in its answer. Called by `node.mesh.meeting` and `moving`; which come first says `sync.plan`.
"""

from collections.abc import Sequence
from contextlib import suppress

from node.errors import NodeError, StoreDamaged
from node.mesh import wire
from node.mesh.exchange import Access, Exchange
from node.store.holdings import Holdings
from node.store.queue import QueueEntry
from sync.entries import EntryView
from sync.ids import BlobId, EntryId, NodeId
from sync.plan import Wanted, first_of, offerable

Pairs = Sequence[tuple[QueueEntry, EntryView]]


def pairs_here(exchange: Exchange) -> Pairs:
    """Return what is on its way as far as this node knows, with what the facts say of it."""
    held = [h for h in exchange.holdings.queue.all() if not h.erasing and h.ended_ms is None]
    return [(entry, exchange.holdings.view(entry.entry)) for entry in held]


def could_give(
    exchange: Exchange, peer: NodeId, pairs: Pairs, roles: frozenset[str]
) -> dict[EntryId, Wanted]:
    """Return the entries of which a peer with these roles should be asked what it lacks."""
    holdings = exchange.holdings
    return {
        held.entry: holdings.wanted(held, view, view.announced.size if view.announced else 0)
        for held, view in pairs
        if offerable(view, peer=peer, roles=roles) and (held.complete or holdings.has_manifest(held.entry))
    }


def offer_for(exchange: Exchange, peer: NodeId) -> wire.Offer | None:
    """Return what to begin a meeting with; None if there is nothing to give, or the peer may not have it."""
    if peer in exchange.offerless | exchange.stuck or exchange.access_of(peer) is not Access.ALL:
        return None
    pairs = pairs_here(exchange)
    could = could_give(exchange, peer, pairs, exchange.roles_of(peer))
    declined = exchange.declined[peer] = exchange.declined.get(peer, frozenset()).intersection(could)
    first = first_of((one for entry, one in could.items() if entry not in declined), wire.OFFERED)
    if not first:
        return None
    studies = {view.entry: view.study.raw for _, view in pairs if view.study is not None}
    entries: list[tuple[EntryId, bytes | None]] = []
    left = wire.OFFERED_BYTES
    there = exchange.manifests_at.get(peer, frozenset())
    for one in first:
        size = exchange.holdings.blobs.size(BlobId(one.entry)) or 0
        fits = 0 < size <= left and one.entry not in there
        try:
            entries.append((one.entry, exchange.holdings.blobs.get(BlobId(one.entry)) if fits else None))
        except StoreDamaged:
            note_lost(exchange.holdings, BlobId(one.entry))
            continue
        left -= size if fits else 0
    return wire.Offer(tuple(studies[entry] for entry, _ in entries), tuple(entries)) if entries else None


def note_lost(holdings: Holdings, blob: BlobId) -> None:
    """Note that a blob here is damaged; where the disk takes no note, it is only not given."""
    with suppress(NodeError):
        holdings.lost(blob)
