"""Receipts: what was proven of a delivery, whose it was, and when the PACS is looked at again.

The receipt itself names instances by digest only. What belongs to a patient lies beside it in a sealed box.
Both outlive the study's blobs. Called by `node.jobs` and by whoever shows a receipt.
"""

from dataclasses import dataclass

from sqlmodel import Session, col, select, update

from node.store.database import Database
from node.store.tables import LookRow, ReceiptNamesRow, ReceiptRow
from sync.ids import EntryId


@dataclass(frozen=True, slots=True)
class Look:
    """A second look at a PACS. `due_ms`: on this node's life clock, None if it is done."""

    entry: EntryId
    due_ms: int | None
    missed: int
    result: str


class Receipts:
    """The receipts of this node. Safe to call from many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(
        self, session: Session, entry: EntryId, receipt: bytes, names: bytes, *, due_ms: int | None
    ) -> None:
        """Keep a receipt within the transaction of its tombstone.

        Args:
            session: of the transaction.
            entry: which has ended.
            receipt: the bytes that the tombstone's digest is of.
            names: a sealed box of UIDs.
            due_ms: when the PACS is looked at again; None for never.
        """
        session.merge(ReceiptRow(entry=entry, receipt=receipt))
        self.keep_names(session, entry, names)
        if due_ms is not None:
            session.merge(LookRow(entry=entry, due_ms=due_ms))

    def keep_names(self, session: Session, entry: EntryId, names: bytes) -> None:
        """Keep, within a transaction, what is sealed about an entry that has ended."""
        session.merge(ReceiptNamesRow(entry=entry, box=names))

    def receipt(self, entry: EntryId) -> bytes | None:
        """Return the receipt of a delivery made by this node."""
        with self._database.read() as session:
            row = session.get(ReceiptRow, entry)
            return None if row is None else row.receipt

    def names(self, entry: EntryId) -> bytes | None:
        """Return the sealed box that belongs to it."""
        with self._database.read() as session:
            row = session.get(ReceiptNamesRow, entry)
            return None if row is None else row.box

    def look(self, entry: EntryId) -> Look | None:
        """Return the second look of an entry."""
        with self._database.read() as session:
            row = session.get(LookRow, entry)
            return None if row is None else _look(row)

    def due(self, now_ms: int) -> list[Look]:
        """Return the looks that are due, the oldest first."""
        with self._database.read() as session:
            query = select(LookRow).where(col(LookRow.due_ms) <= now_ms).order_by(col(LookRow.due_ms))
            return [_look(row) for row in session.exec(query)]

    def postpone(self, entry: EntryId, due_ms: int, *, missed: int) -> None:
        """Note when to look again, and how many images were not there."""
        self._update(entry, due_ms=due_ms, missed=missed)

    def finish(self, entry: EntryId, result: str, *, missed: int = 0) -> None:
        """Note what a look has shown; it is done."""
        self._update(entry, due_ms=None, missed=missed, result=result)

    def _update(self, entry: EntryId, **values: object) -> None:
        with self._database.write() as session:
            session.exec(update(LookRow).where(col(LookRow.entry) == entry).values(**values))


def _look(row: LookRow) -> Look:
    return Look(EntryId(row.entry), row.due_ms, row.missed, row.result)
