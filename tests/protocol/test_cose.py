"""A signed statement has one form, one purpose and one name (RFC 9052 §4.2)."""

import json
from pathlib import Path

import cbor2
import pytest
from nacl.signing import SigningKey
from pycose.algorithms import EdDSA
from pycose.headers import KID, Algorithm
from pycose.keys import OKPKey
from pycose.messages import Sign1Message
from support.facts import MeshMaker, bodies, digest, golden, key_of

from sync import cbor, cose, facts
from sync.errors import BadFact

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "facts.json").read_text())
_ORDER_L = 2**252 + 27742317777372353535851937790883648493  # of Ed25519's group (RFC 8032 §5.1)
MESH = MeshMaker(name="golden")
_AAD = b"clinicmesh/fact/1:" + MESH.id


def test_golden_vectors_stand() -> None:
    """A fact on a stick is read in ten years: its octets must not change by an update of ours."""
    assert golden() == VECTORS


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["kind"])
def test_another_library_reads_and_verifies_our_facts(vector: dict[str, str]) -> None:
    """What we call COSE must be COSE to others."""
    tagged = cbor2.loads(bytes.fromhex(vector["raw"]))
    protected, unprotected, payload, signature = tagged.value
    message = Sign1Message.from_cose_obj([protected, dict(unprotected), payload, signature], True)
    message.key = OKPKey(crv="ED25519", x=message.phdr[KID])
    message.external_aad = _AAD

    assert tagged.tag == 18
    assert message.phdr[Algorithm] is EdDSA
    assert message.phdr[-70001] == vector["kind"]
    assert message.verify_signature()
    message.external_aad = b"clinicmesh/fact/1:" + digest("another mesh")
    assert not message.verify_signature()


@pytest.mark.parametrize("kind", ["custody", "from-the-future"])
def test_we_read_what_another_library_signs(kind: str) -> None:
    """Others may write tools for this mesh; nothing of ours hides in the form."""
    entry, key = digest("entry"), key_of("root")
    message = Sign1Message(
        phdr={
            Algorithm: EdDSA, KID: bytes(key.verify_key), -70001: kind, -70002: 5, -70003: 1,
            -70004: entry, -70005: entry,
        },
        payload=cbor.encode({"holds": True}),
        external_aad=_AAD,
        key=OKPKey(crv="ED25519", x=bytes(key.verify_key), d=bytes(key)),
    )  # fmt: skip
    fact = facts.parse(message.encode(), mesh=MESH.id)

    assert (fact.header.kind, fact.header.timestamp, fact.header.entry) == (kind, 5, entry)
    if fact.body is not None:
        assert facts.sign(fact.body, key=key, mesh=MESH.id, timestamp=5, entry=entry) == fact.raw  # type: ignore[arg-type]


def _sample() -> tuple[SigningKey, bytes, bytes, bytes]:
    key = key_of("root")
    body, entry = next((b, e) for b, e in bodies(MESH) if b.KIND == "custody")
    raw = facts.sign(body, key=key, mesh=MESH.id, timestamp=7, entry=entry)
    parts = cose.parse(raw)
    return key, parts.protected, parts.payload, parts.signature


def _refused(raw: bytes) -> None:
    with pytest.raises(BadFact):
        facts.parse(raw, mesh=MESH.id)


def test_a_second_form_of_a_signed_fact_is_refused() -> None:
    """The name of a fact is the hash of its octets: a second form would be a second fact, signed as well."""
    _, protected, payload, signature = _sample()
    parts = [protected, {}, payload, signature]
    good = b"\xd2" + cbor2.dumps(parts)

    assert facts.parse(good, mesh=MESH.id)
    _refused(cbor2.dumps(parts))
    _refused(b"\xd8\x12" + cbor2.dumps(parts))
    _refused(b"\xd9\xd9\xf7" + good)
    _refused(b"\xd3" + cbor2.dumps(parts))
    _refused(b"\xd2" + cbor2.dumps([protected, {4: b"kid"}, payload, signature]))
    _refused(b"\xd2" + cbor2.dumps([protected, None, payload, signature]))
    _refused(b"\xd2" + cbor2.dumps([protected, {}, payload, signature, b""]))
    _refused(b"\xd2" + cbor2.dumps([protected, {}, None, signature]))
    _refused(b"\xd2\x9f" + cbor2.dumps(parts)[1:] + b"\xff")
    _refused(b"\xd2\x98\x04" + cbor2.dumps(parts)[1:])
    _refused(b"\xd2\x84\x59\x00" + bytes([len(protected)]) + cbor2.dumps(parts)[3:])
    _refused(good + b"\x00")
    _refused(b"\x00" + good)


def test_a_signature_has_one_form() -> None:
    """S + L verifies with careless libraries (RFC 8032 §5.1.7): again a second name for one fact."""
    _, protected, payload, signature = _sample()
    scalar = int.from_bytes(signature[32:], "little") + _ORDER_L
    other = signature[:32] + scalar.to_bytes(32, "little")

    _refused(b"\xd2" + cbor2.dumps([protected, {}, payload, other]))


def test_a_key_of_small_order_signs_nothing() -> None:
    """With such a key one signature fits many messages."""
    weak = bytes([1]) + bytes(31)
    header = {1: -8, 4: weak, -70001: "x", -70002: 1, -70003: 0}
    _refused(b"\xd2" + cbor2.dumps([cbor.encode(header), {}, cbor.encode({}), weak + bytes(32)]))


def test_headers_in_another_form_are_refused_though_signed_so() -> None:
    """The author may sign any octets; we must not store what two programs could read differently."""
    key, protected, payload, _ = _sample()

    def signed(header: bytes, body: bytes = payload) -> bytes:
        return cose.sign(header, body, key=key, external_aad=_AAD)

    assert facts.parse(signed(protected), mesh=MESH.id)
    _refused(signed(protected + b"\x00"))
    _refused(signed(b"\xbf" + protected[1:] + b"\xff"))
    _refused(signed(protected, b"\xa0\x00"))
    _refused(signed(protected, b"\xa1" + cbor2.dumps("holds") + b"\xf9\x3c\x00"))
    _refused(signed(protected, b"\xa2" + (cbor2.dumps("holds") + b"\xf5") * 2))
    _refused(signed(protected, b"\x80"))
    _refused(signed(b""))
    backwards = dict(reversed(list(cbor2.loads(protected).items())))
    _refused(signed(cbor2.dumps(backwards)))


def test_a_signature_for_another_purpose_or_mesh_is_refused() -> None:
    """Nothing that was signed for one purpose may count for another."""
    key, protected, payload, _ = _sample()
    for aad in (b"", b"clinicmesh/fact/1:", b"clinicmesh/fact/2:" + MESH.id, b"clinicmesh/join/1:" + MESH.id,
                b"clinicmesh/fact/1:" + digest("another")):  # fmt: skip
        _refused(cose.sign(protected, payload, key=key, external_aad=aad))
