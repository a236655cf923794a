"""What the facts about one entry say together: its state, its copies, its end.

Made by `sync.ledger` from the facts that stand; read by everything that plans, forwards, erases or shows.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from sync.bodies import (
    BODIES,
    RESEALED,
    Claim,
    Custody,
    Decision,
    Ending,
    Grant,
    Recall,
    Role,
    Study,
    Tombstone,
    Trouble,
)
from sync.errors import BadFact
from sync.facts import Fact, FactClass, parse
from sync.ids import EntryId, MeshId, NodeId
from sync.lifecycle import ENDED, EntryEvent, EntryState, fold
from sync.membership import Membership

_ENDINGS = {  # weak to strong: a delivery beats a withdrawal
    Ending.WITHDRAWN: EntryEvent.WITHDRAWAL,
    Ending.PARTLY: EntryEvent.PARTLY,
    Ending.WITH_EXCEPTIONS: EntryEvent.DELIVERY,
    Ending.DELIVERED: EntryEvent.DELIVERY,
}
_RANK = {ending: rank for rank, ending in enumerate(_ENDINGS)}


@dataclass(frozen=True, slots=True)
class EntryView:
    """An entry as this node's facts show it.

    `holders` are nodes other than the origin that say they hold every blob, and are trusted to say so.
    `waits_for_person`: its author was revoked, and nobody has decided to deliver it yet.
    `frozen`: a fact that this version does not understand forbids erasing it.
    `origin_holds`: the origin announced it, or said custody, and has not said that it lost its copy.
    """

    entry: EntryId
    state: EntryState
    study: Fact | None
    holders: frozenset[NodeId]
    claims: Mapping[NodeId, Fact]
    troubles: tuple[Fact, ...]
    decisions: tuple[Fact, ...]
    grants: tuple[Fact, ...]
    tombstone: Fact | None
    recall: Fact | None
    waits_for_person: bool
    frozen: bool
    origin_holds: bool

    @property
    def copies(self) -> int:
        """How many nodes say that they hold it whole, the origin among them."""
        return len(self.holders) + (self.study is not None and self.origin_holds)

    @property
    def announced(self) -> Study | None:
        """What the study fact says."""
        body = None if self.study is None else self.study.body
        return body if isinstance(body, Study) else None

    @property
    def ending(self) -> Tombstone | None:
        """What the tombstone says."""
        body = None if self.tombstone is None else self.tombstone.body
        return body if isinstance(body, Tombstone) else None

    @property
    def origin(self) -> NodeId | None:
        """The node that took the study in."""
        said = self.announced or self.ending
        return None if said is None else said.origin

    @property
    def is_on_its_way(self) -> bool:
        """Whether it is announced and has not ended: only then do its blobs travel."""
        return self.study is not None and self.tombstone is None and self.state not in ENDED

    @property
    def successor(self) -> EntryId | None:
        """The entry as which its study goes on, if it was sealed anew."""
        ending = self.ending
        if ending is None or (ending.outcome, ending.evidence) != (Ending.WITHDRAWN, RESEALED):
            return None
        return None if ending.receipt is None else EntryId(ending.receipt)

    @property
    def urgent(self) -> bool:
        """Whether it was announced as urgent, or a person made it so."""
        if self.announced is not None and self.announced.priority == "urgent":
            return True
        return any(isinstance(f.body, Decision) and f.body.decision == "urgent" for f in self.decisions)


def tombstone_counts(fact: Fact, membership: Membership, mesh: MeshId) -> bool:
    """Say whether a tombstone has effect: by a forwarder, or a withdrawal by the study's own origin."""
    body = fact.body
    if not isinstance(body, Tombstone) or not membership.has_standing(fact):
        return False
    if body.outcome == Ending.WITHDRAWN:
        study = _embedded_study(body.study, mesh)
        if study is None or study.header.entry != fact.header.entry or _origin_of(study) != body.origin:
            return False
        if study.header.author == fact.header.author:
            return Role.INGEST in membership.granted(fact.header.author)
    return Role.FORWARD in membership.granted(fact.header.author)


def study_counts(fact: Fact, membership: Membership, mesh: MeshId) -> bool:
    """Say whether a study fact announces an entry: by an ingest node, or anew by a holder.

    Revocation does not matter: what a stolen node announced stays a reason to keep.
    """
    body = fact.body
    if not isinstance(body, Study):
        return False
    author = fact.header.author
    if body.again is None:
        return Role.INGEST in membership.structural(author) and body.origin == author
    origin = _embedded_study(body.again, mesh)
    return (
        origin is not None
        and _origin_of(origin) == body.origin == origin.header.author
        and Role.INGEST in membership.structural(origin.header.author)
        and Role.CARRY in membership.structural(author)
    )


def view_of(entry: EntryId, facts: Iterable[Fact], membership: Membership, mesh: MeshId) -> EntryView:
    """Fold the facts about one entry into what they mean, in any order."""
    here = sorted(facts, key=lambda fact: fact.order)
    studies = [f for f in here if study_counts(f, membership, mesh)]
    studies.sort(key=lambda f: (membership.is_revoked(f.header.author), f.order))
    study = studies[0] if studies else None
    origin = None if study is None else _origin_of(study)

    def said(kind: type, *roles: Role) -> list[Fact]:
        return [
            f
            for f in here
            if isinstance(f.body, kind)
            and membership.has_standing(f)
            and any(role in membership.roles(f.header.author) for role in roles)
        ]

    custodies = [
        f for f in said(Custody, Role.CARRY, Role.INGEST, Role.FORWARD)
        if isinstance(f.body, Custody) and f.body.holds and f.header.author != origin
    ]  # fmt: skip
    claims = [f for f in said(Claim, Role.FORWARD) if isinstance(f.body, Claim) and f.body.active]
    troubles = [f for f in said(Trouble, Role.FORWARD) if isinstance(f.body, Trouble) and f.body.open]
    tombstones = [f for f in here if tombstone_counts(f, membership, mesh)]
    tombstones.sort(key=lambda f: (_RANK[Ending(_ending(f))], f.order))
    recalls = [f for f in here if isinstance(f.body, Recall) and membership.counts(f, Role.FORWARD)]
    decisions = said(Decision, Role.ADMIT, Role.FORWARD)

    events = [EntryEvent.STUDY] if study is not None else []
    for fact in custodies:
        delivers = Role.FORWARD in membership.roles(fact.header.author)
        events.append(EntryEvent.FORWARDER_CUSTODY if delivers else EntryEvent.CUSTODY)
    events += [EntryEvent.CLAIM for _ in claims] + [EntryEvent.TROUBLE for _ in troubles]
    events += [_ENDINGS[Ending(_ending(f))] for f in tombstones]
    if tombstones and recalls:
        events.append(EntryEvent.RECALL)
    return EntryView(
        entry=entry,
        state=fold(events),
        study=study,
        holders=frozenset(f.header.author for f in custodies),
        claims={f.header.author: f for f in claims},
        troubles=tuple(troubles),
        decisions=tuple(decisions),
        grants=tuple(f for f in here if isinstance(f.body, Grant) and _may_grant(f, membership, origin)),
        tombstone=tombstones[-1] if tombstones else None,
        recall=recalls[-1] if recalls else None,
        waits_for_person=study is not None
        and any(membership.is_revoked(one) for one in (study.header.author, origin) if one is not None)
        and not any(isinstance(f.body, Decision) and f.body.decision == "retry" for f in decisions),
        origin_holds=_origin_holds(here, studies, origin),
        frozen=any(f.header.critical and f.header.kind not in BODIES for f in here),
    )


def is_void(fact: Fact, tombstoned: Callable[[EntryId], bool]) -> bool:
    """Say whether a live fact is about an entry that has ended."""
    entry = fact.header.entry
    return fact.header.fact_class is FactClass.LIVE and entry is not None and tombstoned(entry)


def _origin_holds(here: Iterable[Fact], studies: Iterable[Fact], origin: NodeId | None) -> bool:
    """Say whether the origin holds an entry; of one that others made of its study it must have said so."""
    said = [f.body.holds for f in here if isinstance(f.body, Custody) and f.header.author == origin]
    return said[-1] if said else any(f.header.author == origin for f in studies)


def _may_grant(fact: Fact, membership: Membership, origin: NodeId | None) -> bool:
    author = fact.header.author
    return membership.has_standing(fact) and (author == origin or Role.FORWARD in membership.granted(author))


def _origin_of(fact: Fact) -> NodeId | None:
    return fact.body.origin if isinstance(fact.body, Study) else None


def _ending(fact: Fact) -> str:
    return fact.body.outcome if isinstance(fact.body, Tombstone) else ""


@lru_cache(maxsize=4096)  # a pure function of its arguments, and a signature costs 0.1 ms
def _embedded_study(raw: bytes | None, mesh: MeshId) -> Fact | None:
    if raw is None:
        return None
    try:
        fact = parse(raw, mesh=mesh)
    except BadFact:
        return None
    return fact if isinstance(fact.body, Study) else None
