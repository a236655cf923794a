"""The fact log: the ledger on disk, and the one way in which this node adds or signs facts.

A fact is durable before anyone hears of it: it is taken into the ledger inside the database's
transaction, and listeners are told after the commit. Facts that became void leave the disk in the same
transaction. Safe to call from many threads.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from nacl.signing import SigningKey
from sqlmodel import Session, col, delete, select

from node.clock import Clock
from node.store.database import Database
from node.store.tables import FactRow, NoteRow
from sync import facts
from sync.bodies import Body
from sync.facts import Fact, FactClass
from sync.hlc import next_timestamp
from sync.ids import EntryId, FactId, HlcMs, MeshId, NodeId, short
from sync.ledger import Added, Ledger, Outcome
from sync.membership import MEMBERSHIP_KINDS

log = logging.getLogger(__name__)
_OWN_NEWEST = "own_newest_timestamp"
_Answer = TypeVar("_Answer")
Listener = Callable[[tuple[Fact, ...], tuple[EntryId, ...]], None]


class Writing:
    """One transaction on the fact log; other rows may be written through its `session`."""

    def __init__(self, log_: "FactLog", session: Session) -> None:
        self._log = log_
        self.session = session
        self.admitted: list[Fact] = []
        self.revived: list[EntryId] = []

    def add(self, raw: bytes) -> Added:
        """Take in a signed fact; what is wrong is refused in the answer, not raised."""
        added = self._log.ledger.add(raw)
        now = self._log.clock.carried_ms()
        for fact in added.admitted:
            membership = fact.header.kind in MEMBERSHIP_KINDS
            self.session.merge(FactRow(id=fact.id, membership=membership, raw=fact.raw, seen_ms=now))
            self._log.note_heard(fact, now)
        self.session.flush()
        if added.dropped:
            self.session.exec(delete(FactRow).where(col(FactRow.id).in_(added.dropped)))
        dropped = set(added.dropped)
        self.admitted = [f for f in self.admitted if f.id not in dropped] + list(added.admitted)
        self.revived += added.revived
        return added

    def issue(self, body: Body, entry: EntryId | None = None) -> Fact:
        """Sign a fact of this node and take it in."""
        ledger, key = self._log.ledger, self._log.key
        newest = ledger.newest_of(NodeId(bytes(key.verify_key)))
        timestamp = next_timestamp(self._log.clock.now_ms(), HlcMs(newest) if newest else None)
        raw = facts.sign(body, key=key, mesh=ledger.mesh, timestamp=timestamp, entry=entry)
        self.session.merge(NoteRow(name=_OWN_NEWEST, value=timestamp.to_bytes(8)))
        self.add(raw)
        return facts.parse(raw, mesh=ledger.mesh, verified_before=True)


class FactLog:
    """All facts that this node has admitted, durable, and their meaning in memory."""

    def __init__(
        self, database: Database, *, mesh: MeshId, roots: Iterable[NodeId], key: SigningKey, clock: Clock
    ) -> None:
        self.database = database
        self.key = key
        self.clock = clock
        self._mesh = mesh
        self._roots = tuple(roots)
        self._lock = threading.RLock()
        self._listeners: list[Listener] = []
        self._heard: dict[NodeId, int] = {}
        self.ledger = self._load()

    @property
    def node_id(self) -> NodeId:
        """This node's id."""
        return NodeId(bytes(self.key.verify_key))

    def listen(self, listener: Listener) -> None:
        """Have `listener` called, after the commit, with the facts that were new and the entries revived."""
        self._listeners.append(listener)

    @contextmanager
    def writing(self) -> Iterator[Writing]:
        """Give one transaction; it is durable, and listeners were told, when the block has ended."""
        with self._lock:
            try:
                with self.database.write() as session:
                    writing = Writing(self, session)
                    yield writing
            except BaseException:
                self.ledger = self._load()  # the ledger may be ahead of a disk that refused
                raise
        if writing.admitted or writing.revived:
            for listener in self._listeners:
                listener(tuple(writing.admitted), tuple(writing.revived))

    def add_many(self, raws: Iterable[bytes]) -> list[Added]:
        """Take in signed facts in one transaction; one answer for each."""
        raws = list(raws)
        with self.writing() as writing:
            answers = [writing.add(raw) for raw in raws]
        refused = sum(answer.outcome is Outcome.REFUSED for answer in answers)
        if refused:
            log.warning("facts refused refused=%d facts=%d", refused, len(raws))
        return answers

    def issue(self, body: Body, entry: EntryId | None = None) -> Fact:
        """Sign a fact of this node, keep it durably, and return it."""
        with self.writing() as writing:
            fact = writing.issue(body, entry)
        log.info("fact issued kind=%s fact=%s", fact.header.kind, short(fact.id))
        return fact

    def ask(self, question: Callable[[Ledger], _Answer]) -> _Answer:
        """Answer a question about the ledger while nobody changes it; return values, not its parts."""
        with self._lock:
            return question(self.ledger)

    def heard_ms(self) -> dict[NodeId, int]:
        """Return when the last new fact of each author came in, on this node's life clock."""
        with self._lock:
            return dict(self._heard)

    def note_heard(self, fact: Fact, at_ms: int) -> None:
        """Take note that something new of an author has come."""
        author = fact.header.author
        self._heard[author] = max(self._heard.get(author, at_ms), at_ms)

    def raw_of(self, fact_ids: Iterable[FactId]) -> list[bytes]:
        """Return the signed bytes of those facts that are here."""
        with self._lock:
            found = [self.ledger.get(fact_id) for fact_id in fact_ids]
        return [fact.raw for fact in found if fact is not None]

    def count(self) -> dict[FactClass, int]:
        """Return how many facts of each class are here."""
        with self._lock:
            return {kind: len(self.ledger.facts(kind)) for kind in FactClass}

    def _load(self) -> Ledger:
        ledger = Ledger(self._mesh, self._roots)
        with self.database.read() as session:
            newest = session.get(NoteRow, _OWN_NEWEST)
            if newest is not None:  # the fact itself may be void and gone by now
                ledger.note_newest(self.node_id, int.from_bytes(newest.value))
            for membership in (True, False):
                query = select(FactRow.raw, FactRow.seen_ms).where(FactRow.membership == membership)
                for raw, seen_ms in session.exec(query):
                    fact = facts.parse(raw, mesh=self._mesh, verified_before=True)
                    self.note_heard(fact, seen_ms)
                    ledger.add_fact(fact)
        return ledger
