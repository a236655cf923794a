"""TLS between nodes: certificates of the mesh, contexts for both ends, and who is at the other end.

A certificate says one thing: this key is of this mesh. It is dated 1970 to 9999, so that no clock can lock a
node out; roles, expiry and revocation come from facts, on every request (docs/protocol.md §5). A node that
admits has a CA certificate and issues those of the nodes it admits. Called by `init`, the join, the mesh
server and the mesh client.
"""

import contextlib
import hashlib
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from nacl.signing import SigningKey

from node import tlskey
from node.mesh.sessions import Renewed
from sync.errors import BadInvitation
from sync.ids import NodeId, short

_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)  # RFC 5280 §4.1.2.5: "no well-defined expiration date"
_BOTH_ENDS = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
_MAX_CHAIN = 16
# SSL_OP_TLSEXT_PADDING, which Python sets and has no name for: 197 octets in each resumed hello (RFC 7685),
# for servers of long ago.
_PADDING = 0x10


@dataclass(frozen=True, slots=True)
class Identity:
    """What a node shows at a handshake: its key, and its chain (DER), its own first, without the root."""

    key: SigningKey = field(repr=False)
    chain: tuple[bytes, ...] = field(repr=False)


class WrongNode(ssl.SSLError):
    """Another node answers than the one that was meant. Nothing was sent to it."""


def make_mesh_ca(root: SigningKey) -> bytes:
    """Return the self-signed certificate of a mesh root, in DER. The same key gives the same bytes."""
    public = bytes(root.verify_key)
    name = _name(f"ClinicMesh mesh {short(public)}")
    builder = _builder(name, name, public, issuer=public, can_issue=True)
    return _signed(builder, root)


def issue_member_cert(
    issuer_key: SigningKey, issuer_cert: bytes, node_public_key: bytes, *, can_admit: bool
) -> bytes:
    """Return a node's certificate, in DER. The same arguments give the same bytes.

    Args:
        issuer_key: a mesh root's key, or that of a node that admits.
        issuer_cert: its certificate, in DER.
        node_public_key: the node id.
        can_admit: the node may issue certificates in turn.
    """
    issuer = x509.load_der_x509_certificate(issuer_cert)
    builder = _builder(
        _name(node_public_key.hex()),
        issuer.subject,
        node_public_key,
        issuer=bytes(issuer_key.verify_key),
        can_issue=can_admit,
    )
    builder = builder.add_extension(x509.ExtendedKeyUsage(_BOTH_ENDS), critical=False)
    # RFC 6761 §6.4: a name under .invalid never resolves. Names are not what nodes are told by.
    label = x509.DNSName(f"{node_public_key.hex()[:16]}.mesh.invalid")
    return _signed(builder.add_extension(x509.SubjectAlternativeName([label]), critical=False), issuer_key)


def node_id_of(certificate: bytes) -> NodeId | None:
    """Return whose key a certificate (DER) is for; None if that is no node's key."""
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except ValueError:
        return None
    return NodeId(key.public_bytes_raw()) if isinstance(key, Ed25519PublicKey) else None


def subject_of(certificate: bytes) -> str:
    """Return the subject of a certificate (DER) as RFC 4514 writes it."""
    return x509.load_der_x509_certificate(certificate).subject.rfc4514_string()


def check_chain(chain: Sequence[bytes], mesh_ca: Sequence[bytes], node: NodeId) -> None:
    """Check that certificates (DER) make `node` one of the mesh, before they are stored.

    Args:
        chain: the node's own first, then each one's issuer; the root is not among them.
        mesh_ca: the genesis' root certificates.
        node: whose chain it should be.

    Raises:
        BadInvitation: they do not.
    """
    if not 0 < len(chain) <= _MAX_CHAIN or node_id_of(chain[0]) != node:
        raise BadInvitation("the certificates are not for this node")
    try:
        links = [x509.load_der_x509_certificate(der) for der in chain]
        roots = [x509.load_der_x509_certificate(der) for der in mesh_ca]
        for link, issuer in pairwise(links):
            link.verify_directly_issued_by(issuer)
        _issuer_among(links[-1], roots)
        may_issue = all(
            link.extensions.get_extension_for_class(x509.BasicConstraints).value.ca for link in links[1:]
        )
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        raise BadInvitation("the certificates do not chain to the mesh") from None
    if not may_issue:
        raise BadInvitation("a certificate was issued by a node that may not")


def server_context(identity: Identity, mesh_ca: Sequence[bytes]) -> ssl.SSLContext:
    """Return the context of the mesh port.

    A client certificate is asked for and must chain to the mesh; without one the handshake succeeds,
    since whoever joins has none yet. Lines are resumed (decision 26).
    """

    def make(gives_tickets: bool) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _harden(context)
        context.load_verify_locations(cadata=b"".join(mesh_ca))
        context.verify_mode = ssl.CERT_OPTIONAL
        context.num_tickets = int(gives_tickets)
        context.options |= ssl.OP_NO_TICKET  # in TLS 1.3: tickets are names, and not the session sealed
        _load(context, identity)
        return context

    return Renewed(make)


def client_context(
    identity: Identity, mesh_ca: Sequence[bytes], *, expected: NodeId | None = None
) -> ssl.SSLContext:
    """Return the context for a connection to the node `expected`, or to any of the mesh.

    The handshake fails with `WrongNode` if another node of the mesh answers, before anything is sent.
    Works with httpx's blocking and async clients.
    """
    context = _PinnedContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    context.options &= ~_PADDING
    context.check_hostname = False  # nodes are told by their keys; their addresses change daily
    context.load_verify_locations(cadata=b"".join(mesh_ca))
    _load(context, identity)
    context.accept = lambda node: expected is None or node == expected
    return context


def joining_context(accept: Callable[[NodeId], bool]) -> ssl.SSLContext:
    """Return the context for a node that has an invitation and knows nothing of the mesh yet.

    Whoever answers proves to have its key (RFC 8446 §4.4.3), and `accept` compares that with the code.
    """
    context = _PinnedContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.accept = accept
    return context


class _PinnedContext(ssl.SSLContext):
    """A client's context that looks at the peer's key as soon as the handshake is done."""

    accept: Callable[[NodeId], bool]

    def __new__(cls, *args: Any, **kwargs: Any) -> "_PinnedContext":
        context = super().__new__(cls, *args, **kwargs)
        context.sslsocket_class = _PinnedSocket
        context.sslobject_class = _PinnedObject
        context.accept = lambda _node: False
        return context


class _PinnedSocket(ssl.SSLSocket):
    """What blocking clients get from the context."""

    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        _check_peer(self.context, self.getpeercert(binary_form=True))


class _PinnedObject(ssl.SSLObject):
    """What asyncio gets from the context."""

    def do_handshake(self) -> None:
        super().do_handshake()
        _check_peer(self.context, self.getpeercert(binary_form=True))


def _check_peer(context: ssl.SSLContext, certificate: bytes | None) -> None:
    node = node_id_of(certificate) if certificate else None
    if not isinstance(context, _PinnedContext) or node is None or not context.accept(node):
        raise WrongNode("another node answers")


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT


def _load(context: ssl.SSLContext, identity: Identity) -> None:
    tlskey.load(context, Ed25519PrivateKey.from_private_bytes(bytes(identity.key)), identity.chain)


def _builder(
    subject: x509.Name, issuer_name: x509.Name, public: bytes, *, issuer: bytes, can_issue: bool
) -> x509.CertificateBuilder:
    key = Ed25519PublicKey.from_public_bytes(public)
    issuer_key = Ed25519PublicKey.from_public_bytes(issuer)
    # Not random: who is issued the same certificate twice gets the same bytes.
    serial = int.from_bytes(hashlib.sha256(issuer + public + bytes([can_issue])).digest()[:15], "big") | 1
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(_FIRST)
        .not_valid_after(_LAST)
        .add_extension(x509.BasicConstraints(ca=can_issue, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=can_issue,
                crl_sign=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _signed(builder: x509.CertificateBuilder, key: SigningKey) -> bytes:
    private = Ed25519PrivateKey.from_private_bytes(bytes(key))
    return builder.sign(private, None).public_bytes(serialization.Encoding.DER)


def _issuer_among(certificate: x509.Certificate, roots: Sequence[x509.Certificate]) -> None:
    for root in roots:
        with contextlib.suppress(ValueError, TypeError, InvalidSignature):
            certificate.verify_directly_issued_by(root)
            return
    raise ValueError


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
