"""Small things that a node remembers by name, and where its peers may be reached."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlmodel import Session, col, delete, select

from node.store.database import Database
from node.store.tables import NoteRow, PeerRow
from sync.ids import EntryId, NodeId

_SEALING = "sealing:"
_RESEALED = "resealed:"


@dataclass(frozen=True, slots=True)
class KnownPeer:
    """Where another node may be reached. `met_ms`: life clock of the last completed meeting."""

    address: str
    node: NodeId | None
    typed: bool
    met_ms: int | None


class Notes:
    """Named values and known peers. Safe to call from many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def number(self, name: str) -> int:
        """Return a remembered number, 0 if there is none."""
        with self._database.read() as session:
            row = session.get(NoteRow, name)
            return 0 if row is None else int.from_bytes(row.value)

    def set_numbers(self, **values: int) -> None:
        """Remember numbers, durably and together."""
        with self._database.write() as session:
            for name, value in values.items():
                session.merge(NoteRow(name=name, value=value.to_bytes(8)))

    def value(self, name: str) -> bytes | None:
        """Return what is remembered under a name."""
        with self._database.read() as session:
            row = session.get(NoteRow, name)
            return None if row is None else row.value

    def set_value(self, name: str, value: bytes) -> None:
        """Remember something durably."""
        with self._database.write() as session:
            session.merge(NoteRow(name=name, value=value))

    def note_sealing(self, entry: EntryId) -> None:
        """Note durably that an entry's manifest is about to be written, and its announcement is not."""
        with self._database.write() as session:
            session.merge(NoteRow(name=_SEALING + entry.hex(), value=b""))

    def forget_sealing(self, session: Session, entry: EntryId) -> None:
        """Note, within the transaction that announces an entry, that it is announced."""
        session.exec(delete(NoteRow).where(col(NoteRow.name) == _SEALING + entry.hex()))

    def sealing(self) -> set[EntryId]:
        """Return the entries whose sealing was cut off before they were announced."""
        with self._database.read() as session:
            names = session.exec(select(NoteRow.name).where(col(NoteRow.name).startswith(_SEALING)))
            return {EntryId(bytes.fromhex(name.removeprefix(_SEALING))) for name in names}

    def end_sealing(self, entry: EntryId) -> None:
        """Forget an entry whose sealing was cut off, once nothing of it is left."""
        with self._database.write() as session:
            self.forget_sealing(session, entry)

    def note_resealed(self, session: Session, old: EntryId, new: EntryId) -> None:
        """Note, within the transaction that announces the new entry, as which one an old one goes on."""
        session.merge(NoteRow(name=_RESEALED + old.hex(), value=new))

    def resealed(self) -> dict[EntryId, EntryId]:
        """Return the entries that this node has sealed anew and not ended yet, with the new ones."""
        with self._database.read() as session:
            rows = session.exec(select(NoteRow).where(col(NoteRow.name).startswith(_RESEALED)))
            return {
                EntryId(bytes.fromhex(row.name.removeprefix(_RESEALED))): EntryId(row.value) for row in rows
            }

    def forget_resealed(self, old: EntryId) -> None:
        """Forget an entry that was sealed anew, once it has ended."""
        with self._database.write() as session:
            session.exec(delete(NoteRow).where(col(NoteRow.name) == _RESEALED + old.hex()))

    def peers(self) -> list[KnownPeer]:
        """Return all known peers, the last met first."""
        with self._database.read() as session:
            rows = session.exec(select(PeerRow).order_by(col(PeerRow.met_ms).desc()))
            return [
                KnownPeer(
                    address=row.address,
                    node=None if row.node is None else NodeId(row.node),
                    typed=row.typed,
                    met_ms=row.met_ms,
                )
                for row in rows
            ]

    def add_peer(self, address: str, *, typed: bool = True) -> None:
        """Remember an address."""
        with self._database.write() as session:
            row = session.get(PeerRow, address)
            if row is None:
                session.add(PeerRow(address=address, typed=typed))
            elif typed and not row.typed:
                row.typed = True
                session.add(row)

    def add_found(self, address: str, *, most: int) -> bool:
        """Remember an address that nobody typed; say whether it is new.

        At most so many are kept. The one that was met longest ago goes for a new one; those that were
        never met do not: made-up addresses could drive out all others.
        """
        known = self.peers()
        if any(peer.address == address for peer in known):
            return False
        found = [peer for peer in known if not peer.typed]
        if len(found) >= most:
            if found[-1].met_ms is None:
                return False
            self.remove_peer(found[-1].address)
        self.add_peer(address, typed=False)
        return True

    def forget_found(self, address: str) -> bool:
        """Forget an address unless somebody typed it; say whether it is forgotten."""
        with self._database.write() as session:
            row = session.get(PeerRow, address)
            if row is None or row.typed:
                return False
            session.delete(row)
            return True

    def give_peers(self, addresses: Iterable[str]) -> None:
        """Remember the addresses that the settings name; those that they named before and no longer do go."""
        named = set(addresses)
        with self._database.write() as session:
            for row in session.exec(select(PeerRow).where(col(PeerRow.given).is_(True))):
                if row.address not in named:
                    session.delete(row)
            for address in sorted(named):
                if session.get(PeerRow, address) is None:
                    session.add(PeerRow(address=address, typed=True, given=True))

    def remove_peer(self, address: str) -> bool:
        """Forget an address; say whether it was known."""
        with self._database.write() as session:
            row = session.get(PeerRow, address)
            if row is not None:
                session.delete(row)
            return row is not None

    def note_met(self, address: str, node: NodeId, *, at_ms: int) -> None:
        """Note a completed meeting at an address; one that was forgotten meanwhile stays forgotten."""
        with self._database.write() as session:
            row = session.get(PeerRow, address)
            if row is not None:
                row.node, row.met_ms = node, at_ms
                session.add(row)
