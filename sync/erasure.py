"""Where an ended entry is gone for certain: "erased on n of m".

A storing member counts when its newest report covers the tombstone and does not list the entry as
still present. What was heard of no one is named as missing, never assumed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sync.bodies import Report, Role
from sync.entries import EntryView
from sync.facts import Fact
from sync.ids import NodeId
from sync.membership import Membership

_STORING = frozenset({Role.INGEST, Role.CARRY, Role.FORWARD})


@dataclass(frozen=True, slots=True)
class Erasure:
    """Which members are known to hold nothing more of an entry, and which are not."""

    done: frozenset[NodeId]
    missing: frozenset[NodeId]

    @property
    def complete(self) -> bool:
        """Whether no storing member is missing."""
        return not self.missing


def erasure_of(view: EntryView, reports: Mapping[NodeId, Fact], membership: Membership) -> Erasure:
    """Say where an entry is erased; nowhere while it has no tombstone with effect."""
    storing = {
        node
        for node, info in membership.members().items()
        if membership.granted(node) & _STORING and not info.revoked
    }
    tombstone = view.tombstone
    if tombstone is None:
        return Erasure(frozenset(), frozenset(storing))
    done = set()
    for node in storing:
        said = reports.get(node)
        body = None if said is None else said.body
        if isinstance(body, Report):
            covered = body.tombstones.get(tombstone.header.author, 0) >= tombstone.header.timestamp
            if covered and view.entry not in body.still:
                done.add(node)
    return Erasure(frozenset(done), frozenset(storing - done))
