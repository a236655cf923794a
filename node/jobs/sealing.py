"""Sealing: let forwarders that joined later open what is on its way, and lock out those that were revoked.

Runs on every node that may open studies. Grants are signed for each entry whose manifest is here. What a
revoked key still opens, and nobody delivered meanwhile, is sealed anew: a new key, new blobs, a new entry
that embeds the clinic's own words. The old entry ends when the new one is safe (docs/decisions/0020). What is
decided is decided by `sync.sealing`.
"""

import logging
from collections.abc import Iterator

from node.errors import DiskFull, NodeError
from node.keys import random_octets
from node.opening import open_study, own_key_id, study_key
from node.parts import Node
from node.store.opened import OpenStudy
from node.store.queue import QueueEntry
from node.store.vault import Incoming, Kept
from sync.bodies import RESEALED, Custody, Decision, Ending, Grant, Priority, Role, Study, Tombstone
from sync.entries import EntryView
from sync.errors import BadManifest, CannotOpen
from sync.facts import parse
from sync.ids import BlobId, EntryId, KeyId, short
from sync.manifest import IndexedInstance, key_id, parse_manifest, seal_key
from sync.sealing import granted, is_exposed, lacking, may_end_old, turn

log = logging.getLogger(__name__)
_TURN_MS = 3_600_000
_GB = 1_000_000_000


class Sealer:
    """Grants keys and seals anew. `patience_ms`: how long what is exposed may still be delivered as it is."""

    def __init__(self, node: Node, *, patience_ms: int) -> None:
        self._node = node
        self._patience_ms = patience_ms
        self._keys: dict[EntryId, frozenset[KeyId]] = {}  # of the manifests
        self._noticed: dict[EntryId, int] = {}  # life clock

    def grant(self) -> None:
        """Sign grants for the forwarders that cannot open an entry yet; nothing without role or key."""
        secret = self._secret()
        if secret is not None:
            self._grant(secret)

    def seal_anew(self) -> None:
        """Seal anew what a revoked key opens, and end the old entries that are safe."""
        secret = self._secret()
        if secret is not None:
            self._seal_anew(secret)
            self._end_old()

    def _secret(self) -> bytes | None:
        node = self._node
        roles = node.facts.ask(lambda ledger: ledger.membership.roles(node.facts.node_id))
        return node.keystore.seal_secret if {Role.FORWARD, Role.CARRY} <= roles else None

    # -- grants ---------------------------------------------------------------------------------

    def _grant(self, secret: bytes) -> None:
        node, mine = self._node, own_key_id(secret)
        forwarders = node.facts.ask(lambda ledger: ledger.membership.forwarder_seals())
        for _, view, sealed in self._on_their_way():
            seals = lacking(view, sealed, forwarders)
            if not seals or mine not in sealed | granted(view):
                continue
            try:
                manifest = parse_manifest(node.blobs.get(BlobId(view.entry)))
                key = study_key(manifest, view, secret)
            except (NodeError, CannotOpen, BadManifest) as error:
                log.info("no grant code=%s entry=%s", error.code, short(view.entry))
                self._keys.pop(view.entry, None)
                continue
            boxes = [seal_key(manifest, key, recipient=s, ephemeral_seed=random_octets(32)) for s in seals]
            node.facts.issue(Grant({bytes(name): box for name, box in boxes}), view.entry)
            log.info("key granted entry=%s copies=%d", short(view.entry), len(boxes))

    def _on_their_way(self) -> Iterator[tuple[QueueEntry, EntryView, frozenset[KeyId]]]:
        """Yield what is on its way, and to which keys its manifest is sealed."""
        node = self._node
        entries = node.queue.all()
        known = {held.entry for held in entries}
        self._keys = {entry: keys for entry, keys in self._keys.items() if entry in known}
        self._noticed = {entry: at for entry, at in self._noticed.items() if entry in known}
        for held in entries:
            view = node.holdings.view(held.entry)
            if held.erasing or not view.is_on_its_way:
                continue
            if held.entry not in self._keys:  # asked of the disk once, not of each study at each new fact
                if not node.holdings.has_manifest(held.entry):
                    continue
                try:
                    manifest = parse_manifest(node.blobs.get(BlobId(held.entry)))
                except (NodeError, BadManifest):
                    continue
                self._keys[held.entry] = frozenset(manifest.keys)
            yield held, view, self._keys[held.entry]

    # -- sealing anew ---------------------------------------------------------------------------

    def _seal_anew(self, secret: bytes) -> None:
        node, mine = self._node, own_key_id(secret)
        me, done = node.facts.node_id, node.notes.resealed()
        distrusted, forwarders = node.facts.ask(
            lambda ledger: (
                frozenset(map(key_id, ledger.membership.distrusted_seals())),
                {n for n, info in ledger.membership.members().items() if Role.FORWARD in info.roles},
            )
        )
        if not distrusted:
            return
        now = node.clock.carried_ms()
        for held, view, sealed in list(self._on_their_way()):
            if held.entry in done or not held.complete or not is_exposed(view, sealed, distrusted):
                continue
            since = self._noticed.setdefault(held.entry, now)
            patience = self._patience_ms + turn(view, me, forwarders) * _TURN_MS
            if now - since < patience or me in view.claims or mine not in sealed | granted(view):
                continue
            try:
                self._seal_one(held, view, secret)
            except DiskFull:
                log.warning("no room to seal anew entry=%s", short(held.entry))
            except (NodeError, CannotOpen, BadManifest) as error:
                log.warning("not sealed anew code=%s entry=%s", error.code, short(held.entry))

    def _seal_one(self, held: QueueEntry, view: EntryView, secret: bytes) -> None:
        """Seal one study under a new key and announce it; the old one goes on until that one is safe."""
        node = self._node
        size = view.announced.size if view.announced else 0
        if node.blobs.free_bytes() - size < node.settings.reserve_gb * _GB:
            raise DiskFull("no room above the reserve")
        opened = open_study(node.vault, node.blobs.get(BlobId(held.entry)), view, secret)
        instances = [_incoming(opened, one) for one in opened.index.instances]
        kept = node.vault.keep_study(
            opened.index.study_uid,
            instances,
            dict(opened.index.confirmed),
            recipients=node.recipients(),
            mesh=node.membership.genesis.mesh_id,
            named=node.notes.note_sealing,
        )
        self._announce(held, view, kept)
        log.warning("sealed anew entry=%s successor=%s", short(held.entry), short(kept.entry_id))

    def _announce(self, held: QueueEntry, view: EntryView, kept: Kept) -> None:
        """Announce what was sealed anew, in one commit; this node, which has it alone, never gives it up."""
        node = self._node
        old = parse(held.study, mesh=node.facts.ledger.mesh, verified_before=True).body
        assert isinstance(old, Study)
        listed = [(BlobId(kept.entry_id), len(kept.manifest)), *kept.blobs]
        study = Study(
            manifest=BlobId(kept.entry_id),
            size=kept.size,
            blobs=len(listed),
            priority=(Priority.URGENT if view.urgent else Priority.ROUTINE).value,
            destination=_destination_of(view, old),
            submission=old.submission,
            origin=old.origin,
            again=old.again or held.study,
        )
        try:
            with node.facts.writing() as writing:
                node.holdings.keep_own(writing, kept.entry_id, study, listed)
                if old.origin != node.facts.node_id:
                    writing.issue(Custody(holds=True), kept.entry_id)
                node.notes.note_resealed(writing.session, held.entry, kept.entry_id)
                node.notes.forget_sealing(writing.session, kept.entry_id)
        except BaseException:
            if node.queue.get(kept.entry_id) is None:
                node.holdings.abandon(listed)
                node.notes.end_sealing(kept.entry_id)
            raise

    def _end_old(self) -> None:
        """End what was sealed anew and is safe: a withdrawal that names the entry as which it goes on."""
        node = self._node
        for old, new in node.notes.resealed().items():
            view, after = node.holdings.view(old), node.holdings.view(new)
            if view.tombstone is not None:
                node.notes.forget_resealed(old)
            elif view.study is not None and may_end_old(after, node.holdings.holders(after)):
                body = view.announced
                assert body is not None
                tombstone = Tombstone(
                    outcome=Ending.WITHDRAWN.value,
                    destination=body.destination,
                    evidence=RESEALED,
                    instances=0,
                    proven=0,
                    receipt=new,
                    size=body.size,
                    origin=body.origin,
                    study=view.study.raw,
                )
                node.facts.issue(tombstone, old)


def _incoming(opened: OpenStudy, one: IndexedInstance) -> Incoming:
    return Incoming(one.uid, one.sop_class, one.syntax, one.size, one.sha256, lambda: opened.read(one))


def _destination_of(view: EntryView, old: Study) -> str:
    """Return where a study goes: as it was announced, or as a person decided since."""
    chosen = [
        str(fact.body.detail.get("name", ""))
        for fact in view.decisions
        if isinstance(fact.body, Decision) and fact.body.decision == "destination"
    ]
    return (chosen[-1] if chosen else "") or old.destination
