"""Revoking a node: what it could do, what it signed, and the facts that end its trust (DESIGN §4).

`preview` tells a person what is at stake before anything is signed; `revoke` signs as this node, which
must be above the other one; `signed_by_root` makes the same facts with the recovery sheet, in whichever
process the sheet was typed. Vouching is signed before the revocation, so that nothing that is vouched for
loses its effect for a moment. Called by `node.api.members` and `node.cli.members`.
"""

import hashlib
import logging
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

from node.errors import Refused
from node.parts import Node
from node.recovery import MeshRoot
from sync.bodies import Body, DestinationBody, Grant, Revoked, Tombstone, Vouched
from sync.entries import EntryView
from sync.errors import BadFact, BadManifest
from sync.facts import Fact, FactClass, parse
from sync.hlc import next_timestamp
from sync.ids import BlobId, EntryId, FactId, HlcMs, KeyId, MeshId, NodeId, short
from sync.ledger import Ledger, Outcome
from sync.manifest import key_id, parse_manifest
from sync.plan import is_on_its_way
from sync.revocation import Consequences, consequences, vouchings

log = logging.getLogger(__name__)
_FEWEST_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Preview:
    """What is at stake when a key is revoked.

    `opens`: entries on their way that are sealed to it; `has`: those of them that it says it holds whole.
    `unseen`: entries on their way of which this node has no manifest, so it cannot tell.
    `waiting`: entries on their way that it took in: they stay, and wait for a person.
    `credentials`: destinations whose credentials are sealed to it.
    `shown`: digest of the facts that could be vouched for; signing asks for it, so that a person vouches
    for nothing that came after he looked.
    """

    key: NodeId
    label: str
    roles: tuple[str, ...]
    revoked: bool
    may_sign: bool
    opens: tuple[EntryId, ...]
    has: tuple[EntryId, ...]
    unseen: int
    waiting: tuple[EntryId, ...]
    lost: Consequences
    credentials: tuple[str, ...]
    shown: str


def find_key(node: Node, text: str) -> NodeId:
    """Return the member, or the mesh's root, that a label or the first digits of an id mean.

    Raises:
        Refused: none (`node-unknown`), or several (`node-ambiguous`); the text lists them.
    """
    known = _known(node)
    wanted = text.strip().lower()
    by_label = [key for key, label in known.items() if label.lower() == wanted]
    by_id = [key for key in known if len(wanted) >= _FEWEST_DIGITS and key.hex().startswith(wanted)]
    found = sorted(set(by_label) | set(by_id))
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{known[key]} ({short(key)})" for key in found or sorted(known))
    if found:
        raise Refused("node-ambiguous", f"Several are meant by that: {listed}. Give more digits of the id.")
    raise Refused("node-unknown", f"No such node. There are: {listed}.")


def preview(node: Node, key: NodeId) -> Preview:
    """Return what is at stake when `key` is revoked."""
    roots = node.membership.genesis.roots
    membership, lost = node.facts.ask(lambda ledger: (ledger.membership, consequences(ledger, roots, key)))
    me, info = node.facts.node_id, membership.members().get(key)
    seals = frozenset(() if info is None else info.seals)
    on_their_way = [view for view in node.holdings.views() if is_on_its_way(view)]
    opens, unseen = _openable(node, on_their_way, frozenset(map(key_id, seals)))
    destinations = node.facts.ask(lambda ledger: ledger.destinations())
    return Preview(
        key=key,
        label=_known(node).get(key, short(key)),
        roles=() if info is None else tuple(sorted(info.roles)),
        revoked=membership.is_revoked(key),
        may_sign=me != key and membership.is_above(me, key) and not membership.is_revoked(me),
        opens=tuple(view.entry for view in opens),
        has=tuple(view.entry for view in opens if key in view.holders or key == view.origin),
        unseen=unseen,
        waiting=tuple(view.entry for view in on_their_way if view.origin == key),
        lost=lost,
        credentials=tuple(name for name, body in sorted(destinations.items()) if _sealed_to(body, seals)),
        shown=digest_of(fact.id for fact in lost.hurtful),
    )


def revoke(
    node: Node, key: NodeId, *, reason: str, vouched: Sequence[FactId], shown: str
) -> tuple[list[Fact], int]:
    """Revoke `key` as this node; return the facts, and how many entries are announced anew.

    A key that is revoked already may be vouched for later.

    Raises:
        Refused: this node is not above that key (`may-not-revoke`), the key has signed more since a person
            looked (`said-more`), or what is vouched for is not one of its facts (`not-its-fact`).
    """
    seen = preview(node, key)
    if not seen.may_sign:
        raise Refused(
            "may-not-revoke", "This node did not admit it, so it takes the recovery sheet (`--sheet`)."
        )
    _check(seen, vouched, shown)
    with node.facts.writing() as writing:
        facts = [writing.issue(body) for body in _bodies(seen, reason, vouched)]
    revived = len(set(writing.revived))
    log.warning("node revoked node=%s facts=%d entries=%d", short(key), len(facts), revived)
    return facts, revived


def signed_by_root(
    root: MeshRoot,
    mesh: MeshId,
    key: NodeId,
    *,
    reason: str,
    vouched: Iterable[FactId],
    revoked: bool,
    newest_ms: int,
    now_ms: int,
) -> list[bytes]:
    """Return the same facts signed by a root of the mesh.

    Args:
        root: from the recovery sheet.
        mesh: the mesh's id.
        key: whom they are about.
        reason: why.
        vouched: its facts that still stand.
        revoked: it is so already; then they only vouch.
        newest_ms: the greatest timestamp of the root's known facts, 0 if none.
        now_ms: the node's time.
    """
    bodies: list[Body] = [*vouchings(key, vouched)]
    if not revoked:
        bodies.append(Revoked(key, reason))
    newest = HlcMs(newest_ms) if newest_ms else None
    raws = []
    for body in bodies:
        newest = next_timestamp(now_ms, newest)
        raws.append(root.sign(body, mesh=mesh, timestamp=newest))
    return raws


def take_signed(node: Node, raws: Sequence[bytes]) -> int:
    """Take in revocations and vouchings that a root has signed; return how many entries are announced anew.

    Raises:
        Refused: one is another kind, or by somebody else (`bad-fact`); then none was taken.
    """
    genesis = node.membership.genesis
    for raw in raws:
        try:
            fact = parse(raw, mesh=genesis.mesh_id)
        except BadFact:
            raise Refused("bad-fact", "A fact is malformed, or not of this mesh.") from None
        if fact.header.author not in genesis.roots or not isinstance(fact.body, Revoked | Vouched):
            raise Refused("bad-fact", "Only what a root says of a revoked node is taken here.")
    added = node.facts.add_many(raws)
    assert all(one.outcome in (Outcome.ADMITTED, Outcome.KNOWN) for one in added)
    return len({entry for one in added for entry in one.revived})


def revoked_since(ledger: Ledger, key: NodeId) -> int:
    """Return when a key was revoked, by the clock of whoever did: milliseconds since 1970, 0 if never."""
    return min(
        (
            fact.header.timestamp
            for fact in ledger.facts(FactClass.PERMANENT).values()
            if isinstance(fact.body, Revoked)
            and fact.body.node == key
            and (fact.header.author == key or ledger.membership.is_above(fact.header.author, key))
        ),
        default=0,
    )


def digest_of(ids: Iterable[FactId]) -> str:
    """Return what stands for a set of facts: SHA-256 over the sorted ids, in hex."""
    return hashlib.sha256(b"".join(sorted(ids))).hexdigest()


def delivered_by(seen: Preview) -> int:
    """Return how many tombstones the key has signed: each of a study that it could open."""
    return sum(isinstance(fact.body, Tombstone) for fact in seen.lost.hurtful)


def _known(node: Node) -> dict[NodeId, str]:
    members = node.facts.ask(lambda ledger: ledger.membership.members())
    roots = dict.fromkeys(node.membership.genesis.roots, "a root of the mesh")
    return roots | {key: info.label or short(key) for key, info in members.items()}


def _check(seen: Preview, vouched: Iterable[FactId], shown: str) -> None:
    if shown != seen.shown:
        raise Refused("said-more", "That node's facts are not those that you were shown. Look again.")
    if not set(vouched) <= {fact.id for fact in seen.lost.hurtful}:
        raise Refused("not-its-fact", "Only a revoked node's own facts can be vouched for.")


def _bodies(seen: Preview, reason: str, vouched: Iterable[FactId]) -> list[Body]:
    bodies: list[Body] = [*vouchings(seen.key, vouched)]
    return bodies if seen.revoked else [*bodies, Revoked(seen.key, reason)]


def _openable(node: Node, views: Iterable[EntryView], keys: Set[KeyId]) -> tuple[list[EntryView], int]:
    """Return the entries that are sealed to one of these keys, and how many cannot be told."""
    sealed, unseen = [], 0
    for view in views:
        granted = {key for fact in view.grants if isinstance(fact.body, Grant) for key in fact.body.sealed}
        if keys & granted:
            sealed.append(view)
        elif keys and not node.holdings.has_manifest(view.entry):
            unseen += 1
        elif keys & _recipients(node, view.entry):
            sealed.append(view)
    return sealed, unseen


def _recipients(node: Node, entry: EntryId) -> Set[KeyId]:
    if not node.holdings.has_manifest(entry):
        return frozenset()
    try:
        return parse_manifest(node.blobs.get(BlobId(entry))).keys.keys()
    except BadManifest:
        return frozenset()


def _sealed_to(body: DestinationBody, seals: Set[bytes]) -> bool:
    return bool({bytes(key_id(seal)) for seal in seals} & set(body.secrets))
