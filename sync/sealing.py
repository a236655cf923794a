"""For whom studies are sealed: who lacks a key, what a revoked key still opens, and when an old seal may end.

Pure. A study is sealed to the forwarders that its clinic knew. One that joins later is granted the key by
whoever has it; what is sealed to a forwarder that is trusted no longer is sealed anew, as another entry, and
the old entry ends once the new one is safe.
"""

import hashlib
from collections.abc import Callable, Iterable, Set

from sync.bodies import Grant
from sync.entries import EntryView
from sync.ids import EntryId, KeyId, NodeId
from sync.lifecycle import ENDED
from sync.manifest import key_id

SAFE_COPIES = 2  # of the new entry: the node that sealed it, and one more


def granted(view: EntryView) -> frozenset[KeyId]:
    """Return the keys to which grants with effect have sealed an entry."""
    return frozenset(
        KeyId(key) for fact in view.grants if isinstance(fact.body, Grant) for key in fact.body.sealed
    )


def lacking(view: EntryView, sealed: Set[KeyId], forwarders: Iterable[bytes]) -> list[bytes]:
    """Return the sealing keys of forwarders to whom an entry on its way is not sealed yet.

    Args:
        view: what the facts say.
        sealed: the keys in its manifest.
        forwarders: the sealing keys of all who may open studies now.
    """
    if not view.is_on_its_way:
        return []
    have = sealed | granted(view)
    return [seal for seal in forwarders if key_id(seal) not in have]


def is_exposed(view: EntryView, sealed: Set[KeyId], distrusted: Set[KeyId]) -> bool:
    """Say whether an entry on its way should be sealed anew: a key that is trusted no longer opens it.

    What waits for a person waits as it is.
    """
    if not view.is_on_its_way or view.waits_for_person or view.frozen:
        return False
    return bool(distrusted & (sealed | granted(view)))


def turn(view: EntryView, me: NodeId, forwarders: Set[NodeId]) -> int:
    """Return whose turn it is to seal an entry anew: 0 for the first; others wait, each a while longer.

    Those that may open it and hold it: its origin first, the others in an order that all of them know.
    """
    able = {node for node in forwarders if node in view.holders or node == view.origin} | {me}

    def rank(node: NodeId) -> tuple[bool, bytes]:
        return node != view.origin, hashlib.sha256(view.entry + node).digest()

    return sorted(able, key=rank).index(me)


def may_end_old(new: EntryView, holders: Set[NodeId]) -> bool:
    """Say whether the old entry may end: the new one is held by two nodes that count, or has ended well."""
    return new.state in ENDED or len(holders) >= SAFE_COPIES


def newest_of(entry: EntryId, view_of: Callable[[EntryId], EntryView]) -> EntryView:
    """Follow an entry that was sealed anew to the one that goes on; one that is not known ends the way."""
    view = view_of(entry)
    seen = {entry}
    while view.successor is not None and view.successor not in seen:
        seen.add(view.successor)
        after = view_of(view.successor)
        if after.study is None and after.tombstone is None:
            break
        view = after
    return view
