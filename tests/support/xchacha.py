"""Segments sealed another way than by libsodium: `node.xchacha` and OpenSSL. For differential tests."""

import hashlib
import struct

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from node.xchacha import hchacha20


def seal_segment(
    study_key: bytes, prefix: bytes, counter: int, plaintext: bytes, *, kind: int, final: bool
) -> bytes:
    """Seal one segment as docs/protocol.md §4 says it, without the production code."""
    person = {1: b"CM stream", 2: b"CM index"}[kind]
    key = hashlib.blake2b(prefix, digest_size=32, key=study_key, person=person).digest()
    header = b"CMB1" + bytes([1, kind, int(final), 0]) + prefix + struct.pack(">Q", counter)
    nonce = prefix + struct.pack(">Q", counter | (int(final) << 63))
    inner = ChaCha20Poly1305(hchacha20(key, nonce[:16]))
    return header + inner.encrypt(bytes(4) + nonce[16:], plaintext, header)
