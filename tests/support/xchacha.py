"""XChaCha20-Poly1305 built another way: HChaCha20 in Python, the rest by OpenSSL. For differential tests."""

import hashlib
import struct

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305


def _rotated(value: int, by: int) -> int:
    return ((value << by) | (value >> (32 - by))) & 0xFFFFFFFF


def _quarter(s: list[int], a: int, b: int, c: int, d: int) -> None:
    for x, y, z, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        s[x] = (s[x] + s[y]) & 0xFFFFFFFF
        s[z] = _rotated(s[z] ^ s[x], by)


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """Derive a subkey (draft-irtf-cfrg-xchacha-03 §2.2)."""
    s = list(struct.unpack("<16I", b"expand 32-byte k" + key + nonce))
    for _ in range(10):
        for n in range(4):
            _quarter(s, n, n + 4, n + 8, n + 12)
        for n in range(4):
            _quarter(s, n, 4 + (n + 1) % 4, 8 + (n + 2) % 4, 12 + (n + 3) % 4)
    return struct.pack("<8I", *s[:4], *s[12:])


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
