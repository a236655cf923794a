"""The recovery sheet: the two secrets of a mesh that are on paper and on no machine.

From the root seed comes a root of the mesh, which admits and revokes. The recovery seed opens every study.
A mesh of one root has one sheet, with the root in block A. A mesh of several has as many sheets, with the
roots in blocks C to E and the same recovery block B on each, so that any one of them is enough. The root of
the certificates that people's devices install comes from block A, or, where there are several, from B.
Called by `init`, which prints the sheets once, and by the commands that a person starts with one in hand.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Self

from cryptography.hazmat.primitives.asymmetric import ec
from nacl import utils
from nacl.signing import SigningKey

from node.errors import Refused
from node.keys import Random, p256_key, x25519_public
from sync import facts
from sync.bodies import Body
from sync.ids import HlcMs, MeshId, NodeId

_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: no I, L, O, U
_VALUES = {letter: value for value, letter in enumerate(_LETTERS)} | {"O": 0, "I": 1, "L": 1}
_ONLY, _RECOVERY, _SEVERAL = "A", "B", "CDE"
MAX_ROOTS = len(_SEVERAL)
_LINES = 4
_LINE_DATA = 13  # characters; 4 lines hold 260 bits, of which the last 4 are zero
_LINE_CHECK = 3
_CRC15 = 0x4599  # of CAN: finds every error within three neighbouring characters


@dataclass(frozen=True, slots=True)
class MeshRoot:
    """A root of the mesh, for the moment in which it signs."""

    key: SigningKey = field(repr=False)

    @property
    def id(self) -> NodeId:
        """Its public key, which the genesis names."""
        return NodeId(bytes(self.key.verify_key))

    def sign(self, body: Body, *, mesh: MeshId, timestamp: HlcMs) -> bytes:
        """Return a fact of the root's."""
        return facts.sign(body, key=self.key, mesh=mesh, timestamp=timestamp)


@dataclass(frozen=True, slots=True)
class RecoverySheet:
    """What is printed once and kept on paper: whoever holds it is the mesh.

    `block`: the letter before the lines of its root.
    """

    root_seed: bytes = field(repr=False)
    recovery_seed: bytes = field(repr=False)
    block: str = _ONLY

    @classmethod
    def create(cls, random: Random = utils.random) -> Self:
        """Make the secrets of a new mesh of one root."""
        return cls(random(32), random(32))

    @classmethod
    def create_many(cls, roots: int, random: Random = utils.random) -> tuple[Self, ...]:
        """Make the secrets of a new mesh, with a sheet for each of its one to three roots."""
        if roots == 1:
            return (cls.create(random),)
        recovery_seed = random(32)
        return tuple(cls(random(32), recovery_seed, block) for block in _SEVERAL[:roots])

    @property
    def root_key(self) -> SigningKey:
        """The sheet's root of the mesh."""
        return _root_key(self.root_seed)

    @property
    def root(self) -> MeshRoot:
        """The sheet's root of the mesh, to sign with."""
        return MeshRoot(self.root_key)

    @property
    def web_root_key(self) -> ec.EllipticCurvePrivateKey:
        """The P-256 key of the certificate that people's devices install; the same on all sheets."""
        seed = self.root_seed if self.block == _ONLY else self.recovery_seed
        return p256_key(_derive(seed, b"CM web root", 64))

    @property
    def recovery_secret(self) -> bytes:
        """The X25519 secret that opens every study of the mesh."""
        return _derive(self.recovery_seed, b"CM recovery", 32)

    @property
    def recovery_public(self) -> bytes:
        """Its public half, which the genesis names."""
        return x25519_public(self.recovery_secret)

    def lines(self) -> list[str]:
        """Return the sheet's eight lines, A1 to A4 (or C, D, E) for the root and B1 to B4 for the recovery.

        Each line carries 13 characters of the secret and 3 to check them.
        """
        return [*_spell(self.block, self.root_seed), *_spell(_RECOVERY, self.recovery_seed)]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a sheet that a person typed, in any case and spacing.

        Raises:
            Refused: a line is missing or mistyped; the text says which.
        """
        block = _root_block(text)
        return cls(_unspell(block, text), _unspell(_RECOVERY, text), block)


def parse_root(text: str) -> MeshRoot:
    """Read the root's four lines of a sheet; what opens studies need not be typed to revoke a node.

    Raises:
        Refused: a line is missing or mistyped; the text says which.
    """
    return MeshRoot(_root_key(_unspell(_root_block(text), text)))


def check_line(text: str) -> str:
    """Check one line that a person typed, with its name, and return the name, such as "A1".

    Raises:
        Refused: it is mistyped.
    """
    name = "".join(c for c in text.upper() if c.isalnum())[:2]
    if len(name) < 2 or name[0] not in _ONLY + _RECOVERY + _SEVERAL or name[1] not in "1234":
        raise Refused("recovery-sheet-wrong", "A line begins with its name, such as A1.")
    _line_values(name, _typed(text).get(name, ""))
    return name


def _root_key(seed: bytes) -> SigningKey:
    return SigningKey(_derive(seed, b"CM mesh root", 32))


def _root_block(text: str) -> str:
    """Return the letter of the root that was typed."""
    named = {name[:1] for name in _typed(text) if name[1:] in ("1", "2", "3", "4")}
    return next((block for block in _SEVERAL if block in named and _ONLY not in named), _ONLY)


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
    typed = _typed(text)
    number = 0
    for index in range(_LINES):
        name = f"{block}{index + 1}"
        for value in _line_values(name, typed.get(name, "")):
            number = number << 5 | value
    if number & 15:
        raise Refused("recovery-sheet-wrong", f"Line {block}{_LINES} has a typing error.")
    return (number >> 4).to_bytes(32, "big")


def _typed(text: str) -> dict[str, str]:
    """Return the letters of each line by the line's name."""
    typed = {}
    for line in text.upper().splitlines():
        letters = "".join(c for c in line if c.isalnum())
        typed[letters[:2]] = letters[2:]
    return typed


def _line_values(name: str, letters: str) -> list[int]:
    """Return the 13 values that a line carries, once they fit the 3 that check them."""
    values = [_VALUES.get(letter, -1) for letter in letters]
    if len(values) != _LINE_DATA + _LINE_CHECK or -1 in values:
        raise Refused("recovery-sheet-wrong", f"Line {name} is missing or has a wrong character.")
    data = "".join(_LETTERS[value] for value in values[:_LINE_DATA])
    check = values[-3] << 10 | values[-2] << 5 | values[-1]
    if check != _check(name[0], int(name[1]) - 1, data):
        raise Refused("recovery-sheet-wrong", f"Line {name} has a typing error.")
    return values[:_LINE_DATA]


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
