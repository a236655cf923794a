"""The queue on disk: which entries this node has to do with, what it holds of them, how far delivery is.

Rows go in and values come out. What an entry's state is says the ledger; here stands only what this
node did or saw itself: times of its own life clock, blobs, proofs by place in the sealed index.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from sqlmodel import Session, col, delete, func, select, update

from node.store.database import Database
from node.store.receipts import Receipts
from node.store.tables import EntryBlobRow, EntryRow, ProofRow, RemarkRow
from sync.ids import BlobId, EntryId


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """An entry as this node has it. Times: this node's life clock, milliseconds."""

    entry: EntryId
    study: bytes
    origin: bool
    seen_ms: int
    complete: bool
    ended_ms: int | None
    erasing: bool
    erased: bool
    failures: int
    setback: str | None
    try_at_ms: int


@dataclass(frozen=True, slots=True)
class Proof:
    """What is known of one instance at a destination, by its position in the sealed index.

    Attributes:
        outcome: as `sync.evidence.Outcome`, or "" while it is being sent.
        code: why it was refused.
        change: how it was changed, if the destination forced it; `sent` is the digest of these bytes.
    """

    position: int
    place: str
    outcome: str
    evidence: str | None
    code: str = ""
    change: str = ""
    sent: bytes | None = None


class Queue:
    """The entries of this node. Safe to call from many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.receipts = Receipts(database)
        self.told_setback: Callable[[str], None] = lambda _: None

    # -- entries --------------------------------------------------------------------------------

    def add(
        self, session: Session, entry: EntryId, *, study: bytes, seen_ms: int, origin: bool = False
    ) -> bool:
        """Note an announced entry within a transaction; one that is known stays as it is.

        One that was erased here and is announced again, since its tombstone lost its standing, starts anew.
        Returns whether such a one had been this node's own, which it no longer holds.
        """
        row = session.get(EntryRow, entry)
        if row is not None and not row.erased:
            return False
        lost = row is not None and row.origin
        if row is not None:
            session.delete(row)
            session.flush()
        session.add(EntryRow(id=entry, study=study, origin=origin or lost, seen_ms=seen_ms))
        return lost

    def note(self, entry: EntryId, *, study: bytes, seen_ms: int) -> bool:
        """Note an announced entry durably; see `add`."""
        with self._database.write() as session:
            return self.add(session, entry, study=study, seen_ms=seen_ms)

    def get(self, entry: EntryId) -> QueueEntry | None:
        """Return an entry."""
        with self._database.read() as session:
            row = session.get(EntryRow, entry)
            return None if row is None else _value(row)

    def all(self) -> list[QueueEntry]:
        """Return every entry that is not erased, the longest known first."""
        with self._database.read() as session:
            rows = session.exec(select(EntryRow).where(col(EntryRow.erased).is_(False)))
            return sorted(map(_value, rows), key=lambda e: (e.seen_ms, e.entry))

    def set_ended(self, entry: EntryId, *, at_ms: int | None) -> None:
        """Note when an entry's tombstone became durable here, or that it lost its standing."""
        self._update(entry, ended_ms=at_ms)

    def set_complete(self, session: Session, entry: EntryId, *, complete: bool) -> None:
        """Note, within a transaction, whether every blob of an entry is here and verified."""
        session.exec(update(EntryRow).where(col(EntryRow.id) == entry).values(complete=complete))

    def set_setback(self, entry: EntryId, *, failures: int, setback: str | None, try_at_ms: int) -> None:
        """Note why a delivery did not get on, and when to try again."""
        self._update(entry, failures=failures, setback=setback, try_at_ms=try_at_ms)
        if setback is not None:
            self.told_setback(setback)

    def set_erasing(self, session: Session, entry: EntryId, *, erasing: bool) -> None:
        """Note, within a transaction and before the first blob goes, whether an entry is to be erased."""
        session.exec(update(EntryRow).where(col(EntryRow.id) == entry).values(erasing=erasing))

    def set_erased(self, entry: EntryId) -> None:
        """Note that no blob of the entry is left; what was known of its blobs and proofs goes, too."""
        with self._database.write() as session:
            session.exec(delete(EntryBlobRow).where(col(EntryBlobRow.entry) == entry))
            session.exec(delete(ProofRow).where(col(ProofRow.entry) == entry))
            session.exec(delete(RemarkRow).where(col(RemarkRow.entry) == entry))
            session.exec(
                update(EntryRow).where(col(EntryRow.id) == entry).values(erased=True, complete=False)
            )

    def _update(self, entry: EntryId, **values: object) -> None:
        with self._database.write() as session:
            session.exec(update(EntryRow).where(col(EntryRow.id) == entry).values(**values))

    # -- blobs ----------------------------------------------------------------------------------

    def add_blobs(self, session: Session, entry: EntryId, blobs: Iterable[tuple[BlobId, int]]) -> None:
        """Note, within a transaction, the blobs of an entry: its manifest, then its stream in order."""
        session.exec(delete(EntryBlobRow).where(col(EntryBlobRow.entry) == entry))
        for position, (blob, size) in enumerate(blobs):
            session.add(EntryBlobRow(entry=entry, position=position, blob=blob, size=size))

    def note_blobs(self, entry: EntryId, blobs: Iterable[tuple[BlobId, int]]) -> None:
        """Note the blobs of an entry durably."""
        with self._database.write() as session:
            self.add_blobs(session, entry, blobs)

    def blobs(self, entry: EntryId) -> list[tuple[BlobId, int]]:
        """Return the blobs of an entry, its manifest first; empty while its manifest is not here."""
        with self._database.read() as session:
            query = (
                select(EntryBlobRow).where(EntryBlobRow.entry == entry).order_by(col(EntryBlobRow.position))
            )
            return [(BlobId(row.blob), row.size) for row in session.exec(query)]

    def entries_with(self, blob: BlobId) -> list[EntryId]:
        """Return the entries that list a blob and are not erased."""
        with self._database.read() as session:
            query = select(EntryBlobRow.entry).where(EntryBlobRow.blob == blob)
            return [EntryId(entry) for entry in session.exec(query)]

    def known_blobs(self) -> Iterator[BlobId]:
        """Yield every blob that some entry lists."""
        with self._database.read() as session:
            for blob in session.exec(select(EntryBlobRow.blob).distinct()):
                yield BlobId(blob)

    def bytes_held(self) -> int:
        """Return the octets of all entries that are whole here."""
        with self._database.read() as session:
            query = (
                select(func.sum(EntryBlobRow.size))
                .join(EntryRow, col(EntryRow.id) == col(EntryBlobRow.entry))
                .where(col(EntryRow.complete).is_(True))
            )
            return int(session.exec(query).one() or 0)

    def octets_whole(self) -> dict[EntryId, int]:
        """Return how many octets each entry has that is whole here."""
        with self._database.read() as session:
            query = (
                select(EntryBlobRow.entry, func.sum(EntryBlobRow.size))
                .join(EntryRow, col(EntryRow.id) == col(EntryBlobRow.entry))
                .where(col(EntryRow.complete).is_(True))
                .group_by(col(EntryBlobRow.entry))
            )
            return {EntryId(entry): int(octets) for entry, octets in session.exec(query)}

    def forget_blobs(self, entry: EntryId) -> None:
        """Forget which blobs an entry has, once none of them is here."""
        with self._database.write() as session:
            session.exec(delete(EntryBlobRow).where(col(EntryBlobRow.entry) == entry))

    # -- proofs ---------------------------------------------------------------------------------

    def proofs(self, entry: EntryId) -> dict[int, Proof]:
        """Return what is known of an entry's instances at the destination, by place in the index."""
        with self._database.read() as session:
            remarks = {
                row.position: row for row in session.exec(select(RemarkRow).where(RemarkRow.entry == entry))
            }
            rows = session.exec(select(ProofRow).where(ProofRow.entry == entry))
            return {row.position: _proof(row, remarks.get(row.position)) for row in rows}

    def note_sending(self, entry: EntryId, place: str, positions: Iterable[int]) -> None:
        """Note durably that instances are about to be sent, so that nobody says they never were."""
        with self._database.write() as session:
            for position in positions:
                if session.get(ProofRow, (entry, position)) is None:
                    session.add(ProofRow(entry=entry, position=position, place=place, outcome=""))

    def note_proofs(self, entry: EntryId, proofs: Iterable[Proof]) -> None:
        """Note proofs durably, so that after a cut nothing that is proven is sent again."""
        with self._database.write() as session:
            for proof in proofs:
                session.merge(
                    ProofRow(
                        entry=entry,
                        position=proof.position,
                        place=proof.place,
                        outcome=proof.outcome,
                        evidence=proof.evidence,
                    )
                )
                session.merge(
                    RemarkRow(
                        entry=entry,
                        position=proof.position,
                        code=proof.code,
                        change=proof.change,
                        sent=proof.sent,
                    )
                )

    def forget_proofs(self, entry: EntryId) -> None:
        """Forget what was sent of an entry: nothing of it is at the destination."""
        with self._database.write() as session:
            session.exec(delete(ProofRow).where(col(ProofRow.entry) == entry))
            session.exec(delete(RemarkRow).where(col(RemarkRow.entry) == entry))


def _proof(row: ProofRow, remark: RemarkRow | None) -> Proof:
    if remark is None:
        return Proof(row.position, row.place, row.outcome, row.evidence)
    return Proof(row.position, row.place, row.outcome, row.evidence, remark.code, remark.change, remark.sent)


def _value(row: EntryRow) -> QueueEntry:
    return QueueEntry(
        entry=EntryId(row.id),
        study=row.study,
        origin=row.origin,
        seen_ms=row.seen_ms,
        complete=row.complete,
        ended_ms=row.ended_ms,
        erasing=row.erasing,
        erased=row.erased,
        failures=row.failures,
        setback=row.setback,
        try_at_ms=row.try_at_ms,
    )
