"""What resuming TLS sessions between nodes costs and saves, beside ways that were not taken (decision 26).

    python bench/tls_sessions.py

Both ends in one process, with the contexts that nodes have ("stateful") and others: octets of a handshake
each way with its ticket, CPU of both ends, what the server keeps for each session, and for thousands.
"padded": the client's hello is filled up to 512 octets, as OpenSSL does by itself. Then over uvicorn: after
which ends of a line the next one is resumed, and whom each end sees. Loopback only.
"""

import socket
import ssl
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from fastapi import FastAPI, Request  # noqa: E402
from nacl.signing import SigningKey  # noqa: E402
from support.servers import serve  # noqa: E402

from node.mesh import peercert, tls  # noqa: E402
from node.mesh.sessions import Renewed  # noqa: E402

_ROOT, _ADMITTER, _CLOUD, _OTHER, _CLINIC = (SigningKey(bytes([n] * 32)) for n in range(1, 6))
_CA = tls.make_mesh_ca(_ROOT)
_ADMITTER_CERT = tls.issue_member_cert(_ROOT, _CA, bytes(_ADMITTER.verify_key), can_admit=True)
_PADDING = 0x10  # SSL_OP_TLSEXT_PADDING, which Python has no name for
_KINDS = ("none", "stateless", "stateful")
_MANY = 300
_SESSIONS = 4000


def _identity(key: SigningKey) -> tls.Identity:
    own = tls.issue_member_cert(_ADMITTER, _ADMITTER_CERT, bytes(key.verify_key), can_admit=False)
    return tls.Identity(key, (own, _ADMITTER_CERT))


def _server(kind: str, key: SigningKey = _CLOUD) -> ssl.SSLContext:
    context = _port_context(key)._make(kind != "none")
    if kind == "stateless":
        context.options &= ~ssl.OP_NO_TICKET
    return context


def _port_context(key: SigningKey = _CLOUD) -> Renewed:
    context = tls.server_context(_identity(key), [_CA])
    assert isinstance(context, Renewed)
    return context


def _client(*, padded: bool = False) -> ssl.SSLContext:
    context = tls.client_context(_identity(_CLINIC), [_CA])
    if padded:
        context.options |= _PADDING
    return context


def shake(
    ours: ssl.SSLContext, theirs: ssl.SSLContext, session: Any = None
) -> tuple[ssl.SSLObject, ssl.SSLObject, tuple[int, int]]:
    """Return both ends after a handshake that the server closes, and octets each way, ticket included."""
    to_client, from_client, to_server, from_server = (ssl.MemoryBIO() for _ in range(4))
    client = ours.wrap_bio(to_client, from_client, session=session)
    server = theirs.wrap_bio(to_server, from_server, server_side=True)
    up = down = 0
    for end in (client, server, client, server):
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
        sent, received = from_client.read(), from_server.read()
        up, down = up + len(sent), down + len(received)
        to_server.write(sent)
        to_client.write(received)
    server.write(b"x")  # with the first data the client reads the ticket
    to_client.write(from_server.read())
    client.read(1)
    with suppress(ssl.SSLWantReadError):
        server.unwrap()  # else OpenSSL forgets the session
    return client, server, (up, down)


def _row(name: str, ends: tuple[ssl.SSLObject, ssl.SSLObject, tuple[int, int]]) -> None:
    client, server, (up, down) = ends
    seen = [tls.node_id_of(end.getpeercert(binary_form=True) or b"") for end in (client, server)]
    known = seen == [bytes(_CLOUD.verify_key), bytes(_CLINIC.verify_key)]
    print(f"| {name} | {client.session_reused} | {up} + {down} = {up + down} | {known} |")


def octets() -> None:
    """Print what handshakes take on the line."""
    print("| handshake | resumed | octets up and down | both see cloud and clinic |\n|---|---|---|---|")
    for kind in _KINDS:
        for padded in (False, True):
            ours, theirs = _client(padded=padded), _server(kind)
            name = f"{kind}, padded" if padded else kind
            ends = shake(ours, theirs)
            _row(f"{name}: full", ends)
            if kind != "none":
                session = ends[0].session
                _row(f"{name}: next", shake(ours, theirs, session))
                _row(f"{name}: server was restarted", shake(ours, _server(kind), session))
                _row(f"{name}: another node answers", shake(ours, _server(kind, _OTHER), session))


def cpu() -> None:
    """Print what handshakes take of CPU."""
    for kind, resumes in (("none", False), ("stateless", True), ("stateful", True)):
        ours, theirs = _client(), _server(kind)
        session = shake(ours, theirs)[0].session if resumes else None
        began = time.process_time()
        for _ in range(_MANY):
            client = shake(ours, theirs, session)[0]
            assert bool(client.session_reused) is resumes
            session = client.session if resumes else None
        each = (time.process_time() - began) / _MANY * 1000
        print(f"{kind}, resumed {resumes}: {each:.1f} ms of CPU, both ends")


def memory() -> None:
    """Print what a server keeps for each handshake that it has had, and for all of many."""
    alive = []  # what the first one took is not given to the second
    for who, ours in (("nobody", tls.joining_context(lambda _: True)), ("member", _client())):
        theirs = _server("stateful")
        alive.append(theirs)
        shake(ours, theirs)
        before = _resident()
        for _ in range(_SESSIONS):
            shake(ours, theirs)
        each, kept = (_resident() - before) / _SESSIONS, theirs.session_stats()["number"]
        print(f"{who}: {each / 1000:.1f} kB for each of {kept} sessions kept")
    for who, ours in (("nobody", tls.joining_context(lambda _: True)), ("member", _client())):
        port = _port_context()
        before, open_lines = _resident(), []
        for number in range(2 * _SESSIONS):
            line = shake(ours, port)
            if number % 100 == 0:  # some stay, and with them their contexts
                open_lines.append(line)
        grown = (_resident() - before) / 1e6
        print(f"{who}: {port.kept} sessions kept after {2 * _SESSIONS} handshakes, {grown:.1f} MB")


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@contextmanager
def _port(kind: str) -> Iterator[int]:
    app = FastAPI()

    @app.get("/who")
    def who(request: Request) -> dict[str, str]:
        return {"peer": (peercert.peer_node_id(request.scope) or b"").hex()}

    with serve(app, _server(kind), peercert.protocol_class()) as url:
        yield int(url.rpartition(":")[2])


def ends() -> None:
    """Print after which ends of a line the next one is resumed."""
    ours = _client()
    for kind in ("stateless", "stateful"):
        for end in ("closed", "close_notify", "reset"):
            with _port(kind) as port:
                session, resumed, known = None, [], []
                for _ in range(4):
                    line = socket.create_connection(("127.0.0.1", port))
                    made = ours.wrap_socket(line, session=session)
                    made.sendall(b"GET /who HTTP/1.1\r\nhost: x\r\nconnection: keep-alive\r\n\r\n")
                    answer = b""
                    while not answer.endswith(b"}"):
                        answer += made.recv(4096)
                    known.append(bytes(_CLINIC.verify_key).hex().encode() in answer)
                    session = made.session
                    resumed.append(made.session_reused)
                    if end == "close_notify":
                        made.setblocking(False)
                        with suppress(ssl.SSLError):
                            made.unwrap()
                    if end == "reset":
                        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    made.close()
                    time.sleep(0.2)
            print(f"{kind}, {end}: resumed {resumed}, the server sees the clinic {known}", flush=True)


if __name__ == "__main__":
    print(sys.version.split()[0], ssl.OPENSSL_VERSION)
    memory()  # first: what others freed would hide some of it
    octets()
    cpu()
    ends()
