"""The pieces of a delivery: an opened study, its instances as a destination takes them, in chunks, and what
is noted of each. Called by `node.jobs.forward` and `node.jobs.ending`."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from node.deliver.destination import Destination, Outgoing, Result
from node.store.opened import OpenStudy
from node.store.queue import Proof, QueueEntry
from sync.bodies import DestinationBody, Trouble
from sync.entries import EntryView
from sync.evidence import Change, Evidence, Expected, InstanceProof, Outcome
from sync.manifest import IndexedInstance

_CHUNK_INSTANCES = 2000  # octets bound a chunk as a rule; each chunk costs two listings of the whole study


@dataclass(frozen=True, slots=True)
class Study:
    """One entry under delivery: its opened study and what goes where.

    `changes`: by SOP Instance UID, what the destination forced so far.
    """

    held: QueueEntry
    view: EntryView
    destination: Destination
    name: str
    body: DestinationBody
    opened: OpenStudy
    outgoing: tuple[Outgoing, ...]
    changes: dict[str, Change] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The destination's name and address: what was proven at one is not proven at another."""
        return f"{self.name} {self.body.url}"

    @property
    def demanded(self) -> Evidence:
        """The level that the destination's fact names."""
        return Evidence(self.body.evidence)

    @property
    def expected(self) -> list[Expected]:
        """What the confirmation froze."""
        return [Expected(one.uid, one.sha256) for one in self.outgoing]

    @property
    def positions(self) -> dict[str, int]:
        """The place of each instance in the index, by SOP Instance UID."""
        return {one.uid: number for number, one in enumerate(self.outgoing)}


def outgoing_of(study_uid: str, opened: OpenStudy, instance: IndexedInstance) -> Outgoing:
    """Return an instance as a destination takes it; its bytes are read only when asked for."""
    return Outgoing(
        study_uid=study_uid,
        uid=instance.uid,
        sop_class=instance.sop_class,
        syntax=instance.syntax,
        size=instance.size,
        sha256=instance.sha256,
        open=lambda: opened.read(instance),
    )


def proof_of(
    position: int,
    place: str,
    result: Result | None,
    shown: InstanceProof | None,
    change: Change | None = None,
) -> Proof:
    """Return what is noted of an instance after it was sent and asked for."""
    outcome = Outcome.UNKNOWN if result is None else result.outcome
    if shown is not None and shown.conflict:
        outcome = Outcome.CONFLICT
    level = None if shown is None or shown.conflict or shown.level is None else shown.level.value
    return Proof(
        position,
        place,
        outcome.value,
        level,
        code="other-content" if outcome is Outcome.CONFLICT else "" if result is None else result.code,
        change="" if change is None else change.how,
        sent=None if change is None else change.sha256,
    )


def noted(study: Study, proofs: Mapping[int, Proof]) -> dict[str, InstanceProof]:
    """Return the proofs of earlier runs that reach the level that is demanded now, by SOP Instance UID.

    What was sent changed is put back among the study's changes.
    """
    found = {}
    for position, proof in proofs.items():
        level = None if proof.evidence is None else Evidence(proof.evidence)
        if level is not None and level >= study.demanded and proof.place == study.place:
            one = study.outgoing[position]
            found[one.uid] = InstanceProof(one.sha256, level)
            if proof.change and proof.sent is not None:
                study.changes[one.uid] = Change(proof.change, proof.sent)
    return found


def in_chunks(outgoing: Iterable[Outgoing], most_bytes: int) -> Iterator[list[Outgoing]]:
    """Yield what is sent and proven together: at most 2,000 instances, or about so many bytes."""
    chunk: list[Outgoing] = []
    size = 0
    for one in outgoing:
        if chunk and (len(chunk) >= _CHUNK_INSTANCES or size + one.size > most_bytes):
            yield chunk
            chunk, size = [], 0
        chunk.append(one)
        size += one.size
    if chunk:
        yield chunk


def excused(view: EntryView, bad: Mapping[int, Outcome]) -> frozenset[int]:
    """Return which of the refused or conflicting instances, by place, a person decided to go on without.

    "leave-out" and "accept" name the instances that they are about; "accept" is for those only of which the
    destination has other content. Beyond what a decision names nothing is excused.
    """
    named: set[int] = set()
    for fact in view.decisions:
        detail = getattr(fact.body, "detail", {})
        places = {n for n in _list(detail.get("instances")) if type(n) is int}
        match getattr(fact.body, "decision", ""):
            case "leave-out":
                named |= places
            case "accept":
                named |= {n for n in places if bad.get(n) is Outcome.CONFLICT}
    return frozenset(named & bad.keys())


def answered(view: EntryView) -> list[Trouble]:
    """Return the troubles that stand and were answered by a person; clocks of two nodes are not compared."""
    answers = {
        answer for fact in view.decisions for answer in _list(getattr(fact.body, "detail", {}).get("answers"))
    }
    return [t.body for t in view.troubles if t.id in answers and isinstance(t.body, Trouble)]


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
