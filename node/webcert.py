"""TLS for people: certificates that phones and browsers accept with no internet.

A person's device installs the mesh's web root once. Its key comes from the recovery sheet and is on no
machine; critical name constraints keep it, and whoever steals an issuer's key, to the clinic's own names and
addresses. Each node that admits has an issuer below the root, and issues the leafs of the nodes. All P-256:
browsers take no Ed25519 certificates. Called by `init`, the join and the service.
"""

import hashlib
import ipaddress
import re
import ssl
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from node import tlskey
from node.errors import Refused

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# The root and the issuers outlive the laptops; what people see expire are the leafs.
_FIRST = datetime(2020, 1, 1, tzinfo=UTC)
_LAST = datetime(2060, 1, 1, tzinfo=UTC)
_LEAF_LIFE = timedelta(days=800)  # Apple's devices take at most 825, of private roots too
_BACKDATED = timedelta(days=30)  # phones with a clock that is late
_RENEW_BEFORE = _LEAF_LIFE / 3  # clinics may be without any administrator for months
_COMMON_HOST = "mesh.home.arpa"  # RFC 8375: a domain for what has no registered name
_LOCALHOST = "localhost"
_NETWORKS = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
)
_MAX_LABEL = 32
_MAX_NAME = 40


@dataclass(frozen=True, slots=True)
class WebNames:
    """What a leaf is for."""

    hosts: tuple[str, ...]
    addresses: tuple[Address, ...]


def host_label(mesh_name: str) -> str:
    """Return the mesh's host name without `.local`: people type `https://<label>.local:8443`."""
    plain = unicodedata.normalize("NFKD", mesh_name).encode("ascii", "ignore").decode().lower()
    label = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_MAX_LABEL].strip("-")
    return label or "clinicmesh"


def names_for(mesh_name: str, node_label: str, addresses: Iterable[str], *, shared: bool) -> WebNames:
    """Return what a node's leaf is for: its own names, and its addresses that may be named.

    Args:
        mesh_name: what people call the mesh.
        node_label: what people call the node.
        addresses: the machine's. Those outside of private networks, and what is none, are left out.
        shared: it takes studies in, so it answers for the mesh's own name as well. Whoever has a key for that
            name is the app to every phone, so a machine that only carries gets none.
    """
    mesh, node = host_label(mesh_name), host_label(node_label)
    usable = {address for text in ("127.0.0.1", "::1", *addresses) if (address := _private(text))}
    return WebNames(
        hosts=(
            *((f"{mesh}.local", _COMMON_HOST) if shared else ()),
            *(f"{node}.{mesh}.local", f"{node}.{_COMMON_HOST}", _LOCALHOST),
        ),
        addresses=tuple(sorted(usable, key=lambda address: (address.version, int(address)))),
    )


def make_web_root(key: EllipticCurvePrivateKey, mesh_name: str) -> bytes:
    """Return the self-signed root, in DER, that people's devices install.

    Args:
        key: the recovery sheet's `web_root_key`.
        mesh_name: what people call the mesh; its names are what the root is good for.
    """
    name = _name(f"ClinicMesh {mesh_name[:_MAX_NAME]} {_digits(key.public_key())}")
    permitted: list[x509.GeneralName] = [
        x509.DNSName(f"{host_label(mesh_name)}.local"),
        x509.DNSName(_COMMON_HOST),
        x509.DNSName(_LOCALHOST),
        *(x509.IPAddress(network) for network in _NETWORKS),
    ]
    builder = _authority(name, name, key.public_key(), key.public_key(), path_length=1)
    builder = builder.add_extension(x509.NameConstraints(permitted, None), critical=True)
    return _signed(builder, key)


def issue_web_issuer(root_key: EllipticCurvePrivateKey, root: bytes, public_key: bytes) -> bytes:
    """Return the certificate, in DER, with which a node that admits issues leafs.

    Args:
        root_key: the recovery sheet's `web_root_key`.
        root: the web root, in DER.
        public_key: the issuer's key, SubjectPublicKeyInfo in DER.
    """
    public = _public(public_key)
    issuer = x509.load_der_x509_certificate(root)
    name = _name(f"ClinicMesh issuer {_digits(public)}")
    builder = _authority(name, issuer.subject, public, root_key.public_key(), path_length=0)
    return _signed(builder.add_extension(_FOR_SERVERS, critical=False), root_key)


def issue_web_leaf(
    issuer_key: bytes, issuer: bytes, public_key: bytes, names: WebNames, *, now_ms: int
) -> bytes:
    """Return the certificate, in DER, that a node shows to people's devices.

    Args:
        issuer_key: PKCS8 in DER, the keystore's `web_issuer_key`.
        issuer: its certificate, in DER.
        public_key: the node's key, SubjectPublicKeyInfo in DER.
        names: what it is for.
        now_ms: the time; the leaf is valid from 30 days before, for 800 days.
    """
    public = _public(public_key)
    key = _private_key(issuer_key)
    first = datetime.fromtimestamp(now_ms / 1000, UTC).replace(microsecond=0) - _BACKDATED
    subject = _name(f"ClinicMesh node {_digits(public)}")
    builder = _builder(
        subject, x509.load_der_x509_certificate(issuer).subject, public, key.public_key(), first, _LEAF_LIFE
    )
    alternatives: list[x509.GeneralName] = [
        *(x509.DNSName(host) for host in names.hosts),
        *(x509.IPAddress(address) for address in names.addresses),
    ]
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(_FOR_SERVERS, critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    )
    return _signed(builder, key)


def needs_renewal(leaf: bytes, names: WebNames, *, now_ms: int) -> bool:
    """Tell whether a leaf ends soon, is of another time, or lacks one of the names."""
    certificate = x509.load_der_x509_certificate(leaf)
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - _RENEW_BEFORE:
        return True
    has = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts, addresses = has.get_values_for_type(x509.DNSName), has.get_values_for_type(x509.IPAddress)
    return not (set(names.hosts) <= set(hosts) and set(names.addresses) <= set(addresses))


def is_for(leaf: bytes, issuer: bytes, root: bytes, public_key: bytes) -> bool:
    """Tell whether a leaf is for this key, and comes from the mesh's web root through that issuer."""
    try:
        ours, above, top = (x509.load_der_x509_certificate(der) for der in (leaf, issuer, root))
        above.verify_directly_issued_by(top)
        ours.verify_directly_issued_by(above)
        return ours.public_key() == _public(public_key)
    except (ValueError, TypeError, InvalidSignature, Refused):
        return False


def ends_ms(leaf: bytes) -> int:
    """Return when a certificate ends, milliseconds since 1970."""
    return int(x509.load_der_x509_certificate(leaf).not_valid_after_utc.timestamp() * 1000)


def public_half(private_key: bytes) -> bytes:
    """Return the SubjectPublicKeyInfo (DER) of a PKCS8 key (DER)."""
    return (
        _private_key(private_key)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def fingerprint(certificate: bytes) -> str:
    """Return what people compare on two screens before they install the root: SHA-256, in pairs."""
    return hashlib.sha256(certificate).digest().hex(":").upper()


def server_context(private_key: bytes, chain: Sequence[bytes]) -> ssl.SSLContext:
    """Return the context of the people's port.

    Args:
        private_key: PKCS8 in DER, the keystore's `web_key`.
        chain: the leaf and its issuer, in DER; not the root.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    show(context, private_key, chain)
    return context


def show(context: ssl.SSLContext, private_key: bytes, chain: Sequence[bytes]) -> None:
    """Let a context that may be in use show another chain to whoever connects from now on."""
    tlskey.load(context, _private_key(private_key), chain)


_FOR_SERVERS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])


def _authority(
    subject: x509.Name,
    issuer_name: x509.Name,
    public: EllipticCurvePublicKey,
    issuer: EllipticCurvePublicKey,
    *,
    path_length: int,
) -> x509.CertificateBuilder:
    return (
        _builder(subject, issuer_name, public, issuer, _FIRST, _LAST - _FIRST)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
    )


def _builder(
    subject: x509.Name,
    issuer_name: x509.Name,
    public: EllipticCurvePublicKey,
    issuer: EllipticCurvePublicKey,
    first: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(first)
        .not_valid_after(first + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _signed(builder: x509.CertificateBuilder, key: EllipticCurvePrivateKey) -> bytes:
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _private(text: str) -> Address | None:
    """Return an address that the root may vouch for; None for any other text."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return address if any(address in network for network in _NETWORKS) else None


def _public(spki: bytes) -> EllipticCurvePublicKey:
    """Read a public key that may come from another node."""
    try:
        key = serialization.load_der_public_key(spki)
    except ValueError:
        raise Refused("bad-key", "The key is not readable.") from None
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise Refused("bad-key", "The key must be a P-256 key.")
    return key


def _private_key(pkcs8: bytes) -> EllipticCurvePrivateKey:
    key = serialization.load_der_private_key(pkcs8, None)
    assert isinstance(key, EllipticCurvePrivateKey)
    return key


def _digits(key: EllipticCurvePublicKey) -> str:
    """Return 8 digits that tell one key from another in a list of certificates."""
    point = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    return hashlib.sha256(point).hexdigest()[:8]


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
