"""TLS for people: what a phone with the mesh's root accepts, and what it must refuse."""

import ipaddress
import socket
import ssl
import threading
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from node import webcert
from node.errors import Refused
from node.recovery import RecoverySheet
from node.webcert import WebNames

SHEET = RecoverySheet(bytes(range(32)), bytes(range(100, 132)))
NOW = datetime.now(UTC).replace(microsecond=0)  # OpenSSL asks the machine
NOW_MS = int(NOW.timestamp() * 1000)
DAY_MS = 86_400_000
MESH = "Hôpital St. Mary 2"


def pkcs8(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


ISSUER_KEY, NODE_KEY = (pkcs8(ec.generate_private_key(ec.SECP256R1())) for _ in range(2))
ROOT = webcert.make_web_root(SHEET.web_root_key, MESH)
ISSUER = webcert.issue_web_issuer(SHEET.web_root_key, ROOT, webcert.public_half(ISSUER_KEY))
NAMES = webcert.names_for(
    MESH, "Ward 3", ["192.168.77.1", "fe80::1%eth0", "8.8.8.8", "nonsense"], shared=True
)


def leaf_for(names: WebNames, *, issuer: bytes = ISSUER, issuer_key: bytes = ISSUER_KEY) -> bytes:
    return webcert.issue_web_leaf(issuer_key, issuer, webcert.public_half(NODE_KEY), names, now_ms=NOW_MS)


LEAF = leaf_for(NAMES)


def verify(leaf: bytes, subject: x509.DNSName | x509.IPAddress, *between: bytes) -> None:
    """Check a chain as browsers do: by the Web PKI's rules."""
    load = x509.load_der_x509_certificate
    verifier = PolicyBuilder().store(Store([load(ROOT)])).time(NOW).build_server_verifier(subject)
    verifier.verify(load(leaf), [load(der) for der in between])


def handshake(leaf: bytes, hostname: str) -> None:
    """Check a chain as OpenSSL does, with a real connection."""
    context = ssl.create_default_context(cadata=ROOT)
    ours, theirs = socket.socketpair()
    server = webcert.server_context(NODE_KEY, [leaf, ISSUER])

    def serve() -> None:
        try:
            with server.wrap_socket(theirs, server_side=True) as connection:
                connection.recv(1)
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with context.wrap_socket(ours, server_hostname=hostname) as connection:
            connection.send(b"x")
    finally:
        ours.close()
        thread.join(5)


@pytest.mark.parametrize(
    "name",
    [
        "hopital-st-mary-2.local",
        "ward-3.hopital-st-mary-2.local",
        "mesh.home.arpa",
        "ward-3.mesh.home.arpa",
        "localhost",
        "127.0.0.1",
        "::1",
        "192.168.77.1",
    ],
)
def test_a_phone_with_the_root_trusts_the_nodes_names(name: str) -> None:
    """Without that there is no service worker, and no app."""
    assert {name} & {*NAMES.hosts, *map(str, NAMES.addresses)}
    context_name: x509.DNSName | x509.IPAddress = (
        x509.DNSName(name)
        if name[-1].isalpha()
        else x509.IPAddress(next(a for a in NAMES.addresses if str(a) == name))
    )

    verify(LEAF, context_name, ISSUER)
    handshake(LEAF, name)


@pytest.mark.parametrize("name", ["www.example.com", "other.local", "local", "home.arpa", "8.8.8.8"])
def test_the_root_is_worth_nothing_for_other_names(name: str) -> None:
    """A stolen issuer key must not read people's mail."""
    foreign = WebNames((name,), ()) if name[-1].isalpha() else WebNames((), (ipaddress.ip_address(name),))
    leaf = leaf_for(foreign)
    subject: x509.DNSName | x509.IPAddress = (
        x509.DNSName(name) if foreign.hosts else x509.IPAddress(foreign.addresses[0])
    )

    with pytest.raises(VerificationError):
        verify(leaf, subject, ISSUER)
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        handshake(leaf, name)


def test_a_good_name_beside_a_foreign_one_helps_nothing() -> None:
    """All names are held to the constraints."""
    leaf = leaf_for(WebNames(("localhost", "www.example.com"), ()))

    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        handshake(leaf, "localhost")


def test_a_leaf_cannot_issue_and_an_issuer_makes_no_issuers() -> None:
    """A clinic's laptop must not hand its power on."""
    third = pkcs8(ec.generate_private_key(ec.SECP256R1()))
    below_leaf = webcert.issue_web_leaf(
        NODE_KEY, LEAF, webcert.public_half(third), WebNames(("localhost",), ()), now_ms=NOW_MS
    )
    with pytest.raises(VerificationError):
        verify(below_leaf, x509.DNSName("localhost"), LEAF, ISSUER)

    issuer_key = serialization.load_der_private_key(ISSUER_KEY, None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    second_issuer = webcert.issue_web_issuer(issuer_key, ISSUER, webcert.public_half(third))
    deep = leaf_for(WebNames(("localhost",), ()), issuer=second_issuer, issuer_key=third)
    with pytest.raises(VerificationError):
        verify(deep, x509.DNSName("localhost"), second_issuer, ISSUER)


def test_the_paper_brings_the_root_key_back() -> None:
    """In five years another node shall issue, and phones keep their root."""
    again = RecoverySheet.parse("\n".join(SHEET.lines()))
    key = pkcs8(ec.generate_private_key(ec.SECP256R1()))
    issuer = webcert.issue_web_issuer(again.web_root_key, ROOT, webcert.public_half(key))

    verify(leaf_for(NAMES, issuer=issuer, issuer_key=key), x509.DNSName("localhost"), issuer)


def test_the_dates_are_what_phones_take() -> None:
    """Apple refuses more than 825 days; a phone's clock may be weeks late."""
    certificate = x509.load_der_x509_certificate(LEAF)

    assert (NOW - certificate.not_valid_before_utc).days == 30
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 800
    for der in (ROOT, ISSUER):
        authority = x509.load_der_x509_certificate(der)
        assert authority.not_valid_before_utc.year == 2020
        assert authority.not_valid_after_utc.year == 2060


def test_a_leaf_is_renewed_in_good_time() -> None:
    """And when the node has got a new address."""
    assert not webcert.needs_renewal(LEAF, NAMES, now_ms=NOW_MS)
    assert not webcert.needs_renewal(LEAF, NAMES, now_ms=NOW_MS + 500 * DAY_MS)
    assert webcert.needs_renewal(LEAF, NAMES, now_ms=NOW_MS + 510 * DAY_MS)
    assert webcert.needs_renewal(LEAF, NAMES, now_ms=NOW_MS - 31 * DAY_MS)
    moved = webcert.names_for(MESH, "Ward 3", ["10.0.0.9"], shared=True)
    assert webcert.needs_renewal(LEAF, moved, now_ms=NOW_MS)


def test_only_private_addresses_are_named() -> None:
    """The whole leaf would be refused for one that is not."""
    assert [str(address) for address in NAMES.addresses] == ["127.0.0.1", "192.168.77.1", "::1", "fe80::1"]


@pytest.mark.parametrize(
    ("mesh", "label"),
    [
        ("Bo District", "bo-district"),
        ("a" * 50, "a" * 32),
        ("医院", "clinicmesh"),
        ("--x--", "x"),
        ("", "clinicmesh"),
    ],
)
def test_a_meshs_name_becomes_one_that_people_can_type(mesh: str, label: str) -> None:
    """Whatever letters the clinic's name has."""
    assert webcert.host_label(mesh) == label


def test_a_key_of_another_kind_gets_no_certificate() -> None:
    """It may come from another node."""
    other = ec.generate_private_key(ec.SECP384R1()).public_key()
    spki = other.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

    for key in (spki, b"nothing"):
        with pytest.raises(Refused):
            webcert.issue_web_leaf(ISSUER_KEY, ISSUER, key, NAMES, now_ms=NOW_MS)


def test_the_fingerprint_is_what_devices_show() -> None:
    """People compare it before they trust the root."""
    shown = webcert.fingerprint(ROOT)

    digest = x509.load_der_x509_certificate(ROOT).fingerprint(hashes.SHA256())
    assert bytes.fromhex(shown.replace(":", "")) == digest
    assert len(shown) == 95
