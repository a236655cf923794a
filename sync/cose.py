"""COSE_Sign1 with Ed25519 (RFC 9052 §4.2, RFC 9053 §2.2): sign, take apart, verify.

The unprotected header is always empty, and every part has one encoding only, so that nobody can
give a signed statement a second name. `external_aad` carries the purpose: nothing that was signed
for one purpose is valid for another.
"""

from dataclasses import dataclass
from typing import Any

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from sync import cbor
from sync.errors import BadCbor, BadFact

ALG_EDDSA = -8
_TAG_SIGN1 = b"\xd2"  # tag 18, in its one-byte form
_SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Sign1:
    """The parts of a COSE_Sign1 message; `protected` and `payload` as the bytes that were signed."""

    protected: bytes
    payload: bytes
    signature: bytes


def sign(protected: bytes, payload: bytes, *, key: SigningKey, external_aad: bytes) -> bytes:
    """Return the tagged COSE_Sign1 bytes."""
    signature = key.sign(_to_be_signed(protected, payload, external_aad)).signature
    return _TAG_SIGN1 + cbor.encode([protected, {}, payload, signature])


def parse(data: bytes) -> Sign1:
    """Take a tagged COSE_Sign1 message apart without verifying it.

    Raises:
        BadFact: not exactly one COSE_Sign1 in its only form.
    """
    if data[:1] != _TAG_SIGN1:
        raise BadFact("not a COSE_Sign1")
    try:
        value: Any = cbor.decode(data[1:])
    except BadCbor:
        raise BadFact("not a COSE_Sign1 in deterministic CBOR") from None
    match value:
        case [bytes(protected), dict(unprotected), bytes(payload), bytes(signature)]:
            if unprotected:
                raise BadFact("the unprotected header is not empty")
            if len(signature) != _SIGNATURE_BYTES:
                raise BadFact("a signature of the wrong length")
            return Sign1(protected, payload, signature)
    raise BadFact("not a COSE_Sign1")


def verify(message: Sign1, *, public_key: bytes, external_aad: bytes) -> None:
    """Check the signature.

    Raises:
        BadFact: the signature is not that key's over these bytes and this purpose.
    """
    signed = _to_be_signed(message.protected, message.payload, external_aad)
    try:
        VerifyKey(public_key).verify(signed, message.signature)
    except (BadSignatureError, ValueError, TypeError):
        raise BadFact("the signature is wrong") from None


def _to_be_signed(protected: bytes, payload: bytes, external_aad: bytes) -> bytes:
    """Return the Sig_structure of RFC 9052 §4.4."""
    return cbor.encode(["Signature1", protected, external_aad, payload])
