"""Invitation codes: what the inviter shows and the joiner types (docs/protocol.md §6).

130 bits in 26 signs of Crockford's base32: 80 bits of the inviter's key fingerprint, so that the
joiner talks to nobody else; 40 bits of secret, so that nobody else joins; 10 bits of check, so that a
slip of the finger is told apart from a wrong code.
"""

import hashlib
from dataclasses import dataclass

from sync.errors import BadInvitation
from sync.ids import NodeId

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {sign: value for value, sign in enumerate(_ALPHABET)} | {"O": 0, "I": 1, "L": 1}
_SIGNS = 26
FINGERPRINT_BYTES = 10
SECRET_BYTES = 5


@dataclass(frozen=True, slots=True)
class Invitation:
    """The two halves of a code."""

    fingerprint: bytes
    secret: bytes

    def invites_to(self, node: NodeId) -> bool:
        """Say whether this code was made by the node with this key."""
        return fingerprint_of(node) == self.fingerprint


def fingerprint_of(node: NodeId) -> bytes:
    """Return the part of a key's fingerprint that a code holds."""
    return hashlib.sha256(node).digest()[:FINGERPRINT_BYTES]


def encode_code(invitation: Invitation) -> str:
    """Return the code in groups, for people."""
    body = invitation.fingerprint + invitation.secret
    number = int.from_bytes(body) << 10 | _check(body)
    signs = "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(_SIGNS)))
    return "-".join(signs[start : start + 5] for start in range(0, _SIGNS, 5))


def parse_code(text: str) -> Invitation:
    """Return what a typed code says; spaces, dashes, case and look-alike letters do not matter.

    Raises:
        BadInvitation: a sign is missing or wrong.
    """
    signs = [sign for sign in text.upper() if sign not in "- \t\n"]
    if len(signs) != _SIGNS or any(sign not in _VALUES for sign in signs):
        raise BadInvitation("the code is incomplete, or holds a sign that no code has")
    number = 0
    for sign in signs:
        number = number << 5 | _VALUES[sign]
    body = (number >> 10).to_bytes(FINGERPRINT_BYTES + SECRET_BYTES)
    if number & 1023 != _check(body):
        raise BadInvitation("the code has a typing error")
    return Invitation(body[:FINGERPRINT_BYTES], body[FINGERPRINT_BYTES:])


def _check(body: bytes) -> int:
    return int.from_bytes(hashlib.sha256(b"clinicmesh/code/1:" + body).digest()[:2]) >> 6
