"""TLS between nodes, with real sockets: who gets in, who is seen, who is refused."""

import asyncio
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

import httpx
import pytest
from cryptography import x509
from fastapi import FastAPI, Request
from nacl.signing import SigningKey
from support.servers import serve

from node.mesh import peercert, tls
from node.mesh.tls import Identity
from sync.errors import BadInvitation
from sync.ids import NodeId

ROOT, ADMITTER, CLINIC, COURIER, STRANGER_ROOT, STRANGER = (SigningKey(bytes([n] * 32)) for n in range(1, 7))
CA = tls.make_mesh_ca(ROOT)
STRANGE_CA = tls.make_mesh_ca(STRANGER_ROOT)
ADMITTER_CERT = tls.issue_member_cert(ROOT, CA, bytes(ADMITTER.verify_key), can_admit=True)


def node_id(key: SigningKey) -> NodeId:
    return NodeId(bytes(key.verify_key))


def admitted(key: SigningKey) -> Identity:
    """A node that the admitter let in: its chain has two certificates."""
    own = tls.issue_member_cert(ADMITTER, ADMITTER_CERT, bytes(key.verify_key), can_admit=False)
    return Identity(key, (own, ADMITTER_CERT))


CLINIC_IDENTITY, COURIER_IDENTITY = admitted(CLINIC), admitted(COURIER)
STRANGE_IDENTITY = Identity(
    STRANGER, (tls.issue_member_cert(STRANGER_ROOT, STRANGE_CA, bytes(STRANGER.verify_key), can_admit=True),)
)


@dataclass
class Mesh:
    url: str
    requests: list[dict[str, Any]]


@pytest.fixture(params=["httptools", "h11"], scope="module")
def mesh(request: pytest.FixtureRequest) -> Iterator[Mesh]:
    """The clinic's mesh port; it tells whom it sees, and notes each request that came through."""
    app = FastAPI()
    requests: list[dict[str, Any]] = []

    @app.get("/who")
    def who(request: Request) -> dict[str, str | None]:
        requests.append(dict(request.scope))
        peer = peercert.peer_node_id(request.scope)
        return {"peer": peer.hex() if peer else None}

    protocol = peercert.H11WithPeer if request.param == "h11" else peercert.protocol_class()
    with serve(app, tls.server_context(CLINIC_IDENTITY, [CA]), protocol) as url:
        yield Mesh(url, requests)


def client(context: ssl.SSLContext) -> httpx.Client:
    return httpx.Client(verify=context, trust_env=False)


def anonymous() -> ssl.SSLContext:
    return tls.joining_context(lambda node: node == node_id(CLINIC))


def test_the_node_sees_which_member_calls(mesh: Mesh) -> None:
    """Roles and revocation are looked up under this key on each request."""
    with client(tls.client_context(COURIER_IDENTITY, [CA], expected=node_id(CLINIC))) as peer:
        for _ in range(2):
            assert peer.get(mesh.url + "/who").json() == {"peer": bytes(COURIER.verify_key).hex()}


def test_the_certificate_has_the_names_of_the_asgi_extension(mesh: Mesh) -> None:
    """So that a uvicorn that brings the extension itself can take over."""
    with client(tls.client_context(COURIER_IDENTITY, [CA], expected=node_id(CLINIC))) as peer:
        peer.get(mesh.url + "/who")

    extension = mesh.requests[-1]["extensions"]["tls"]
    assert ssl.PEM_cert_to_DER_cert(extension["client_cert_chain"][0]) == COURIER_IDENTITY.chain[0]
    assert extension["client_cert_name"] == f"CN={bytes(COURIER.verify_key).hex()}"
    assert extension["tls_version"] == 0x0304
    assert {"server_cert", "client_cert_error", "cipher_suite"} <= set(extension)


def test_who_joins_needs_no_certificate_and_is_nobody(mesh: Mesh) -> None:
    """The invitation is answered on the same port."""
    with client(anonymous()) as joiner:
        assert joiner.get(mesh.url + "/who").json() == {"peer": None}


def test_a_stranger_does_not_get_through_the_handshake(mesh: Mesh) -> None:
    """Another mesh's laptop on the same Wi-Fi is not even heard."""
    context = anonymous()
    tls._load(context, STRANGE_IDENTITY)
    before = len(mesh.requests)

    with client(context) as stranger, pytest.raises(httpx.TransportError):
        stranger.get(mesh.url + "/who")
    assert len(mesh.requests) == before


def test_a_member_that_may_not_admit_cannot_let_others_in(mesh: Mesh) -> None:
    """A stolen courier must not be able to make new members."""
    forged = tls.issue_member_cert(
        COURIER, COURIER_IDENTITY.chain[0], bytes(STRANGER.verify_key), can_admit=False
    )
    context = anonymous()
    tls._load(context, Identity(STRANGER, (forged, *COURIER_IDENTITY.chain)))
    before = len(mesh.requests)

    with client(context) as stranger, pytest.raises(httpx.TransportError):
        stranger.get(mesh.url + "/who")
    assert len(mesh.requests) == before


def test_somebody_elses_certificate_is_useless_without_its_key() -> None:
    """Certificates travel in the open."""
    with pytest.raises(ssl.SSLError):
        tls.server_context(Identity(STRANGER, COURIER_IDENTITY.chain), [CA])


def test_a_client_refuses_a_server_of_another_mesh() -> None:
    """Nothing may be handed to whoever answers at an address."""
    with (
        serve(FastAPI(), tls.server_context(STRANGE_IDENTITY, [STRANGE_CA])) as url,
        client(tls.client_context(COURIER_IDENTITY, [CA], expected=node_id(STRANGER))) as peer,
        pytest.raises(httpx.ConnectError),
    ):
        peer.get(url)


@pytest.mark.parametrize("join", [False, True], ids=["member", "joiner"])
def test_no_request_is_sent_to_another_member_than_the_one_that_was_meant(mesh: Mesh, join: bool) -> None:
    """A member at a forged address must not even learn what was to be asked."""
    before = len(mesh.requests)
    context = (
        tls.joining_context(lambda node: node == node_id(ADMITTER))
        if join
        else tls.client_context(COURIER_IDENTITY, [CA], expected=node_id(ADMITTER))
    )

    with client(context) as peer, pytest.raises(httpx.ConnectError, match="another node"):
        peer.get(mesh.url + "/who")
    assert len(mesh.requests) == before


def test_not_a_byte_of_payload_reaches_the_wrong_server() -> None:
    """The same, seen from the wrong server: the connection ends with the handshake."""
    listener = socket.create_server(("127.0.0.1", 0))
    context = tls.client_context(COURIER_IDENTITY, [CA], expected=node_id(ADMITTER))
    heard = []

    def ask() -> None:
        with client(context) as peer:
            peer.post(f"https://127.0.0.1:{listener.getsockname()[1]}", content=b"secret")

    async def run() -> None:
        asked = asyncio.to_thread(ask)
        task = asyncio.ensure_future(asked)
        accepted, _ = await asyncio.to_thread(listener.accept)
        accepted.settimeout(5)
        with tls.server_context(CLINIC_IDENTITY, [CA]).wrap_socket(accepted, server_side=True) as connection:
            heard.append(await asyncio.to_thread(_read_to_the_end, connection))
        with pytest.raises(httpx.ConnectError):
            await task

    asyncio.run(run())
    listener.close()
    assert heard == [b""]


def _read_to_the_end(connection: ssl.SSLSocket) -> bytes:
    data = b""
    try:
        while part := connection.recv(4096):
            data += part
    except (ssl.SSLError, ConnectionError):
        pass
    return data


def test_the_key_is_looked_at_in_async_clients_too(mesh: Mesh) -> None:
    """asyncio makes its TLS connections by another class."""

    async def ask(expected: NodeId) -> httpx.Response:
        context = tls.client_context(COURIER_IDENTITY, [CA], expected=expected)
        async with httpx.AsyncClient(verify=context, trust_env=False) as peer:
            return await peer.get(mesh.url + "/who")

    assert asyncio.run(ask(node_id(CLINIC))).status_code == 200
    with pytest.raises(httpx.ConnectError):
        asyncio.run(ask(node_id(ADMITTER)))


def test_older_tls_is_refused(mesh: Mesh) -> None:
    """Nobody needs it here, and its handshake shows the client's certificate in the open."""
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2

    with client(old) as peer, pytest.raises(httpx.ConnectError):
        peer.get(mesh.url + "/who")


def test_without_tls_there_is_no_extension() -> None:
    """The specification says so, and nobody is taken for somebody."""
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            seen.append((scope.get("extensions"), peercert.peer_node_id(scope)))
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

    with serve(app, http=peercert.protocol_class()) as url:
        httpx.get(url)

    assert [("tls" in (extensions or {}), peer) for extensions, peer in seen] == [(False, None)]


@pytest.mark.skipif(which("openssl") is None, reason="needs the openssl command")
@pytest.mark.parametrize(
    "when", [1, 978_307_200, 4_102_444_800, 64_060_588_800], ids=["1970", "2001", "2100", "4000"]
)
def test_no_clock_can_lock_a_node_out(tmp_path: Path, when: int) -> None:
    """A laptop that woke up in 2001 must be able to hand over its studies."""
    for name, der in (("ca", CA), ("admitter", ADMITTER_CERT), ("clinic", CLINIC_IDENTITY.chain[0])):
        (tmp_path / f"{name}.pem").write_text(ssl.DER_cert_to_PEM_cert(der))
    for purpose in ("sslserver", "sslclient"):
        verified = subprocess.run(
            (
                f"openssl verify -x509_strict -attime {when} -purpose {purpose} "
                "-CAfile ca.pem -untrusted admitter.pem clinic.pem"
            ).split(),
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        assert verified.returncode == 0, verified.stderr


def test_certificates_are_dated_from_1970_to_9999() -> None:
    """As the protocol page says."""
    for der in (CA, ADMITTER_CERT, CLINIC_IDENTITY.chain[0]):
        certificate = x509.load_der_x509_certificate(der)
        assert certificate.not_valid_before_utc.isoformat() == "1970-01-01T00:00:00+00:00"
        assert certificate.not_valid_after_utc.isoformat() == "9999-12-31T23:59:59+00:00"


def test_the_same_node_gets_the_same_certificate() -> None:
    """A genesis and a chain made again from the paper are the same bytes."""
    assert tls.make_mesh_ca(ROOT) == CA
    assert tls.issue_member_cert(ROOT, CA, bytes(ADMITTER.verify_key), can_admit=True) == ADMITTER_CERT
    assert tls.issue_member_cert(ROOT, CA, bytes(ADMITTER.verify_key), can_admit=False) != ADMITTER_CERT


def test_a_certificate_names_no_person_and_no_machine() -> None:
    """It is shown to whoever connects."""
    certificate = x509.load_der_x509_certificate(CLINIC_IDENTITY.chain[0])

    assert certificate.subject.rfc4514_string() == f"CN={node_id(CLINIC).hex()}"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == [f"{node_id(CLINIC).hex()[:16]}.mesh.invalid"]


def test_a_chain_is_checked_before_it_is_stored() -> None:
    """What comes with the answer to a join may come from anyone."""
    tls.check_chain(CLINIC_IDENTITY.chain, [STRANGE_CA, CA], node_id(CLINIC))

    forged = tls.issue_member_cert(
        COURIER, COURIER_IDENTITY.chain[0], bytes(STRANGER.verify_key), can_admit=False
    )
    for chain, mesh_ca, node in (
        ((), [CA], CLINIC),
        (CLINIC_IDENTITY.chain, [CA], COURIER),
        (CLINIC_IDENTITY.chain, [STRANGE_CA], CLINIC),
        (CLINIC_IDENTITY.chain, [], CLINIC),
        (CLINIC_IDENTITY.chain[:1], [CA], CLINIC),
        ((CLINIC_IDENTITY.chain[0], COURIER_IDENTITY.chain[0]), [CA], CLINIC),
        ((forged, *COURIER_IDENTITY.chain), [CA], STRANGER),
        ((CLINIC_IDENTITY.chain[0], b"no certificate"), [CA], CLINIC),
        (STRANGE_IDENTITY.chain, [CA], STRANGER),
        (CLINIC_IDENTITY.chain * 10, [CA], CLINIC),
    ):
        with pytest.raises(BadInvitation):
            tls.check_chain(chain, mesh_ca, node_id(node))


def test_the_private_key_is_nowhere_in_the_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL wants a file; it must be unreadable, and gone after."""
    seen = []
    load = ssl.SSLContext.load_cert_chain

    def spy(self: ssl.SSLContext, certfile: Any, keyfile: Any = None, password: Any = None) -> None:
        seen.append((Path(certfile), Path(certfile).read_text()))
        load(self, certfile, keyfile, password)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", spy)
    tls.server_context(CLINIC_IDENTITY, [CA])

    assert "ENCRYPTED PRIVATE KEY" in seen[0][1]
    assert not seen[0][0].exists()
    assert "key=" not in repr(CLINIC_IDENTITY)
