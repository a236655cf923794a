"""What is asked of the press: plain values that travel to its process as JSON."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

PICTURE_KINDS = ("photo", "film", "scan", "screen")
PICTURE_BYTES = 64 << 20  # of a file that is decoded

# Where each kind stands among a study's series: after everything that a modality makes.
SERIES = {
    "photo": (901, "Photos"),
    "film": (902, "Photographed films"),
    "scan": (903, "Scanned papers"),
    "screen": (904, "Pictures of a screen"),
    "pdf": (905, "Documents"),
    "impression": (910, "Referring clinician's impression"),
}


@dataclass(frozen=True, slots=True)
class StudyContext:
    """The study that an instance joins, in the words of its other instances. All of it is patient data."""

    study_uid: str = field(repr=False)
    patient_name: str = field(repr=False)
    patient_id: str = field(default="", repr=False)
    issuer: str = ""
    birth_date: str = field(default="", repr=False)
    sex: str = field(default="", repr=False)
    study_date: str = field(default="", repr=False)
    study_time: str = field(default="", repr=False)
    study_id: str = field(default="", repr=False)
    accession: str = field(default="", repr=False)
    referring: str = field(default="", repr=False)
    description: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Order:
    """One instance to be made.

    Attributes:
        what: `picture`, `pdf` or `impression`; `captures` makes pictures of a PDF instance's pages; `check`
            makes nothing and only decodes a picture.
        kind: as a person said it: one of `SERIES`.
        context: the study.
        series_uid: of the series that it joins.
        number: its place in the series.
        size: the octets of the file that belongs to the order.
        sha256: of that file, hex.
        body_part: as DICOM writes it, or nothing.
        text: the impression.
        author: who it is by.
        written: when, as YYYYMMDDHHMM in UTC.
    """

    what: str
    kind: str = ""
    context: StudyContext = field(default_factory=lambda: StudyContext("", ""), repr=False)
    series_uid: str = field(default="", repr=False)
    number: int = 1
    size: int = 0
    sha256: str = field(default="", repr=False)
    body_part: str = ""
    text: str = field(default="", repr=False)
    author: str = field(default="", repr=False)
    written: str = ""

    def to_json(self) -> bytes:
        """Return the order as it travels."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Order":
        """Return what `to_json` wrote."""
        value: dict[str, Any] = json.loads(data)
        return cls(**{**value, "context": StudyContext(**value["context"])})


def uid_of(*parts: str) -> str:
    """Return a UID below 2.25 (PS3.5 B.2) that stands for these words and no others.

    It is a UUID of version 8 (RFC 9562 §5.8) made of a SHA-256: who wraps the same gets the same.
    """
    digest = hashlib.sha256(b"clinicmesh uid 1")
    for part in parts:
        octets = part.encode()
        digest.update(len(octets).to_bytes(8, "big") + octets)
    number = int.from_bytes(digest.digest()[:16], "big")
    number = number & ~(0xF << 76) | (8 << 76)
    number = number & ~(3 << 62) | (2 << 62)
    return f"2.25.{number}"
