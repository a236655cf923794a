"""Wrapping for a submission: its confirmed documents and its impression become instances of its studies.

Called when a submission is examined, to decode its pictures once, and when it is kept. The work is done by
`node.wrap.press`; here it is decided what is made, and of which study.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

from node.errors import UploadDamaged
from node.intake.archive import BadArchive
from node.intake.confirmation import Confirmation
from node.intake.contents import Contents
from node.intake.dicom import PIECE_BYTES
from node.intake.examination import Document, Examination, ExaminedStudy, LeftOut
from node.intake.spool import SpoolReader
from node.store.vault import Incoming
from node.wrap.order import PICTURE_BYTES, Order, StudyContext, uid_of
from node.wrap.press import CannotWrap, Press, Wrapped

NEW_STUDY = "Documents from the clinic"
_DECODED = frozenset({"jpeg", "png"})


@dataclass(frozen=True, slots=True)
class Said:
    """Who confirmed, as people know him, and when (unix ms, 0 if nobody noted it)."""

    author: str = field(repr=False)
    at_ms: int

    @property
    def written(self) -> str:
        """When, as an order says it."""
        if not self.at_ms:
            return ""
        return datetime.fromtimestamp(self.at_ms / 1000, UTC).strftime("%Y%m%d%H%M")


def decoded(examination: Examination, file: SpoolReader) -> Examination:
    """Return an examination whose pictures can be decoded; those that cannot are quarantined.

    Raises:
        WorkerFailed: the press does not start.
    """
    codes: dict[str, str] = {}
    contents = Contents(file)
    with Press() as press:
        for document in examination.documents:
            if document.kind not in _DECODED:
                continue
            try:
                _within_limits(document)
                press.check(Order("check", size=document.size), partial(_octets, contents, document))
            except CannotWrap as cannot:
                codes[document.sha256] = cannot.code
    if not codes:
        return examination
    documents = tuple(one for one in examination.documents if one.sha256 not in codes)
    refused = tuple(
        LeftOut(one.name, codes[one.sha256], size=one.size, place=one.place)
        for one in examination.documents
        if one.sha256 in codes
    )
    nothing = examination.code is None and not examination.studies and not documents
    return replace(
        examination,
        documents=documents,
        quarantined=(*examination.quarantined, *refused),
        code=next(iter(codes.values())) if nothing else examination.code,
    )


class Wrapping:
    """Makes what a confirmation adds to studies. For one thread; `press` must be open until all is kept.

    Args:
        press: makes the instances.
        file: the upload.
        examination: what is in it.
        confirmation: what a person said.
        said: who, and when.
    """

    def __init__(
        self,
        press: Press,
        file: SpoolReader,
        examination: Examination,
        confirmation: Confirmation,
        said: Said,
    ) -> None:
        self._press = press
        self._contents = Contents(file)
        self._documents = {document.sha256: document for document in examination.documents}
        self._confirmation = confirmation
        self._said = said

    def joined(self, study: ExaminedStudy) -> list[Incoming]:
        """Return what joins a study that came: the documents, if they go there, and the impression.

        Raises:
            CannotWrap: a document cannot be made into an instance.
            WorkerFailed: the press does not start.
        """
        context = StudyContext(
            study_uid=study.study_uid,
            patient_name=study.patient.name,
            patient_id=study.patient.id,
            birth_date=study.patient.birth_date,
            sex=study.patient.sex,
            study_date=study.study_date,
            study_time=study.study_time,
            study_id=study.study_id,
            accession=study.accession,
            referring=study.referring,
            description=study.description,
        )
        here = self._confirmation.documents_study == study.study_uid
        return list(self._made(context, documents=here))

    def new_study(self) -> tuple[ExaminedStudy, list[Incoming]]:
        """Return the study that the documents make, of the patient that was typed.

        Raises:
            CannotWrap, WorkerFailed: as `joined`.
        """
        said, patient = self._confirmation, self._confirmation.patient
        assert patient is not None
        files = sorted(document.sha256 for document in said.documents)
        who = (patient.name, patient.id, patient.birth_date, patient.sex)
        uid = uid_of("study", *who, said.study_date, said.body_part, *files)
        given = bool(patient.id)  # without one, a PACS would take all such patients for one
        patient_id = patient.id or f"CM-{hashlib.sha256(uid.encode()).hexdigest()[:10].upper()}"
        context = StudyContext(
            study_uid=uid,
            patient_name=patient.name,
            patient_id=patient_id,
            issuer="" if given else "ClinicMesh",
            birth_date=patient.birth_date,
            sex=patient.sex,
            study_date=said.study_date,
            description=NEW_STUDY,
        )
        study = ExaminedStudy(
            study_uid=uid,
            digest="",
            patient=replace(patient, id=patient_id),
            study_date=said.study_date,
            description=NEW_STUDY,
            body_parts=(said.body_part,) if said.body_part else (),
            series=(),
            instances=(),
        )
        return study, list(self._made(context, documents=True))

    def _made(self, context: StudyContext, *, documents: bool) -> Iterator[Incoming]:
        if documents:
            yield from self._document_instances(context)
        if self._confirmation.impression.strip():
            yield _incoming(self._press.wrap(self._impression(context)))

    def _document_instances(self, context: StudyContext) -> Iterator[Incoming]:
        confirmed = self._confirmation.documents
        numbers: dict[str, int] = {}
        for one in confirmed:
            document = self._documents[one.sha256]
            numbers[one.kind] = numbers.get(one.kind, 0) + 1
            same_series = [other.sha256 for other in confirmed if other.kind == one.kind]
            _within_limits(document)
            order = Order(
                "pdf" if one.kind == "pdf" else "picture",
                kind=one.kind,
                context=context,
                series_uid=uid_of("series", context.study_uid, one.kind, *same_series),
                number=numbers[one.kind],
                size=document.size,
                sha256=document.sha256,
                body_part=self._confirmation.body_part,
            )
            yield _incoming(self._press.wrap(order, partial(_octets, self._contents, document)))

    def _impression(self, context: StudyContext) -> Order:
        text, author, written = self._confirmation.impression, self._said.author, self._said.written
        return Order(
            "impression",
            kind="impression",
            context=context,
            series_uid=uid_of("series", context.study_uid, "impression", text, author, written),
            text=text,
            author=author,
            written=written,
        )


def _within_limits(document: Document) -> None:
    if document.kind in _DECODED and document.size > PICTURE_BYTES:
        raise CannotWrap("document-too-large")


def _octets(contents: Contents, document: Document) -> Iterator[bytes]:
    try:
        with contents.open(document.place, checked=False) as stream:
            while piece := stream.read(PIECE_BYTES):
                yield piece
    except BadArchive:
        raise UploadDamaged("an upload is no longer the archive that was examined") from None


def _incoming(made: Wrapped) -> Incoming:
    return Incoming(
        uid=made.uid,
        sop_class=made.sop_class,
        syntax=made.syntax,
        size=made.size,
        sha256=made.sha256,
        open=made.pieces,
    )
