"""Membership: who may say what, as a function of the set of permanent facts alone.

Roots are trusted; members are admitted in chains that can only narrow roles. A revoked key's facts
that could hurt have *standing* only if somebody above it vouched for them (docs/protocol.md §3).

Two views are kept apart. The *structural* one ignores revocation and superseding, so it only ever
grows; it says who is above whom, and whose facts are relayed. The *standing* one is what counts.
Both are least fixpoints, so neither order nor repetition of facts can matter.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sync.bodies import Member, Revoked, Role, Vouched
from sync.facts import Fact
from sync.ids import FactId, NodeId

ALL_ROLES: frozenset[str] = frozenset(Role)
NO_ROLES: frozenset[str] = frozenset()

# Kinds that could destroy, divert or admit if a thief said them.
HURTFUL = frozenset({"tombstone", "member", "device", "destination", "grant", "vouched", "recall"})

MEMBERSHIP_KINDS = frozenset({Member.KIND, Revoked.KIND, Vouched.KIND})


@dataclass(frozen=True, slots=True)
class MemberInfo:
    """One counting member, as people and peers see it. `seals` are its sealing keys, newest last."""

    node: NodeId
    label: str
    roles: frozenset[str]
    seals: tuple[bytes, ...]
    revoked: bool
    expires: int | None


class Membership:
    """What a set of `member`, `revoked` and `vouched` facts means. Immutable once made."""

    def __init__(self, roots: Iterable[NodeId], facts: Iterable[Fact]) -> None:
        self._roots = frozenset(roots)
        members: list[tuple[Fact, Member]] = []
        revocations: list[tuple[Fact, Revoked]] = []
        vouchings: list[tuple[Fact, Vouched]] = []
        for fact in facts:
            match fact.body:
                case Member() as body:
                    members.append((fact, body))
                case Revoked() as body:
                    revocations.append((fact, body))
                case Vouched() as body:
                    vouchings.append((fact, body))
        members.sort(key=lambda pair: pair[0].order)
        self._structural = self._grants(members)
        self._seals = frozenset((body.node, body.seal) for _, body in members if body.seal is not None)
        self._ancestors = self._ancestry(members)
        self._revoked = frozenset(
            body.node
            for fact, body in revocations
            if fact.header.author == body.node or self.is_above(fact.header.author, body.node)
        )
        self._vouched_for = self._standing_vouchings(vouchings)
        standing = [(fact, body) for fact, body in members if self.has_standing(fact)]
        superseded = self._superseded(standing)
        counting = [(fact, body) for fact, body in standing if fact.id not in superseded]
        self._granted = self._grants(standing)
        self._current = self._grants(counting)
        self._info = self._describe(counting)

    def is_known(self, key: NodeId) -> bool:
        """Say whether facts of this author are admitted: a root or, revocation ignored, a member."""
        return key in self._roots or key in self._structural

    def is_root(self, key: NodeId) -> bool:
        """Say whether this key is one of the mesh's roots."""
        return key in self._roots

    def is_revoked(self, key: NodeId) -> bool:
        """Say whether this key is no longer trusted."""
        return key in self._revoked

    def is_above(self, key: NodeId, node: NodeId) -> bool:
        """Say whether `key` is a root, or an ancestor of `node` in some chain, revocation ignored."""
        return key in self._roots or key in self._ancestors.get(node, frozenset())

    def roles(self, key: NodeId) -> frozenset[str]:
        """Return what this key may do now: nothing if it is revoked, less if superseded."""
        if key in self._revoked:
            return NO_ROLES
        return ALL_ROLES if key in self._roots else self._current.get(key, NO_ROLES)

    def granted(self, key: NodeId) -> frozenset[str]:
        """Return the roles that its standing chain ever gave it, even if the key itself is revoked.

        Superseding a member narrows what it may do from now on and voids nothing that it signed;
        who is not trusted any more is revoked.
        """
        return ALL_ROLES if key in self._roots else self._granted.get(key, NO_ROLES)

    def structural(self, key: NodeId) -> frozenset[str]:
        """Return the roles it was ever given, revocation and superseding ignored."""
        return ALL_ROLES if key in self._roots else self._structural.get(key, NO_ROLES)

    def has_standing(self, fact: Fact) -> bool:
        """Say whether revocation leaves this fact its effect; kinds that cannot hurt always keep it."""
        author = fact.header.author
        if fact.header.kind not in HURTFUL or author not in self._revoked:
            return True
        return fact.id in self._vouched_for.get(author, frozenset())

    def counts(self, fact: Fact, role: Role) -> bool:
        """Say whether a fact that needs `role` has effect."""
        return self.has_standing(fact) and role in self.granted(fact.header.author)

    def members(self) -> Mapping[NodeId, MemberInfo]:
        """Return the members that count, the revoked ones among them marked."""
        return self._info

    def forwarder_seals(self) -> tuple[bytes, ...]:
        """Return the sealing keys of all who may open studies now, in a fixed order."""
        return tuple(
            seal
            for _, info in sorted(self._info.items())
            if Role.FORWARD in info.roles
            for seal in info.seals
        )

    def distrusted_seals(self) -> frozenset[bytes]:
        """Return the sealing keys that nodes had which are trusted no longer: revoked, or no members."""
        gone = {
            seal
            for node, seal in self._seals
            if node in self._revoked or node not in self._info or not self._info[node].roles
        }
        return frozenset(gone) - frozenset(self.forwarder_seals())

    def may_receive(self, key: NodeId, *, now_ms: int) -> bool:
        """Say whether a peer may be given live facts and blobs: a member, not revoked, not expired."""
        info = self._info.get(key)
        if info is None or info.revoked or not info.roles:
            return False
        return info.expires is None or now_ms <= info.expires

    def _grants(self, members: Iterable[tuple[Fact, Member]]) -> dict[NodeId, frozenset[str]]:
        """Return each node's roles: the union over its facts, each cut to its author's."""
        facts = list(members)
        granted: dict[NodeId, frozenset[str]] = {}
        changed = True
        while changed:
            changed = False
            for fact, body in facts:
                author = fact.header.author
                of_author = ALL_ROLES if author in self._roots else granted.get(author, NO_ROLES)
                if Role.ADMIT not in of_author:
                    continue
                before = granted.get(body.node)
                after = (before or NO_ROLES) | (frozenset(body.roles) & of_author)
                if before is None or after != before:
                    granted[body.node] = after
                    changed = True
        return granted

    def _ancestry(self, members: Iterable[tuple[Fact, Member]]) -> dict[NodeId, frozenset[NodeId]]:
        parents: dict[NodeId, set[NodeId]] = defaultdict(set)
        for fact, body in members:
            if Role.ADMIT in self.structural(fact.header.author):
                parents[body.node].add(fact.header.author)
        ancestors: dict[NodeId, frozenset[NodeId]] = {}
        for node in parents:
            seen: set[NodeId] = set()
            waiting = list(parents[node])
            while waiting:
                above = waiting.pop()
                if above not in seen:
                    seen.add(above)
                    waiting.extend(parents.get(above, ()))
            ancestors[node] = frozenset(seen - {node})
        return ancestors

    def _standing_vouchings(
        self, vouchings: Iterable[tuple[Fact, Vouched]]
    ) -> dict[NodeId, frozenset[FactId]]:
        """Return, for each revoked author, its facts that were vouched for by somebody who may."""
        valid = [(f, body) for f, body in vouchings if self.is_above(f.header.author, body.node)]
        vouched: dict[NodeId, frozenset[FactId]] = {}
        used: set[FactId] = set()
        changed = True
        while changed:
            changed = False
            for fact, body in valid:
                author = fact.header.author
                stands = author not in self._revoked or fact.id in vouched.get(author, frozenset())
                if stands and fact.id not in used:
                    used.add(fact.id)
                    vouched[body.node] = vouched.get(body.node, frozenset()) | frozenset(body.facts)
                    changed = True
        return vouched

    def _superseded(self, standing: Iterable[tuple[Fact, Member]]) -> frozenset[FactId]:
        facts = {fact.id: fact for fact, _ in standing}
        superseded: set[FactId] = set()
        for fact, body in standing:
            author = fact.header.author
            if Role.ADMIT not in self.structural(author):
                continue
            for old in body.supersedes:
                former = facts.get(old)
                if former is not None and (
                    former.header.author == author or self.is_above(author, former.header.author)
                ):
                    superseded.add(old)
        return frozenset(superseded)

    def _describe(self, counting: Iterable[tuple[Fact, Member]]) -> dict[NodeId, MemberInfo]:
        """Return the members; the newest fact gives the label, the latest expiry counts."""
        bodies: dict[NodeId, list[Member]] = defaultdict(list)
        for fact, body in counting:
            if Role.ADMIT in self.granted(fact.header.author):
                bodies[body.node].append(body)
        info: dict[NodeId, MemberInfo] = {}
        for node, of_node in bodies.items():
            dated = [body.expires for body in of_node if body.expires is not None]
            info[node] = MemberInfo(
                node=node,
                label=of_node[-1].label,
                roles=self.roles(node),
                seals=tuple(dict.fromkeys(body.seal for body in of_node if body.seal is not None)),
                revoked=node in self._revoked,
                expires=max(dated) if len(dated) == len(of_node) else None,
            )
        return info
