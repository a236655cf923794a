"""The credentials of a destination: sealed to each forwarder in its fact, opened where they are needed.

Called by `node.deliver.build`, and by the API where an administrator gives them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from node.errors import DestinationLocked
from node.keys import open_box, seal, x25519_public
from sync import cbor
from sync.bodies import DestinationBody
from sync.errors import BadCbor, CannotOpen
from sync.manifest import key_id


@dataclass(frozen=True, slots=True)
class Credentials:
    """What lets us in at a destination; all of it is sealed, and none of it is shown."""

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    bearer: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    token_url: str = field(default="", repr=False)
    client_id: str = field(default="", repr=False)
    client_secret: str = field(default="", repr=False)
    scope: str = field(default="", repr=False)
    certificate: str = field(default="", repr=False)
    key: str = field(default="", repr=False)

    def encoded(self) -> bytes:
        """Return what is sealed; b"" if there is nothing to seal."""
        said = {name: value for name in self.__slots__ if (value := getattr(self, name))}
        return cbor.encode({**said, "headers": dict(self.headers)}) if said else b""

    @classmethod
    def decoded(cls, encoded: bytes) -> "Credentials":
        """Read what was sealed; unknown things in it are left out.

        Raises:
            BadCbor: it is not what `encoded` gives.
        """
        said = cbor.decode(encoded)
        if not isinstance(said, dict):
            raise BadCbor("credentials that are no map")
        known = {name: said[name] for name in cls.__slots__ if isinstance(said.get(name), str)}
        headers = said.get("headers")
        known["headers"] = _headers(headers) if isinstance(headers, dict) else {}
        return cls(**known)


def open_credentials(body: DestinationBody, secret: bytes | None) -> Credentials:
    """Return the credentials of a destination.

    Raises:
        DestinationLocked: there are some, and none of them is sealed to this node.
    """
    if not body.secrets:
        return Credentials()
    box = None if secret is None else body.secrets.get(bytes(key_id(x25519_public(secret))))
    if secret is None or box is None:
        raise DestinationLocked("the credentials are not sealed to this node yet; a node that has them must")
    try:
        return Credentials.decoded(open_box(secret, box))
    except (CannotOpen, BadCbor):
        raise DestinationLocked("the credentials cannot be opened; add the destination again") from None


def sealed(credentials: Credentials, seals: Iterable[bytes]) -> dict[bytes, bytes]:
    """Return the credentials sealed to each of these X25519 keys, by key id; nothing if there are none.

    Where there is nothing to seal, a forwarder that joins later needs nothing.
    """
    encoded = credentials.encoded()
    return {bytes(key_id(public)): seal(public, encoded) for public in seals} if encoded else {}


def _headers(said: Mapping[Any, Any]) -> dict[str, str]:
    return {name: value for name, value in said.items() if isinstance(name, str) and isinstance(value, str)}
