"""A fact is what its author signed, or it is refused: every octet of it."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.facts import MeshMaker, bodies, digest, entry_of, golden, key_of

from sync import cbor, cose, facts
from sync.bodies import BODIES, Custody, Decision, Member, Report, Study, consent_message
from sync.errors import BadFact, BadValue
from sync.facts import MAX_FACT_BYTES, FactClass, Header, parse, sign_raw
from sync.ids import HlcMs, NodeId

MESH = MeshMaker(name="golden")
KEY = key_of("root")
ME = NodeId(bytes(KEY.verify_key))
GOLDEN = {v["kind"]: bytes.fromhex(v["raw"]) for v in golden()}
KINDS = [body.KIND for body, _ in bodies(MESH)]


def _signed(protected: object, payload: object) -> bytes:
    return cose.sign(
        cbor.encode(protected), cbor.encode(payload), key=KEY, external_aad=b"clinicmesh/fact/1:" + MESH.id
    )


def _header(**changed: object) -> dict[int, object]:
    """Return the protected header of a custody fact, with changes by label name; ... leaves one out."""
    labels = {"alg": 1, "kid": 4, "kind": -70001, "timestamp": -70002, "fact_class": -70003,
              "entry": -70004, "slot": -70005, "critical": -70006, "unknown": -70007}  # fmt: skip
    values: dict[str, Any] = {"alg": -8, "kid": ME, "kind": "custody", "timestamp": 5, "fact_class": 1,
                              "entry": entry_of("e"), "slot": entry_of("e")}  # fmt: skip
    return {labels[k]: v for k, v in (values | changed).items() if v is not ...}


def test_there_is_a_sample_of_every_kind() -> None:
    """A kind without a sample would go untested here."""
    assert set(KINDS) == set(BODIES)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_back_as_it_was_said(kind: str) -> None:
    """What a node says must reach the others unchanged."""
    body, entry = next((b, e) for b, e in bodies(MESH) if kind == b.KIND)
    fact = parse(GOLDEN[kind], mesh=MESH.id)

    assert fact.body == body
    assert (fact.header.kind, fact.header.author, fact.header.entry) == (kind, ME, entry)
    assert fact.header.fact_class is (FactClass.LIVE if body.LIVE else FactClass.PERMANENT)
    assert parse(GOLDEN[kind], mesh=MESH.id, verified_before=True) == fact


@pytest.mark.parametrize("kind", ["custody", "member", "from-the-future"])
def test_every_flipped_bit_is_refused(kind: str) -> None:
    """Damage on a stick or a wire must never become a statement."""
    raw = GOLDEN[kind]
    for place in range(8 * len(raw)):
        changed = bytearray(raw)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(BadFact):
            parse(bytes(changed), mesh=MESH.id)


@pytest.mark.parametrize("kind", GOLDEN)
def test_every_cut_is_refused(kind: str) -> None:
    """A file that ends too early is no fact."""
    raw = GOLDEN[kind]
    for length in range(len(raw)):
        with pytest.raises(BadFact):
            parse(raw[:length], mesh=MESH.id)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(GOLDEN)), st.data())
def test_octets_changed_put_in_or_taken_out_are_refused(kind: str, data: st.DataObject) -> None:
    """Also when several change at once."""
    raw = bytearray(GOLDEN[kind])
    start = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(start, min(start + 8, len(raw))))
    put = data.draw(st.binary(max_size=8))
    changed = bytes(raw[:start]) + put + bytes(raw[end:])
    if changed == bytes(raw):
        return
    with pytest.raises(BadFact):
        parse(changed, mesh=MESH.id)


WRONG_HEADERS = {
    "no kind": {"kind": ...},
    "no author": {"kid": ...},
    "no timestamp": {"timestamp": ...},
    "no class": {"fact_class": ...},
    "no algorithm": {"alg": ...},
    "another algorithm": {"alg": -7},
    "a label that is not known": {"unknown": 1},
    "an empty kind": {"kind": ""},
    "a kind too long": {"kind": "x" * 33},
    "a kind that is no text": {"kind": b"custody"},
    "an author too short": {"kid": ME[:31]},
    "an author that is text": {"kid": "x" * 32},
    "a timestamp of zero": {"timestamp": 0},
    "a negative timestamp": {"timestamp": -1},
    "a timestamp that JavaScript cannot hold": {"timestamp": 2**53},
    "a timestamp that is true": {"timestamp": True},
    "a class that is not known": {"fact_class": 2},
    "a class that is true": {"fact_class": True},
    "an entry too long": {"entry": bytes(33)},
    "a slot too long": {"slot": bytes(65)},
    "a slot that is text": {"slot": "x"},
    "critical and false": {"kind": "unknown", "fact_class": 0, "slot": ..., "critical": False},
    "critical and one": {"kind": "unknown", "fact_class": 0, "slot": ..., "critical": 1},
    "critical and live": {"kind": "unknown", "critical": True},
    "a permanent fact with a slot": {"kind": "unknown", "fact_class": 0},
    "a known kind of the wrong class": {"fact_class": 0, "slot": ...},
    "a known kind without its entry": {"entry": ...},
    "a known kind without its slot": {"slot": ...},
    "a known kind with another slot": {"slot": b"x"},
}


@pytest.mark.parametrize("name", WRONG_HEADERS)
def test_a_wrong_header_is_refused_though_well_signed(name: str) -> None:
    """The header is what nodes act on that do not know the kind."""
    parse(_signed(_header(), {"holds": True}), mesh=MESH.id)
    with pytest.raises(BadFact):
        parse(_signed(_header(**WRONG_HEADERS[name]), {"holds": True}), mesh=MESH.id)


@pytest.mark.parametrize("kind", KINDS)
def test_a_known_kind_with_missing_or_other_keys_is_refused(kind: str) -> None:
    """The rest of the code trusts the types of a body."""
    header = cbor.decode(cose.parse(GOLDEN[kind]).protected)
    payload: dict[str, Any] = cbor.decode(cose.parse(GOLDEN[kind]).payload)
    parse(_signed(header, payload), mesh=MESH.id)
    free = {"destination": "quirks", "decision": "detail"}.get(kind)  # maps that hold what they like
    others = [payload | {"more": 1}]
    for name in payload:
        others.append({k: v for k, v in payload.items() if k != name})
        others.append(payload | {name: -(2**60)})
        if name != free:
            others.append(payload | {name: {"x": -1}})
    for other in others:
        with pytest.raises(BadFact):
            parse(_signed(header, other), mesh=MESH.id)


def test_a_fact_that_is_too_large_is_refused_on_both_sides() -> None:
    """Everyone stores every fact; 64 kB is enough for any of them."""
    header = Header("unknown", ME, HlcMs(1), FactClass.PERMANENT)
    room = MAX_FACT_BYTES - len(sign_raw(header, {"x": bytes(60_000)}, key=KEY, mesh=MESH.id)) + 60_000
    largest = sign_raw(header, {"x": bytes(room)}, key=KEY, mesh=MESH.id)

    assert len(largest) == MAX_FACT_BYTES
    assert parse(largest, mesh=MESH.id).body is None
    with pytest.raises(BadValue):
        sign_raw(header, {"x": bytes(room + 1)}, key=KEY, mesh=MESH.id)
    with pytest.raises(BadFact):
        parse(
            _signed({1: -8, 4: ME, -70001: "unknown", -70002: 1, -70003: 0}, {"x": bytes(65_500)}),
            mesh=MESH.id,
        )


@pytest.mark.parametrize("timestamp", [0, -1, 2**53, 2**64])
def test_a_timestamp_that_cannot_be_said_is_not_signed(timestamp: int) -> None:
    """A node whose clock went mad must hear of it, not its peers."""
    with pytest.raises(BadValue):
        MESH.say("root", Custody(True), entry_of("e"), at=timestamp)


def test_a_fact_of_another_mesh_is_refused() -> None:
    """Two hospitals in one town use the same program."""
    other = MeshMaker(name="other")
    raw = other.say("root", Custody(True), entry_of("e"))

    assert parse(raw, mesh=other.id)
    with pytest.raises(BadFact):
        parse(raw, mesh=MESH.id)


def test_nobody_is_admitted_without_consent() -> None:
    """Who admits a node may revoke it later; so the node must have agreed to this author."""
    for author, seal, mesh in (
        ("stranger", None, MESH.id),
        ("root", b"x" * 32, MESH.id),
        ("root", None, digest("m")),
    ):
        message = consent_message(mesh=mesh, author=MESH.node(author), seal=seal)  # type: ignore[arg-type]
        body = Member(MESH.node("clinic"), None, ("carry",), "x", MESH.key("clinic").sign(message).signature)
        with pytest.raises(BadFact):
            parse(MESH.say("root", body), mesh=MESH.id)
    assert parse(MESH.member("root", "clinic"), mesh=MESH.id)


def test_a_study_is_about_the_entry_that_its_manifest_names() -> None:
    """An entry is its manifest: a fact that says otherwise would send everybody for the wrong blob."""
    body, _ = next((b, e) for b, e in bodies(MESH) if isinstance(b, Study))
    with pytest.raises(BadFact):
        parse(MESH.say("root", body, entry_of("another")), mesh=MESH.id)


def test_each_decision_has_its_own_slot() -> None:
    """ "Try again" by a person must not take back "urgent" or "to another PACS" by the same node."""
    slots = {
        parse(MESH.say("root", Decision(word, "Dr. Owl", {}), entry_of("e")), mesh=MESH.id).header.slot
        for word in ("retry", "accept", "leave-out", "destination", "urgent")
    }
    assert len(slots) == 5


def test_unknown_kinds_are_read_by_their_header_alone() -> None:
    """An old courier carries what a newer clinic says."""
    raw = MESH.say_unknown("root", "telepathy", {"any": [1, {"x": b"y"}]}, entry=entry_of("e"), slot=b"s")
    fact = parse(raw, mesh=MESH.id)

    assert fact.body is None
    assert (fact.header.kind, fact.header.slot, fact.raw) == ("telepathy", b"s", raw)
    with pytest.raises(BadFact):
        parse(_signed(_header(kind="telepathy"), [1]), mesh=MESH.id)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.text(max_size=200), st.integers(0, 2**53 - 1),
    st.dictionaries(st.binary(min_size=32, max_size=32), st.integers(0, 2**53 - 1), max_size=4),
    st.integers(1, 2**53 - 1),
)  # fmt: skip
def test_any_report_comes_back(plans: str, free: int, tombstones: dict[bytes, int], at: int) -> None:
    """Plans are words that people type, in any script."""
    body = Report(free, tombstones, (), "0", plans)
    fact = facts.parse(MESH.say("root", body, at=at), mesh=MESH.id)
    assert (fact.body, fact.header.timestamp) == (body, at)
