"""Keeping: hand the instances of an examined study on to the vault, straight from the sealed upload."""

from collections.abc import Callable, Container, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

from node.errors import UploadDamaged
from node.intake.archive import BadArchive
from node.intake.confirmation import Given
from node.intake.contents import Contents
from node.intake.dicom import PIECE_BYTES
from node.intake.examination import Examination, ExaminedInstance, ExaminedStudy
from node.intake.spool import SpoolReader
from node.intake.wrapping import Said, Wrapping
from node.store.intake import OnCommit, note_entry
from node.store.vault import Incoming, Ready


class Keep(Protocol):
    """Makes a queue entry of a confirmed study; the node's service provides it."""

    def __call__(
        self,
        study: ExaminedStudy,
        instances: Sequence[Incoming],
        confirmed: dict[str, Any],
        *,
        submission: bytes,
        on_commit: OnCommit,
    ) -> bytes:
        """Keep a study durably and announce it; return the entry's id.

        Args:
            study: what was examined.
            instances: its instances, to be read once each.
            confirmed: as `confirmed_of` gives it.
            submission: the random id, 16 octets.
            on_commit: to be called within the transaction that makes the entry. If it raises, nothing
                may be committed.
        """


FindReady = Callable[[bytes], Ready | None]
"""Finds what was coded ahead, by the SHA-256 of its first instance."""


def none_ready(digest: bytes) -> Ready | None:
    """Say that nothing was coded ahead."""
    return None


Part = tuple[ExaminedStudy, Sequence[Incoming]]
"""A study that is to be kept, and its instances: those that came, then those that were made."""


def parts_of(
    file: SpoolReader,
    examination: Examination,
    given: Given,
    wrapping: Wrapping,
    done: Container[int],
    ready: FindReady = none_ready,
) -> dict[int, Part]:
    """Return what a confirmation wants to be kept, by place: its studies in order, then the new study.

    All that has to be made is made before anything is kept, so that what cannot be made stops all of it.

    Args:
        file: the upload; must stay open until all is kept.
        examination: what is in it.
        given: what was confirmed.
        wrapping: makes what has to be made.
        done: places that are kept already.
        ready: finds what was coded ahead.

    Raises:
        CannotWrap: a document cannot be made into an instance.
        WorkerFailed: the press does not start.
    """
    studies = {study.study_uid: study for study in examination.studies}
    parts: dict[int, Part] = {}
    for place, confirmed in enumerate(given.confirmation.studies):
        if place not in done:
            study = studies[confirmed.study_uid]
            parts[place] = study, [*incoming(file, study.instances, ready), *wrapping.joined(study)]
    last = len(given.confirmation.studies)
    if given.confirmation.makes_study and last not in done:
        parts[last] = wrapping.new_study()
    return parts


def noting(submission_id: str, place: int) -> OnCommit:
    """Return what notes, with the commit of an entry, which place of a submission it is."""
    return lambda session, entry: note_entry(session, submission_id, place, entry)


def confirmed_of(given: Given, said: Said) -> dict[str, Any]:
    """Return what a manifest says of a confirmation."""
    return {
        "impression": given.confirmation.impression,
        "priority": given.confirmation.priority,
        "destination": given.confirmation.destination,
        "by": given.by,
        "author": said.author,
        "at": said.at_ms,
    }


def incoming(
    file: SpoolReader, instances: Sequence[ExaminedInstance], ready: FindReady = none_ready
) -> list[Incoming]:
    """Return instances of an upload as the vault takes them; `file` must stay open until it has.

    While they are read, UploadDamaged is raised if the upload is no longer what was examined.
    """
    contents = Contents(file)
    return [
        Incoming(
            uid=instance.uid,
            sop_class=instance.sop_class,
            syntax=instance.syntax,
            size=instance.size,
            sha256=bytes.fromhex(instance.sha256),
            open=partial(_pieces, contents, instance),
            ready=ready(bytes.fromhex(instance.sha256)),
        )
        for instance in instances
    ]


def _pieces(contents: Contents, instance: ExaminedInstance) -> Iterator[bytes]:
    if instance.prefix:
        yield bytes.fromhex(instance.prefix)
    try:
        with contents.open(instance.place, checked=False) as stream:  # the vault checks the SHA-256
            while piece := stream.read(PIECE_BYTES):
                yield piece
    except BadArchive:
        raise UploadDamaged("an upload is no longer the archive that was examined") from None
