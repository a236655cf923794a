"""From a destination's fact and this node's secret to a PACS that can be spoken to.

What a fact's `quirks` hold is public and signed; `secrets` holds the credentials, sealed to each forwarder.
"""

import ssl
from collections.abc import Mapping
from typing import Any

from node.deliver.access import Access, ClientCredentials, TokenService, http_client, tls_context
from node.deliver.credentials import Credentials, open_credentials
from node.deliver.destination import Auth, Destination, Probed
from node.deliver.dicomweb import DicomWebDestination
from node.deliver.dimse import DimseDestination
from node.deliver.orthanc import OrthancDestination
from node.deliver.places import DIMSE, ORTHANC, check_https, check_place
from node.deliver.stow import Limits
from node.errors import BadSettings, DestinationLocked
from sync.bodies import DestinationBody

_MOST_OCTETS = 4 * 1024 * 1024 * 1024


def build_destination(body: DestinationBody, secret: bytes | None) -> Destination:
    """Return the destination that a fact describes.

    Args:
        body: the fact's body.
        secret: this node's X25519 sealing secret, to which the credentials may be sealed.

    Raises:
        DestinationLocked: the credentials cannot be had, or images may not go to this address.
    """
    try:
        return connect(body.type, body.url, open_credentials(body, secret), body.quirks)
    except BadSettings as error:
        raise DestinationLocked(str(error)) from None


def connect(
    kind: str, url: str, credentials: Credentials, quirks: Mapping[str, Any], *, idle_s: float = 120
) -> Probed:
    """Return a destination of a kind.

    Raises:
        BadSettings: address, certificates or quirks are not what they should be.
    """
    check_place(kind, url, resolve=True)
    tls = tls_of(url, credentials, quirks)
    coerced = frozenset(tag for tag in _list(quirks.get("coerces")) if isinstance(tag, int))
    if kind == DIMSE:
        calling = quirks.get("calling")
        title = calling if isinstance(calling, str) and 0 < len(calling) <= 16 else "CLINICMESH"
        return DimseDestination(url, calling=title, idle_s=idle_s, tls=tls, coerced=coerced)
    access = access_of(credentials, quirks)
    if kind == ORTHANC:
        return OrthancDestination(url, access, idle_s=idle_s, tls=tls, coerced=coerced)
    return DicomWebDestination(url, access, limits=_limits(quirks), idle_s=idle_s, tls=tls, coerced=coerced)


def tls_of(url: str, credentials: Credentials, quirks: Mapping[str, Any]) -> ssl.SSLContext | None:
    """Return whom a destination's line trusts; None where there is no TLS."""
    if not url.startswith(("https:", "dicom+tls:")):
        return None
    return tls_context(_ca(quirks), certificate=credentials.certificate, key=credentials.key)


def access_of(credentials: Credentials, quirks: Mapping[str, Any]) -> Access:
    """Return what lets us in over HTTP."""
    if credentials.token_url:
        check_https(credentials.token_url)
        service = TokenService(
            credentials.token_url, credentials.client_id, credentials.client_secret, credentials.scope
        )
        # A hospital that has an authority of its own signs its token service by it, too, or by a public one.
        trusted = tls_context()
        if ca := _ca(quirks):
            trusted.load_verify_locations(cadata=ca)
        return ClientCredentials(service, credentials.headers, http_client(idle_s=30, tls=trusted))
    return Auth(credentials.user, credentials.password, credentials.bearer, credentials.headers)


def _ca(quirks: Mapping[str, Any]) -> str:
    ca = quirks.get("ca")
    return ca if isinstance(ca, str) else ""


def _limits(quirks: Mapping[str, Any]) -> Limits | None:
    """Return how much a request carries, where the destination is known to take little."""
    largest = quirks.get("largest")
    if not isinstance(largest, int) or not 0 < largest < _MOST_OCTETS:
        return None
    usual = Limits()
    return Limits(usual.instances, min(usual.octets, largest))


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []
