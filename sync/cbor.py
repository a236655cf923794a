"""Deterministic CBOR (RFC 8949 §4.2.1), restricted to what the protocol needs.

Values are integers from -2^64 to 2^64-1, byte and text strings, lists, maps with such keys,
booleans and None. No floats, no tags, no indefinite lengths: one value has exactly one encoding,
so a hash or a signature over the bytes is one over the meaning. Home of cbor2.
"""

from collections.abc import Mapping
from typing import Any

import cbor2

from sync.errors import BadCbor, BadValue

_MAX_DEPTH = 16


def encode(value: Any) -> bytes:
    """Return the one encoding of `value`.

    Raises:
        BadValue: the value holds something that the protocol does not know.
    """
    return bytes(cbor2.dumps(_ordered(value, 0)))


def decode(data: bytes) -> Any:
    """Return the value that `data` encodes.

    Raises:
        BadCbor: the bytes are not the one encoding of a value, or something follows it.
    """
    try:
        value = cbor2.loads(data)
        same = bytes(cbor2.dumps(_ordered(value, 0))) == data
    except (BadValue, RecursionError, ValueError, TypeError, EOFError, OverflowError, cbor2.CBORError):
        raise BadCbor("not deterministic CBOR") from None
    if not same:
        raise BadCbor("not the deterministic encoding of its value")
    return value


def _ordered(value: Any, depth: int) -> Any:
    """Copy `value` with its maps in bytewise order of the encoded keys."""
    if depth > _MAX_DEPTH:
        raise BadValue("nested too deeply")
    kind = type(value)
    if kind is dict:
        keyed = sorted((bytes(cbor2.dumps(_key(k))), k) for k in value)
        return {k: _ordered(value[k], depth + 1) for _, k in keyed}
    if kind is list or kind is tuple:
        return [_ordered(item, depth + 1) for item in value]
    if kind is int:
        if not -(2**64) <= value < 2**64:
            raise BadValue("integer beyond 64 bits")
        return value
    if kind is bytes or kind is str or kind is bool or value is None:
        return value
    if isinstance(value, Mapping):
        return _ordered(dict(value), depth)
    raise BadValue("a type that the protocol does not know")


def _key(key: Any) -> Any:
    if type(key) not in (int, str, bytes):
        raise BadValue("a map key that the protocol does not know")
    return key
