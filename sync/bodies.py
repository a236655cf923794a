"""What each kind of fact says: frozen values and their CBOR payloads (docs/protocol.md §3).

Every kind is a dataclass whose fields are the payload's keys. A field's check stands beside its
name in `CHECKS`; what does not pass is refused with `BadFact`, so the rest of the code trusts types.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, ClassVar, Self

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from sync.errors import BadFact
from sync.ids import BlobId, EntryId, FactId, MeshId, NodeId

Check = Callable[[Any], bool]


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


def _text(limit: int) -> Check:
    return lambda v: type(v) is str and len(v) <= limit


def _octets(size: int) -> Check:
    return lambda v: type(v) is bytes and len(v) == size


def _uint(v: Any) -> bool:
    return type(v) is int and 0 <= v < 2**53


def _flag(v: Any) -> bool:
    return type(v) is bool


def _optional(check: Check) -> Check:
    return lambda v: v is None or check(v)


def _each(check: Check, limit: int) -> Check:
    return lambda v: type(v) is list and len(v) <= limit and all(check(item) for item in v)


def _one_of(values: type[StrEnum]) -> Check:
    known = frozenset(member.value for member in values)
    return lambda v: type(v) is str and v in known


def _map(key: Check, value: Check, limit: int) -> Check:
    return lambda v: type(v) is dict and len(v) <= limit and all(key(k) and value(x) for k, x in v.items())


def _decision(v: Any) -> bool:
    return type(v) is str and 0 < len(v) <= 16 and v.isascii()


def _anything(_: Any) -> bool:
    return True


_ID = _octets(32)
_WORD = _text(64)
_SEALED = _map(_octets(8), lambda v: type(v) is bytes and len(v) <= 8192, 32)


class Body:
    """Base of all kinds."""

    __slots__ = ()
    KIND: ClassVar[str]
    LIVE: ClassVar[bool] = False
    ABOUT_ENTRY: ClassVar[bool] = False
    SLOTTED_BY_ENTRY: ClassVar[bool] = False
    SLOT: ClassVar[bytes | None] = None
    CHECKS: ClassVar[Mapping[str, Check]]

    def slot(self, entry: EntryId | None) -> bytes | None:
        """Return what a fact that says this replaces, of those of its author, kind and entry."""
        return entry if self.SLOTTED_BY_ENTRY else self.SLOT

    def to_payload(self) -> dict[str, Any]:
        """Return the payload as plain CBOR values."""
        return {name: _plain(getattr(self, name)) for name in self.CHECKS}

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> Self:
        """Return the value of a payload.

        Raises:
            BadFact: a key is missing, unknown, or has a wrong value.
        """
        if payload.keys() != cls.CHECKS.keys():
            raise BadFact(f"a {cls.KIND} fact with missing or unknown keys")
        for name, check in cls.CHECKS.items():
            if not check(payload[name]):
                raise BadFact(f"a {cls.KIND} fact with a wrong value for {name}")
        return cls(**{name: _frozen(value) for name, value in payload.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _frozen(value: Any) -> Any:
    return tuple(value) if type(value) is list else value


@dataclass(frozen=True, slots=True)
class Member(Body):
    """A node belongs to the mesh, with these roles at most."""

    KIND = "member"
    CHECKS = {
        "node": _ID,
        "seal": _optional(_ID),
        "roles": _each(_one_of(Role), 8),
        "label": _WORD,
        "consent": _octets(64),
        "supersedes": _each(_ID, 64),
        "expires": _optional(_uint),
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
    CHECKS = {"node": _ID, "reason": _text(200)}

    node: NodeId
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Vouched(Body):
    """These earlier facts of a revoked key still stand."""

    KIND = "vouched"
    CHECKS = {"node": _ID, "facts": _each(_ID, 1900)}

    node: NodeId
    facts: tuple[FactId, ...]


@dataclass(frozen=True, slots=True)
class Device(Body):
    """A person's phone or PC; `revokes` ends it for ever."""

    KIND = "device"
    CHECKS = {
        "device": _octets(16),
        "key": _text(2000),
        "label": _WORD,
        "role": _text(16),
        "revokes": _flag,
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
        "name": _WORD,
        "type": _text(16),
        "url": _text(500),
        "evidence": _text(16),
        "quirks": _map(_text(32), _anything, 32),
        "secrets": _SEALED,
        "supersedes": _each(_ID, 64),
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
        "manifest": _ID,
        "size": _uint,
        "blobs": _uint,
        "priority": _one_of(Priority),
        "destination": _WORD,
        "submission": _octets(16),
        "origin": _ID,
        "again": _optional(lambda v: type(v) is bytes and len(v) <= 4096),
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
    CHECKS = {"holds": _flag}

    holds: bool


@dataclass(frozen=True, slots=True)
class Claim(Body):
    """I am delivering this; advisory."""

    KIND = "claim"
    LIVE = True
    ABOUT_ENTRY = True
    SLOTTED_BY_ENTRY = True
    CHECKS = {"active": _flag, "proven": _uint, "total": _uint}

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
    CHECKS = {"code": _WORD, "instances": _uint, "since": _uint, "open": _flag}

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
    CHECKS = {"decision": _decision, "person": _WORD, "detail": _map(_text(32), _anything, 64)}

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
    CHECKS = {"sealed": _SEALED}

    sealed: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Tombstone(Body):
    """An entry has ended; the proof is named. `study` is the signed study fact of a withdrawal."""

    KIND = "tombstone"
    ABOUT_ENTRY = True
    CHECKS = {
        "outcome": _one_of(Ending),
        "destination": _WORD,
        "evidence": _text(16),
        "instances": _uint,
        "proven": _uint,
        "receipt": _optional(_ID),
        "size": _uint,
        "origin": _ID,
        "study": _optional(lambda v: type(v) is bytes and len(v) <= 8192),
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
    CHECKS = {"reason": _text(200), "recall": _octets(16)}

    reason: str
    recall: bytes


@dataclass(frozen=True, slots=True)
class Report(Body):
    """How a node is: free octets, tombstones covered, entries still present, version, plans."""

    KIND = "report"
    LIVE = True
    SLOT = b""
    CHECKS = {
        "free": _uint,
        "tombstones": _map(_ID, _uint, 64),
        "still": _each(_ID, 500),
        "version": _text(32),
        "plans": _text(200),
    }

    free: int
    tombstones: Mapping[bytes, int]
    still: tuple[bytes, ...]
    version: str
    plans: str = ""


@dataclass(frozen=True, slots=True)
class Audit(Body):
    """The head of a node's audit trail: how many lines it has, and the SHA-256 of the last one."""

    KIND = "audit"
    LIVE = True
    SLOT = b""
    CHECKS = {"count": _uint, "head": _ID}

    count: int
    head: bytes


BODIES: dict[str, type[Body]] = {
    kind.KIND: kind
    for kind in (
        Member, Revoked, Vouched, Device, DestinationBody, Study, Custody, Claim, Trouble, Decision,
        Grant, Tombstone, Recall, Report, Audit,
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
