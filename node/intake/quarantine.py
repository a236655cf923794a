"""Quarantine: what could not be read and has its bytes here still, until a person says what becomes of it.

An administrator takes a file out (its bytes, to be repaired elsewhere), sends it anyway, or removes it. Only
a file that says which image of which study it is can be sent: the PACS then has the last word, and what it
refuses becomes trouble like anything else. When the last file of a submission is decided about, its upload
is erased. Called by `node.api.quarantine`; the ordinary way of a submission is `node.intake.submissions`.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from node.errors import Refused, UploadDamaged
from node.intake import confirmation as confirmations
from node.intake.archive import BadArchive
from node.intake.contents import Contents
from node.intake.dicom import PIECE_BYTES
from node.intake.examination import (
    Examination,
    ExaminedStudy,
    LeftOut,
    Patient,
    digest_of,
    from_json,
    others_than,
    to_json,
)
from node.intake.keeping import incoming
from node.intake.reasons import REASONS
from node.intake.uploads import IntakeKeys, Uploads, erased
from node.store.database import Database
from node.store.intake import Change, IntakeStore, OnCommit, Submission, SubmissionState, Upload
from sync.ids import short

log = logging.getLogger(__name__)

_DECIDABLE = (SubmissionState.KEPT, SubmissionState.FAILED)
_FIRST_PLACE = 1_000_000  # in the list of entries, behind the studies of a confirmation
_HARMLESS_PREAMBLES = (b"II*\0", b"MM\0*")  # a TIFF that is a DICOM file as well is a file for microscopes
_PREAMBLE_BYTES = 128


class Keep(Protocol):
    """Makes a queue entry of a study, as `node.intake.submissions.Keep`."""

    def __call__(
        self,
        study: ExaminedStudy,
        instances: Any,
        confirmed: dict[str, Any],
        *,
        submission: bytes,
        on_commit: OnCommit,
    ) -> bytes:
        """Keep a study durably and announce it; return the entry's id."""


@dataclass(frozen=True, slots=True)
class Held:
    """A file in quarantine. `name` is as its sender called it.

    `other_patient`: it names another person than the images of its study that came with it, or may do so.
    """

    submission: str
    number: int
    name: str = field(repr=False)
    code: str
    size: int
    sendable: bool
    other_patient: bool = False


class Quarantine:
    """The files of all submissions that wait for a person. Safe to call from many threads.

    Args:
        database: holds the rows.
        keys: open what belongs to patients.
        uploads: has the bytes.
        keep: makes queue entries.
        changed: called with the id of a submission that people should look at again.
    """

    def __init__(
        self,
        database: Database,
        *,
        keys: IntakeKeys,
        uploads: Uploads,
        keep: Keep,
        changed: Callable[[str], None] = lambda submission: None,
    ) -> None:
        self._store = IntakeStore(database)
        self._keys = keys
        self._uploads = uploads
        self._keep = keep
        self._changed = changed
        self._deciding = threading.Lock()

    def held(self) -> list[Held]:
        """Return what waits for a person.

        Raises:
            Locked: the passphrase is needed.
        """
        told: list[Held] = []
        for submission in self._store.examined():
            upload = self._store.upload_of(submission.id)
            if upload is None or upload.erased:
                continue
            examination = self._examination(submission)
            told += [
                Held(
                    submission=submission.id,
                    number=number,
                    name=item.name,
                    code=item.code,
                    size=item.size,
                    sendable=item.instance is not None,
                    other_patient=_names_another(examination, item),
                )
                for number, item in enumerate(_items(submission, examination, upload))
                if not item.decided
            ]
        return told

    def take_out(self, submission_id: str, number: int) -> Iterator[bytes]:
        """Yield the bytes of a file, to be looked at elsewhere.

        A DICOM file may begin with anything (PS3.10 §7.1), a program included, and would be one on a disk;
        so its first 128 octets are zero here, unless they are a TIFF's.

        Raises:
            Refused: `not-quarantined`; there is no such file.
            UploadDamaged: also while it is read.
            Locked: the passphrase is needed.
        """
        _, upload, item = self._find(submission_id, number)
        return self._bytes(upload, item)

    def remove(self, submission_id: str, number: int) -> None:
        """Give a file up; the last one takes the upload with it.

        Raises:
            Refused: `not-quarantined`; `wrong-state`, its submission is not settled yet.
            Locked: the passphrase is needed.
        """
        with self._deciding:
            submission, upload, item = self._find(submission_id, number, settled=True)
            with self._store.change() as change:
                last = self._decide(change, submission, upload, number, "removed")
        self._after(submission, upload, last=last)
        log.info("quarantined file removed submission=%s code=%s", _short(submission), item.code)

    def send(self, submission_id: str, number: int, person: str, *, same_person: bool = False) -> bytes:
        """Send a file as it is; return the entry's id.

        Args:
            same_person: whoever decides saw that it is of the patient of its study, whom it names otherwise.

        Raises:
            Refused: `not-quarantined`; `wrong-state`; `not-sendable`, it does not say which image it is;
                `mixed-patients`, it names another patient, and nobody said that they are one.
            Locked: the passphrase is needed.
            UploadDamaged: its bytes are not what was examined.
        """
        with self._deciding:
            submission, upload, item = self._find(submission_id, number, settled=True)
            if item.instance is None:
                raise Refused("not-sendable", _NOT_SENDABLE)
            if not same_person and _names_another(self._examination(submission), item):
                raise Refused("mixed-patients", _MIXED)
            last = False

            def on_commit(session: Any, entry: bytes) -> None:
                nonlocal last
                change = Change(session)
                last = self._decide(change, submission, upload, number, "sent", entry)

            with self._uploads.reader(upload) as file:
                entry = self._keep(
                    _study_of(item),
                    incoming(file, [item.instance]),
                    self._confirmed(submission, person),
                    submission=bytes.fromhex(submission.id),
                    on_commit=on_commit,
                )
        self._after(submission, upload, last=last)
        log.info("quarantined file sent submission=%s code=%s", _short(submission), item.code)
        return entry

    # -- inside ---------------------------------------------------------------------------------

    def _find(
        self, submission_id: str, number: int, *, settled: bool = False
    ) -> tuple[Submission, Upload, LeftOut]:
        submission = self._store.submission(submission_id)
        upload = self._store.upload_of(submission_id)
        if submission is None or submission.examination is None or upload is None or upload.erased:
            raise Refused("not-quarantined", _NO_SUCH)
        items = _items(submission, self._examination(submission), upload)
        if not 0 <= number < len(items) or items[number].decided:
            raise Refused("not-quarantined", _NO_SUCH)
        if settled and submission.state not in _DECIDABLE:
            raise Refused(
                "wrong-state", "Its submission is not settled yet; confirm it or take it back first."
            )
        return submission, upload, items[number]

    def _decide(
        self,
        change: Change,
        seen: Submission,
        upload: Upload,
        number: int,
        decided: str,
        entry: bytes | None = None,
    ) -> bool:
        """Note what was decided about a file; say whether it was the last one, whose upload goes then."""
        now = change.submission(seen.id)
        if now is None or now.examination != seen.examination or now.state not in _DECIDABLE:
            raise Refused("wrong-state", "The submission changed meanwhile; look again.")
        examination = self._examination(now)
        items = list(_items(now, examination, upload))
        items[number] = replace(items[number], decided=decided)
        if entry is not None:
            now = replace(now, entries=(*now.entries, (_FIRST_PLACE + number, entry)))
        last = all(item.decided for item in items)
        if last:
            state = SubmissionState.KEPT if now.entries else SubmissionState.REMOVED
            now = replace(now, state=state, examination=None, confirmation=None, problem=None)
            change.put_upload(erased(upload))
        else:
            box = self._keys.seal(to_json(replace(examination, quarantined=tuple(items))))
            now = replace(now, examination=box)
        change.put_submission(now)
        return last

    def _after(self, submission: Submission, upload: Upload, *, last: bool) -> None:
        if last:
            self._uploads.remove_file(upload)
        self._changed(submission.id)

    def _bytes(self, upload: Upload, item: LeftOut) -> Iterator[bytes]:
        try:
            with (
                self._uploads.reader(upload) as file,
                Contents(file).open(item.place, checked=False) as stream,
            ):
                first = stream.read(PIECE_BYTES)
                if first[128:132] == b"DICM" and not first.startswith(_HARMLESS_PREAMBLES):
                    first = bytes(_PREAMBLE_BYTES) + first[_PREAMBLE_BYTES:]
                while first:
                    yield first
                    first = stream.read(PIECE_BYTES)
        except BadArchive:
            raise UploadDamaged("a file of this ZIP cannot be unpacked") from None

    def _examination(self, submission: Submission) -> Examination:
        assert submission.examination is not None
        return from_json(self._keys.open(submission.examination))

    def _confirmed(self, submission: Submission, person: str) -> dict[str, Any]:
        """Return what goes with the file: as the others of its submission were confirmed, by this person."""
        said = {"impression": "", "priority": "routine", "destination": None, "by": person}
        if submission.confirmation is not None:
            confirmation = confirmations.from_json(self._keys.open(submission.confirmation)).confirmation
            said |= {"priority": confirmation.priority, "destination": confirmation.destination}
        return said


def shown(held: Held) -> dict[str, Any]:
    """Return a file as the API shows it."""
    return {
        "submission": held.submission,
        "number": held.number,
        "name": held.name,
        "code": held.code,
        "reason": REASONS[held.code],
        "bytes": held.size,
        "sendable": held.sendable,
        "other_patient": held.other_patient,
    }


def _names_another(examination: Examination, item: LeftOut) -> bool:
    """Say whether a file names another patient than the study that it says it belongs to, or may do so.

    An earlier version did not note whom it names.
    """
    named = [study.patient for study in examination.studies if study.study_uid == item.study_uid]
    if item.patient is None:
        return item.instance is not None and bool(named)
    return any(others_than(patient, [item.patient]) for patient in named)


def _items(submission: Submission, examination: Examination, upload: Upload) -> tuple[LeftOut, ...]:
    """Return the files of a submission that wait: the upload itself if nothing of it could be told."""
    if submission.state is SubmissionState.FAILED and examination.code and not examination.quarantined:
        return (LeftOut("", examination.code, upload.length),)
    return examination.quarantined


def _study_of(item: LeftOut) -> ExaminedStudy:
    assert item.instance is not None
    nobody = Patient("", "", "", "")
    return ExaminedStudy(
        study_uid=item.study_uid,
        digest=digest_of([item.instance]),
        patient=nobody,
        study_date="",
        description="",
        body_parts=(),
        series=(),
        instances=(item.instance,),
    )


def _short(submission: Submission) -> str:
    return short(bytes.fromhex(submission.id))


_NO_SUCH = "There is no such file in quarantine; somebody may have decided about it already."
_MIXED = (
    "This file names another patient than the images of its study, or an earlier version did not note whom. "
    "Nothing was sent, and its bytes are kept. "
    "Take it out and hand it in by itself, remove it, or say that both are one person."
)
_NOT_SENDABLE = (
    "This file does not say which image of which study it is, so no PACS could take it. Its bytes are kept; "
    "take it out to have it repaired, or remove it."
)
