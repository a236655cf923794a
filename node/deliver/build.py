"""From a destination's fact and this node's secret to a PACS that can be spoken to."""

from collections.abc import Mapping
from typing import Any

from node.deliver.destination import Auth, Destination
from node.deliver.dicomweb import DicomWebDestination
from node.errors import DestinationLocked
from node.keys import open_box, x25519_public
from sync import cbor
from sync.bodies import DestinationBody
from sync.errors import BadCbor, CannotOpen
from sync.manifest import key_id


def build_destination(body: DestinationBody, secret: bytes | None) -> Destination:
    """Return the destination that a fact describes.

    Args:
        body: the fact's body.
        secret: this node's X25519 sealing secret, to which the credentials may be sealed.

    Raises:
        DestinationLocked: there are credentials, and none of them is sealed to this node.
    """
    return DicomWebDestination(body.url, _auth(body, secret))


def _auth(body: DestinationBody, secret: bytes | None) -> Auth:
    if not body.secrets:
        return Auth()
    box = None if secret is None else body.secrets.get(bytes(key_id(x25519_public(secret))))
    if secret is None or box is None:
        raise DestinationLocked("the credentials are not sealed to this node; add the destination again")
    try:
        said = cbor.decode(open_box(secret, box))
    except (CannotOpen, BadCbor):
        raise DestinationLocked("the credentials cannot be opened; add the destination again") from None
    return Auth(
        user=_text(said, "user"),
        password=_text(said, "password"),
        bearer=_text(said, "bearer"),
        headers=dict(said.get("headers") or {}),
    )


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    return value if isinstance(value, str) else ""
