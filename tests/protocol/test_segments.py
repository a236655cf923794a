"""A sealed stream opens as it was sealed, or not at all."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.xchacha import seal_segment

from sync.errors import BadBlob, BadValue, CannotOpen, PeerError
from sync.segments import (
    OVERHEAD_BYTES,
    SEGMENT_BYTES,
    Kind,
    count_for,
    open_,
    open_at,
    seal,
)

KEY = bytes(range(32))
PREFIX = bytes(range(100, 116))
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "segments.json").read_text())
FULL = bytes(SEGMENT_BYTES)


def stream(*tails: bytes, key: bytes = KEY, prefix: bytes = PREFIX) -> list[bytes]:
    """Seal a stream of full segments that ends with one shorter one."""
    last = len(tails) - 1
    return [
        seal(key, prefix, n, tail if n == last else FULL, kind=Kind.STREAM, final=n == last)
        for n, tail in enumerate(tails)
    ]


def opened(blobs: list[bytes]) -> bytes:
    """Open a stream as a reader does: each segment at its place."""
    plain = b""
    prefix = None
    for n, blob in enumerate(blobs):
        segment = open_at(KEY, blob, kind=Kind.STREAM, counter=n, final=n == len(blobs) - 1, prefix=prefix)
        prefix = segment.prefix
        plain += segment.plaintext
    return plain


@given(
    key=st.binary(min_size=32, max_size=32),
    prefix=st.binary(min_size=16, max_size=16),
    counter=st.integers(0, 2**63 - 1),
    plaintext=st.binary(min_size=1, max_size=300),
    kind=st.sampled_from(Kind),
)
def test_what_is_sealed_opens_and_equals_an_independent_construction(
    key: bytes, prefix: bytes, counter: int, plaintext: bytes, kind: Kind
) -> None:
    """Another program must be able to read our studies in twenty years."""
    blob = seal(key, prefix, counter, plaintext, kind=kind, final=True)
    segment = open_(key, blob)

    assert blob == seal_segment(key, prefix, counter, plaintext, kind=kind, final=True)
    assert (segment.kind, segment.prefix, segment.counter, segment.final) == (kind, prefix, counter, True)
    assert segment.plaintext == plaintext
    assert len(blob) == len(plaintext) + OVERHEAD_BYTES


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_golden_vectors_hold(vector: dict[str, object]) -> None:
    """The format cannot change by accident."""
    key, prefix = bytes.fromhex(str(vector["study_key"])), bytes.fromhex(str(vector["prefix"]))
    plaintext = bytes.fromhex(str(vector["plaintext"])) * int(str(vector["times"]))
    blob = seal(
        key,
        prefix,
        int(str(vector["counter"])),
        plaintext,
        kind=Kind(int(str(vector["kind"]))),
        final=bool(vector["final"]),
    )

    assert hashlib.sha256(blob).hexdigest() == vector["blob_id"]
    if "blob" in vector:
        assert blob.hex() == vector["blob"]
    assert open_(key, blob).plaintext == plaintext


def test_every_flipped_bit_is_refused() -> None:
    """One changed bit anywhere, header included, and the segment does not open."""
    blob = seal(KEY, PREFIX, 3, b"part of a study", kind=Kind.STREAM, final=True)
    for position in range(len(blob)):
        for bit in range(8):
            changed = bytearray(blob)
            changed[position] ^= 1 << bit
            with pytest.raises(PeerError) as refused:
                open_(KEY, bytes(changed))
            assert refused.value.code in ("bad-blob", "cannot-open")


def test_every_truncation_and_every_tail_is_refused() -> None:
    """A blob that was cut off on a stick is not a shorter blob."""
    blob = seal(KEY, PREFIX, 0, b"part of a study", kind=Kind.STREAM, final=True)
    for length in range(len(blob)):
        with pytest.raises(PeerError):
            open_(KEY, blob[:length])
    with pytest.raises(PeerError):
        open_(KEY, blob + b"\0")
    with pytest.raises(BadBlob):
        open_(KEY, blob + bytes(SEGMENT_BYTES))


def test_a_stream_opens_in_its_order_only() -> None:
    """Reordered, repeated, dropped or cut off: a study is whole or it is refused."""
    a, b, c = stream(b"", b"", b"end")
    assert opened([a, b, c]) == FULL + FULL + b"end"

    for wrong in ([b, a, c], [a, a, c], [a, a, b, c], [a, c], [b, c], [a, b], [a], [a, b, b], [a, b, c, c]):
        with pytest.raises(BadBlob):
            opened(wrong)


def test_a_segment_of_another_stream_or_key_is_refused() -> None:
    """The same place in another study is another place."""
    a, _ = stream(b"", b"end")
    _, other_prefix = stream(b"", b"end", prefix=bytes(16))
    _, other_key = stream(b"", b"end", key=bytes(32))

    with pytest.raises(BadBlob):
        opened([a, other_prefix])
    with pytest.raises(CannotOpen):
        opened([a, other_key])


def test_an_index_cannot_pass_for_a_stream() -> None:
    """The two have different keys, and say what they are."""
    index = seal(KEY, PREFIX, 0, b"index", kind=Kind.INDEX, final=True)
    disguised = index[:5] + b"\x01" + index[6:]

    with pytest.raises(BadBlob):
        opened([index])
    with pytest.raises(CannotOpen):
        opened([disguised])


def test_the_final_flag_cannot_be_set_or_taken_away() -> None:
    """Cutting a study short needs the key."""
    last = seal(KEY, PREFIX, 0, FULL, kind=Kind.STREAM, final=True)
    first = seal(KEY, PREFIX, 0, FULL, kind=Kind.STREAM, final=False)

    for blob, flag in ((last, b"\x00"), (first, b"\x01")):
        with pytest.raises(CannotOpen):
            open_(KEY, blob[:6] + flag + blob[7:])


def test_only_the_lengths_of_the_protocol_are_sealed_or_opened() -> None:
    """Random access counts on full segments; an empty end would be a second form of the same stream."""
    for plaintext, counter, final in ((b"short", 0, False), (b"", 1, True), (b"", 0, False)):
        with pytest.raises(BadValue):
            seal(KEY, PREFIX, counter, plaintext, kind=Kind.STREAM, final=final)
        with pytest.raises(BadBlob):
            open_(KEY, seal_segment(KEY, PREFIX, counter, plaintext, kind=1, final=final))
    with pytest.raises(BadValue):
        seal(KEY, PREFIX, 0, FULL + b"!", kind=Kind.STREAM, final=True)
    with pytest.raises(BadBlob):
        open_(KEY, seal_segment(KEY, PREFIX, 0, FULL + b"!", kind=1, final=True))
    assert open_(KEY, seal(KEY, PREFIX, 0, b"", kind=Kind.STREAM, final=True)).plaintext == b""


@pytest.mark.parametrize(
    ("key", "prefix", "counter"),
    [(KEY[:31], PREFIX, 0), (KEY, PREFIX[:15], 0), (KEY, PREFIX, 2**63), (KEY, PREFIX, -1)],
)
def test_wrong_keys_prefixes_and_counters_are_our_own_fault(key: bytes, prefix: bytes, counter: int) -> None:
    """They are caught before they seal something that nobody can open."""
    with pytest.raises(BadValue):
        seal(key, prefix, counter, b"x", kind=Kind.STREAM, final=True)


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_order(data: bytes) -> None:
    """Whatever a peer sends, the answer is a PeerError and never a crash."""
    with pytest.raises(PeerError):
        open_(KEY, data)
    with pytest.raises(PeerError):
        open_(KEY, b"CMB1\x01\x01\x01\x00" + data)


def test_segments_are_counted() -> None:
    """An empty stream has one segment; a full one no empty tail."""
    sizes = (0, 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 3 * SEGMENT_BYTES)

    assert [count_for(size) for size in sizes] == [1, 1, 1, 2, 3]


def test_plaintext_is_not_shown() -> None:
    """A segment in a traceback does not print the study."""
    assert "canary" not in repr(open_(KEY, seal(KEY, PREFIX, 0, b"canary", kind=Kind.STREAM, final=True)))
