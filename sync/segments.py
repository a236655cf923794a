"""Segments: a sealed stream in pieces of 4 MiB, each piece one blob (docs/protocol.md §4).

XChaCha20-Poly1305 in the STREAM construction: the nonce counts, and the last piece says that it is the
last, so a piece that is moved, repeated, left out or cut off does not open. A subkey for each purpose and
prefix. Pure: keys and prefixes are handed in. Called by `sync.manifest` and the node's vault.
"""

import hashlib
from dataclasses import dataclass, field
from enum import IntEnum

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError

from sync.errors import BadBlob, BadValue, CannotOpen

SEGMENT_BYTES = 4 * 1024 * 1024  # of plaintext, in every segment but the last
HEADER_BYTES = 32
OVERHEAD_BYTES = HEADER_BYTES + 16  # with Poly1305's tag
KEY_BYTES = 32
PREFIX_BYTES = 16

_MAGIC = b"CMB1"
_SUITE = 1
_FINAL = 1
_COUNTER_LIMIT = 1 << 63


class Kind(IntEnum):
    """What a stream of segments holds."""

    STREAM = 1
    INDEX = 2


_PURPOSE = {Kind.STREAM: b"CM stream", Kind.INDEX: b"CM index"}


@dataclass(frozen=True, slots=True)
class Segment:
    """An opened segment and its place in the stream."""

    kind: Kind
    prefix: bytes
    counter: int
    final: bool
    plaintext: bytes = field(repr=False)


def seal(
    study_key: bytes, prefix: bytes, counter: int, plaintext: bytes, *, kind: Kind, final: bool
) -> bytes:
    """Return the blob of one segment.

    The same key and prefix must never seal two streams.

    Raises:
        BadValue: a length or the counter is not what the protocol allows.
    """
    if len(study_key) != KEY_BYTES or len(prefix) != PREFIX_BYTES or not 0 <= counter < _COUNTER_LIMIT:
        raise BadValue("a key, prefix or counter that the protocol does not know")
    if not _length_allowed(len(plaintext), counter, final):
        raise BadValue("a segment of the wrong length")
    header = b"".join((_MAGIC, bytes((_SUITE, kind, _FINAL if final else 0, 0)), prefix, _u64(counter)))
    sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(
        plaintext, header, _nonce(prefix, counter, final), _subkey(study_key, prefix, kind)
    )
    return header + sealed


def open_(study_key: bytes, blob: bytes) -> Segment:
    """Open one segment; the caller checks that kind, prefix, counter and final are what it expects.

    Raises:
        BadBlob: not a segment in its only form.
        CannotOpen: the key is another's, or the bytes were changed.
    """
    if not OVERHEAD_BYTES <= len(blob) <= OVERHEAD_BYTES + SEGMENT_BYTES:
        raise BadBlob("a segment of the wrong length")
    header = blob[:HEADER_BYTES]
    suite, kind_value, flags, reserved = header[4:8]
    counter = int.from_bytes(header[24:], "big")
    if header[:4] != _MAGIC or suite != _SUITE or kind_value not in _PURPOSE or flags not in (0, _FINAL):
        raise BadBlob("not a segment that this program knows")
    kind, prefix, final = Kind(kind_value), header[8:24], flags == _FINAL
    if reserved or counter >= _COUNTER_LIMIT:
        raise BadBlob("not a segment in its only form")
    if not _length_allowed(len(blob) - OVERHEAD_BYTES, counter, final):
        raise BadBlob("a segment of the wrong length")
    try:
        plaintext = crypto_aead_xchacha20poly1305_ietf_decrypt(
            blob[HEADER_BYTES:], header, _nonce(prefix, counter, final), _subkey(study_key, prefix, kind)
        )
    except CryptoError:
        raise CannotOpen("the segment does not open with this key") from None
    return Segment(kind, prefix, counter, final, plaintext)


def open_at(
    study_key: bytes, blob: bytes, *, kind: Kind, counter: int, final: bool, prefix: bytes | None
) -> Segment:
    """Open the segment that must stand at `counter`; `prefix` is that of its neighbours, if one is known.

    Raises:
        BadBlob: it is no segment, or one of another place, stream or purpose.
        CannotOpen: the key is another's, or the bytes were changed.
    """
    segment = open_(study_key, blob)
    if (segment.kind, segment.counter, segment.final) != (kind, counter, final):
        raise BadBlob("a segment of another place")
    if prefix is not None and segment.prefix != prefix:
        raise BadBlob("a segment of another stream")
    return segment


def count_for(stream_bytes: int) -> int:
    """Return how many segments a stream of so many octets has; an empty one has one."""
    return max(1, -(-stream_bytes // SEGMENT_BYTES))


def _length_allowed(length: int, counter: int, final: bool) -> bool:
    """Tell whether a segment may have this length: full, or the last; empty only if it is the only one."""
    if not final:
        return length == SEGMENT_BYTES
    return length <= SEGMENT_BYTES and (length > 0 or counter == 0)


def _subkey(study_key: bytes, prefix: bytes, kind: Kind) -> bytes:
    return hashlib.blake2b(prefix, digest_size=KEY_BYTES, key=study_key, person=_PURPOSE[kind]).digest()


def _nonce(prefix: bytes, counter: int, final: bool) -> bytes:
    return prefix + _u64(counter | (_COUNTER_LIMIT if final else 0))


def _u64(value: int) -> bytes:
    return value.to_bytes(8, "big")
