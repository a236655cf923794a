"""What a destination gave back or told of an instance, made into a result or a proof.

Called by the kinds of destination: what is there already is compared instead of sent again (some archives
delete a file that they receive twice), and every kind compares alike.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from node.deliver.compare import Digest, same_data_set
from node.deliver.destination import Outgoing, Result
from node.deliver.reasons import explain
from sync.evidence import Evidence, InstanceProof, Outcome

_LARGEST_PARSED = 64 * 1024 * 1024

Pieces = Callable[[], Iterable[bytes] | None]


def content_digest(instance: Outgoing) -> tuple[str, bytes] | None:
    """Return the transfer syntax and the SHA-256 of what follows group 0002 in our own bytes."""
    digest = Digest(content=True)
    for piece in instance.open():
        digest.update(piece)
    return digest.content()


def read_and_compare(instance: Outgoing, given: Pieces, coerced: frozenset[int]) -> InstanceProof | None:
    """Compare a whole file that was given back: all bytes, then what follows group 0002, then parsed.

    Above 64 MiB files that differ behind group 0002 are not parsed: they count as different.

    Args:
        instance: what was sent.
        given: gives the file from the beginning, anew at each call; None if the destination does not.
        coerced: tags that this destination is recorded to change.
    """
    pieces = given()
    if pieces is None:
        return None
    proven = InstanceProof(instance.sha256, Evidence.READ_BACK)
    digest = Digest(content=True)
    for piece in pieces:
        digest.update(piece)
    if digest.whole() == instance.sha256:
        return proven
    content = digest.content()
    if content is not None and content == content_digest(instance):
        return proven
    if max(instance.size, digest.size) <= _LARGEST_PARSED:
        theirs = given()
        if theirs is not None and same_data_set(b"".join(instance.open()), b"".join(theirs), coerced):
            return proven
    return InstanceProof(instance.sha256, Evidence.LISTED, conflict=True)


def of_proof(uid: str, proof: InstanceProof | None, *, enough: Evidence = Evidence.READ_BACK) -> Result:
    """Return what becomes of an instance that the destination had already."""
    if proof is not None and proof.conflict:
        return result(uid, Outcome.CONFLICT, "other-content")
    if proof is not None and proof.level is not None and proof.level >= enough:
        return result(uid, Outcome.ALREADY_THERE_SAME)
    return result(uid, Outcome.UNKNOWN, "not-readable")


def result(uid: str, outcome: Outcome, code: str = "") -> Result:
    """Return a result with its code as a sentence."""
    return Result(uid, outcome, code, explain(code))


def counted(results: Mapping[str, Result]) -> Iterator[tuple[Outcome, int]]:
    """Yield how often each outcome came, for the log."""
    for outcome in Outcome:
        if count := sum(one.outcome is outcome for one in results.values()):
            yield outcome, count


def in_order(instances: Sequence[Outgoing], results: Mapping[str, Result]) -> list[Result]:
    """Return the results in the order of the instances."""
    return [results[instance.uid] for instance in instances]
