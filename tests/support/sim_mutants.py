"""Rules that are wrong on purpose. The simulation must notice each of them, or it proves nothing."""

from support.sim import Node, Patient, Rules
from support.sim_disk import Pacs, Row

from sync.bodies import Study, Tombstone
from sync.entries import EntryView
from sync.facts import FactClass
from sync.ids import BlobId, EntryId
from sync.retention import Custodian


class TombstoneOn200(Rules):
    """Take the PACS at its word."""

    def proven(self, pacs: Pacs, uid: bytes, plaintext: bytes) -> bool:
        return pacs.read_back(uid) == plaintext or pacs.store(uid, plaintext)


class AcknowledgeBeforeFsync(Rules):
    """Tell the person that the study is safe, and let the disk catch up later."""

    def keep(
        self, node: Node, patient: Patient, entry: EntryId, blobs: dict[BlobId, bytes], study: Study
    ) -> None:
        for blob, data in blobs.items():
            node.disk.write(blob, data)
        self._announce(node, entry, blobs, study)


class CountCustodyNotTakenBack(Rules):
    """Do not look again: what was once said of a copy is what is answered about it."""

    def answers(self, node: Node, entry: EntryId) -> bool:
        row = node.rows.get(entry)
        return row is not None and row.complete

    def noticed_loss(self, node: Node, row: Row) -> None:
        return


class ObeyTheRevoked(Rules):
    """Erase on anybody's tombstone, whether it has standing or not."""

    def _any(self, node: Node, entry: EntryId) -> bool:
        permanent = node.ledger.facts(FactClass.PERMANENT).values()
        return any(f.header.entry == entry and isinstance(f.body, Tombstone) for f in permanent)

    def ended(self, node: Node, view: EntryView) -> bool:
        return self._any(node, view.entry)

    def may_erase(self, node: Node, row: Row, view: EntryView) -> bool:
        return super().may_erase(node, row, view) or (not row.origin and self._any(node, row.entry))


class EvictByHearsay(Rules):
    """Count everybody who ever said that it holds a copy."""

    def custodians(self, node: Node, view: EntryView, present: list[Node]) -> frozenset[Custodian]:
        return frozenset(Custodian(c.node, c.forwards, True) for c in super().custodians(node, view, []))


class EvictTheOrigin(Rules):
    """Let the clinic that took a study in make room like any courier."""

    def make_room(self, node: Node, present: list[Node]) -> None:
        for row in node.rows.values():
            if row.complete and row.origin and node.ledger.entry(row.entry).holders:
                self.evict(node, row)
                return


class ForgetTombstones(Rules):
    """Throw tombstones away after erasing, to save room."""

    def sweep(self, node: Node) -> None:
        super().sweep(node)
        for row in node.rows.values():
            tombstone = node.ledger.entry(row.entry).tombstone
            if row.erased and tombstone is not None:
                node.disk.durable.facts.pop(tombstone.id, None)


class DeleteBeforeIntent(Rules):
    """Delete files first and note it afterwards."""

    def sweep(self, node: Node) -> None:
        for row in node.rows.values():
            if not row.erased and self.may_erase(node, row, node.ledger.entry(row.entry)):
                for blob, _ in row.blobs:
                    node.disk.unlink(blob)


MUTANTS: dict[str, type[Rules]] = {
    "tombstone on a bare 200": TombstoneOn200,
    "acknowledge before fsync": AcknowledgeBeforeFsync,
    "count custody that was not taken back": CountCustodyNotTakenBack,
    "obey a revoked node's tombstone": ObeyTheRevoked,
    "evict by hearsay": EvictByHearsay,
    "evict the origin's copy": EvictTheOrigin,
    "forget tombstones after erasing": ForgetTombstones,
    "delete before the intent is noted": DeleteBeforeIntent,
}
