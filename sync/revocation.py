"""What a revocation would change: shown to a person before it is signed. Pure; asks the ledger "what if".

Called by `node.revoking`. What revocation means is decided in `sync.membership` alone; here the same code
is asked about a set of facts that holds one revocation, and the vouching for it, more.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass

from sync.bodies import Body, DestinationBody, Device, Revoked, Role, Vouched
from sync.entries import tombstone_counts
from sync.facts import Fact, FactClass, Header
from sync.ids import EntryId, FactId, HlcMs, NodeId
from sync.ledger import Ledger
from sync.membership import HURTFUL, MEMBERSHIP_KINDS, Membership

MAX_VOUCHED = 1_900  # ids in one fact, see `sync.bodies.Vouched`


@dataclass(frozen=True, slots=True)
class Consequences:
    """What a revocation takes its effect from.

    `hurtful`: the key's own facts of the kinds that could hurt, oldest first; what is not vouched for has
    no effect any more. The others name what ceases to count, by whichever author: entries whose tombstone
    it was, members, labels of devices, names of destinations.
    """

    hurtful: tuple[Fact, ...]
    entries: frozenset[EntryId]
    members: frozenset[NodeId]
    devices: tuple[str, ...]
    destinations: tuple[str, ...]


def consequences(
    ledger: Ledger, roots: Iterable[NodeId], key: NodeId, vouched: Set[FactId] = frozenset()
) -> Consequences:
    """Say what revoking `key` would change, if these of its facts were vouched for."""
    permanent = list(ledger.facts(FactClass.PERMANENT).values())
    before = ledger.membership
    trusted = (root for root in sorted(roots) if root != key and not before.is_revoked(root))
    after = _what_if(permanent, frozenset(roots), key, vouched, author=next(trusted, key))
    lost_entries = {
        fact.header.entry
        for fact in permanent
        if fact.header.entry is not None and tombstone_counts(fact, before, ledger.mesh)
    } - {
        fact.header.entry
        for fact in permanent
        if fact.header.entry is not None and tombstone_counts(fact, after, ledger.mesh)
    }
    lost = [fact for fact in permanent if _counts(fact, before) and not _counts(fact, after)]
    return Consequences(
        hurtful=_hurtful(ledger, key),
        entries=frozenset(entry for entry in lost_entries if entry is not None),
        members=_active(before) - _active(after) - {key},
        devices=tuple(
            dict.fromkeys(f.body.label for f in lost if isinstance(f.body, Device) and not f.body.revokes)
        ),
        destinations=tuple(dict.fromkeys(f.body.name for f in lost if isinstance(f.body, DestinationBody))),
    )


def vouchings(key: NodeId, facts: Iterable[FactId]) -> list[Vouched]:
    """Return what says that these facts of a revoked key still stand, in bodies that fit a fact each."""
    ids = sorted(set(facts))
    return [Vouched(key, tuple(ids[at : at + MAX_VOUCHED])) for at in range(0, len(ids), MAX_VOUCHED)]


def _hurtful(ledger: Ledger, key: NodeId) -> tuple[Fact, ...]:
    theirs = [
        fact
        for fact_class in FactClass
        for fact in ledger.facts(fact_class).values()
        if fact.header.author == key and fact.header.kind in HURTFUL
    ]
    return tuple(sorted(theirs, key=lambda fact: fact.order))


def _what_if(
    permanent: Iterable[Fact],
    roots: frozenset[NodeId],
    key: NodeId,
    vouched: Set[FactId],
    *,
    author: NodeId,
) -> Membership:
    """Return the membership as it would be. The two facts are nobody's: they are signed by no one."""
    said: list[Body] = [Revoked(key), Vouched(key, tuple(vouched))]
    imagined = [
        Fact(
            FactId(bytes([number]) * 32),
            Header(body.KIND, author, HlcMs(number), FactClass.PERMANENT),
            body,
            b"",
        )
        for number, body in enumerate(said, 1)
    ]
    return Membership(roots, [*(f for f in permanent if f.header.kind in MEMBERSHIP_KINDS), *imagined])


def _counts(fact: Fact, membership: Membership) -> bool:
    match fact.body:
        case Device():
            return membership.counts(fact, Role.ENROL)
        case DestinationBody():
            return membership.counts(fact, Role.ADMIT)
    return False


def _active(membership: Membership) -> frozenset[NodeId]:
    return frozenset(node for node, info in membership.members().items() if info.roles)
