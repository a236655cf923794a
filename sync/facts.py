"""Facts: the signed statements that nodes replicate (docs/protocol.md §2 and §3).

`parse` takes signed bytes apart and verifies them; `sign` makes them. The header alone says all
that relaying needs, so facts of unknown kinds travel too. Bodies are checked here, once; whether
an author may say a thing is decided in `sync.membership` and `sync.ledger`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, cast

from nacl.signing import SigningKey

from sync import cbor, cose
from sync.bodies import BODIES, Body, Member, Study, check_consent
from sync.errors import BadCbor, BadFact, BadValue
from sync.ids import EntryId, FactId, HlcMs, MeshId, NodeId

MAX_FACT_BYTES = 65_536
_PURPOSE = b"clinicmesh/fact/1:"
_ALG, _KID = 1, 4  # RFC 9052 table 3
_KIND, _TIMESTAMP, _CLASS, _ENTRY, _SLOT, _CRITICAL = range(-70001, -70007, -1)  # private use
_REQUIRED = {_ALG, _KID, _KIND, _TIMESTAMP, _CLASS}
_KNOWN = _REQUIRED | {_ENTRY, _SLOT, _CRITICAL}


class FactClass(IntEnum):
    """How long a fact stays: for ever, or until its entry ends or a newer one takes its slot."""

    PERMANENT = 0
    LIVE = 1


@dataclass(frozen=True, slots=True)
class Header:
    """The protected header: what relaying needs, whatever the kind."""

    kind: str
    author: NodeId
    timestamp: HlcMs
    fact_class: FactClass
    entry: EntryId | None = None
    slot: bytes | None = None
    critical: bool = False


@dataclass(frozen=True, slots=True)
class Fact:
    """A verified fact. `body` is None when this node does not know the kind."""

    id: FactId
    header: Header
    body: Body | None = field(repr=False)
    raw: bytes = field(repr=False)

    @property
    def order(self) -> tuple[int, bytes]:
        """The key by which the newer of two facts is told (greater is newer), and reconciliation sorts."""
        return self.header.timestamp, self.id


def sign(
    body: Body, *, key: SigningKey, mesh: MeshId, timestamp: HlcMs, entry: EntryId | None = None
) -> bytes:
    """Return the signed bytes of a fact of a known kind. Its class and slot follow from the kind."""
    header = Header(
        kind=body.KIND,
        author=NodeId(bytes(key.verify_key)),
        timestamp=timestamp,
        fact_class=FactClass.LIVE if body.LIVE else FactClass.PERMANENT,
        entry=entry,
        slot=body.slot(entry),
    )
    return sign_raw(header, body.to_payload(), key=key, mesh=mesh)


def sign_raw(header: Header, payload: Mapping[str, Any], *, key: SigningKey, mesh: MeshId) -> bytes:
    """Return the signed bytes of any header and payload; also of kinds this version does not know.

    Raises:
        BadValue: the header cannot be said in the protocol, or the fact is too large.
    """
    protected: dict[int, Any] = {
        _ALG: cose.ALG_EDDSA,
        _KID: header.author,
        _KIND: header.kind,
        _TIMESTAMP: header.timestamp,
        _CLASS: int(header.fact_class),
    }
    if header.entry is not None:
        protected[_ENTRY] = header.entry
    if header.slot is not None:
        protected[_SLOT] = header.slot
    if header.critical:
        protected[_CRITICAL] = True
    try:
        _header_of(protected)
    except BadFact as error:
        raise BadValue(str(error)) from None
    raw = cose.sign(cbor.encode(protected), cbor.encode(payload), key=key, external_aad=_PURPOSE + mesh)
    if len(raw) > MAX_FACT_BYTES:
        raise BadValue("the fact is too large")
    return raw


def parse(raw: bytes, *, mesh: MeshId, verified_before: bool = False) -> Fact:
    """Verify signed bytes and return the fact.

    Args:
        raw: the tagged COSE_Sign1.
        mesh: the mesh that the signature must name.
        verified_before: skip the signatures; only for bytes that this node verified and kept itself.

    Raises:
        BadFact: malformed, malleable, too large, wrongly signed, or a known kind with a wrong body.
    """
    if len(raw) > MAX_FACT_BYTES:
        raise BadFact("the fact is too large")
    message = cose.parse(raw)
    try:
        protected, payload = cbor.decode(message.protected), cbor.decode(message.payload)
    except BadCbor:
        raise BadFact("the header or the payload is not deterministic CBOR") from None
    if not isinstance(protected, dict) or not isinstance(payload, dict):
        raise BadFact("the header or the payload is not a map")
    header = _header_of(protected)
    if not verified_before:
        cose.verify(message, public_key=header.author, external_aad=_PURPOSE + mesh)
    body = _body_of(header, payload)
    if isinstance(body, Member) and not verified_before:
        check_consent(body, mesh=mesh, author=header.author)
    return Fact(FactId(hashlib.sha256(raw).digest()), header, body, raw)


def _header_of(protected: Mapping[Any, Any]) -> Header:
    if not protected.keys() >= _REQUIRED or not protected.keys() <= _KNOWN:
        raise BadFact("the header lacks a label, or has one that is not known")
    kind, author, timestamp = protected[_KIND], protected[_KID], protected[_TIMESTAMP]
    entry, slot = protected.get(_ENTRY), protected.get(_SLOT)
    fact_class, critical = protected[_CLASS], protected.get(_CRITICAL)
    right = (
        protected[_ALG] == cose.ALG_EDDSA
        and type(kind) is str
        and 0 < len(kind) <= 32
        and type(author) is bytes
        and len(author) == 32
        and type(timestamp) is int
        and 0 < timestamp < 2**53
        and type(fact_class) is int
        and fact_class in (0, 1)
        and (entry is None or (type(entry) is bytes and len(entry) == 32))
        and (slot is None or (type(slot) is bytes and len(slot) <= 64 and fact_class == 1))
        and (critical is None or (critical is True and fact_class == 0))
    )
    if not right:
        raise BadFact("a header label has a wrong value")
    return Header(
        kind=cast(str, kind),
        author=NodeId(cast(bytes, author)),
        timestamp=HlcMs(cast(int, timestamp)),
        fact_class=FactClass(fact_class),
        entry=None if entry is None else EntryId(entry),
        slot=slot,
        critical=bool(critical),
    )


def _body_of(header: Header, payload: Mapping[str, Any]) -> Body | None:
    """Decode the payload of a known kind; its header must be the one that the kind prescribes."""
    kind = BODIES.get(header.kind)
    if kind is None:
        return None
    if header.fact_class != (FactClass.LIVE if kind.LIVE else FactClass.PERMANENT):
        raise BadFact(f"a {header.kind} fact of the wrong class")
    body = kind.from_payload(payload)
    if (header.entry is not None) != kind.ABOUT_ENTRY or header.slot != body.slot(header.entry):
        raise BadFact(f"a {header.kind} fact with the wrong entry or slot")
    if isinstance(body, Study) and bytes(body.manifest) != header.entry:
        raise BadFact("a study fact about an entry that its manifest does not name")
    return body
