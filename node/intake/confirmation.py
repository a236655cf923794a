"""The confirmation: a person's statement of what is to be sent, and how what arrived differs from it."""

import hashlib
import json
from dataclasses import asdict, dataclass, field

from node.intake.examination import Examination
from node.store.intake import Problem


@dataclass(frozen=True, slots=True)
class ConfirmedStudy:
    """A study as the person saw it: its digest stands for the exact list of instances."""

    study_uid: str = field(repr=False)
    digest: str = field(repr=False)
    instances: int


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A person's statement: this is the right patient, send these studies."""

    studies: tuple[ConfirmedStudy, ...]
    impression: str = field(default="", repr=False)
    priority: str = "routine"
    destination: str | None = None


def to_json(confirmation: Confirmation, device: str) -> bytes:
    """Return a confirmation by a device as it is kept, to be sealed; the same one gives the same bytes."""
    return json.dumps({**asdict(confirmation), "by": device}, sort_keys=True).encode()


def from_json(data: bytes) -> tuple[Confirmation, str]:
    """Return the confirmation that `to_json` wrote, and the device."""
    value = json.loads(data)
    by = str(value.pop("by"))
    studies = tuple(ConfirmedStudy(**study) for study in value.pop("studies"))
    return Confirmation(studies=studies, **value), by


def hash_of(submission_id: str, body: bytes) -> bytes:
    """Return what tells one confirmation of a submission from another while the node is locked."""
    return hashlib.sha256(submission_id.encode() + body).digest()


def difference(examination: Examination, confirmation: Confirmation) -> Problem | None:
    """Say how what arrived differs from what was confirmed; None if it is the same."""
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
    told = [
        f"{missing_studies} confirmed studies did not arrive" if missing_studies else "",
        f"{missing} confirmed images are missing" if missing else "",
        f"{extra} images arrived that were not confirmed" if extra else "",
        f"{other} studies arrived with other content than was confirmed" if other else "",
    ]
    sentences = "; ".join(filter(None, told))
    if not sentences:
        return None
    return Problem("differs", f"{sentences}. Nothing was sent; look at it again and confirm what is right.")
