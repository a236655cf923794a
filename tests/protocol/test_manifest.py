"""A manifest says which blobs make a study, and nobody can change, mix or open it who should not."""

import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.public import PrivateKey, SealedBox

from sync import cbor
from sync.errors import BadManifest, BadValue, CannotOpen, PeerError
from sync.ids import BlobId, MeshId
from sync.manifest import (
    MAX_INDEX_BYTES,
    IndexedInstance,
    StudyIndex,
    build_manifest,
    entry_id,
    key_id,
    open_box,
    open_index,
    open_key,
    parse_manifest,
    recalled,
    seal_key,
)
from sync.segments import OVERHEAD_BYTES, SEGMENT_BYTES, Kind, seal

KEY = bytes(range(32))
MESH = MeshId(hashlib.sha256(b"mesh").digest())
PREFIX = bytes(range(16))
SECRETS = [hashlib.sha256(f"recipient {n}".encode()).digest() for n in range(3)]
PUBLICS = [bytes(PrivateKey(secret).public_key) for secret in SECRETS]
SEEDS = [hashlib.sha256(f"seed {n}".encode()).digest() for n in range(33)]
RECALL = bytes(range(200, 216))
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "manifest.json").read_text())


def instance(n: int, offset: int, coded: int) -> IndexedInstance:
    return IndexedInstance(
        uid=f"2.25.{n}",
        sop_class="1.2.840.10008.5.1.4.1.1.2",
        syntax="1.2.840.10008.1.2.1",
        offset=offset,
        coded=coded,
        codec="zstd",
        size=coded * 2,
        sha256=hashlib.sha256(bytes([n])).digest(),
    )


INDEX = StudyIndex("2.25.1000", (instance(1, 0, 7), instance(2, 7, 13)), {"impression": "fine", "n": 2})
BLOBS = [(BlobId(hashlib.sha256(b"blob").digest()), 20 + OVERHEAD_BYTES)]


def build(
    index: StudyIndex = INDEX,
    blobs: list[tuple[BlobId, int]] = BLOBS,
    recipients: list[bytes] = PUBLICS,
    study_key: bytes = KEY,
    mesh: MeshId = MESH,
) -> bytes:
    return build_manifest(
        index,
        blobs,
        study_key=study_key,
        mesh=mesh,
        recipients=recipients,
        index_prefix=PREFIX,
        ephemeral_seeds=SEEDS[: len(recipients)],
    )


def read(data: bytes, secret: bytes) -> StudyIndex:
    """Read a manifest as a forwarder does."""
    manifest = parse_manifest(data)
    return open_index(manifest, open_key(manifest, secret))


def encoded(change: Callable[[dict[str, Any]], object]) -> bytes:
    """Return a well-formed manifest whose value was changed."""
    value = cbor.decode(build()[4:])
    change(value)
    return b"CMM1" + cbor.encode(value)


def with_index(value: object) -> bytes:
    """Return a manifest whose sealed index holds `value`; its author has the key."""
    part = seal(KEY, PREFIX, 0, cbor.encode(value), kind=Kind.INDEX, final=True)
    return encoded(lambda manifest: manifest.update(index=[part]))


def index_value() -> dict[str, Any]:
    first = {
        "uid": "2.25.1",
        "class": "1.2",
        "syntax": "1.2",
        "offset": 0,
        "coded": 20,
        "codec": "stored",
        "size": 20,
        "sha256": bytes(32),
    }
    return {"v": 1, "study_uid": "2.25.9", "instances": [first], "confirmed": {}}


@pytest.mark.parametrize("secret", SECRETS)
def test_every_recipient_reads_what_was_sealed(secret: bytes) -> None:
    """Each forwarder, and the paper key, opens the study alone."""
    data = build()
    manifest = parse_manifest(data)

    assert open_key(manifest, secret) == KEY
    assert read(data, secret) == INDEX
    assert manifest.blobs == tuple(BLOBS)
    assert (manifest.mesh, manifest.recall, manifest.stream_bytes) == (MESH, None, 20)
    assert entry_id(data) == hashlib.sha256(data).digest()


SIZES = st.lists(st.integers(1, 3 * SEGMENT_BYTES), min_size=1, max_size=8)


@settings(max_examples=60)
@given(sizes=SIZES, texts=st.dictionaries(st.text(max_size=20), st.text(max_size=50) | st.integers(0, 9)))
def test_any_index_comes_back(sizes: list[int], texts: dict[str, Any]) -> None:
    """What the clinician wrote, in any script, arrives as it was written."""
    offsets = [sum(sizes[:n]) for n in range(len(sizes))]
    instances = tuple(instance(n, o, s) for n, (o, s) in enumerate(zip(offsets, sizes, strict=True)))
    full, rest = divmod(sum(sizes), SEGMENT_BYTES)
    lengths = [SEGMENT_BYTES] * full + ([rest] if rest else [])
    blobs = [
        (BlobId(hashlib.sha256(bytes([n])).digest()), length + OVERHEAD_BYTES)
        for n, length in enumerate(lengths)
    ]
    index = StudyIndex("2.25.5", instances, texts)

    data = build(index, blobs)

    assert read(data, SECRETS[1]) == index
    assert parse_manifest(data).blobs == tuple(blobs)


def test_an_index_of_many_instances_takes_several_segments() -> None:
    """A perfusion CT of 30,000 slices fits."""
    count = 30_000
    index = StudyIndex(
        "2.25.5",
        tuple(
            replace(
                instance(n % 200, n, 1),
                uid=f"2.25.{n:039}",
                sha256=hashlib.shake_256(n.to_bytes(4)).digest(32),
            )
            for n in range(count)
        ),
        {"impression": hashlib.shake_256(b"told").hexdigest(4_000_000)},
    )
    data = build(index, [(BLOBS[0][0], count + OVERHEAD_BYTES)])

    assert len(parse_manifest(data).index) > 1
    assert read(data, SECRETS[0]) == index


def test_the_index_of_small_slices_weighs_little_more_than_their_digests() -> None:
    """It named the class and the syntax of each slice: a twentieth of what a small MR slice weighs sealed."""
    count = 300
    index = StudyIndex(
        "2.25.5",
        tuple(
            replace(
                instance(n % 200, n, 1),
                uid=f"1.2.840.113619.2.353.4120.8413993.17490.1537276080.{n + 100}",
                sha256=hashlib.sha256(bytes([n % 256, n // 256])).digest(),
            )
            for n in range(count)
        ),
        {},
    )
    data = build(index, [(BLOBS[0][0], count + OVERHEAD_BYTES)])

    assert len(data) < 60 * count
    assert read(data, SECRETS[0]) == index


@pytest.mark.parametrize(
    "plain",
    [
        zlib.compress(cbor.encode({"v": 1}))[:-1],
        zlib.compress(bytes(2000)) + b"more",
        zlib.compress(bytes(MAX_INDEX_BYTES + 1)),
        b"\x78no stream",
    ],
    ids=["cut", "longer", "a bomb", "no stream"],
)
def test_a_packed_index_that_is_wrong_is_refused(plain: bytes) -> None:
    """Whoever sealed it: a forwarder neither fills its memory nor stumbles."""
    part = seal(KEY, PREFIX, 0, plain, kind=Kind.INDEX, final=True)
    with pytest.raises(BadManifest):
        read(encoded(lambda manifest: manifest.update(index=[part])), SECRETS[0])


def test_an_empty_stream_has_one_empty_blob() -> None:
    """The smallest study that the format knows."""
    index = StudyIndex("2.25.5", (instance(1, 0, 0),), {})

    assert read(build(index, [(BLOBS[0][0], OVERHEAD_BYTES)]), SECRETS[0]) == index


def test_libsodium_opens_the_boxes() -> None:
    """Another program needs nothing but crypto_box_seal_open."""
    manifest = parse_manifest(build())
    for secret, public in zip(SECRETS, PUBLICS, strict=True):
        plain = SealedBox(PrivateKey(secret)).decrypt(manifest.keys[key_id(public)])
        assert cbor.decode(plain) == {"v": 1, "key": KEY, "mesh": MESH, "public": manifest.context}


def test_every_flipped_byte_is_refused() -> None:
    """One changed octet anywhere, and no study is read from it."""
    data = build(recipients=PUBLICS[:1])
    for position in range(len(data)):
        for mask in (0x01, 0x80, 0xFF):
            changed = bytearray(data)
            changed[position] ^= mask
            with pytest.raises(PeerError) as refused:
                read(bytes(changed), SECRETS[0])
            assert refused.value.code in ("bad-manifest", "cannot-open")


def test_every_truncation_and_every_tail_is_refused() -> None:
    """A manifest that was cut off on a stick is not a shorter study."""
    data = build(recipients=PUBLICS[:1])
    for length in range(len(data)):
        with pytest.raises(BadManifest):
            parse_manifest(data[:length])
    with pytest.raises(BadManifest):
        parse_manifest(data + b"\0")


def test_a_stranger_cannot_open() -> None:
    """A courier's stolen laptop reveals nothing."""
    manifest = parse_manifest(build())

    with pytest.raises(CannotOpen) as refused:
        open_key(manifest, bytes(range(32)))
    assert refused.value.code == "cannot-open"
    with pytest.raises(CannotOpen):
        open_index(manifest, bytes(32))


def test_a_box_of_another_recipient_does_not_open() -> None:
    """Renaming a box gives nobody its key."""

    def swap(value: dict[str, Any]) -> None:
        a, b = key_id(PUBLICS[0]), key_id(PUBLICS[1])
        value["keys"][a], value["keys"][b] = value["keys"][b], value["keys"][a]

    with pytest.raises(CannotOpen):
        read(encoded(swap), SECRETS[0])


@pytest.mark.parametrize("what", ["blobs", "mesh"])
def test_a_box_cannot_be_moved_to_another_study_or_mesh(what: str) -> None:
    """A forwarder must not be led to read one study's key as another's."""
    other = (
        build(blobs=[(BlobId(bytes(32)), 20 + OVERHEAD_BYTES)])
        if what == "blobs"
        else build(mesh=MeshId(bytes(32)))
    )
    stolen = cbor.decode(other[4:])["keys"]

    with pytest.raises(BadManifest):
        read(encoded(lambda value: value.update(keys=stolen)), SECRETS[0])


def test_an_index_of_another_study_does_not_open() -> None:
    """The index belongs to the key of its study."""
    other = cbor.decode(build(study_key=bytes(32))[4:])["index"]

    with pytest.raises(CannotOpen):
        read(encoded(lambda value: value.update(index=other)), SECRETS[0])


def test_index_segments_cannot_be_dropped_or_moved() -> None:
    """An index that lost a part would deliver a part of the study."""
    told = hashlib.shake_256(b"told").hexdigest(9_000_000)
    index = StudyIndex("2.25.5", (instance(1, 0, 20),), {"impression": told})
    data = build(index)
    value = cbor.decode(data[4:])
    a, b, c = value["index"]
    assert read(data, SECRETS[0]) == index

    for wrong in ([a, b], [a, c], [b, a, c], [a, a, c], [a, b, c, c]):
        with pytest.raises(BadManifest):
            read(b"CMM1" + cbor.encode({**value, "index": wrong}), SECRETS[0])


def test_a_recall_makes_the_same_new_entry_everywhere_and_opens_with_the_old_boxes() -> None:
    """The PACS lost a study: each holder announces it anew, without a key, as one entry."""
    data = build()
    again = recalled(data, RECALL)

    assert entry_id(again) != entry_id(data)
    assert again == recalled(data, RECALL) == recalled(recalled(data, bytes(16)), RECALL)
    assert parse_manifest(again).recall == RECALL
    assert read(again, SECRETS[2]) == INDEX
    with pytest.raises(BadValue):
        recalled(data, b"short")


def test_a_grant_opens_the_study_for_one_more_forwarder() -> None:
    """A forwarder that joined later can help to deliver."""
    manifest = parse_manifest(build(recipients=PUBLICS[:1]))

    name, box = seal_key(manifest, KEY, recipient=PUBLICS[2], ephemeral_seed=SEEDS[9])

    assert (name, open_box(manifest, box, SECRETS[2])) == (key_id(PUBLICS[2]), KEY)
    with pytest.raises(CannotOpen):
        open_box(manifest, box, SECRETS[1])
    with pytest.raises(CannotOpen):
        open_box(manifest, b"", SECRETS[1])


BLOB = [bytes(32), SEGMENT_BYTES + OVERHEAD_BYTES]
MALFORMED: dict[str, Callable[[dict[str, Any]], object]] = {
    "an unknown part": lambda v: v.update(more=1),
    "no keys": lambda v: v.update(keys={}),
    "33 keys": lambda v: v.update(keys={bytes([n] * 8): bytes(200) for n in range(33)}),
    "a short key id": lambda v: v["keys"].update({b"short": next(iter(v["keys"].values()))}),
    "a short box": lambda v: v["keys"].update({bytes(8): bytes(48)}),
    "keys as a list": lambda v: v.update(keys=[]),
    "no index": lambda v: v.update(index=[]),
    "index of numbers": lambda v: v.update(index=[1]),
    "a long index segment": lambda v: v.update(index=[bytes(SEGMENT_BYTES + OVERHEAD_BYTES + 1)]),
    "no public part": lambda v: v.pop("public"),
    "an unknown public field": lambda v: v["public"].update(patient="canary"),
    "version 2": lambda v: v["public"].update(v=2),
    "version true": lambda v: v["public"].update(v=True),
    "a short mesh": lambda v: v["public"].update(mesh=bytes(31)),
    "an empty recall": lambda v: v["public"].update(recall=b""),
    "a null recall": lambda v: v["public"].update(recall=None),
    "no blobs": lambda v: v["public"].update(blobs=[]),
    "a blob without a size": lambda v: v["public"].update(blobs=[[bytes(32)]]),
    "a blob with a short id": lambda v: v["public"].update(blobs=[[bytes(31), 68]]),
    "a blob with a negative size": lambda v: v["public"].update(blobs=[[bytes(32), -1]]),
    "a blob with a boolean size": lambda v: v["public"].update(blobs=[[bytes(32), True]]),
    "a blob smaller than its header": lambda v: v["public"].update(blobs=[[bytes(32), 47]]),
    "a blob larger than a segment": lambda v: v["public"].update(blobs=[[bytes(32), BLOB[1] + 1]]),
    "a short blob before the last": lambda v: v["public"].update(blobs=[[bytes(32), 68], [b"x" * 32, 68]]),
    "an empty last blob": lambda v: v["public"].update(blobs=[BLOB, [b"x" * 32, 48]]),
    "a blob twice": lambda v: v["public"].update(blobs=[BLOB, BLOB]),
    "too many blobs": lambda v: v["public"].update(
        blobs=[[n.to_bytes(32, "big"), BLOB[1]] for n in range(65_537)]
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_manifest_is_refused_before_any_key_is_tried(name: str) -> None:
    """What cannot be understood is not guessed."""
    with pytest.raises(BadManifest) as refused:
        parse_manifest(encoded(MALFORMED[name]))

    assert refused.value.code == "bad-manifest"
    assert "canary" not in str(refused.value)


def test_a_manifest_beyond_its_size_is_refused_unread() -> None:
    """A peer cannot fill the memory."""
    with pytest.raises(BadManifest):
        parse_manifest(b"CMM1" + bytes(32 * 1024 * 1024))


BAD_INDEXES: dict[str, Callable[[dict[str, Any]], object]] = {
    "version 2": lambda v: v.update(v=2),
    "version true": lambda v: v.update(v=True),
    "an unknown field": lambda v: v.update(more=1),
    "no study": lambda v: v.pop("study_uid"),
    "a study of bytes": lambda v: v.update(study_uid=b"x"),
    "no instances": lambda v: v.update(instances=[]),
    "confirmed as a list": lambda v: v.update(confirmed=[]),
    "an instance as a list": lambda v: v.update(instances=[[]]),
    "an instance without a uid": lambda v: v["instances"][0].pop("uid"),
    "an instance with more": lambda v: v["instances"][0].update(more=1),
    "a number as uid": lambda v: v["instances"][0].update(uid=1),
    "a negative size": lambda v: v["instances"][0].update(size=-1),
    "a boolean size": lambda v: v["instances"][0].update(size=True),
    "a short digest": lambda v: v["instances"][0].update(sha256=bytes(31)),
    "a gap at the start": lambda v: v["instances"][0].update(offset=1),
    "more than the blobs hold": lambda v: v["instances"][0].update(coded=21),
    "less than the blobs hold": lambda v: v["instances"][0].update(coded=19),
    "an overlap": lambda v: v["instances"].append({**v["instances"][0], "uid": "2.25.2"}),
    "an instance twice": lambda v: v["instances"].append({**v["instances"][0], "offset": 20, "coded": 0}),
}


def test_the_index_that_the_next_test_spoils_is_right_unspoilt() -> None:
    """Else that test would prove nothing."""
    assert read(with_index(index_value()), SECRETS[0]).study_uid == "2.25.9"


@pytest.mark.parametrize("name", BAD_INDEXES)
def test_a_malformed_index_is_refused_even_if_its_author_had_the_key(name: str) -> None:
    """A broken ingest node must not make a forwarder read past the blobs."""
    value = index_value()
    BAD_INDEXES[name](value)

    with pytest.raises(BadManifest):
        read(with_index(value), SECRETS[0])


def test_an_index_that_is_no_cbor_is_refused() -> None:
    """The same for bytes that mean nothing."""
    part = seal(KEY, PREFIX, 0, b"\xff", kind=Kind.INDEX, final=True)
    stream = seal(KEY, PREFIX, 0, cbor.encode(index_value()), kind=Kind.STREAM, final=True)
    for wrong in (part, stream, b"no segment"):
        with pytest.raises(BadManifest):
            read(encoded(lambda manifest, w=wrong: manifest.update(index=[w])), SECRETS[0])


BAD_BUILDS: dict[str, Callable[[], bytes]] = {
    "no recipients": lambda: build(recipients=[]),
    "33 recipients": lambda: build(recipients=[bytes(PrivateKey(seed).public_key) for seed in SEEDS]),
    "a recipient twice": lambda: build(recipients=[PUBLICS[0], PUBLICS[0]]),
    "no public key": lambda: build(recipients=[bytes(32)]),
    "a short public key": lambda: build(recipients=[bytes(31)]),
    "blobs that the instances do not fill": lambda: build(blobs=[(BLOBS[0][0], 100)]),
    "no instances": lambda: build(index=StudyIndex("2.25.1", (), {})),
    "a float in the confirmation": lambda: build(index=replace(INDEX, confirmed={"x": 1.5})),
    "a short study key": lambda: build(study_key=bytes(31)),
}


@pytest.mark.parametrize("name", BAD_BUILDS)
def test_no_manifest_is_made_that_nobody_could_read(name: str) -> None:
    """The mistake is found while the upload is still there."""
    with pytest.raises(BadValue):
        BAD_BUILDS[name]()


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_order(data: bytes) -> None:
    """Whatever a peer sends, the answer is a PeerError and never a crash."""
    for start in (b"", b"CMM1"):
        with pytest.raises(BadManifest):
            parse_manifest(start + data)


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2**63) | st.binary(max_size=40) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["v", "mesh", "blobs", "recall"]) | st.text(max_size=3), inner, max_size=4
        )
    ),
)


@settings(max_examples=200)
@given(public=JSONISH, index=JSONISH, keys=JSONISH)
def test_any_values_in_the_right_parts_are_refused_in_order(public: Any, index: Any, keys: Any) -> None:
    """Well-formed CBOR of the wrong shape is no reason to crash either."""
    right = cbor.decode(build()[4:])
    for change in ({"public": public}, {"index": index}, {"keys": keys}):
        try:
            parse_manifest(b"CMM1" + cbor.encode({**right, **change}))
        except BadManifest:
            continue
        assert "index" in change  # a list of short byte strings waits for its key


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_golden_vectors_hold(vector: dict[str, Any]) -> None:
    """Studies sealed by older programs stay readable, and the same input makes the same entry."""
    value = vector["index"]
    index = StudyIndex(
        value["study_uid"],
        tuple(
            IndexedInstance(
                uid=item["uid"],
                sop_class=item["class"],
                syntax=item["syntax"],
                offset=item["offset"],
                coded=item["coded"],
                codec=item["codec"],
                size=item["size"],
                sha256=bytes.fromhex(item["sha256"]),
            )
            for item in value["instances"]
        ),
        value["confirmed"],
    )
    secrets = [bytes.fromhex(secret) for secret in vector["secrets"]]
    data = build_manifest(
        index,
        [(BlobId(bytes.fromhex(blob_id)), size) for blob_id, size in vector["blobs"]],
        study_key=bytes.fromhex(vector["study_key"]),
        mesh=MeshId(bytes.fromhex(vector["mesh"])),
        recipients=[bytes(PrivateKey(secret).public_key) for secret in secrets],
        index_prefix=bytes.fromhex(vector["index_prefix"]),
        ephemeral_seeds=[bytes.fromhex(seed) for seed in vector["ephemeral_seeds"]],
    )

    assert data.hex() == vector["manifest"]
    assert entry_id(data).hex() == vector["entry_id"]
    assert [read(data, secret) for secret in secrets] == [index] * len(secrets)
    assert entry_id(recalled(data, bytes.fromhex(vector["recall"]))).hex() == vector["recalled_entry_id"]


def test_nothing_of_the_patient_is_shown() -> None:
    """An index in a traceback does not name anyone."""
    assert "2.25" not in repr(INDEX) + repr(INDEX.instances[0])
