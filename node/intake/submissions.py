"""Submissions: the way of what a person hands in, from its first byte to its queue entries.

`waiting` → `received` → `examined` → `confirmed` → `kept`; a confirmation may come first, then the
submission is `confirmed` and waits for its bytes and its examination. Each step is one transaction, so
after a crash everything goes on from what the states say. Called by `node.api` for people, and by the
schedule (and right after an upload) for examining and keeping.

The examination and the confirmation are patient data: they lie sealed in the rows and are opened only
while the node is unlocked. Nothing is sent that a person did not confirm: what arrived is compared with
what was confirmed by the digest of its instances.
"""

import logging
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from node.clock import Clock
from node.errors import Locked, NodeError, Refused, StoreDamaged, UploadDamaged, WorkerFailed
from node.intake import confirmation as confirmations
from node.intake.confirmation import Confirmation
from node.intake.dicom import HeaderReader
from node.intake.examination import Examination, shown, to_json
from node.intake.examine import Known, examine, look_ahead, nothing_known
from node.intake.keeping import Keep, confirmed_of, noting, parts_of
from node.intake.reasons import LEFT, LOCKED, NO_SUCH_PACS, NOT_YET, REASONS
from node.intake.unsealed import Unsealed
from node.intake.uploads import IntakeKeys, Limits, Uploads, erased, file_name
from node.intake.wrapping import Said, Wrapping, decoded
from node.store.database import Database
from node.store.intake import IntakeStore, Problem, Submission, SubmissionState, Upload
from node.wrap.press import CannotWrap, Press
from sync.ids import short

log = logging.getLogger(__name__)

State = SubmissionState

_TRIES = 5  # to make a document once a study of its submission is kept
_AHEAD_BYTES = 16 << 20  # of an upload that still comes, examined in one go


class Intake:
    """Takes studies in. Safe to call from many threads.

    Args:
        database: holds the rows.
        folder: the spool.
        keys: seal and open what belongs to patients.
        clock: counts how long uploads rest.
        keep: makes queue entries.
        limits: how much is taken.
        known: recognises instances that this node had before.
        destinations: the names of the PACS that the mesh knows.
        label_of: what people call a device.
        wake: called when there is something to examine or to keep.
        changed: called with the id of a submission that people should look at again.
    """

    def __init__(
        self,
        database: Database,
        folder: Path,
        *,
        keys: IntakeKeys,
        clock: Clock,
        keep: Keep,
        limits: Limits | None = None,
        known: Known = nothing_known,
        destinations: Callable[[], Collection[str]] = frozenset,
        label_of: Callable[[str], str] = lambda device: "",
        wake: Callable[[], None] = lambda: None,
        changed: Callable[[str], None] = lambda submission_id: None,
    ) -> None:
        self._store = IntakeStore(database)
        self._keys = keys
        self._clock = clock
        self._keep = keep
        self._known = known
        self._destinations = destinations
        self._label_of = label_of
        self._wake = wake
        self._changed = changed
        self._headers = HeaderReader()
        self._examining = threading.Lock()
        self._keeping = threading.Lock()
        self._failures: Counter[str] = Counter()
        self._examination = Unsealed(keys.open)
        self.uploads = Uploads(self._store, folder, keys, clock, limits or Limits(), self._on_received, wake)

    def close(self) -> None:
        """End the worker process, and forget what was coded ahead."""
        with self._examining:
            self._headers.close()
            self.uploads.coding.close()

    # -- for people -----------------------------------------------------------------------------

    def submit(self, device: str, client_id: str, kind: str) -> Submission:
        """Make a submission; the same `client_id` of the same device gives the same one again.

        Raises:
            Refused: `submission-differs`, it was made with another kind.
        """
        with self._store.change() as change:
            present = change.submission_of_client(device, client_id)
            if present is not None:
                if present.kind != kind:
                    raise Refused("submission-differs", "This submission was made as another kind.")
                return present
            made = Submission(
                id=secrets.token_hex(16),
                client_id=client_id,
                device=device,
                kind=kind,
                state=State.WAITING,
                made_ms=self._clock.carried_ms(),
            )
            change.put_submission(made)
        log.info("submission made submission=%s", _short(made))
        return made

    def get(self, device: str, submission_id: str) -> Submission:
        """Return a submission of a device.

        Raises:
            Refused: `submission-unknown`, also if it is another device's.
        """
        return _own(self._store.submission(submission_id), device)

    def view(self, submission: Submission) -> dict[str, Any]:
        """Return a submission as the API shows it; without its examination while the node is locked."""
        upload = self._store.upload_of(submission.id)
        examination, problem = None, submission.problem
        if submission.examination is not None:
            try:
                examination = shown(self._examination(submission.examination))
            except Locked as locked:
                problem = problem or Problem(locked.code, LOCKED)
        return {
            "id": submission.id,
            "client_id": submission.client_id,
            "state": submission.state.value,
            "kind": submission.kind,
            "bytes": 0 if upload is None else upload.offset,
            "length": submission.length,
            "entries": [entry.hex() for _, entry in submission.entries],
            "examination": examination,
            "problem": None if problem is None else asdict(problem),
        }

    def confirm(self, device: str, submission_id: str, confirmation: Confirmation) -> Submission:
        """Take a person's confirmation; the bytes may come later. The same one again changes nothing.

        When what arrived differs from what was confirmed, another confirmation is the person's decision.

        Raises:
            Refused: `submission-unknown`; what `node.intake.confirmation.check` says;
                `confirmation-differs`, another one was given; `wrong-state`, there is nothing to confirm;
                `destination-unknown`, it names a PACS, and this node has heard of others only.
        """
        confirmations.check(confirmation)
        with self._store.change() as change:
            submission = _own(change.submission(submission_id), device)
            if submission.state is State.REMOVED:
                raise Refused("wrong-state", "This submission was taken back.")
            body = confirmations.to_json(confirmation, device)
            digest = confirmations.hash_of(submission.id, body)
            if digest == submission.confirmation_hash:
                return submission
            if submission.confirmation_hash is not None and submission.state is not State.DIFFERS:
                raise Refused("confirmation-differs", "This was confirmed before, in another way.")
            if submission.state is State.FAILED:
                raise Refused("wrong-state", "There is nothing to confirm in this submission.")
            known = self._destinations()  # a node that has not met the cloud yet knows none
            if confirmation.destination is not None and known and confirmation.destination not in known:
                raise Refused("destination-unknown", NO_SUCH_PACS)
            told = confirmations.to_json(confirmation, device, self._clock.now_ms())
            submission = replace(
                submission,
                state=State.CONFIRMED,
                confirmation=self._keys.seal(told),
                confirmation_hash=digest,
                problem=None,
            )
            submission = self._compared(submission)
            change.put_submission(submission)
        log.info("submission confirmed submission=%s state=%s", _short(submission), submission.state.value)
        self._changed(submission.id)
        self._wake()
        return submission

    def remove(self, device: str, submission_id: str) -> None:
        """Take a submission back and erase its bytes. Of a kept one only quarantined bytes can be left.

        Raises:
            Refused: `submission-unknown`; `wrong-state`, it is kept, at least in part.
        """
        with self._store.change() as change:
            submission = _own(change.submission(submission_id), device)
            upload = change.upload_of(submission_id)
            leftover = upload is not None and not upload.erased
            if submission.entries and not (submission.state in (State.KEPT, State.FAILED) and leftover):
                raise Refused("wrong-state", "Studies of it are on their way already.")
            state = State.KEPT if submission.entries else State.REMOVED
            cleared = replace(submission, state=state, examination=None, confirmation=None, problem=None)
            change.put_submission(cleared)
            if upload is not None and leftover:
                change.put_upload(erased(upload))
        self._examination.forget()
        if upload is not None:
            self.uploads.remove_file(upload)
        log.info("submission taken back submission=%s", _short(submission))
        self._changed(submission_id)

    # -- for the schedule -----------------------------------------------------------------------

    def examine_next(self) -> bool:
        """Examine what has waited longest; False if nothing waits, or the node is locked."""
        with self._examining:
            submission = self._store.to_examine()
            upload = None if submission is None else self._store.upload_of(submission.id)
            if submission is None or upload is None:
                return False
            try:
                found = self._examined(upload)
            except Locked:
                return False
        box = self._keys.seal(to_json(found))
        with self._store.change() as change:
            now = change.submission(submission.id)
            if now is None or now.state not in (State.RECEIVED, State.CONFIRMED):
                return True  # it was taken back meanwhile
            if found.code is not None:
                problem = Problem(found.code, REASONS[found.code])
                now = replace(now, state=State.FAILED, examination=box, problem=problem)
            elif now.state is State.RECEIVED:
                now = replace(now, state=State.EXAMINED, examination=box)
            else:
                now = self._compared(replace(now, examination=box))
            change.put_submission(now)
        log.info(
            "submission examined submission=%s state=%s studies=%d instances=%d skipped=%d quarantined=%d",
            _short(now),
            now.state.value,
            len(found.studies),
            sum(len(study.instances) for study in found.studies),
            len(found.skipped),
            len(found.quarantined),
        )
        self._changed(now.id)
        if now.state is State.CONFIRMED:
            self._wake()
        return True

    def examine_ahead(self) -> bool:
        """Examine a little of an upload that still comes; False if there is nothing to look at.

        It only makes the examination quicker: what goes wrong here is met again there, and told.
        """
        with self._examining:
            wanted = self.uploads.growing.wanted()
            if wanted is None:
                return False
            upload_id, ahead = wanted
            upload, more = self._store.upload(upload_id), False
            if upload is not None and not upload.finished and not upload.erased:
                code = partial(self.uploads.coding.add, upload_id)
                with suppress(NodeError), self.uploads.reader(upload, held=True) as file:
                    more = look_ahead(ahead, file, _AHEAD_BYTES, self._headers, code)
                upload = self._store.upload(upload_id)
            if upload is None or upload.erased:
                self.uploads.coding.forget(upload_id)  # it was ended meanwhile
            if not more:
                self.uploads.growing.looked_at(upload_id)
            return True

    def keep_next(self) -> bool:
        """Keep what was confirmed and has waited longest; False if nothing waits, or the node is locked.

        Each study is kept in one transaction together with the note that it is; after a crash only the
        rest is kept.

        Raises:
            NodeError: the study could not be kept; the schedule comes back.
        """
        failed: NodeError | None = None
        with self._keeping:
            for submission in self._store.to_keep():
                try:
                    return self._kept(submission)
                except Locked:
                    return False
                except UploadDamaged:
                    self._give_up(submission.id)
                    return True
                except CannotWrap as cannot:
                    if self._stop(submission.id, cannot.code):
                        return True
                    failed = failed or WorkerFailed("a document could not be made again")
                except NodeError as error:  # it must not hold up those behind it
                    self._note_trouble(submission.id, error)
                    failed = failed or error
        if failed is not None:
            raise failed
        return False

    def expire(self) -> int:
        """Erase the uploads that rested for 30 days; return how many."""
        return self.uploads.expire()

    # -- inside ---------------------------------------------------------------------------------

    def _on_received(self, submission_id: str) -> None:
        self._changed(submission_id)
        self._wake()

    def _examined(self, upload: Upload) -> Examination:
        growing = self.uploads.growing
        try:
            name = file_name(self.uploads.metadata(upload))
            with self.uploads.reader(upload) as file:
                found = examine(file, name, self._headers, self._known, growing.known(upload.id))
                return decoded(found, file) if found.documents else found
        except StoreDamaged:
            return Examination(code="upload-damaged")
        finally:
            growing.forget(upload.id)

    def _compared(self, submission: Submission) -> Submission:
        """Return the submission with what the comparison says, if both sides are there to be read."""
        if submission.examination is None or submission.confirmation is None:
            return submission
        try:
            examination = self._examination(submission.examination)
            given = confirmations.from_json(self._keys.open(submission.confirmation))
        except Locked:
            return submission
        problem = confirmations.difference(examination, given.confirmation)
        return submission if problem is None else replace(submission, state=State.DIFFERS, problem=problem)

    def _kept(self, submission: Submission) -> bool:
        compared = self._compared(submission)
        if compared.state is State.DIFFERS:
            with self._store.change() as change:
                now = change.submission(submission.id)
                if now == submission:
                    change.put_submission(compared)
            self._changed(submission.id)
            return True
        upload = self._store.upload_of(submission.id)
        if upload is None or submission.examination is None or submission.confirmation is None:
            return False
        examination = self._examination(submission.examination)
        given = confirmations.from_json(self._keys.open(submission.confirmation))
        said = Said(given.confirmation.author or self._label_of(given.by), given.at_ms)
        done = dict(submission.entries)
        with self.uploads.reader(upload) as file, Press() as press:
            wrapping = Wrapping(press, file, examination, given.confirmation, said)
            ready = self.uploads.coding.ready(upload.id)
            parts = parts_of(file, examination, given, wrapping, done, ready)
            for place, (study, instances) in parts.items():
                done[place] = self._keep(
                    study,
                    instances,
                    confirmed_of(given, said),
                    submission=bytes.fromhex(submission.id),
                    on_commit=noting(submission.id, place),
                )
        self.uploads.coding.forget(upload.id)
        self._finish(submission, upload, quarantined=len(examination.quarantined))
        log.info("submission kept submission=%s entries=%d", _short(submission), len(done))
        return True

    def _give_up(self, submission_id: str) -> None:
        """Say that the bytes here are no longer what came; only the sender has them still."""
        log.error("upload damaged submission=%s", submission_id)
        with self._store.change() as change:
            now = change.submission(submission_id)
            if now is not None and now.state is State.CONFIRMED:
                problem = Problem("upload-damaged", REASONS["upload-damaged"])
                change.put_submission(replace(now, state=State.FAILED, problem=problem))
        self._changed(submission_id)

    def _stop(self, submission_id: str, code: str) -> bool:
        """Say that a document cannot be made into an instance; False if it is to be tried again.

        Another confirmation would put other studies in the places of those that are kept; so it fails then.
        """
        with self._store.change() as change:
            now = change.submission(submission_id)
            if now is None or now.state is not State.CONFIRMED:
                return now is None or not now.entries
            self._failures[submission_id] += 1
            told = Problem(code, f"{REASONS[code]} Nothing was sent; confirm again without it.")
            now = replace(now, state=State.DIFFERS, problem=told)
            if now.entries and self._failures[submission_id] < _TRIES:
                now = replace(now, state=State.CONFIRMED, problem=Problem(code, NOT_YET))
            elif now.entries:
                now = replace(now, state=State.FAILED, problem=Problem("partly-kept", REASONS["partly-kept"]))
            change.put_submission(now)
        self._changed(submission_id)
        return now.state is not State.CONFIRMED

    def _note_trouble(self, submission_id: str, error: NodeError) -> None:
        log.warning("submission not kept yet submission=%s code=%s", submission_id, error.code)
        with self._store.change() as change:
            now = change.submission(submission_id)
            if now is not None and now.state is State.CONFIRMED:
                change.put_submission(replace(now, problem=Problem(error.code, NOT_YET)))
        self._changed(submission_id)

    def _finish(self, submission: Submission, upload: Upload, *, quarantined: int) -> None:
        """Erase the upload, unless something in it could not be read: that is for a person to decide."""
        with self._store.change() as change:
            now = change.submission(submission.id)
            if now is None or now.state is not State.CONFIRMED:
                return
            if quarantined:
                left = Problem("quarantined-left", LEFT.format(n=quarantined))
                change.put_submission(replace(now, state=State.KEPT, problem=left))
            else:
                change.put_submission(
                    replace(now, state=State.KEPT, examination=None, confirmation=None, problem=None)
                )
                change.put_upload(erased(upload))
        self._examination.forget()
        if not quarantined:
            self.uploads.remove_file(upload)
        self._changed(submission.id)


def _own(submission: Submission | None, device: str) -> Submission:
    if submission is None or submission.device != device:
        raise Refused("submission-unknown", "There is no such submission of this device.")
    return submission


def _short(submission: Submission) -> str:
    return short(bytes.fromhex(submission.id))
