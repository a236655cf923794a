"""The recovery sheet: the two secrets of a mesh that are on paper and on no machine.

From the root seed come the mesh's root, which admits and revokes, and the root of the certificates that
people's devices install. The recovery seed opens every study. Called by `init`, which prints it once, and by
the commands that a person starts with the sheet in hand.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Self

from cryptography.hazmat.primitives.asymmetric import ec
from nacl import utils
from nacl.signing import SigningKey

from node.errors import Refused
from node.keys import Random, p256_key, x25519_public

_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: no I, L, O, U
_VALUES = {letter: value for value, letter in enumerate(_LETTERS)} | {"O": 0, "I": 1, "L": 1}
_LINES = 4
_LINE_DATA = 13  # characters; 4 lines hold 260 bits, of which the last 4 are zero
_LINE_CHECK = 3
_CRC15 = 0x4599  # of CAN: finds every error within three neighbouring characters


@dataclass(frozen=True, slots=True)
class RecoverySheet:
    """What is printed once and kept on paper: whoever holds it is the mesh."""

    root_seed: bytes = field(repr=False)
    recovery_seed: bytes = field(repr=False)

    @classmethod
    def create(cls, random: Random = utils.random) -> Self:
        """Make the secrets of a new mesh."""
        return cls(random(32), random(32))

    @property
    def root_key(self) -> SigningKey:
        """The mesh's root."""
        return SigningKey(_derive(self.root_seed, b"CM mesh root", 32))

    @property
    def web_root_key(self) -> ec.EllipticCurvePrivateKey:
        """The P-256 key of the certificate that people's devices install."""
        return p256_key(_derive(self.root_seed, b"CM web root", 64))

    @property
    def recovery_secret(self) -> bytes:
        """The X25519 secret that opens every study of the mesh."""
        return _derive(self.recovery_seed, b"CM recovery", 32)

    @property
    def recovery_public(self) -> bytes:
        """Its public half, which the genesis names."""
        return x25519_public(self.recovery_secret)

    def lines(self) -> list[str]:
        """Return the sheet's eight lines, A1 to A4 for the root and B1 to B4 for the recovery.

        Each line carries 13 characters of the secret and 3 to check them.
        """
        return [*_spell("A", self.root_seed), *_spell("B", self.recovery_seed)]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a sheet that a person typed, in any case and spacing.

        Raises:
            Refused: a line is missing or mistyped; the text says which.
        """
        return cls(_unspell("A", text), _unspell("B", text))


def _spell(block: str, secret: bytes) -> list[str]:
    number = int.from_bytes(secret, "big") << 4
    letters = "".join(_LETTERS[number >> shift & 31] for shift in range(255, -1, -5))
    lines = []
    for index in range(_LINES):
        data = letters[index * _LINE_DATA : (index + 1) * _LINE_DATA]
        check = _check(block, index, data)
        whole = data + "".join(_LETTERS[check >> shift & 31] for shift in (10, 5, 0))
        lines.append(f"{block}{index + 1} " + " ".join(whole[i : i + 4] for i in range(0, len(whole), 4)))
    return lines


def _unspell(block: str, text: str) -> bytes:
    typed = {}
    for line in text.upper().splitlines():
        letters = "".join(c for c in line if c.isalnum())
        typed[letters[:2]] = letters[2:]
    number = 0
    for index in range(_LINES):
        name = f"{block}{index + 1}"
        letters = typed.get(name, "")
        values = [_VALUES.get(letter, -1) for letter in letters]
        if len(values) != _LINE_DATA + _LINE_CHECK or -1 in values:
            raise Refused("recovery-sheet-wrong", f"Line {name} is missing or has a wrong character.")
        data = "".join(_LETTERS[value] for value in values[:_LINE_DATA])
        check = values[-3] << 10 | values[-2] << 5 | values[-1]
        if check != _check(block, index, data):
            raise Refused("recovery-sheet-wrong", f"Line {name} has a typing error.")
        for value in values[:_LINE_DATA]:
            number = number << 5 | value
    if number & 15:
        raise Refused("recovery-sheet-wrong", f"Line {block}{_LINES} has a typing error.")
    return (number >> 4).to_bytes(32, "big")


def _check(block: str, index: int, data: str) -> int:
    """Return a cyclic redundancy check that knows which line it is."""
    register = ord(block) << 3 | index
    for letter in data:
        for shift in range(4, -1, -1):
            bit = (_LETTERS.index(letter) >> shift & 1) ^ (register >> 14)
            register = (register << 1 & 0x7FFF) ^ (_CRC15 if bit else 0)
    return register


def _derive(seed: bytes, purpose: bytes, size: int) -> bytes:
    return hashlib.blake2b(key=seed, person=purpose, digest_size=size).digest()
