"""What this node holds: where facts, queue and blobs meet.

Keeps the queue in step with the facts, takes in manifests and blobs, says custody when an entry is
whole and takes it back when it is not, and erases. Called by intake, meetings, the sweep and salvage.

Orders that matter (docs/architecture.md §2, invariant 5): blobs are durable before the row that says so,
the row and the custody fact are one commit; erasing commits its intent first.
"""

import logging
import threading
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import replace

from node.clock import Clock
from node.errors import BlobMissing, StoreDamaged
from node.store.blobs import BlobStore
from node.store.factlog import FactLog, Writing
from node.store.queue import Queue, QueueEntry
from sync.bodies import Custody, Recall, Role, Study
from sync.entries import EntryView
from sync.errors import BadManifest
from sync.facts import Fact, parse
from sync.ids import BlobId, EntryId, NodeId, short
from sync.lifecycle import ENDED, EntryState
from sync.manifest import entry_id, parse_manifest, recalled
from sync.membership import MEMBERSHIP_KINDS
from sync.plan import Wanted, holders_that_count, is_told_of

log = logging.getLogger(__name__)
_FEW = 50  # entries; beyond it all rows are read at once


class Holdings:
    """The entries that this node has to do with. Safe to call from many threads."""

    def __init__(self, facts: FactLog, queue: Queue, blobs: BlobStore, clock: Clock) -> None:
        self.facts = facts
        self.queue = queue
        self.blobs = blobs
        self._clock = clock
        self._finishing = threading.Lock()
        self.told_erased: Callable[[EntryId], None] = lambda _: None
        facts.listen(self._follow)

    # -- in step with the facts -----------------------------------------------------------------

    def catch_up(self) -> None:
        """Bring the queue in step with all facts; entries that ended elsewhere long ago are left out."""
        rows = {held.entry for held in self.queue.all()}
        self._note(
            self.facts.ask(lambda ledger: [ledger.entry(one) for one in rows | ledger.entries_alive()])
        )

    def view(self, entry: EntryId) -> EntryView:
        """Return what the facts say of an entry."""
        return self.facts.ask(lambda ledger: ledger.entry(entry))

    def views(self) -> list[EntryView]:
        """Return what the facts say of every entry."""
        return self.facts.ask(lambda ledger: list(ledger.entries()))

    def holders(self, view: EntryView) -> frozenset[NodeId]:
        """Return the nodes that hold an entry whole and were heard of lately."""
        return holders_that_count(
            view,
            heard_ms=self.facts.heard_ms(),
            me=self.facts.node_id,
            now_ms=self._clock.carried_ms(),
        )

    def wanted(self, held: QueueEntry, view: EntryView, missing: int) -> Wanted:
        """Say how much this node wants an entry, as `sync.plan` weighs it; its own copy is not counted."""
        others = self.holders(view) - {self.facts.node_id}
        delivers = self.facts.ask(
            lambda ledger: any(Role.FORWARD in ledger.membership.roles(one) for one in others)
        )
        return Wanted(
            entry=held.entry,
            urgent=view.urgent,
            waiting_since=held.seen_ms,
            missing=missing,
            copies=len(others),
            arrived=delivers,
        )

    def _is_told_of(self, held: QueueEntry, view: EntryView) -> bool:
        """Say whether others are to know that this node holds an entry whole."""
        me = self.facts.node_id
        can_open = Role.FORWARD in self.facts.ask(lambda ledger: ledger.membership.roles(me))
        return held.origin or is_told_of(self.wanted(held, view, 0), can_open=can_open)

    def _says(self, view: EntryView) -> bool:
        """Say whether this node's facts say that it holds an entry whole."""
        me = self.facts.node_id
        return view.origin_holds if view.origin == me else me in view.holders

    def _follow(self, admitted: tuple[Fact, ...], revived: tuple[EntryId, ...]) -> None:
        entries = {f.header.entry for f in admitted if f.header.entry is not None} | set(revived)
        if any(f.header.kind in MEMBERSHIP_KINDS for f in admitted):
            self.catch_up()
        else:
            self._note([self.view(entry) for entry in entries])
        for entry in revived:
            self._announce_again(entry)

    def _note(self, views: Collection[EntryView]) -> None:
        few = len(views) <= _FEW
        known = {} if few else {held.entry: held for held in self.queue.all()}
        for view in views:
            self._note_one(view, self.queue.get(view.entry) if few else known.get(view.entry))

    def _note_one(self, view: EntryView, held: QueueEntry | None) -> None:
        ended = view.state in ENDED
        if held is None or held.erased:
            if view.study is not None and not ended:
                now = self._clock.carried_ms()
                if self.queue.note(view.entry, study=view.study.raw, seen_ms=now):
                    self.take_back(view.entry)  # it was erased here before its tombstone lost its standing
        elif ended and held.ended_ms is None:
            self.queue.set_ended(view.entry, at_ms=self._clock.carried_ms())
            log.info("entry ended entry=%s state=%s", short(view.entry), view.state)
        elif view.state is EntryState.RECALLED:
            if held.ended_ms is None:
                self.queue.set_ended(view.entry, at_ms=self._clock.carried_ms())
            self._announce_successor(view, held)
        elif not ended and held.ended_ms is not None:
            self.queue.set_ended(view.entry, at_ms=None)

    def _announce_again(self, entry: EntryId) -> None:
        """Put the study fact of an entry whose tombstone lost its standing back among the facts."""
        held = self.queue.get(entry)
        if held is not None and not held.erased:
            self.queue.set_ended(entry, at_ms=None)
            self.facts.add_many([held.study])
            self.check_complete(entry)
            log.warning("entry revived entry=%s", short(entry))

    def _announce_successor(self, view: EntryView, held: QueueEntry) -> None:
        """Announce a recalled study anew, if it is whole here: the same blobs under another manifest.

        Every holder makes the same entry, without a key; the origin's signed words go along.
        """
        recall = None if view.recall is None else view.recall.body
        me = self.facts.node_id
        may = self.facts.ask(lambda ledger: ledger.membership.structural(me))
        if not isinstance(recall, Recall) or not held.complete or held.erasing or Role.CARRY not in may:
            return
        data = recalled(self.blobs.get(BlobId(view.entry)), recall.recall)
        entry = EntryId(entry_id(data))
        known = self.queue.get(entry)
        ended = self.view(entry).tombstone is not None
        if ended or (known is not None and (known.complete or known.ended_ms is not None)):
            return
        old = parse(held.study, mesh=self.facts.ledger.mesh, verified_before=True).body
        assert isinstance(old, Study)
        self.blobs.put_verified(BlobId(entry), data)
        listed = [(BlobId(entry), len(data)), *parse_manifest(data).blobs]
        study = replace(
            old,
            manifest=BlobId(entry),
            size=sum(size for _, size in listed),
            blobs=len(listed),
            again=old.again or held.study,
        )
        with self.facts.writing() as writing:
            self.keep_own(writing, entry, study, listed, origin=held.origin)
            if not held.origin:
                writing.issue(Custody(holds=True), entry)
        log.warning("recalled, announced anew entry=%s successor=%s", short(view.entry), short(entry))

    def settle(self) -> None:
        """Make what this node says agree with what it has, whatever a crash, a backup or a clone left.

        An entry whose blobs are here, and which has neither an end nor a study fact any more, is
        announced again; custody that is not true is taken back; a whole entry of which nobody was told
        is told of. Called at the start and with every sweep.
        """
        self.catch_up()
        me = self.facts.node_id
        here = {held.entry: held for held in self.queue.all()}
        for entry in self.facts.ask(lambda ledger: ledger.entries_alive()):
            if me in self.view(entry).holders:
                held = self.queue.get(entry)  # asked after the view: an entry may become whole meanwhile
                if held is None or not held.complete:
                    self.take_back(entry)
        for held in here.values():
            view = self.view(held.entry)
            if held.erasing and view.tombstone is None:
                self._stop_erasing(held.entry)
            elif held.erasing or held.ended_ms is not None:
                continue
            if view.study is None and view.tombstone is None and self.has_manifest(held.entry):
                self._announce_again(held.entry)
            elif not held.complete or (not self._says(view) and self._is_told_of(held, view)):
                self.check_complete(held.entry)

    def _stop_erasing(self, entry: EntryId) -> None:
        """Keep what is left of an entry whose tombstone lost its standing while it was being erased."""
        with self.facts.writing() as writing:
            self.queue.set_erasing(writing.session, entry, erasing=False)
            self.queue.set_complete(writing.session, entry, complete=False)
            writing.issue(Custody(holds=False), entry)
        self.check_complete(entry)

    # -- taking in ------------------------------------------------------------------------------

    def keep_own(
        self,
        writing: Writing,
        entry: EntryId,
        study: Study,
        blobs: Iterable[tuple[BlobId, int]],
        *,
        origin: bool = True,
    ) -> Fact:
        """Announce a study of this node's own, within the transaction that ends its submission.

        Its blobs and its manifest, the first of `blobs`, are durable already. `origin` is False for a study
        of another node that is announced anew.
        """
        fact = writing.issue(study, entry)
        now = self._clock.carried_ms()
        self.queue.add(writing.session, entry, study=fact.raw, seen_ms=now, origin=origin)
        self.queue.add_blobs(writing.session, entry, blobs)
        self.queue.set_complete(writing.session, entry, complete=True)
        return fact

    def abandon(self, blobs: Iterable[tuple[BlobId, int]]) -> None:
        """Delete the blobs of a study that was sealed and not announced, the manifest first."""
        for blob, _ in blobs:
            if not self.queue.entries_with(blob):
                self.blobs.delete(blob)

    def take_manifest(self, entry: EntryId, data: bytes) -> None:
        """Keep the manifest of a known entry and note which blobs belong to it.

        Raises:
            BadManifest: malformed, of another mesh, or not the one that the entry is named by.
            DiskFull: nothing was kept.
        """
        manifest = parse_manifest(data)
        if entry_id(data) != entry or manifest.mesh != self.facts.ledger.mesh:
            raise BadManifest("the manifest of another entry or mesh")
        self.blobs.put_verified(BlobId(entry), data)
        self.queue.note_blobs(entry, [(BlobId(entry), len(data)), *manifest.blobs])

    def missing(self, entry: EntryId) -> list[tuple[BlobId, int]]:
        """Return what is not here of an entry whose manifest is, with sizes in octets."""
        return [(blob, size) for blob, size in self.queue.blobs(entry) if not self.blobs.has(blob)]

    def has_manifest(self, entry: EntryId) -> bool:
        """Say whether an entry's manifest is here."""
        return self.blobs.has(BlobId(entry)) and bool(self.queue.blobs(entry))

    def check_complete(self, entry: EntryId) -> bool:
        """Say whether an entry is whole here; if others are to know of it and do not yet, say custody."""
        with self._finishing:
            held = self.queue.get(entry)
            if held is None or held.erasing or held.erased:
                return False
            if not self.queue.blobs(entry) or self.missing(entry):
                return False
            view = self.view(entry)
            tell = held.ended_ms is None and not self._says(view) and self._is_told_of(held, view)
            if held.complete and not tell:
                return True
            with self.facts.writing() as writing:
                self.queue.set_complete(writing.session, entry, complete=True)
                if tell:
                    writing.issue(Custody(holds=True), entry)
        log.info("entry whole entry=%s", short(entry))
        return True

    def holds_now(self, entry: EntryId) -> bool:
        """Say whether an entry is whole here at this moment: each blob came verified, and is still there."""
        held = self.queue.get(entry)
        if held is None or not held.complete or held.erasing or held.ended_ms is not None:
            return False
        return all(self.blobs.size(blob) == size for blob, size in self.queue.blobs(entry))

    def octets_here(self, entry: EntryId) -> int:
        """Return how many octets of an entry are on the disk, parts of blobs included."""
        return sum(
            size if self.blobs.has(blob) else min(self.blobs.partial_size(blob), size)
            for blob, size in self.queue.blobs(entry)
        )

    # -- losing and erasing ---------------------------------------------------------------------

    def take_back(self, entry: EntryId) -> None:
        """Say that this node no longer holds an entry whole; before anything else is done about it."""
        said = self._says(self.view(entry))
        with self.facts.writing() as writing:
            self.queue.set_complete(writing.session, entry, complete=False)
            if said:
                writing.issue(Custody(holds=False), entry)
        if said:
            log.warning("custody taken back entry=%s", short(entry))

    def lost(self, blob: BlobId) -> None:
        """Set a damaged blob aside and take back custody of whatever it belongs to."""
        with suppress(BlobMissing):
            self.blobs.set_aside(blob)
        for entry in self.queue.entries_with(blob):
            self.take_back(entry)

    def verify(self, entry: EntryId) -> bool:
        """Read an entry's blobs again and compare their hashes; take custody back if one is bad.

        Of an entry that is still coming in, what is here is read.
        """
        held = self.queue.get(entry)
        whole = held is not None and held.complete
        for blob, _ in self.queue.blobs(entry):
            try:
                self.blobs.get(blob)
            except BlobMissing:
                if whole:
                    self.lost(blob)
                    return False
            except StoreDamaged:
                self.lost(blob)
                return False
        return True

    def evict(self, held: QueueEntry) -> None:
        """Give up a copy of an entry that goes on elsewhere; custody is taken back first."""
        self.take_back(held.entry)
        self._delete_blobs(held.entry)
        self.queue.forget_blobs(held.entry)
        log.info("copy evicted entry=%s", short(held.entry))

    def erase(self, entry: EntryId) -> bool:
        """Erase every blob of an ended entry: intent, files, done. Goes on after a power cut.

        The tombstone is looked at once more in the transaction that notes the intent, since it may have
        lost its standing a moment ago; then nothing is erased and False is returned.
        """
        with self.facts.writing() as writing:
            if self.facts.ledger.entry(entry).tombstone is None:
                return False
            self.queue.set_erasing(writing.session, entry, erasing=True)
        blobs = self._delete_blobs(entry)
        self.queue.set_erased(entry)
        self.told_erased(entry)
        log.info("entry erased entry=%s blobs=%d", short(entry), blobs)
        return True

    def erase_late(self, entry: EntryId, blob: BlobId) -> None:
        """Erase a blob that was still coming in when its entry was erased."""
        held = self.queue.get(entry)
        if held is None or not held.erasing:
            return
        if not set(self.queue.entries_with(blob)) - {entry}:
            self.blobs.delete(blob)
        if held.erased:
            self.erase(entry)  # a manifest may have brought its list again

    def _delete_blobs(self, entry: EntryId) -> int:
        """Delete what no other entry lists, the manifest last, so that a cut leaves the list."""
        listed = [blob for blob, _ in self.queue.blobs(entry)] or [BlobId(entry)]
        deleted = 0
        for blob in reversed(listed):
            if set(self.queue.entries_with(blob)) - {entry}:
                continue
            self.blobs.delete(blob)
            deleted += 1
        return deleted
