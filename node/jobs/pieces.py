"""The pieces of a delivery: instances of an opened study as a destination takes them, in chunks, and what
is noted of each. Called by `node.jobs.forward`."""

from collections.abc import Iterable, Iterator

from node.deliver.destination import Outgoing, Result
from node.store.queue import Proof
from node.store.vault import OpenStudy
from sync.evidence import InstanceProof, Outcome
from sync.manifest import IndexedInstance

_CHUNK_INSTANCES = 100
_CHUNK_BYTES = 128 * 1024 * 1024


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


def proof_of(position: int, place: str, result: Result | None, shown: InstanceProof | None) -> Proof:
    """Return what is noted of an instance after it was sent and asked for."""
    outcome = Outcome.UNKNOWN if result is None else result.outcome
    if shown is not None and shown.conflict:
        outcome = Outcome.CONFLICT
    level = None if shown is None or shown.conflict or shown.level is None else shown.level.value
    return Proof(position, place, outcome.value, level)


def in_chunks(outgoing: Iterable[Outgoing]) -> Iterator[list[Outgoing]]:
    """Yield what is sent and proven together: at most 100 instances or about 128 MiB."""
    chunk: list[Outgoing] = []
    size = 0
    for one in outgoing:
        if chunk and (len(chunk) >= _CHUNK_INSTANCES or size + one.size > _CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(one)
        size += one.size
    if chunk:
        yield chunk
