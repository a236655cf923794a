"""Submissions for people: hand in, look, confirm, take back. Contract: docs/architecture.md §3."""

from collections.abc import Callable
from datetime import date
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from node.api.auth import Caller
from node.intake.confirmation import Confirmation, ConfirmedDocument, ConfirmedStudy
from node.intake.examination import Patient
from node.intake.submissions import Intake
from node.store.intake import Submission

Require = Callable[[str], Callable[..., Caller]]
"""Gives, for a scope, the dependency that authorises a request."""

SubmissionId = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewSubmission(_Body):
    """What a device says when it begins. `client_id` makes asking again harmless."""

    client_id: UUID
    kind: Literal["file", "zip"]


class StudyConfirmation(_Body):
    """A study as the person saw it. `patients`: how many its images name; above 1, that they are one."""

    study_uid: str = Field(pattern=r"^[0-9.]{1,64}$")
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    instances: int = Field(ge=1, le=1_000_000)
    patients: int = Field(default=1, ge=1, le=1_000_000)


def _day(text: str) -> str:
    """Hold a text to what DICOM calls a date (DA), in the calendar; nothing is a date too."""
    if text:
        if len(text) != 8 or not (text.isascii() and text.isdigit()):
            raise ValueError("a day is YYYYMMDD")
        date(int(text[:4]), int(text[4:6]), int(text[6:]))
    return text


Day = Annotated[str, Field(max_length=8), AfterValidator(_day)]
Line = Annotated[str, Field(max_length=64, pattern=r"^[^\\\x00-\x1f\x7f]*$")]
"""Text on one line that DICOM can hold (PN, LO): no backslash, no control character."""


class DocumentConfirmation(_Body):
    """A picture or a PDF that is to be sent, and what it is."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    kind: Literal["photo", "film", "scan", "screen", "pdf"]


class TypedPatient(_Body):
    """The patient of a study that has no DICOM images."""

    name: Line
    id: Line = ""
    birth_date: Day = ""
    sex: Literal["", "M", "F", "O"] = ""


class NewConfirmation(_Body):
    """A person's confirmation. `documents` join `documents_study`, or make a study of the typed patient."""

    studies: list[StudyConfirmation] = Field(default_factory=list, max_length=1_000)
    impression: str = Field(default="", max_length=20_000)
    priority: Literal["routine", "urgent"] = "routine"
    destination: str | None = Field(default=None, max_length=200)
    documents: list[DocumentConfirmation] = Field(default_factory=list, max_length=500)
    documents_study: str | None = Field(default=None, pattern=r"^[0-9.]{1,64}$")
    patient: TypedPatient | None = None
    study_date: Day = ""
    body_part: str = Field(default="", pattern="^[A-Z0-9 _]{0,16}$")
    author: Line = ""

    def value(self) -> Confirmation:
        """Return it as the intake knows it."""
        return Confirmation(
            studies=tuple(
                ConfirmedStudy(s.study_uid, s.digest, s.instances, s.patients) for s in self.studies
            ),
            impression=self.impression,
            priority=self.priority,
            destination=self.destination,
            documents=tuple(ConfirmedDocument(d.sha256, d.kind) for d in self.documents),
            documents_study=self.documents_study,
            patient=None if self.patient is None else Patient(**self.patient.model_dump()),
            study_date=self.study_date,
            body_part=self.body_part.strip(),
            author=self.author.strip(),
        )


class PatientView(BaseModel):
    """Who a study is of."""

    name: str
    id: str
    birth_date: str
    sex: str


class SeriesView(BaseModel):
    """A series of a study."""

    series_uid: str
    modality: str
    number: str
    description: str
    images: int


class StudyView(BaseModel):
    """A study that was found. `other_patients`: whom some of its images name besides."""

    study_uid: str
    digest: str
    instances: int
    bytes: int
    patient: PatientView
    other_patients: list[PatientView]
    study_date: str
    modalities: list[str]
    description: str
    body_parts: list[str]
    series: list[SeriesView]
    known: int
    changed: int
    repaired: bool


class DocumentView(BaseModel):
    """A picture or a PDF that can be sent as part of a study. `width`, `height`: of pictures."""

    sha256: str
    name: str
    kind: str
    bytes: int
    width: int | None
    height: int | None


class LeftOutView(BaseModel):
    """A file that is not sent, and why."""

    name: str
    code: str
    reason: str


class DirectoryView(BaseModel):
    """What a disc's table of contents lists, and how many of those images are here."""

    listed: int
    present: int
    missing: list[str]


class ExaminationView(BaseModel):
    """What was found in a submission."""

    studies: list[StudyView]
    patients: int
    documents: list[DocumentView]
    skipped: list[LeftOutView]
    quarantined: list[LeftOutView]
    dicomdir: DirectoryView | None


class ProblemView(BaseModel):
    """Why it does not go on."""

    code: str
    detail: str


class SubmissionView(BaseModel):
    """A submission and where it stands."""

    id: str
    client_id: str
    state: str
    kind: str
    bytes: int
    length: int | None
    entries: list[str]
    examination: ExaminationView | None
    problem: ProblemView | None


class NewSubmissionView(BaseModel):
    """A submission that was made, and where to send its bytes."""

    id: str
    upload_url: str
    state: str


def router(intake: Intake, require: Require) -> APIRouter:
    """Return the routes of `/api/v1/submissions`.

    Args:
        intake: takes the submissions.
        require: authorises; scope `upload`.
    """
    routes = APIRouter(prefix="/api/v1/submissions", tags=["submissions"])
    authorised = Depends(require("upload"))

    def view(submission: Submission) -> SubmissionView:
        return SubmissionView.model_validate(intake.view(submission))

    @routes.post("", status_code=201)
    def submit(body: NewSubmission, request: Request, caller: Caller = authorised) -> NewSubmissionView:
        """Begin a submission; the same client_id of the same device gives the same one again."""
        submission = intake.submit(caller.device_id, str(body.client_id), body.kind)
        upload_url = f"{request.url.scheme}://{request.url.netloc}/api/v1/uploads"
        return NewSubmissionView(id=submission.id, upload_url=upload_url, state=submission.state.value)

    @routes.get("/{submission_id}")
    def look(submission_id: SubmissionId, caller: Caller = authorised) -> SubmissionView:
        """Say where a submission stands and what was found in it."""
        return view(intake.get(caller.device_id, submission_id))

    @routes.post("/{submission_id}/confirm")
    def confirm(
        submission_id: SubmissionId, body: NewConfirmation, caller: Caller = authorised
    ) -> SubmissionView:
        """Confirm the patient and the studies to be sent; also before all bytes are here."""
        return view(intake.confirm(caller.device_id, submission_id, body.value()))

    @routes.delete("/{submission_id}", status_code=204)
    def take_back(submission_id: SubmissionId, caller: Caller = authorised) -> Response:
        """Take a submission back and erase its bytes."""
        intake.remove(caller.device_id, submission_id)
        return Response(status_code=204)

    return routes
