"""Evidence: what a destination has shown of each instance, and whether a tombstone may be written.

Called by the forward job with what `node.deliver` found out. Pure. A tombstone erases the last copies
of a study, so everything that is not shown counts against it: what nobody named, what was shown of other
bytes, and an empty list.
"""

import hashlib
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum

from sync import cbor
from sync.bodies import Ending
from sync.ids import EntryId


class Outcome(StrEnum):
    """What became of one instance that was sent."""

    STORED = "stored"
    STORED_WITH_WARNING = "stored-with-warning"
    ALREADY_THERE_SAME = "already-there-same"
    CONFLICT = "conflict"  # the same UID is there with other content
    REJECTED = "rejected"  # sending it again would change nothing; a person must look
    RETRY = "retry"
    UNKNOWN = "unknown"  # the answer does not name it


class Evidence(StrEnum):
    """How strongly a destination has shown that it holds an instance, in rising order."""

    ANSWERED = "answered"  # it answered the sending with success, and can be asked nothing more
    LISTED = "listed"  # a query (QIDO-RS, C-FIND) names its UID
    METADATA = "metadata"  # what identifies patient and image is the same
    CHECKSUM = "checksum"  # it computed a digest of its stored file anew, and that is ours
    READ_BACK = "read-back"  # its content came back (WADO-RS, C-GET, Orthanc's file), and is the same
    COMMITTED = "committed"  # it took responsibility (PS3.18 §13, PS3.4 annex J)

    @property
    def rank(self) -> int:
        """Place in the order."""
        return _RANKS[self]

    # A StrEnum would compare its names: "committed" < "listed".
    def __lt__(self, other: str) -> bool:
        return self.rank < Evidence(other).rank

    def __le__(self, other: str) -> bool:
        return self.rank <= Evidence(other).rank

    def __gt__(self, other: str) -> bool:
        return self.rank > Evidence(other).rank

    def __ge__(self, other: str) -> bool:
        return self.rank >= Evidence(other).rank


_RANKS = {level: rank for rank, level in enumerate(Evidence)}


@dataclass(frozen=True, slots=True)
class Expected:
    """An instance that the confirmation froze."""

    uid: str = field(repr=False)
    sha256: bytes = field(repr=False)  # of the original Part 10 bytes


@dataclass(frozen=True, slots=True)
class InstanceProof:
    """What a destination has shown of one instance.

    Attributes:
        sha256: of the bytes that were expected there; a proof of other bytes proves nothing.
        level: None if it has shown nothing.
        conflict: it has shown other content under the same UID.
    """

    sha256: bytes = field(repr=False)
    level: Evidence | None = None
    conflict: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the proofs of a study amount to. Instances stand in the order of the confirmation.

    Attributes:
        ending: what a delivery tombstone may say, or None: not yet, no tombstone.
        proven: reached the demanded level.
        left_out: not proven, and left out by a person's decision.
        missing: not shown strongly enough; send or ask again.
        conflicts: the destination has other content under that UID.
        rejected: the destination refuses them.
    """

    ending: Ending | None
    demanded: Evidence
    proven: tuple[tuple[Expected, Evidence], ...]
    left_out: tuple[Expected, ...]
    missing: tuple[Expected, ...]
    conflicts: tuple[Expected, ...]
    rejected: tuple[Expected, ...]

    @property
    def may_end(self) -> bool:
        """Say whether a delivery tombstone may be written."""
        return self.ending is not None


def judge(
    expected: Iterable[Expected],
    proofs: Mapping[str, InstanceProof],
    *,
    demanded: Evidence,
    left_out: AbstractSet[str] = frozenset(),
    outcomes: Mapping[str, Outcome] | None = None,
) -> Verdict:
    """Say whether every instance that was confirmed is proven at the level that is demanded.

    Args:
        expected: the instances that the confirmation froze.
        proofs: by SOP Instance UID, what the destination has shown.
        demanded: the level that the destination's fact names.
        left_out: SOP Instance UIDs that a person decided to leave out; one that is proven is no exception.
        outcomes: by SOP Instance UID, what the last sending brought; only sorts what is not proven.

    Of a study that was left out altogether nothing was delivered: that is a withdrawal, not a delivery.
    """
    told = outcomes or {}
    proven: list[tuple[Expected, Evidence]] = []
    excused: list[Expected] = []
    missing: list[Expected] = []
    conflicts: list[Expected] = []
    rejected: list[Expected] = []
    for instance in expected:
        proof = proofs.get(instance.uid)
        outcome = told.get(instance.uid)
        level = None if proof is None else _level(instance, proof)
        if level is not None and level >= demanded:
            proven.append((instance, level))
        elif instance.uid in left_out:
            excused.append(instance)
        elif outcome is Outcome.CONFLICT or (proof is not None and proof.conflict):
            conflicts.append(instance)
        elif outcome is Outcome.REJECTED:
            rejected.append(instance)
        else:
            missing.append(instance)
    ending = None
    if proven and not (missing or conflicts or rejected):
        ending = Ending.WITH_EXCEPTIONS if excused else Ending.DELIVERED
    return Verdict(
        ending, demanded, tuple(proven), tuple(excused), tuple(missing), tuple(conflicts), tuple(rejected)
    )


def _level(instance: Expected, proof: InstanceProof) -> Evidence | None:
    return None if proof.conflict or proof.sha256 != instance.sha256 else proof.level


@dataclass(frozen=True, slots=True)
class Change:
    """What a destination forced: it was given other bytes than the original ones.

    Attributes:
        how: a word for what was done, such as "explicit-vr".
        sha256: of the bytes that were sent, and that the proof is about; if several instances were sent for
            one, of their digests one after another.
        uids: what was sent is called so, if not as the original.
    """

    how: str
    sha256: bytes = field(repr=False)
    uids: tuple[str, ...] = field(default=(), repr=False)


def receipt(
    entry: EntryId, destination: str, verdict: Verdict, changes: Mapping[str, Change] | None = None
) -> bytes:
    """Return the receipt of a delivery: deterministic CBOR of what was proven of each instance.

    `{"entry", "destination", "demanded", "instances": [[SHA-256, level]…], "left_out": [SHA-256…]}`, both
    lists in bytewise order. Digests of the original bytes stand for the instances; it holds no UIDs. Of one
    that was sent changed: `[SHA-256, level, SHA-256 as sent, how]`.

    Args:
        changes: by SOP Instance UID.
    """
    told = changes or {}
    return cbor.encode(
        {
            "entry": entry,
            "destination": destination,
            "demanded": verdict.demanded.value,
            "instances": sorted(_line(i, level, told.get(i.uid)) for i, level in verdict.proven),
            "left_out": sorted(i.sha256 for i in verdict.left_out),
        }
    )


def _line(instance: Expected, level: Evidence, change: Change | None) -> list[bytes | str]:
    line: list[bytes | str] = [instance.sha256, level.value]
    return line if change is None else [*line, change.sha256, change.how]


def receipt_digest(encoded: bytes) -> bytes:
    """Return the SHA-256 of a receipt, as the tombstone names it."""
    return hashlib.sha256(encoded).digest()
