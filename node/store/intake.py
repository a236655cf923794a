"""Submissions and uploads on disk: rows become values here, and values rows.

Called by `node.intake`. What a file, a name or a person said lies in these rows only sealed; what is
in the clear are ids, sizes, states and codes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlmodel import Session, col, select, update

from node.errors import Refused
from node.store.database import Database
from node.store.tables import SubmissionRow, UploadRow
from sync import cbor


class SubmissionState(StrEnum):
    """Where a submission stands; each is true after a power cut."""

    WAITING = "waiting"
    RECEIVED = "received"
    EXAMINED = "examined"
    CONFIRMED = "confirmed"
    DIFFERS = "differs"
    KEPT = "kept"
    FAILED = "failed"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a submission does not go on: a stable code, and a sentence for people with counts only."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Submission:
    """What a person handed in at once, as this node knows it without any secret."""

    id: str  # 32 hex digits
    client_id: str
    device: str
    kind: str  # "file" or "zip"
    state: SubmissionState
    made_ms: int
    length: int | None = None
    examination: bytes | None = field(default=None, repr=False)
    confirmation: bytes | None = field(default=None, repr=False)
    confirmation_hash: bytes | None = None
    entries: tuple[tuple[int, bytes], ...] = ()
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """A tus upload. `keys`: from which offset on which sealed key seals the frames."""

    id: str  # 32 hex digits
    submission: str
    device: str
    length: int
    offset: int
    position: int
    keys: tuple[tuple[int, bytes], ...] = field(repr=False)
    metadata_box: bytes = field(repr=False)
    touched_ms: int
    erased: bool = False

    @property
    def finished(self) -> bool:
        """Whether every octet is here, or was."""
        return self.offset == self.length


OnCommit = Callable[[Session, bytes], None]
"""Called within the transaction that makes an entry, with the entry's id."""


class IntakeStore:
    """The rows of submissions and uploads. Safe to call from many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def change(self) -> Iterator["Change"]:
        """Give a transaction over submissions and uploads; durable when the block ends."""
        with self._database.write() as session:
            yield Change(session)

    def submission(self, submission_id: str) -> Submission | None:
        """Return a submission."""
        with self._database.read() as session:
            row = session.get(SubmissionRow, submission_id)
            return None if row is None else _submission(row)

    def upload(self, upload_id: str) -> Upload | None:
        """Return an upload."""
        with self._database.read() as session:
            row = session.get(UploadRow, upload_id)
            return None if row is None else _upload(row)

    def upload_of(self, submission_id: str) -> Upload | None:
        """Return the upload of a submission that counts: the one that is not erased, else a finished one."""
        with self._database.read() as session:
            return _upload_of(session, submission_id)

    def uploads(self) -> list[Upload]:
        """Return all uploads."""
        with self._database.read() as session:
            return [_upload(row) for row in session.exec(select(UploadRow))]

    def to_examine(self) -> Submission | None:
        """Return the submission that has waited longest with all its octets here and no examination."""
        with self._database.read() as session:
            query = (
                select(SubmissionRow)
                .join(UploadRow, col(UploadRow.submission) == col(SubmissionRow.id))
                .where(
                    col(SubmissionRow.state).in_([SubmissionState.RECEIVED, SubmissionState.CONFIRMED]),
                    col(SubmissionRow.examination).is_(None),
                    col(UploadRow.erased).is_(False),
                    col(UploadRow.offset) == col(UploadRow.length),
                )
                .order_by(col(SubmissionRow.made_ms), col(SubmissionRow.id))
                .limit(1)
            )
            row = session.exec(query).first()
            return None if row is None else _submission(row)

    def to_keep(self) -> list[Submission]:
        """Return the submissions that are confirmed and examined, the longest waiting first."""
        with self._database.read() as session:
            query = (
                select(SubmissionRow)
                .where(
                    col(SubmissionRow.state) == SubmissionState.CONFIRMED,
                    col(SubmissionRow.examination).is_not(None),
                )
                .order_by(col(SubmissionRow.made_ms), col(SubmissionRow.id))
            )
            return [_submission(row) for row in session.exec(query)]

    def examined(self) -> list[Submission]:
        """Return the submissions whose examination is still here, the oldest first."""
        with self._database.read() as session:
            query = (
                select(SubmissionRow)
                .where(col(SubmissionRow.examination).is_not(None))
                .order_by(col(SubmissionRow.made_ms), col(SubmissionRow.id))
            )
            return [_submission(row) for row in session.exec(query)]


class Change:
    """One transaction over submissions and uploads."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def submission(self, submission_id: str) -> Submission | None:
        """Return a submission as this transaction sees it."""
        row = self._session.get(SubmissionRow, submission_id)
        return None if row is None else _submission(row)

    def submission_of_client(self, device: str, client_id: str) -> Submission | None:
        """Return what a device knows under an id of its own."""
        query = select(SubmissionRow).where(
            col(SubmissionRow.device) == device, col(SubmissionRow.client_id) == client_id
        )
        row = self._session.exec(query).first()
        return None if row is None else _submission(row)

    def upload(self, upload_id: str) -> Upload | None:
        """Return an upload as this transaction sees it."""
        row = self._session.get(UploadRow, upload_id)
        return None if row is None else _upload(row)

    def upload_of(self, submission_id: str) -> Upload | None:
        """Return the upload of a submission that counts."""
        return _upload_of(self._session, submission_id)

    def put_submission(self, value: Submission) -> None:
        """Write a submission, new or changed."""
        self._session.merge(
            SubmissionRow(
                id=value.id,
                client_id=value.client_id,
                device=value.device,
                kind=value.kind,
                state=value.state.value,
                made_ms=value.made_ms,
                length=value.length,
                examination=value.examination,
                confirmation=value.confirmation,
                confirmation_hash=value.confirmation_hash,
                entries=_pack(value.entries),
                problem_code=None if value.problem is None else value.problem.code,
                problem_detail=None if value.problem is None else value.problem.detail,
            )
        )

    def put_upload(self, value: Upload) -> None:
        """Write an upload, new or changed."""
        self._session.merge(
            UploadRow(
                id=value.id,
                submission=value.submission,
                device=value.device,
                length=value.length,
                offset=value.offset,
                position=value.position,
                keys=_pack(value.keys),
                metadata_box=value.metadata_box,
                touched_ms=value.touched_ms,
                erased=value.erased,
            )
        )

    def grow_upload(self, value: Upload) -> bool:
        """Write how far an upload is, by one statement, since each part of it does; False if it is to go."""
        query = (
            update(UploadRow)
            .where(col(UploadRow.id) == value.id, col(UploadRow.erased).is_(False))
            .values(
                offset=value.offset,
                position=value.position,
                keys=_pack(value.keys),
                touched_ms=value.touched_ms,
            )
            .execution_options(synchronize_session=False)
        )
        return self._session.connection().execute(query).rowcount == 1

    def drop_upload(self, upload_id: str) -> None:
        """Forget an upload."""
        row = self._session.get(UploadRow, upload_id)
        if row is not None:
            self._session.delete(row)


def note_entry(session: Session, submission_id: str, place: int, entry: bytes) -> None:
    """Note, within the transaction that makes it, the entry that a confirmed study became.

    Raises:
        Refused: the submission was taken back meanwhile; the transaction must not be committed.
    """
    row = session.get(SubmissionRow, submission_id)
    if row is None or row.state != SubmissionState.CONFIRMED:
        raise Refused("wrong-state", "The submission was taken back.")
    row.entries = _pack(dict([*_unpack(row.entries), (place, entry)]).items())
    session.add(row)


def _upload_of(session: Session, submission_id: str) -> Upload | None:
    rows = session.exec(select(UploadRow).where(col(UploadRow.submission) == submission_id))
    found = sorted(map(_upload, rows), key=lambda u: (not u.erased, u.finished, u.touched_ms))
    return found[-1] if found and (found[-1].finished or not found[-1].erased) else None


def _submission(row: SubmissionRow) -> Submission:
    problem = None
    if row.problem_code is not None:
        problem = Problem(row.problem_code, row.problem_detail or "")
    return Submission(
        id=row.id,
        client_id=row.client_id,
        device=row.device,
        kind=row.kind,
        state=SubmissionState(row.state),
        made_ms=row.made_ms,
        length=row.length,
        examination=row.examination,
        confirmation=row.confirmation,
        confirmation_hash=row.confirmation_hash,
        entries=_unpack(row.entries),
        problem=problem,
    )


def _upload(row: UploadRow) -> Upload:
    return Upload(
        id=row.id,
        submission=row.submission,
        device=row.device,
        length=row.length,
        offset=row.offset,
        position=row.position,
        keys=_unpack(row.keys),
        metadata_box=row.metadata_box,
        touched_ms=row.touched_ms,
        erased=row.erased,
    )


def _pack(pairs: Any) -> bytes:
    return cbor.encode([[number, data] for number, data in pairs])


def _unpack(data: bytes) -> tuple[tuple[int, bytes], ...]:
    return tuple((number, value) for number, value in cbor.decode(data))
