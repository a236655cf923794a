"""The examination as a value: what a submission holds, as people are shown it and as it is kept.

All of it is patient data. It travels as JSON, sealed to the intake key in the database and in the clear
only to the device that made the submission.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from node.intake.reasons import REASONS

Place = tuple[int, ...]
"""Where a file is in an upload: () the upload itself, (3,) a member of its ZIP, (3, 0) one of a ZIP in it."""


@dataclass(frozen=True, slots=True)
class ExaminedInstance:
    """One DICOM instance, at `place`. `size` and `sha256` are of its Part 10 bytes.

    Those are the file's own, but for a data set that came without a header: then `prefix` stands in front.
    """

    uid: str = field(repr=False)
    sop_class: str
    syntax: str
    size: int
    sha256: str = field(repr=False)  # hex
    place: Place
    prefix: str = field(default="", repr=False)  # hex


@dataclass(frozen=True, slots=True)
class Patient:
    """Who a study is of, as its files say."""

    name: str = field(repr=False)
    id: str = field(repr=False)
    birth_date: str = field(repr=False)
    sex: str = field(repr=False)


def who(patient: Patient) -> tuple[str, str, str]:
    """Return what tells patients apart."""
    return patient.id, " ".join(patient.name.upper().split()), patient.birth_date


def others_than(patient: Patient, named: Iterable[Patient]) -> tuple[Patient, ...]:
    """Return those that cannot be the same person; what a file does not say contradicts nothing."""
    found: dict[tuple[str, ...], Patient] = {}
    mine = _compared(patient)
    for one in named:
        key = _compared(one)
        if any(own and its and own != its for own, its in zip(mine, key, strict=True)):
            found.setdefault(key, one)
    return tuple(found.values())


def _compared(patient: Patient) -> tuple[str, str, str]:
    number, name, born = who(patient)
    return number.strip(), " ".join(name.partition("=")[0].replace("^", " ").split()), born


@dataclass(frozen=True, slots=True)
class ExaminedSeries:
    """A series of a study."""

    series_uid: str = field(repr=False)
    modality: str
    number: str
    description: str = field(repr=False)
    images: int


@dataclass(frozen=True, slots=True)
class ExaminedStudy:
    """A study, and the instances of it that came.

    `known` of them were kept here before; `changed` have the number of one that was, and other content.
    `repaired`: names are shown in another character set than the files declare. `others`: the patients whom
    some of its images name besides.
    """

    study_uid: str = field(repr=False)
    digest: str = field(repr=False)
    patient: Patient
    study_date: str = field(repr=False)
    description: str = field(repr=False)
    body_parts: tuple[str, ...]
    series: tuple[ExaminedSeries, ...]
    instances: tuple[ExaminedInstance, ...]
    known: int = 0
    changed: int = 0
    repaired: bool = False
    study_time: str = field(default="", repr=False)
    study_id: str = field(default="", repr=False)
    accession: str = field(default="", repr=False)
    referring: str = field(default="", repr=False)
    others: tuple[Patient, ...] = ()

    @property
    def size(self) -> int:
        """Octets of all instances."""
        return sum(instance.size for instance in self.instances)

    @property
    def modalities(self) -> list[str]:
        """The kinds of its series."""
        return sorted({series.modality for series in self.series if series.modality})


@dataclass(frozen=True, slots=True)
class Document:
    """A picture or PDF that can be sent as part of a study. `kind`: jpeg, png or pdf.

    `width`, `height`: of a picture, as it is stored. It is whole and not too large; nobody has decoded it.
    """

    name: str = field(repr=False)
    kind: str
    size: int
    sha256: str = field(repr=False)
    place: Place
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that is not sent, and the code of why. `name` is as the sender called it.

    Of a quarantined one: where its bytes are; which image of which study and patient it says it is, if it
    does; and what a person decided, `sent` or `removed`.
    """

    name: str = field(repr=False)
    code: str
    size: int = 0
    place: Place = ()
    study_uid: str = field(default="", repr=False)
    instance: ExaminedInstance | None = None
    decided: str = ""
    patient: Patient | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Directory:
    """What a disc's table of contents lists, how many of those instances came, and which did not.

    `missing` has their paths on the disc, 100 at most.
    """

    listed: int
    present: int
    missing: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Examination:
    """All that was found in a submission. `code`: why it cannot be used at all."""

    studies: tuple[ExaminedStudy, ...] = ()
    patients: int = 0
    documents: tuple[Document, ...] = ()
    skipped: tuple[LeftOut, ...] = ()
    quarantined: tuple[LeftOut, ...] = ()
    directory: Directory | None = None
    code: str | None = None


def digest_of(instances: Iterable[ExaminedInstance]) -> str:
    """Return what a confirmation names a study's content by.

    SHA-256 over the sorted lines `<SOP Instance UID> <SHA-256 hex of the original file>`, in hex.
    """
    lines = sorted(f"{instance.uid} {instance.sha256}\n" for instance in instances)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def shown(examination: Examination) -> dict[str, Any]:
    """Return the examination as the API shows it."""
    return {
        "studies": [_shown_study(study) for study in examination.studies],
        "patients": examination.patients,
        "documents": [_shown_document(document) for document in examination.documents],
        "skipped": _shown_left_out(examination.skipped),
        "quarantined": _shown_left_out(examination.quarantined),
        "dicomdir": None if examination.directory is None else asdict(examination.directory),
    }


def to_json(examination: Examination) -> bytes:
    """Return the examination as it is kept, to be sealed."""
    return json.dumps(asdict(examination), separators=(",", ":")).encode()


def from_json(data: bytes) -> Examination:
    """Return what `to_json` wrote."""
    value = json.loads(data)
    directory = value["directory"]
    return Examination(
        studies=tuple(_study(study) for study in value["studies"]),
        patients=value["patients"],
        documents=tuple(Document(**_placed(document)) for document in value.get("documents", ())),
        skipped=tuple(map(_left_out, value["skipped"])),
        quarantined=tuple(map(_left_out, value["quarantined"])),
        directory=None if directory is None else _directory(directory),
        code=value["code"],
    )


def _study(value: dict[str, Any]) -> ExaminedStudy:
    return ExaminedStudy(
        **{
            **value,
            "patient": Patient(**value["patient"]),
            "others": tuple(Patient(**one) for one in value.get("others", ())),
            "body_parts": tuple(value["body_parts"]),
            "series": tuple(ExaminedSeries(**series) for series in value["series"]),
            "instances": tuple(ExaminedInstance(**_placed(instance)) for instance in value["instances"]),
        }
    )


def _left_out(value: dict[str, Any]) -> LeftOut:
    instance, patient = value.get("instance"), value.get("patient")
    return LeftOut(
        **{
            **value,
            "place": tuple(value.get("place", ())),
            "instance": None if instance is None else ExaminedInstance(**_placed(instance)),
            "patient": None if patient is None else Patient(**patient),
        }
    )


def _directory(value: dict[str, Any]) -> Directory:
    return Directory(**{**value, "missing": tuple(value.get("missing", ()))})


def _placed(value: dict[str, Any]) -> dict[str, Any]:
    """Return a file's fields with its place; an earlier version wrote `member`, None for the upload."""
    if "member" in value:
        member = value.pop("member")
        return {**value, "place": () if member is None else (member,)}
    return {**value, "place": tuple(value["place"])}


def _shown_study(study: ExaminedStudy) -> dict[str, Any]:
    return {
        "study_uid": study.study_uid,
        "digest": study.digest,
        "instances": len(study.instances),
        "bytes": study.size,
        "patient": asdict(study.patient),
        "other_patients": [asdict(patient) for patient in study.others],
        "study_date": study.study_date,
        "modalities": study.modalities,
        "description": study.description,
        "body_parts": list(study.body_parts),
        "series": [asdict(series) for series in study.series],
        "known": study.known,
        "changed": study.changed,
        "repaired": study.repaired,
    }


def _shown_document(document: Document) -> dict[str, Any]:
    return {
        "sha256": document.sha256,
        "name": document.name,
        "kind": document.kind,
        "bytes": document.size,
        "width": document.width,
        "height": document.height,
    }


def _shown_left_out(items: Sequence[LeftOut]) -> list[dict[str, str]]:
    return [{"name": item.name, "code": item.code, "reason": REASONS[item.code]} for item in items]
