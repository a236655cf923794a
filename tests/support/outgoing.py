"""Instances to deliver, made from bytes."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO

import pydicom

from node.deliver.destination import Destination, Outgoing
from sync.evidence import Evidence, Expected, Outcome, Verdict, judge


def outgoing(part10: bytes, *, study_uid: str | None = None, pieces: int = 4096) -> Outgoing:
    """Return an instance with the UIDs of its bytes, given in pieces of that many bytes."""
    data_set = pydicom.dcmread(BytesIO(part10), stop_before_pixels=True, force=True)

    def opened() -> Iterator[bytes]:
        for at in range(0, len(part10), pieces):
            yield part10[at : at + pieces]

    return Outgoing(
        study_uid=study_uid or str(data_set.StudyInstanceUID),
        uid=str(data_set.SOPInstanceUID),
        sop_class=str(data_set.SOPClassUID),
        syntax=str(data_set.file_meta.TransferSyntaxUID),
        size=len(part10),
        sha256=hashlib.sha256(part10).digest(),
        open=opened,
    )


def outcomes(destination: Destination, instances: Sequence[Outgoing]) -> list[Outcome]:
    """Send, and return what became of each in order."""
    results = destination.store(instances)
    assert [r.uid for r in results] == [i.uid for i in instances]
    return [r.outcome for r in results]


def verdict(
    destination: Destination, instances: Sequence[Outgoing], demanded: Evidence = Evidence.READ_BACK
) -> Verdict:
    """Ask for the proof of instances of one study, and judge it."""
    proofs = destination.prove(instances[0].study_uid, instances, demanded)
    return judge(expected(instances), proofs, demanded=demanded)


def expected(instances: Iterable[Outgoing]) -> list[Expected]:
    """Return the instances as the confirmation froze them."""
    return [Expected(i.uid, i.sha256) for i in instances]
