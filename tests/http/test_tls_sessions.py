"""Lines that are resumed: what they save, what both ends still see, and what nobody can make a node keep."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request
from nacl.signing import SigningKey
from support.nodes import LocalNode
from support.servers import serve
from support.slices import made_slice

from node.keys import Keystore
from node.mesh import peercert, sessions, tls
from node.mesh.client import _Transport
from node.mesh.line import Line
from node.mesh.sessions import Renewed, Sessions
from sync.bodies import Revoked
from sync.ids import NodeId

ROOT, ADMITTER, CLINIC, COURIER = (SigningKey(bytes([n] * 32)) for n in range(1, 5))
CA = tls.make_mesh_ca(ROOT)
ADMITTER_CERT = tls.issue_member_cert(ROOT, CA, bytes(ADMITTER.verify_key), can_admit=True)
ADDRESS = "clinic.example:8444"  # as it was dialled; who is there now is another matter


def identity(key: SigningKey) -> tls.Identity:
    own = tls.issue_member_cert(ADMITTER, ADMITTER_CERT, bytes(key.verify_key), can_admit=False)
    return tls.Identity(key, (own, ADMITTER_CERT))


def node_id(key: SigningKey) -> NodeId:
    return NodeId(bytes(key.verify_key))


def dials(*, expected: NodeId | None = None) -> Sessions:
    return Sessions(tls.client_context(identity(COURIER), [CA], expected=expected))


@contextlib.contextmanager
def port(key: SigningKey = CLINIC) -> Iterator[str]:
    """A node's mesh port that tells whom it sees."""
    app = FastAPI()

    @app.get("/who")
    def who(request: Request) -> dict[str, str]:
        return {"peer": (peercert.peer_node_id(request.scope) or b"").hex()}

    with serve(app, tls.server_context(identity(key), [CA]), peercert.protocol_class()) as url:
        yield url


@contextlib.contextmanager
def line_to(url: str, kept: Sessions, resumed: list[bool], address: str = ADDRESS) -> Iterator[httpx.Client]:
    line = Line(lambda made: resumed.append(bool(made.session_reused)), kept.at(address))
    transport = _Transport(line, kept.context)
    with httpx.Client(base_url=url, transport=transport, trust_env=False, timeout=20) as one:
        yield one


def ask(url: str, kept: Sessions) -> bool:
    """Ask over a line of its own; say whether it was resumed."""
    resumed: list[bool] = []
    with line_to(url, kept, resumed) as line:
        assert line.get("/who").json() == {"peer": node_id(COURIER).hex()}
    (one,) = resumed
    return one


def test_each_line_after_the_first_is_resumed_and_the_server_sees_the_same_key() -> None:
    """On 2G a whole handshake is a second, and laptops dial all day."""
    kept = dials(expected=node_id(CLINIC))
    with port() as url:
        assert [ask(url, kept) for _ in range(4)] == [False, True, True, True]


def test_two_lines_at_once_do_not_offer_the_same_ticket() -> None:
    """Who listens could tell that both are one laptop's."""
    kept, resumed = dials(), []  # type: ignore[var-annotated]
    with port() as url:
        ask(url, kept)
        with line_to(url, kept, resumed) as one, line_to(url, kept, resumed) as other:
            assert one.get("/who").status_code == other.get("/who").status_code == 200
    assert resumed == [True, True], "the first of them brought a ticket for the second"
    assert len({session.id for session in kept._kept[ADDRESS]}) == len(kept._kept[ADDRESS]) == 1


def test_what_was_offered_is_not_kept_again() -> None:
    """Until the server has sent another ticket, a line's session is the one that it came with."""
    kept, server = dials(), tls.server_context(identity(CLINIC), [CA])
    first, _ = shake(kept.context, server)
    first.read(1)
    offered = first.session
    assert offered is not None and offered.has_ticket
    second, _ = shake(kept.context, server, offered)
    assert second.session_reused

    kept.at(ADDRESS).look(second, offered)  # type: ignore[arg-type]
    assert kept.take(ADDRESS) is None
    second.read(1)
    kept.at(ADDRESS).look(second, offered)  # type: ignore[arg-type]
    assert kept.take(ADDRESS) is not None
    assert kept.take(ADDRESS) is None


def test_a_server_that_was_restarted_is_met_as_if_for_the_first_time() -> None:
    """It forgot all sessions; the laptop cannot know."""
    kept = dials()
    with port() as url:
        ask(url, kept)
    with port() as url:
        assert [ask(url, kept) for _ in range(2)] == [False, True]


def test_another_node_at_the_address_is_seen_as_itself() -> None:
    """A session that somebody else has given opens nothing there, and hides nobody."""
    kept = dials(expected=node_id(CLINIC))
    with port() as url:
        ask(url, kept)
    with port(ADMITTER) as url, pytest.raises(httpx.ConnectError):
        ask(url, kept)


@pytest.mark.parametrize("full", [False, True], ids=["silent", "full"])
def test_a_line_that_is_dead_is_closed_at_once(full: bool) -> None:
    """Nobody answers the farewell, or nobody takes it any more, not even the kernel."""
    accepted: list[ssl.SSLSocket] = []
    server = tls.server_context(identity(CLINIC), [CA])
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            accepted.append(server.wrap_socket(listener.accept()[0], server_side=True))

        taker = threading.Thread(target=accept)
        taker.start()
        kept, made = dials(), []  # type: ignore[var-annotated]
        line = Line(made.append, kept.at(ADDRESS))
        stream = line.connect_tcp("127.0.0.1", listener.getsockname()[1], 5.0).start_tls(kept.context)
        taker.join()
        made[0].setblocking(False)
        with contextlib.suppress(ssl.SSLWantWriteError):
            while full:
                made[0].send(b"\0" * 16_384)
        made[0].setblocking(True)

        closing = threading.Thread(target=stream.close, daemon=True)
        closing.start()
        closing.join(20)
        assert not closing.is_alive()
        accepted[0].close()


# -- what a server keeps ------------------------------------------------------------------------


def shake(
    ours: ssl.SSLContext, theirs: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Return both ends; the server has sent its ticket, an octet and its farewell."""
    to_client, from_client, to_server, from_server = (ssl.MemoryBIO() for _ in range(4))
    client = ours.wrap_bio(to_client, from_client, session=session)
    server = theirs.wrap_bio(to_server, from_server, server_side=True)
    for end in (client, server, client, server):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
        to_server.write(from_client.read())
        to_client.write(from_server.read())
    server.write(b"x")
    with contextlib.suppress(ssl.SSLWantReadError):
        server.unwrap()  # else it forgets the session
    to_client.write(from_server.read())
    return client, server


def test_strangers_cannot_make_a_node_keep_more_than_some_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even if they stay on every line; lines that end make room, and tickets come again."""
    monkeypatch.setattr(sessions, "_EACH", 8)
    monkeypatch.setattr(sessions, "_MOST", 24)
    server, nobody = tls.server_context(identity(CLINIC), [CA]), tls.joining_context(lambda _: True)
    assert isinstance(server, Renewed)
    lines = [shake(nobody, server) for _ in range(100)]
    assert 24 <= server.kept < 24 + 8
    member = dials().context
    lines.append(shake(member, server))
    lines[-1][0].read(1)
    assert not getattr(lines[-1][0].session, "has_ticket", False)

    lines.clear()
    for _ in range(8):
        shake(nobody, server)
    one, _ = shake(member, server)
    one.read(1)
    assert getattr(one.session, "has_ticket", False)
    assert server.kept <= 8


def test_every_key_is_shown_again_after_some_hours() -> None:
    """However many lines were resumed meanwhile."""
    now = 0.0
    inner = tls.server_context(identity(CLINIC), [CA])
    assert isinstance(inner, Renewed)
    server, ours, session, resumed = Renewed(inner._make, now=lambda: now), dials().context, None, []
    for _ in range(8):
        client, _ = shake(ours, server, session)
        client.read(1)
        session = client.session
        resumed.append(bool(client.session_reused))
        now += 2 * 3600
    assert resumed == [False, True, True, False, True, True, False, True]


# -- whole nodes --------------------------------------------------------------------------------


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[tuple[LocalNode, LocalNode]]:
    with LocalNode(tmp_path / "cloud") as cloud, LocalNode(tmp_path / "clinic") as clinic:
        cloud.init()
        cloud.start()
        cloud.admit(clinic, "clinic")
        yield cloud, clinic


def test_nodes_that_meet_again_resume_their_lines(
    mesh: tuple[LocalNode, LocalNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three studies, three meetings: one handshake is whole, if any of them closed its lines."""
    cloud, clinic = mesh
    resumed: list[bool] = []
    tell_made = Line.tell_made

    def noted(self: Line, made: ssl.SSLSocket) -> None:
        resumed.append(bool(made.session_reused))
        tell_made(self, made)

    monkeypatch.setattr(Line, "tell_made", noted)
    clinic.start([cloud])
    (entry,) = clinic.submit({"IM": made_slice(61, 1, octets=20_000)})
    clinic.wait(lambda: clinic.states([entry]) == {"at-forwarder"}, "the copy")
    clinic.stop()
    assert resumed[0] is False
    assert any(resumed[1:]), resumed


def test_a_node_that_was_revoked_is_refused_on_a_resumed_line(mesh: tuple[LocalNode, LocalNode]) -> None:
    """The session shows whose line it is, and the facts say what that is worth now."""
    cloud, clinic = mesh
    membership = clinic.home.membership()
    own = Keystore.load(clinic.home.keys).node_key
    context = tls.client_context(tls.Identity(own, membership.chain), membership.genesis.mesh_ca)
    kept, resumed = Sessions(context), []  # type: ignore[var-annotated]
    url = f"https://{cloud.mesh_address}/mesh/v1"
    for revoked in (False, True):
        if revoked:
            cloud.node.facts.issue(Revoked(node_id(own), "stolen"))
        with line_to(url, kept, resumed) as line:
            answer = line.post("/lack", content=b"\x80")
        assert (answer.status_code == 403) is revoked, answer.content
    assert answer.json()["code"] == "not-a-member"
    assert resumed == [False, True]
