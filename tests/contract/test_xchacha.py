"""XChaCha20-Poly1305 by OpenSSL: the same octets as libsodium's, in both directions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings

from node.errors import StoreDamaged
from node.xchacha import TAG_BYTES, Box, hchacha20

KEYS = st.binary(min_size=32, max_size=32)
SALTS = st.binary(min_size=16, max_size=16)


def sealed(box: Box, plaintext: bytes, context: bytes) -> tuple[bytes, bytes]:
    buffer = bytearray(len(plaintext) + TAG_BYTES)
    nonce = box.seal_into(memoryview(buffer), plaintext, context)
    return nonce, bytes(buffer)


@given(KEYS, SALTS, st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=4), st.binary())
def test_libsodium_opens_what_is_sealed(key: bytes, salt: bytes, pieces: list[bytes], context: bytes) -> None:
    """Uploads under way survive an update of the program, and a way back."""
    box = Box(key, salt)
    frames = [sealed(box, piece, context) for piece in pieces]
    opened = [
        bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(data, context, nonce, key)
        for nonce, data in frames
    ]

    assert opened == pieces
    assert len({nonce for nonce, _ in frames}) == len(frames)


@given(KEYS, st.binary(min_size=24, max_size=24), st.binary(max_size=300), st.binary())
def test_what_libsodium_sealed_is_opened(key: bytes, nonce: bytes, plaintext: bytes, context: bytes) -> None:
    """Version 0.1.0 wrote frames with a random nonce each."""
    data = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, context, nonce, key)

    assert Box(key, nonce[:16]).open(nonce, memoryview(data), context) == plaintext


@pytest.mark.parametrize("altered", ["sealed", "nonce", "context", "key"])
def test_what_was_altered_does_not_open(altered: str) -> None:
    """A frame belongs to one place of one upload."""
    key, salt, context = bytes(range(32)), bytes(16), b"here"
    nonce, data = sealed(Box(key, salt), b"part of a study", context)
    if altered == "sealed":
        data = bytes([data[0] ^ 1]) + data[1:]
    if altered == "nonce":
        nonce = nonce[:-1] + b"\1"
    if altered == "context":
        context = b"there"
    if altered == "key":
        key = key[::-1]

    with pytest.raises(StoreDamaged):
        Box(key, salt).open(nonce, memoryview(data), context)


def test_the_derived_key_is_that_of_the_draft() -> None:
    """The test vector of draft-irtf-cfrg-xchacha-03 §2.2.1."""
    salt = bytes.fromhex("000000090000004a0000000031415927")

    assert hchacha20(bytes(range(32)), salt).hex() == (
        "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"
    )
