"""One value has exactly one encoding: else a hash or a signature could have two meanings or two names."""

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync import cbor
from sync.errors import BadCbor, BadValue

_KEYS = st.integers(-(2**64), 2**64 - 1) | st.text(max_size=8) | st.binary(max_size=8)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.binary(max_size=40)
    | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_KEYS, inner, max_size=5),
    max_leaves=12,
)
_BOUNDED = settings(max_examples=150, deadline=None, derandomize=True)

# What RFC 8949 §4.2.1 forbids, and what the protocol has no use for. A decoder that runs the tags
# of its library would compile regular expressions and compute huge numbers for a stranger.
REFUSED = {
    "nothing": "",
    "a number in two octets that fits one": "1805",
    "a number in nine octets that fits five": "1b0000000000000001",
    "a length longer than needed": "580161",
    "octets of indefinite length": "5f4161ff",
    "text of indefinite length": "7f6161ff",
    "a list of indefinite length": "9f01ff",
    "a map of indefinite length": "bf0102ff",
    "keys out of order": "a202000100",
    "a longer key before a shorter one": "a2616161626100",
    "a key twice": "a201000100",
    "a key that is true": "a1f500",
    "a key that is null": "a1f600",
    "a key that is a list": "a18000",
    "something that follows": "0000",
    "a list cut off": "8201",
    "half a number": "1901",
    "a float": "f93c00",
    "not a number": "f97e00",
    "undefined": "f7",
    "a simple value": "f0",
    "a tag": "c100",
    "a big number": "c249010000000000000000",
    "a small big number": "c24105",
    "a self-described value": "d9d9f700",
    "a regular expression": "d8236128",
    "a fraction by zero": "d81e820100",
    "a decimal without end": "c4821b7fffffffffffffff01",
    "a shared value in itself": "d81c81d81d00",
    "a set": "d901028101",
    "a lone surrogate": "63eda080",
    "text that is not UTF-8": "61ff",
    "a list of two thousand million": "9a7fffffff",
    "octets of two thousand million": "5a7fffffff",
    "a map of two thousand million": "ba7fffffff",
    "a break": "ff",
    "nesting beyond sixteen": "81" * 17 + "00",
    "nesting beyond any stack": "81" * 60_000 + "00",
}


@pytest.mark.parametrize("name", REFUSED)
def test_any_other_form_is_refused(name: str) -> None:
    """Who can write a signed statement in another way gives it a second name, and it is stored twice."""
    with pytest.raises(BadCbor):
        cbor.decode(bytes.fromhex(REFUSED[name]))


@_BOUNDED
@given(VALUES)
def test_what_is_encoded_comes_back(value: object) -> None:
    """Everything the protocol says must arrive as it was said."""
    data = cbor.encode(value)

    assert cbor.decode(data) == value
    assert cbor2.loads(data) == value


@_BOUNDED
@given(st.binary(max_size=60))
def test_a_decoder_never_fails_otherwise(data: bytes) -> None:
    """A stranger's octets may be refused; they must not end a thread."""
    try:
        value = cbor.decode(data)
    except BadCbor:
        return
    assert cbor.encode(value) == data


@_BOUNDED
@given(VALUES, st.data())
def test_every_changed_octet_changes_the_value_or_is_refused(value: object, data: st.DataObject) -> None:
    """Otherwise two encodings would mean the same."""
    encoded = cbor.encode(value)
    place = data.draw(st.integers(0, len(encoded) * 8 - 1))
    changed = bytearray(encoded)
    changed[place // 8] ^= 1 << place % 8
    try:
        other = cbor.decode(bytes(changed))
    except BadCbor:
        return

    assert repr(other) != repr(value)


@pytest.mark.parametrize("value", [1.5, 2**64, -(2**64) - 1, {None: 1}, {True: 1}, object(), {"a": {1.0: 2}}])
def test_what_cannot_be_said_is_our_own_mistake(value: object) -> None:
    """A node that tries must hear of it before it signs."""
    with pytest.raises(BadValue):
        cbor.encode(value)


def test_maps_are_sorted_by_their_encoded_keys() -> None:
    """RFC 8949 §4.2.1 sorts by octets, so shorter keys come first, and numbers before text."""
    assert cbor.encode({"aa": 1, "b": 2, 10: 3, -1: 4, b"": 5}).hex() == "a50a0320044005616202626161" + "01"
