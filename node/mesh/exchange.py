"""What one end of a meeting answers the other: facts, what is lacking, blobs in and out.

The mesh server calls it for requests that come in; `node.mesh.client` uses the same rules for what it
fetches and offers. What is decided here is decided by `sync`; this module asks it with what is on disk.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from secrets import token_hex

from node.clock import Clock
from node.errors import BlobMissing, DiskFull, Refused, WrongOffset
from node.mesh.arriving import Arriving
from node.mesh.space import Space
from node.mesh.wire import (
    CAPS,
    FACTS_BATCH_BYTES,
    FRAME_LIMIT,
    IN_FLIGHT,
    MAX_BLOB,
    MAX_IDS,
    METERED,
    Hello,
    Lack,
    Offer,
)
from node.store.holdings import Holdings
from node.store.queue import QueueEntry
from sync.bodies import Role
from sync.errors import BadBlob, BadManifest
from sync.facts import FactClass
from sync.ids import BlobId, EntryId, FactId, NodeId, short
from sync.ledger import Added, Outcome
from sync.plan import blobs_to_move, is_on_its_way
from sync.reconcile import Reconciler, Snapshot

log = logging.getLogger(__name__)
_SNAPSHOTS_KEPT = 32
_REMEMBERED_BAD = 10_000


class Access(IntEnum):
    """What a peer may be given: the permanent facts only, or everything that travels."""

    PERMANENT = 1
    ALL = 2


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of facts that a peer sent."""

    admitted: int
    known: int
    waiting: int
    refused: tuple[tuple[int, str], ...]


class Exchange:
    """This node's end of all its meetings. Safe to call from many threads."""

    def __init__(
        self, holdings: Holdings, space: Space, clock: Clock, *, version: str, metered: bool = False
    ) -> None:
        self.holdings = holdings
        self.space = space
        self.arriving = Arriving(clock)
        self._clock = clock
        self._version = version
        self._caps = (*CAPS, METERED) if metered else CAPS
        self._snapshots: OrderedDict[str, tuple[FactClass, Snapshot]] = OrderedDict()
        self._bad: OrderedDict[tuple[NodeId, BlobId], None] = OrderedDict()
        self.declined: dict[NodeId, frozenset[EntryId]] = {}  # what peers did not want when last offered
        self.manifests_at: dict[NodeId, frozenset[EntryId]] = {}  # that peers had when last offered
        self.offerless: set[NodeId] = set()  # peers that do not know `POST /offer`
        self.stuck: set[NodeId] = set()  # peers where an offer got stuck; they are told hello next
        self._lock = threading.Lock()

    @property
    def node_id(self) -> NodeId:
        """This node's id."""
        return self.holdings.facts.node_id

    def access_of(self, peer: NodeId) -> Access:
        """Say what a peer may be given; asked anew on every request.

        A revoked or expired node, and one whose admission has not been heard of yet, gets the
        permanent facts: it learns of its revocation, and we of its admission.
        """
        now = self._clock.now_ms()
        trusted = self.holdings.facts.ask(lambda ledger: ledger.membership.may_receive(peer, now_ms=now))
        return Access.ALL if trusted else Access.PERMANENT

    def roles_of(self, peer: NodeId) -> frozenset[str]:
        """Return what a member may do, as far as the facts here say."""
        return self.holdings.facts.ask(lambda ledger: ledger.membership.roles(peer))

    # -- facts ----------------------------------------------------------------------------------

    def hello(self) -> Hello:
        """Return what this node says first."""
        permanent, live = self.holdings.facts.ask(
            lambda ledger: (
                ledger.snapshot(FactClass.PERMANENT).root_fingerprint(),
                ledger.snapshot(FactClass.LIVE).root_fingerprint(),
            )
        )
        return Hello(
            self.node_id, permanent, live, self.space.free_above_reserve(), self._version, self._caps
        )

    def snapshot(self, fact_class: FactClass) -> Snapshot:
        """Return the facts of a class at this moment."""
        return self.holdings.facts.ask(lambda ledger: ledger.snapshot(fact_class))

    def respond(self, fact_class: FactClass, token: str | None, message: bytes) -> tuple[str, bytes]:
        """Answer a reconcile message over the snapshot that `token` names, or a new one."""
        with self._lock:
            named = None if token is None else self._snapshots.get(token)
        if token is None or named is None or named[0] is not fact_class:
            token, named = token_hex(8), (fact_class, self.snapshot(fact_class))
            with self._lock:
                self._snapshots[token] = named
                while len(self._snapshots) > _SNAPSHOTS_KEPT:
                    self._snapshots.popitem(last=False)
        return token, Reconciler(named[1], FRAME_LIMIT).respond(message)

    def facts_for(self, ids: list[bytes], access: Access) -> list[bytes]:
        """Return the signed facts of these ids that the peer may have, up to about 1 MiB of them."""

        def allowed(fact_id: FactId) -> bytes | None:
            fact = self.holdings.facts.ledger.get(fact_id)
            if fact is None or (fact.header.fact_class is FactClass.LIVE and access is not Access.ALL):
                return None
            return fact.raw

        found = self.holdings.facts.ask(lambda _: [allowed(FactId(one)) for one in ids])
        batch: list[bytes] = []
        size = 0
        for raw in found:
            if raw is not None and size < FACTS_BATCH_BYTES:
                batch.append(raw)
                size += len(raw)
        return batch

    def take_facts(self, raws: list[bytes]) -> Delivered:
        """Take in facts that a peer sent; each is judged by its own signature, whoever brought it."""
        self.space.ease()  # a full disk, too, must hear what may be erased
        try:
            answers: list[Added] = self.holdings.facts.add_many(raws)
        except DiskFull:
            if not self.space.drop_ballast():
                raise
            answers = self.holdings.facts.add_many(raws)
        outcomes = [answer.outcome for answer in answers]
        return Delivered(
            admitted=outcomes.count(Outcome.ADMITTED),
            known=outcomes.count(Outcome.KNOWN) + outcomes.count(Outcome.VOID),
            waiting=outcomes.count(Outcome.WAITING),
            refused=tuple(
                (at, answer.code or "refused")
                for at, answer in enumerate(answers)
                if answer.outcome is Outcome.REFUSED
            ),
        )

    def note_wanted(self, peer: NodeId, asked: Collection[EntryId], lacks: Collection[EntryId]) -> None:
        """Note which of the entries that a peer was asked about it did not want."""
        before = self.declined.get(peer, frozenset()).difference(asked)
        self.declined[peer] = before | frozenset(asked).difference(lacks)

    # -- blobs ----------------------------------------------------------------------------------

    def lacks(self, entries: list[bytes], peer: NodeId) -> dict[EntryId, Lack | None]:
        """Say what this node lacks of each entry; None for what it does not want, or fetches from the peer.

        Who asks about one entry is about to give it: the first blobs of the answer are expected from him.
        """
        asked = [EntryId(entry) for entry in entries[:MAX_IDS]]
        fetched = self.arriving.is_fetched_from
        lacks = {entry: None if fetched(peer, entry) else self.lack(entry, peer) for entry in asked}
        if len(entries) == 1:
            self._expect(peer, lacks.values())
        return lacks

    def _expect(self, peer: NodeId, lacks: Iterable[Lack | None]) -> None:
        for lack in filter(None, lacks):
            for blob, _ in lack.blobs[:IN_FLIGHT]:
                self.arriving.progress(peer, blob)

    def take_offer(self, offer: Offer, peer: NodeId) -> dict[EntryId, Lack | None]:
        """Take in what a meeting begins with, and say what this node lacks of it.

        Each fact and each manifest is judged as if it had come alone. What the facts here know better, such
        as an end, is not wanted. A peer that is not trusted is told of nothing.
        """
        self.take_facts(list(offer.facts[:MAX_IDS]))
        if self.access_of(peer) is not Access.ALL:
            return {}
        for entry, manifest in offer.entries:
            if manifest is not None:
                with suppress(Refused, BadBlob, BadManifest, WrongOffset, DiskFull):
                    self.put_blob(BlobId(entry), 0, manifest, len(manifest))
                    self.after_blob(BlobId(entry))
        lacks = self.lacks([entry for entry, _ in offer.entries], peer)
        self._expect(peer, lacks.values())
        return lacks

    def lack(self, entry: EntryId, peer: NodeId | None = None) -> Lack | None:
        """Say what this node lacks of an entry, or None if it does not want it.

        What somebody other than `peer` is bringing now is left out, and each peer is told to begin at
        another place, so that several givers share a study.
        """
        held = self.holdings.queue.get(entry)
        if held is None or held.erasing or held.erased:
            return None
        view = self.holdings.view(entry)
        if not is_on_its_way(view):
            return None
        if not self.holdings.has_manifest(entry):
            size = view.announced.size if view.announced else 0
            return Lack(True, ()) if self.space.takes(held, view, size) else None
        missing = self._finish_parts(self.holdings.missing(entry))
        if not missing:
            self.holdings.check_complete(entry)
            return None
        partial = self.holdings.blobs.partial_size
        octets = sum(size - min(partial(blob), size) for blob, size in missing)
        if not self.space.takes(held, view, octets):
            return None
        open_ = [(blob, size) for blob, size in missing if not self.arriving.by_another(peer, blob)]
        here = {blob: partial(blob) for blob, _ in open_}
        return Lack(False, tuple(blobs_to_move(open_, here, start=peer[0] if peer else 0)))

    def _finish_parts(self, missing: list[tuple[BlobId, int]]) -> list[tuple[BlobId, int]]:
        """Make whole what a cut came just before, and return what is missing then."""
        blobs = self.holdings.blobs
        for blob, size in missing:
            if blobs.partial_size(blob) >= size:
                with suppress(BadBlob, BlobMissing):
                    blobs.finish_partial(blob)
        return [(blob, size) for blob, size in missing if not blobs.has(blob)]

    def holds(self, entries: list[bytes]) -> list[EntryId]:
        """Return those of these entries that are whole here now; this node keeps them for a while."""
        return self.space.pin(EntryId(entry) for entry in entries[:MAX_IDS])

    def put_blob(self, blob: BlobId, offset: int, data: bytes, total: int) -> bool:
        """Take in (a part of) a blob that some entry here lacks; say whether it is whole and durable now.

        Raises:
            Refused: nobody asked for it, or there is no room for it any more (`not-wanted`), or it is too
                large (`too-large`).
            WrongOffset: the part does not begin where the last one ended.
            BadBlob: it is whole, and not what its name says; it was dropped.
            DiskFull: nothing was taken.
        """
        entry = self._wanting(blob, total)
        whole = self._take(entry, blob, offset, data, total)
        self.holdings.erase_late(entry, blob)
        return whole

    def _take(self, entry: EntryId, blob: BlobId, offset: int, data: bytes, total: int) -> bool:
        blobs = self.holdings.blobs
        if blobs.has(blob):
            if blob == BlobId(entry) and not self.holdings.has_manifest(entry):
                self.holdings.take_manifest(entry, blobs.get(blob))  # a power cut came before its list
            return True
        whole = data if offset == 0 and len(data) == total else None
        if whole is None and blobs.append_partial(blob, offset, data) < total:
            return False
        if blob == BlobId(entry):
            self._take_manifest(entry, whole)
        elif whole is not None:
            blobs.put_verified(blob, whole)
        else:
            blobs.finish_partial(blob)
        return True

    def _take_manifest(self, entry: EntryId, whole: bytes | None) -> None:
        """Keep a manifest that came at once, or whose last part has just come."""
        blob = BlobId(entry)
        if whole is not None:
            self.holdings.take_manifest(entry, whole)
            return
        self.holdings.blobs.finish_partial(blob)
        try:
            self.holdings.take_manifest(entry, self.holdings.blobs.get(blob))
        except BadManifest:
            self.holdings.blobs.delete(blob)
            raise

    def after_blob(self, blob: BlobId) -> None:
        """See whether a blob that just came made an entry whole."""
        for entry in self.holdings.queue.entries_with(blob):
            self.holdings.check_complete(entry)

    def keep_part(self, blob: BlobId, offset: int, data: bytes, total: int) -> None:
        """Keep what came of a blob before the line was cut, so that it goes on from there."""
        if data and len(data) < total:
            entry = self._wanting(blob, total)
            self.holdings.blobs.append_partial(blob, offset, data)
            self.holdings.erase_late(entry, blob)

    def read_blob(self, blob: BlobId, offset: int, length: int) -> bytes:
        """Return a part of a blob that belongs to an entry on its way.

        Raises:
            BlobMissing: it is not here, or not to be given.
        """
        entries = self.holdings.queue.entries_with(blob)
        if not any(is_on_its_way(self.holdings.view(entry)) for entry in entries):
            raise BlobMissing("not here")
        return self.holdings.blobs.read(blob, offset, length)

    def may_fetch(self, peer: NodeId, blob: BlobId) -> bool:
        """Say whether a member may be given a blob: who carries or delivers, and an origin its own."""
        if self.roles_of(peer) & {Role.CARRY, Role.FORWARD}:
            return True
        return any(self.holdings.view(one).origin == peer for one in self.holdings.queue.entries_with(blob))

    def note_bad(self, peer: NodeId, blob: BlobId) -> None:
        """Remember that a peer sent something else under a blob's name; it is not asked for it again."""
        with self._lock:
            self._bad[(peer, blob)] = None
            while len(self._bad) > _REMEMBERED_BAD:
                self._bad.popitem(last=False)
        log.warning("bad blob peer=%s blob=%s", short(peer), short(blob))

    def is_bad(self, peer: NodeId, blob: BlobId) -> bool:
        """Say whether this peer sent something else under that name before."""
        with self._lock:
            return (peer, blob) in self._bad

    def _wanting(self, blob: BlobId, total: int) -> EntryId:
        if total > MAX_BLOB:
            raise Refused("too-large", "larger than any blob")
        for entry in [*self.holdings.queue.entries_with(blob), EntryId(blob)]:
            held = self.holdings.queue.get(entry)
            if held is None or held.erasing or not is_on_its_way(self.holdings.view(entry)):
                continue
            if self._is_expected(held):
                return entry
        raise Refused("not-wanted", "no entry here lacks this blob, or there is no room for it")

    def _is_expected(self, held: QueueEntry) -> bool:
        """Say whether an entry is coming in; one for which no room is kept any more is weighed again."""
        if held.complete or held.origin or self.space.expects(held.entry):
            return True
        view = self.holdings.view(held.entry)
        size = view.announced.size if view.announced else 0
        return self.space.takes(held, view, max(size - self.holdings.octets_here(held.entry), 0))
