"""Which addresses a destination may have: where images and credentials may go, and where never.

Called where a destination is told to the mesh, and again before it is spoken to. Only an administrator's
signature makes a destination; this guards against slips, and against a PACS of that name that is moved to
where a machine keeps its own secrets.
"""

import contextlib
import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from node.errors import BadSettings
from sync.evidence import Evidence

DICOMWEB, ORTHANC, DIMSE = "dicomweb", "orthanc", "dimse"
# What each kind can be asked to show at best; a DIMSE one shows what it offers.
LEVELS = {
    DICOMWEB: (Evidence.LISTED, Evidence.METADATA, Evidence.READ_BACK, Evidence.COMMITTED),
    ORTHANC: (Evidence.LISTED, Evidence.CHECKSUM, Evidence.READ_BACK),
    DIMSE: (Evidence.ANSWERED, Evidence.LISTED, Evidence.READ_BACK, Evidence.COMMITTED),
}

_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
# Where cloud machines tell their credentials to whoever asks; the IPv4 ones are link-local.
_METADATA = frozenset({ipaddress.ip_address("fd00:ec2::254"), ipaddress.ip_address("100.100.100.200")})

_URL = re.compile(
    r"dicom(?P<tls>\+tls)?://(?P<called>[^@/\s\\]{1,16})@(?P<host>\[[0-9A-Fa-f:.]+\]|[^:/@\s]+):(?P<port>\d{1,5})"
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a DICOM node listens, as `dicom://CALLED@host:port` or `dicom+tls://…` says it."""

    called: str
    host: str
    port: int
    tls: bool

    @classmethod
    def of(cls, url: str) -> "Address":
        """Read a URL.

        Raises:
            BadSettings: it is none of ours.
        """
        match = _URL.fullmatch(url)
        if match is None or not 0 < int(match["port"]) < 65_536:
            raise BadSettings("the destination's address is not of the form dicom://TITLE@host:port")
        return cls(match["called"], match["host"].strip("[]"), int(match["port"]), match["tls"] is not None)


def check_place(kind: str, url: str, *, resolve: bool = False) -> None:
    """Check the address of a destination.

    Args:
        kind: `dicomweb`, `orthanc` or `dimse`.
        url: as an administrator gave it.
        resolve: look at what the name stands for now, too.

    Raises:
        BadSettings: it is not of the kind's form, or nothing may be sent there; the text says which.
    """
    if kind == DIMSE:
        address = Address.of(url)
        _check_host(address.host, tls=address.tls, resolve=resolve)
        return
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise BadSettings("the destination's address cannot be read") from None
    if kind not in LEVELS:
        raise BadSettings("this version does not know this kind of destination; update it")
    if parts.scheme not in ("http", "https") or not host:
        raise BadSettings("the destination's address does not begin with https:// or http://")
    if parts.username is not None or parts.query or parts.fragment:
        raise BadSettings("the destination's address holds more than host, port and path")
    _check_host(host, tls=parts.scheme == "https", resolve=resolve)


def check_https(url: str) -> None:
    """Check the address of a token service: HTTPS, or this very machine.

    Raises:
        BadSettings: a secret would go over the line in the clear, or to where nothing may be sent.
    """
    check_place(DICOMWEB, url)
    parts = urlsplit(url)
    literal = _literal(parts.hostname or "")
    here = parts.hostname == "localhost" or (literal is not None and literal.is_loopback)
    if parts.scheme != "https" and not here:
        raise BadSettings("the token service's address does not begin with https://")


def _check_host(host: str, *, tls: bool, resolve: bool) -> None:
    literal = _literal(host)
    addresses = [literal] if literal is not None else _addresses(host) if resolve else []
    for address in addresses:
        if address.is_link_local or address in _METADATA:
            raise BadSettings("the destination's address is link-local, where no PACS is")
        if address.is_multicast or address.is_unspecified or (address.is_reserved and address.version == 4):
            raise BadSettings("the destination's address is not that of one machine")
        if not tls and address.is_global:
            raise BadSettings("the destination is on the public internet, and its line is not encrypted")


def _literal(host: str) -> _Ip | None:
    try:
        return _unmapped(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return None


def _unmapped(address: _Ip) -> _Ip:
    """Return the IPv4 address that an IPv6 one may hide."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _addresses(host: str) -> list[_Ip]:
    with contextlib.suppress(OSError, UnicodeError):
        found = socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)
        return [address for info in found if (address := _literal(str(info[4][0]))) is not None]
    return []
