"""What each kind of fact says: frozen values and their CBOR payloads (docs/protocol.md §3).

Every kind is a dataclass whose fields are the payload's keys. A field's check stands beside its
name in `CHECKS`; what does not pass is refused with `BadFact`, so the rest of the code trusts types.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from sync.errors import BadFact
from sync.forms import (
    ID,
    SEALED,
    WORD,
    anything,
    certificate,
    covers,
    decision,
    each,
    flag,
    map_of,
    octets,
    one_of,
    optional,
    text,
    uint,
)
from sync.forms import Body as Body  # told on: whoever names a kind names its base
from sync.ids import BlobId, EntryId, FactId, MeshId, NodeId


class Role(StrEnum):
    """What a member may do (docs/protocol.md §3)."""

    INGEST = "ingest"
    CARRY = "carry"
    FORWARD = "forward"
    ENROL = "enrol"
    ADMIT = "admit"


class Priority(StrEnum):
    """How soon a study should travel."""

    ROUTINE = "routine"
    URGENT = "urgent"


class Ending(StrEnum):
    """How an entry ended, as its tombstone says."""

    DELIVERED = "delivered"
    WITH_EXCEPTIONS = "delivered-with-exceptions"
    PARTLY = "partly-delivered"
    WITHDRAWN = "withdrawn"


RESEALED = "resealed"  # as the evidence of a withdrawal: the study goes on as the entry in `receipt`


@dataclass(frozen=True, slots=True)
class Member(Body):
    """A node belongs to the mesh, with these roles at most."""

    KIND = "member"
    CHECKS = {
        "node": ID,
        "seal": optional(ID),
        "roles": each(one_of(Role), 8),
        "label": WORD,
        "consent": octets(64),
        "supersedes": each(ID, 64),
        "expires": optional(uint),
    }

    node: NodeId
    seal: bytes | None
    roles: tuple[str, ...]
    label: str
    consent: bytes
    supersedes: tuple[FactId, ...] = ()
    expires: int | None = None


@dataclass(frozen=True, slots=True)
class Revoked(Body):
    """A key is no longer trusted."""

    KIND = "revoked"
    CHECKS = {"node": ID, "reason": text(200)}

    node: NodeId
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Vouched(Body):
    """These earlier facts of a revoked key still stand."""

    KIND = "vouched"
    CHECKS = {"node": ID, "facts": each(ID, 1900)}

    node: NodeId
    facts: tuple[FactId, ...]


@dataclass(frozen=True, slots=True)
class Device(Body):
    """A person's phone or PC; `revokes` ends it for ever."""

    KIND = "device"
    CHECKS = {
        "device": octets(16),
        "key": text(2000),
        "label": WORD,
        "role": text(16),
        "revokes": flag,
    }

    device: bytes
    key: str
    label: str
    role: str
    revokes: bool = False


@dataclass(frozen=True, slots=True)
class DestinationBody(Body):
    """A PACS; `secrets` are sealed to the forwarders, by key id."""

    KIND = "destination"
    CHECKS = {
        "name": WORD,
        "type": text(16),
        "url": text(500),
        "evidence": text(16),
        "quirks": map_of(text(32), anything, 32),
        "secrets": SEALED,
        "supersedes": each(ID, 64),
    }

    name: str
    type: str
    url: str
    evidence: str
    quirks: Mapping[str, Any]
    secrets: Mapping[bytes, bytes]
    supersedes: tuple[FactId, ...] = ()


@dataclass(frozen=True, slots=True)
class Study(Body):
    """A queue entry. No UIDs, nothing of the patient.

    `again` embeds the origin's signed study fact when a holder announces a recalled study anew.
    """

    KIND = "study"
    LIVE = True
    ABOUT_ENTRY = True
    CHECKS = {
        "manifest": ID,
        "size": uint,
        "blobs": uint,
        "priority": one_of(Priority),
        "destination": WORD,
        "submission": octets(16),
        "origin": ID,
        "again": optional(lambda v: type(v) is bytes and len(v) <= 4096),
    }

    manifest: BlobId
    size: int
    blobs: int
    priority: str
    destination: str
    submission: bytes
    origin: NodeId
    again: bytes | None = None


@dataclass(frozen=True, slots=True)
class Custody(Body):
    """I hold every blob of this entry, verified: yes or no."""

    KIND = "custody"
    LIVE = True
    ABOUT_ENTRY = True
    SLOTTED_BY_ENTRY = True
    CHECKS = {"holds": flag}

    holds: bool


@dataclass(frozen=True, slots=True)
class Claim(Body):
    """I am delivering this; advisory."""

    KIND = "claim"
    LIVE = True
    ABOUT_ENTRY = True
    SLOTTED_BY_ENTRY = True
    CHECKS = {"active": flag, "proven": uint, "total": uint}

    active: bool
    proven: int
    total: int


@dataclass(frozen=True, slots=True)
class Trouble(Body):
    """The PACS or the data needs a person."""

    KIND = "trouble"
    LIVE = True
    ABOUT_ENTRY = True
    SLOTTED_BY_ENTRY = True
    CHECKS = {"code": WORD, "instances": uint, "since": uint, "open": flag}

    code: str
    instances: int
    since: int
    open: bool = True


@dataclass(frozen=True, slots=True)
class Decision(Body):
    """A person decided about an entry."""

    KIND = "decision"
    LIVE = True
    ABOUT_ENTRY = True
    CHECKS = {"decision": decision, "person": WORD, "detail": map_of(text(32), anything, 64)}

    decision: str
    person: str
    detail: Mapping[str, Any]

    def slot(self, entry: EntryId | None) -> bytes | None:
        """Return a slot for each decision: "retry" must not take back "urgent" or "destination"."""
        return None if entry is None else entry + self.decision.encode()


@dataclass(frozen=True, slots=True)
class Grant(Body):
    """The study key sealed to one more forwarder."""

    KIND = "grant"
    LIVE = True
    ABOUT_ENTRY = True
    CHECKS = {"sealed": SEALED}

    sealed: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Tombstone(Body):
    """An entry has ended; the proof is named. `study` is the signed study fact of a withdrawal."""

    KIND = "tombstone"
    ABOUT_ENTRY = True
    CHECKS = {
        "outcome": one_of(Ending),
        "destination": WORD,
        "evidence": text(16),
        "instances": uint,
        "proven": uint,
        "receipt": optional(ID),
        "size": uint,
        "origin": ID,
        "study": optional(lambda v: type(v) is bytes and len(v) <= 8192),
    }

    outcome: str
    destination: str
    evidence: str
    instances: int
    proven: int
    receipt: bytes | None
    size: int
    origin: NodeId
    study: bytes | None = None


@dataclass(frozen=True, slots=True)
class Recall(Body):
    """The PACS lost it: holders announce it anew."""

    KIND = "recall"
    ABOUT_ENTRY = True
    CHECKS = {"reason": text(200), "recall": octets(16)}

    reason: str
    recall: bytes


@dataclass(frozen=True, slots=True)
class Report(Body):
    """How a node is: free octets, version, plans. `tombstones` and `still`: see `Remains`, which counts."""

    KIND = "report"
    LIVE = True
    SLOT = b""
    CHECKS = {
        "free": uint,
        "tombstones": map_of(ID, uint, 64),
        "still": each(ID, 500),
        "version": text(32),
        "plans": text(200),
    }

    free: int
    tombstones: Mapping[bytes, int]
    still: tuple[bytes, ...]
    version: str
    plans: str = ""


@dataclass(frozen=True, slots=True)
class Remains(Body):
    """Which ended entries are still here, and which tombstones that takes into account (`sync.erasure`).

    `still` is sorted; `unlisted` are as many more, and lie behind the last of it.
    """

    KIND = "remains"
    LIVE = True
    SLOT = b""
    CHECKS = {"covers": covers, "still": each(ID, 500), "unlisted": uint}

    covers: Mapping[bytes, Sequence[int | bytes]]
    still: tuple[bytes, ...]
    unlisted: int = 0


@dataclass(frozen=True, slots=True)
class StickSeen(Body):
    """What is aboard a stick after this node had it; `turn` is the stick's own count of such visits.

    `aboard` is sorted; `unlisted` are as many more, and lie behind the last of it. `gone`: given up for lost.
    """

    KIND = "stick"
    LIVE = True
    CHECKS = {
        "stick": octets(16),
        "name": WORD,
        "turn": uint,
        "aboard": each(ID, 500),
        "unlisted": uint,
        "covers": covers,
        "gone": flag,
    }

    stick: bytes
    name: str
    turn: int
    aboard: tuple[bytes, ...]
    unlisted: int
    covers: Mapping[bytes, Sequence[int | bytes]]
    gone: bool = False

    def slot(self, entry: EntryId | None) -> bytes | None:
        """Return a slot for each stick."""
        return self.stick


@dataclass(frozen=True, slots=True)
class Audit(Body):
    """The head of a node's audit trail: how many lines it has, and the SHA-256 of the last one."""

    KIND = "audit"
    LIVE = True
    SLOT = b""
    CHECKS = {"count": uint, "head": ID}

    count: int
    head: bytes


@dataclass(frozen=True, slots=True)
class WebRequest(Body):
    """The author's people's certificate ends soon: its key (SubjectPublicKeyInfo) and its addresses."""

    KIND = "web-request"
    LIVE = True
    SLOT = b""
    CHECKS = {"key": lambda v: type(v) is bytes and 0 < len(v) <= 256, "addresses": each(text(64), 16)}

    key: bytes
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WebLeaf(Body):
    """A people's certificate for a node, and its issuer's, in DER."""

    KIND = "web-leaf"
    LIVE = True
    CHECKS = {"node": ID, "leaf": certificate, "issuer": certificate}

    node: NodeId
    leaf: bytes
    issuer: bytes

    def slot(self, entry: EntryId | None) -> bytes | None:
        """Return a slot for each node: one issuer serves many."""
        return self.node


BODIES: dict[str, type[Body]] = {
    kind.KIND: kind
    for kind in (
        Member, Revoked, Vouched, Device, DestinationBody, Study, Custody, Claim, Trouble, Decision,
        Grant, Tombstone, Recall, Report, Audit, Remains, StickSeen,
        WebRequest, WebLeaf,
    )
}  # fmt: skip

for _kind in BODIES.values():
    assert {f.name for f in fields(_kind)} == _kind.CHECKS.keys(), _kind  # type: ignore[arg-type]


def consent_message(*, mesh: MeshId, author: NodeId, seal: bytes | None) -> bytes:
    """Return what a joining node signs so that `author` may become its ancestor."""
    return b"clinicmesh/join/1:" + mesh + author + (seal or bytes(32))


def check_consent(member: Member, *, mesh: MeshId, author: NodeId) -> None:
    """Check that the node itself agreed to be admitted by this author.

    Raises:
        BadFact: it did not.
    """
    message = consent_message(mesh=mesh, author=author, seal=member.seal)
    try:
        VerifyKey(member.node).verify(message, member.consent)
    except (BadSignatureError, ValueError, TypeError):
        raise BadFact("a member fact without the node's consent") from None
