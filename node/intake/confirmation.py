"""The confirmation: a person's statement of what is to be sent, and how what arrived differs from it."""

import hashlib
import json
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

from node.errors import Refused
from node.intake.examination import Examination, Patient, who
from node.store.intake import Problem


@dataclass(frozen=True, slots=True)
class ConfirmedStudy:
    """A study as the person saw it: its digest stands for the exact list of instances.

    `patients`: how many its images name; more than one says that a person saw that they are one.
    """

    study_uid: str = field(repr=False)
    digest: str = field(repr=False)
    instances: int
    patients: int = 1


@dataclass(frozen=True, slots=True)
class ConfirmedDocument:
    """A picture or PDF that is to be sent, by the SHA-256 (hex) of its file, and what it is for people.

    `kind`: photo, film, scan, screen, or pdf.
    """

    sha256: str = field(repr=False)
    kind: str


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A person's statement: this is the right patient, send these studies and documents.

    The documents join the study that `documents_study` names; None makes a new study of them, of the
    `patient` that was typed. `author` is who the impression is by.
    """

    studies: tuple[ConfirmedStudy, ...]
    impression: str = field(default="", repr=False)
    priority: str = "routine"
    destination: str | None = None
    documents: tuple[ConfirmedDocument, ...] = ()
    documents_study: str | None = field(default=None, repr=False)
    patient: Patient | None = None
    study_date: str = field(default="", repr=False)
    body_part: str = ""
    author: str = field(default="", repr=False)

    @property
    def makes_study(self) -> bool:
        """Whether the documents become a study of their own."""
        return bool(self.documents) and self.documents_study is None


# What every confirmation says; the rest is written only if it is said, so that what was confirmed
# before this version gives the same bytes as then.
_ALWAYS = frozenset({"studies", "impression", "priority", "destination"})


def check(confirmation: Confirmation) -> None:
    """Hold a confirmation to what can be seen without the examination.

    Raises:
        Refused: `nothing-confirmed`, it names nothing, or something twice; `document-study-unknown`, the
            documents are to join a study that is not confirmed; `patient-missing`, they make a new study
            and nobody said of whom; `patient-fixed`, a patient was typed and there is no new study.
    """
    uids = [study.study_uid for study in confirmation.studies]
    files = [document.sha256 for document in confirmation.documents]
    if (not uids and not files) or len(set(uids)) < len(uids) or len(set(files)) < len(files):
        raise Refused("nothing-confirmed", "Name each study and document that is to be sent, once.")
    if files and confirmation.documents_study is not None and confirmation.documents_study not in uids:
        raise Refused(
            "document-study-unknown",
            "The documents are to join a study that is not confirmed with them. Nothing was sent; choose "
            "the study again.",
        )
    typed = confirmation.patient
    if confirmation.makes_study and (
        typed is None or not typed.name.strip(" ^=") or not confirmation.study_date
    ):
        raise Refused(
            "patient-missing",
            "These documents make a new study. Nothing was sent; type the patient's name and the date.",
        )
    if typed is not None and not confirmation.makes_study:
        raise Refused(
            "patient-fixed",
            "The patient of a study is what its images say, and cannot be typed. Nothing was sent.",
        )


def to_json(confirmation: Confirmation, device: str, at_ms: int = 0) -> bytes:
    """Return a confirmation by a device as it is kept, to be sealed; the same one gives the same bytes.

    Without `at_ms`, when it was given, those bytes tell one confirmation from another.
    """
    unsaid = {
        one.name
        for one in fields(confirmation)
        if one.name not in _ALWAYS
        and one.default is not MISSING
        and getattr(confirmation, one.name) == one.default
    }
    said = {name: value for name, value in asdict(confirmation).items() if name not in unsaid}
    for study in said["studies"]:
        if study["patients"] == 1:
            del study["patients"]
    moment = {"at": at_ms} if at_ms else {}
    return json.dumps({**said, "by": device, **moment}, sort_keys=True).encode()


@dataclass(frozen=True, slots=True)
class Given:
    """A confirmation, by which device, and when (unix ms; 0 before this was noted)."""

    confirmation: Confirmation
    by: str
    at_ms: int = 0


def from_json(data: bytes) -> Given:
    """Return what `to_json` wrote."""
    value: dict[str, Any] = json.loads(data)
    by, at_ms = str(value.pop("by")), int(value.pop("at", 0))
    value["studies"] = tuple(ConfirmedStudy(**study) for study in value["studies"])
    value["documents"] = tuple(ConfirmedDocument(**one) for one in value.get("documents", ()))
    if value.get("patient") is not None:
        value["patient"] = Patient(**value["patient"])
    return Given(Confirmation(**value), by, at_ms)


def hash_of(submission_id: str, body: bytes) -> bytes:
    """Return what tells one confirmation of a submission from another while the node is locked."""
    return hashlib.sha256(submission_id.encode() + body).digest()


def difference(examination: Examination, confirmation: Confirmation) -> Problem | None:
    """Say how what arrived differs from what was confirmed; None if it is the same."""
    return (
        _different(examination, confirmation)
        or _mixed(examination, confirmation)
        or _of_several(examination, confirmation)
    )


def _mixed(examination: Examination, confirmation: Confirmation) -> Problem | None:
    """Stop a study whose images name several patients, unless a person saw that they are one."""
    seen = {study.study_uid: study.patients for study in confirmation.studies}
    mixed = [one for one in examination.studies if seen.get(one.study_uid, 0) not in (0, 1 + len(one.others))]
    if not mixed:
        return None
    return Problem(
        "mixed-patients",
        "Images of one study name different patients. Nothing was sent; hand in the images of each patient "
        "by themselves, or confirm that all of them are of one person.",
    )


def _of_several(examination: Examination, confirmation: Confirmation) -> Problem | None:
    """Stop an impression that would be written into the studies of several patients."""
    confirmed = {study.study_uid for study in confirmation.studies}
    patients = {who(study.patient) for study in examination.studies if study.study_uid in confirmed}
    if len(patients) < 2 or not confirmation.impression.strip():
        return None
    return Problem(
        "several-patients",
        "The impression would be written into the studies of several patients. Nothing was sent; confirm "
        "one patient's studies, and hand in the others by themselves.",
    )


def _different(examination: Examination, confirmation: Confirmation) -> Problem | None:
    arrived = {study.study_uid: study for study in examination.studies}
    missing_studies = missing = extra = other = 0
    for confirmed in confirmation.studies:
        study = arrived.get(confirmed.study_uid)
        if study is None:
            missing_studies += 1
            missing += confirmed.instances
            continue
        came = len(study.instances)
        missing += max(0, confirmed.instances - came)
        extra += max(0, came - confirmed.instances)
        other += study.digest != confirmed.digest and came == confirmed.instances
    documents = {document.sha256: document.kind for document in examination.documents}
    lost = [one for one in confirmation.documents if one.sha256 not in documents]
    confused = [
        one
        for one in confirmation.documents
        if one.sha256 in documents and (one.kind == "pdf") != (documents[one.sha256] == "pdf")
    ]
    told = [
        f"{missing_studies} confirmed studies did not arrive" if missing_studies else "",
        f"{missing} confirmed images are missing" if missing else "",
        f"{extra} images arrived that were not confirmed" if extra else "",
        f"{other} studies arrived with other content than was confirmed" if other else "",
        f"{len(lost)} confirmed documents did not arrive, or cannot be read" if lost else "",
        f"{len(confused)} documents are of another kind than was confirmed" if confused else "",
    ]
    sentences = "; ".join(filter(None, told))
    if not sentences:
        return None
    return Problem("differs", f"{sentences}. Nothing was sent; look at it again and confirm what is right.")
