"""The node's keys: made once, kept in one file, opened as far as the passphrase allows.

The file `keys/keystore` is deterministic CBOR in two sections. The *open* one is needed unattended:
who the node is, its tokens and its TLS. The *sealed* one opens patient data: the intake secret, the key
of duplicate digests and, on nodes that may open studies, the sealing secret. It is encrypted under a
key from a passphrase, or kept as it is on nodes that were made without one. Until `unlock` whatever needs
it raises `Locked`; uploads go on, since sealing to the intake key needs only its public half.
Called by the command line and the service; the rest of the node is handed single keys.
"""

import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from nacl import bindings, pwhash, utils
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox
from nacl.signing import SigningKey

from node.errors import BadSettings, Locked, Refused, StoreDamaged
from sync import cbor
from sync.errors import BadCbor, CannotOpen
from sync.ids import NodeId

Random = Callable[[int], bytes]

FILE_NAME = "keystore"
_VERSION = 1
_PURPOSE = b"clinicmesh/keystore/1:"
_SALT_BYTES = pwhash.argon2id.SALTBYTES
_OPS = 3
_MEMORY_BYTES = (
    256 * 1024 * 1024
)  # with 3 passes 0.6 s on a server's core; a laptop takes up to four times as long
_MEMORY_LIMIT = 1024 * 1024 * 1024
_OPS_LIMIT = 16
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def random_octets(count: int) -> bytes:
    """Return so many unpredictable octets, of the quality that keys need."""
    return bytes(utils.random(count))


def seal(public: bytes, plaintext: bytes) -> bytes:
    """Return libsodium's sealed box of `plaintext` for an X25519 public key."""
    return bytes(SealedBox(PublicKey(public)).encrypt(plaintext))


def open_box(secret: bytes, box: bytes) -> bytes:
    """Return what a sealed box holds.

    Raises:
        CannotOpen: it was sealed to another key, or altered.
    """
    try:
        return bytes(SealedBox(PrivateKey(secret)).decrypt(box))
    except (CryptoError, ValueError, TypeError):
        raise CannotOpen("a box that this key does not open") from None


def x25519_public(secret: bytes) -> bytes:
    """Return the public half of an X25519 secret."""
    return bytes(PrivateKey(secret).public_key)


def p256_key(material: bytes) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 key that 64 octets of key material stand for.

    So many more octets than the order has leave no bias worth the name.
    """
    number = int.from_bytes(material, "big") % (_P256_ORDER - 1) + 1
    return ec.derive_private_key(number, ec.SECP256R1())


@dataclass(frozen=True, slots=True)
class _Open:
    """What the node needs without a person."""

    identity: bytes = field(repr=False)  # Ed25519 seed
    token: bytes = field(repr=False)  # Ed25519 seed
    web_key: bytes = field(repr=False)  # PKCS8, P-256: the people's TLS leaf
    web_issuer_key: bytes | None = field(repr=False)  # PKCS8, P-256: signs leafs, on nodes that admit
    intake: bytes  # X25519 public key
    sealing: bytes | None  # X25519 public key


@dataclass(frozen=True, slots=True)
class _Sealed:
    """What opens patient data."""

    intake: bytes = field(repr=False)  # X25519 secret
    sealing: bytes | None = field(repr=False)  # X25519 secret
    dedup: bytes = field(repr=False)


class IntakeKeys:
    """Seals what arrives on this node, and opens it for the examination."""

    def __init__(self, keystore: "Keystore") -> None:
        self._keystore = keystore

    @property
    def public(self) -> bytes:
        """The X25519 key that uploads are sealed to."""
        return self._keystore.intake_public

    def seal(self, plaintext: bytes) -> bytes:
        """Return a box that only this node opens. Works while the node is locked."""
        return seal(self.public, plaintext)

    def open(self, box: bytes) -> bytes:
        """Return what a box holds.

        Raises:
            Locked: the passphrase is needed.
            CannotOpen: it was sealed to another node, or altered.
        """
        return open_box(self._keystore.intake_secret, box)


class Keystore:
    """A node's keys. Made by `create` or `load`."""

    def __init__(
        self, path: Path, opened: _Open, locked_part: dict[str, Any], sealed: _Sealed | None
    ) -> None:
        self._path = path
        self._open = opened
        self._locked_part = locked_part
        self._sealed = sealed

    @classmethod
    def create(
        cls, folder: Path, *, can_open: bool, passphrase: str | None, random: Random = utils.random
    ) -> Self:
        """Make the keys of a new node and write them, durably and for the owner only.

        Args:
            folder: made if it is missing.
            can_open: the node may open studies, so it gets a sealing secret.
            passphrase: protects what opens patient data; None leaves it unprotected.
            random: gives that many random bytes.

        Raises:
            BadSettings: there are keys already.
        """
        path = folder / FILE_NAME
        if path.exists():
            raise BadSettings("there is a keystore already")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sealed = _Sealed(
            intake=random(32),
            sealing=random(32) if can_open else None,
            dedup=random(32),
        )
        opened = _Open(
            identity=random(32),
            token=random(32),
            web_key=_pkcs8(p256_key(random(64))),
            web_issuer_key=None,
            intake=x25519_public(sealed.intake),
            sealing=None if sealed.sealing is None else x25519_public(sealed.sealing),
        )
        keystore = cls(path, opened, _lock(opened, sealed, passphrase, random), sealed)
        keystore._write()
        return keystore

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the keys; those under a passphrase stay locked.

        Raises:
            BadSettings: there are no keys, or others may read them.
            StoreDamaged: the file is not a keystore.
        """
        path = folder / FILE_NAME
        try:
            data = path.read_bytes()
            mode = path.stat().st_mode
        except FileNotFoundError:
            raise BadSettings("there is no keystore; make the node with `init` or `join`") from None
        if sys.platform != "win32" and stat.S_IMODE(mode) & 0o077:
            raise BadSettings("other users may read the keystore; set its mode to 600")
        try:
            value = cbor.decode(data)
            if value["v"] != _VERSION:
                raise StoreDamaged("a keystore of an unknown version")
            opened = _Open(**value["open"])
            keystore = cls(path, opened, dict(value["sealed"]), None)
            if keystore._locked_part["kdf"] is None:
                keystore._sealed = _Sealed(**cbor.decode(keystore._locked_part["box"]))
        except (BadCbor, KeyError, TypeError, ValueError):
            raise StoreDamaged("the keystore is damaged") from None
        return keystore

    @property
    def locked(self) -> bool:
        """Whether a passphrase is needed before patient data can be opened."""
        return self._sealed is None

    @property
    def protected(self) -> bool:
        """Whether what opens patient data is under a passphrase on disk."""
        return self._locked_part["kdf"] is not None

    def protect(self, passphrase: str | None, random: Random = utils.random) -> None:
        """Put what opens patient data under another passphrase, or under none; durable on return.

        Raises:
            Locked: the passphrase that holds now is needed first.
        """
        self._locked_part = _lock(self._open, self._unlocked(), passphrase, random)
        self._write()

    def unlock(self, passphrase: str) -> None:
        """Open the sealed section for this process. Takes a second and 256 MiB.

        Raises:
            Refused: the passphrase is wrong.
            StoreDamaged: the keystore is damaged.
        """
        if not self.locked:
            return
        part = self._locked_part
        try:
            key = _key_of(passphrase, part["kdf"])
            plaintext = bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
                part["box"], _context(self._open), part["nonce"], key
            )
            self._sealed = _Sealed(**cbor.decode(plaintext))
        except CryptoError:
            raise Refused("passphrase-wrong", "The passphrase is wrong.") from None
        except (BadCbor, KeyError, TypeError, ValueError):
            raise StoreDamaged("the keystore is damaged") from None

    def lock(self) -> None:
        """Forget the sealed section, unless it is kept without a passphrase."""
        if self._locked_part["kdf"] is not None:
            self._sealed = None

    @property
    def node_id(self) -> NodeId:
        """Who this node is: its Ed25519 public key."""
        return NodeId(bytes(self.node_key.verify_key))

    @property
    def node_key(self) -> SigningKey:
        """Signs facts, and is the key of the node's mesh certificate."""
        return SigningKey(self._open.identity)

    @property
    def token_key(self) -> bytes:
        """The Ed25519 seed that signs access tokens."""
        return self._open.token

    @property
    def web_key(self) -> bytes:
        """The people's TLS key: PKCS8 in DER, P-256."""
        return self._open.web_key

    @property
    def web_issuer_key(self) -> bytes | None:
        """The key that signs people's TLS certificates: PKCS8 in DER; None on nodes that do not admit."""
        return self._open.web_issuer_key

    def make_web_issuer_key(self, random: Random = utils.random) -> None:
        """Make the key that signs people's TLS certificates, and keep it durably."""
        self.keep_web_issuer_key(_pkcs8(p256_key(random(64))))

    def keep_web_issuer_key(self, pkcs8: bytes) -> None:
        """Keep the key that signs people's TLS certificates, durably."""
        self._open = replace(self._open, web_issuer_key=pkcs8)
        self._write()

    @property
    def intake_public(self) -> bytes:
        """The X25519 key that uploads to this node are sealed to."""
        return self._open.intake

    @property
    def seal_public(self) -> bytes | None:
        """The X25519 key that studies are sealed to; None on a node that may not open them."""
        return self._open.sealing

    @property
    def intake(self) -> IntakeKeys:
        """Seals and opens uploads."""
        return IntakeKeys(self)

    @property
    def intake_secret(self) -> bytes:
        """The X25519 secret that opens uploads.

        Raises:
            Locked: the passphrase is needed.
        """
        return self._unlocked().intake

    @property
    def seal_secret(self) -> bytes | None:
        """The X25519 secret that opens studies; None on a node that may not.

        Raises:
            Locked: the passphrase is needed.
        """
        return None if self._open.sealing is None else self._unlocked().sealing

    @property
    def dedup_key(self) -> bytes:
        """The key of the digests by which this node knows what it has had.

        Raises:
            Locked: the passphrase is needed.
        """
        return self._unlocked().dedup

    def _unlocked(self) -> _Sealed:
        if self._sealed is None:
            raise Locked("The node is locked; it needs its passphrase.")
        return self._sealed

    def _write(self) -> None:
        value = {"v": _VERSION, "open": _fields(self._open), "sealed": self._locked_part}
        _write_durably(self._path, cbor.encode(value))


def _lock(opened: _Open, sealed: _Sealed, passphrase: str | None, random: Random) -> dict[str, Any]:
    """Return the sealed section as it is written."""
    plaintext = cbor.encode(_fields(sealed))
    if passphrase is None:
        return {"kdf": None, "box": plaintext}
    kdf = {"name": "argon2id", "salt": random(_SALT_BYTES), "ops": _OPS, "memory": _MEMORY_BYTES}
    nonce = random(bindings.crypto_aead_xchacha20poly1305_ietf_NPUBBYTES)
    box = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(
        plaintext, _context(opened), nonce, _key_of(passphrase, kdf)
    )
    return {"kdf": kdf, "nonce": nonce, "box": box}


def _key_of(passphrase: str, kdf: dict[str, Any]) -> bytes:
    """Return the key that a passphrase stands for. A damaged file must not ask for all memory."""
    if kdf["name"] != "argon2id" or kdf["ops"] > _OPS_LIMIT or kdf["memory"] > _MEMORY_LIMIT:
        raise StoreDamaged("the keystore asks for an unknown way to unlock it")
    return bytes(
        pwhash.argon2id.kdf(32, passphrase.encode(), kdf["salt"], opslimit=kdf["ops"], memlimit=kdf["memory"])
    )


def _context(opened: _Open) -> bytes:
    """Bind the sealed section to the node and the public keys beside it."""
    node = bytes(SigningKey(opened.identity).verify_key)
    return _PURPOSE + node + opened.intake + (opened.sealing or bytes(32))


def _fields(part: _Open | _Sealed) -> dict[str, Any]:
    return {name: getattr(part, name) for name in part.__slots__}


def _pkcs8(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_durably(path: Path, data: bytes) -> None:
    """Write, flush, rename, flush the folder: a power cut leaves the old keys or the new ones.

    The store's own function is above this layer.
    """
    temporary = path.with_suffix(".tmp")
    with suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    if sys.platform != "win32":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
