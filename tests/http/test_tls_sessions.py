"""Lines that are resumed: what they save, what both ends still see, and what nobody can make a node keep."""

import contextlib
import errno
import gc
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpcore
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

ROOT, ADMITTER, CLINIC, COURIER, OTHER = (SigningKey(bytes([n] * 32)) for n in range(1, 6))
CA = tls.make_mesh_ca(ROOT)
ADMITTER_CERT = tls.issue_member_cert(ROOT, CA, bytes(ADMITTER.verify_key), can_admit=True)
ADDRESS = "clinic.example:8444"  # as it was dialled; who is there now is another matter


def identity(key: SigningKey) -> tls.Identity:
    own = tls.issue_member_cert(ADMITTER, ADMITTER_CERT, bytes(key.verify_key), can_admit=False)
    return tls.Identity(key, (own, ADMITTER_CERT))


def node_id(key: SigningKey) -> NodeId:
    return NodeId(bytes(key.verify_key))


def dials(*, expected: NodeId | None = None, now: Callable[[], float] = time.monotonic) -> Sessions:
    return Sessions(tls.client_context(identity(COURIER), [CA], expected=expected), now=now)


def serving() -> Renewed:
    context = tls.server_context(identity(CLINIC), [CA])
    assert isinstance(context, Renewed)
    return context


@contextlib.contextmanager
def port(key: SigningKey = CLINIC, http: Any = None, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """A node's mesh port that tells whom it sees."""
    context = context or tls.server_context(identity(key), [CA])
    app = FastAPI()

    @app.get("/who")
    def who(request: Request) -> dict[str, str]:
        return {"peer": (peercert.peer_node_id(request.scope) or b"").hex()}

    with serve(app, context, http or peercert.protocol_class()) as url:
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


@pytest.mark.parametrize("http", [peercert.protocol_class(), peercert.H11WithPeer], ids=["usual", "h11"])
def test_each_line_after_the_first_is_resumed_and_the_server_sees_the_same_key(http: Any) -> None:
    """On 2G a whole handshake is a second, and laptops dial all day. It needs a farewell on each line."""
    kept = dials(expected=node_id(CLINIC))
    with port(http=http) as url:
        assert [ask(url, kept) for _ in range(4)] == [False, True, True, True]


def test_two_lines_at_once_do_not_offer_the_same_ticket() -> None:
    """Who listens could tell that both are one laptop's."""
    kept, resumed = dials(), []  # type: ignore[var-annotated]
    with port() as url:
        ask(url, kept)
        with line_to(url, kept, resumed) as one, line_to(url, kept, resumed) as other:
            assert one.get("/who").status_code == other.get("/who").status_code == 200
    assert resumed == [True, True], "the first of them brought a ticket for the second"
    assert len(kept._kept[ADDRESS]) == 1


def test_what_was_offered_is_not_kept_again() -> None:
    """Until the server has sent another ticket, a line's session is the one that it came with."""
    kept, server = dials(), serving()
    first, _ = shake(kept.context, server)
    first.read(1)
    kept.at(ADDRESS).look(first, None)
    offered = kept.take(ADDRESS)
    assert offered is not None and offered.session.has_ticket
    second, _ = shake(kept.context, server, offered.session)
    assert second.session_reused

    kept.at(ADDRESS).look(second, offered)
    assert kept.take(ADDRESS) is None
    second.read(1)
    kept.at(ADDRESS).look(second, offered)
    assert kept.take(ADDRESS) is not None
    assert kept.take(ADDRESS) is None


def test_few_tickets_of_few_addresses_are_kept() -> None:
    """A laptop hears of many addresses in its life. Of those it keeps what it heard last."""
    kept = dials()
    client, _ = shake(kept.context, serving())
    for number in range(70):
        for _ in range(6):
            kept.keep(f"10.0.0.{number}:8444", client.session, None)  # type: ignore[arg-type]
    assert sorted(kept._kept) == sorted(f"10.0.0.{number}:8444" for number in range(6, 70))
    assert {len(tickets) for tickets in kept._kept.values()} == {4}


def test_a_client_wants_the_keys_shown_again_after_some_hours() -> None:
    """Also of a server that would resume for ever."""
    now = 0.0
    kept, resumed = dials(now=lambda: now), []
    with port() as url:
        for _ in range(8):
            resumed.append(ask(url, kept))
            now += 2 * 3600
    assert resumed == [False, True, True, False, True, True, False, True]


def test_a_server_that_was_restarted_is_met_as_if_for_the_first_time() -> None:
    """It forgot all sessions; the laptop cannot know."""
    kept = dials()
    with port() as url:
        ask(url, kept)
    with port() as url:
        assert [ask(url, kept) for _ in range(2)] == [False, True]


def test_another_node_at_the_address_is_seen_as_itself() -> None:
    """A session that somebody else has given opens nothing there, and hides nobody."""
    kept, resumed = dials(expected=node_id(CLINIC)), []  # type: ignore[var-annotated]
    with port() as url:
        ask(url, kept)
    with (
        port(OTHER) as url,
        line_to(url, kept, resumed) as line,
        pytest.raises(httpx.ConnectError) as refused,
    ):
        line.get("/who")
    assert isinstance(_first_cause(refused.value), tls.WrongNode)
    assert resumed == []


def test_who_answers_is_looked_at_on_a_resumed_line_too() -> None:
    """The certificate is not sent again, and is there."""
    kept = dials()
    looked: list[NodeId] = []
    with port() as url:
        ask(url, kept)
        kept.context.accept = lambda node: bool(looked.append(node))  # type: ignore[attr-defined]
        with line_to(url, kept, []) as line, pytest.raises(httpx.ConnectError) as refused:
            line.get("/who")
    assert isinstance(_first_cause(refused.value), tls.WrongNode)
    assert looked == [node_id(CLINIC)]
    assert kept.take(ADDRESS) is None


def _first_cause(error: BaseException) -> BaseException:
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return error


@pytest.mark.parametrize("full", [False, True], ids=["silent", "full"])
def test_a_line_that_is_dead_is_closed_at_once(full: bool) -> None:
    """Nobody answers the farewell, or nobody takes it any more, not even the kernel."""
    with wired() as (stream, _):
        made = stream.get_extra_info("socket")
        made.setblocking(False)
        with contextlib.suppress(ssl.SSLWantWriteError):
            while full:
                made.send(b"\0" * 16_384)
        made.setblocking(True)
        _ends(stream.close)


def test_a_line_that_another_thread_reads_is_closed_without_a_farewell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """OpenSSL bears one call at a time for a connection."""
    left: list[object] = []
    monkeypatch.setattr("node.mesh.line._leave_in_order", left.append)
    with wired() as (stream, other):
        reading = threading.Thread(target=lambda: _quietly(lambda: stream.read(1)), daemon=True)
        reading.start()
        while not stream._in_use.locked():
            time.sleep(0.01)
        _ends(stream.close)
        assert left == []
        with contextlib.suppress(OSError):  # it may see the end by itself
            other.sendall(b"x")
        reading.join(10)
    with wired() as (stream, _):
        stream.close()
        assert len(left) == 1


@pytest.mark.parametrize("is_cut", [False, True], ids=["closed", "cut"])
def test_what_was_sent_arrives_though_a_ticket_lies_unread(is_cut: bool) -> None:
    """A kernel that closes with octets unread throws away what has not gone out yet."""
    with wired() as (stream, other):
        stream.write(b"x" * 400_000, 5)
        time.sleep(0.2)  # until the ticket is there
        if is_cut:
            stream._line.cut()
        stream.close()
        other.settimeout(10)
        came = 0
        while came < 400_000:
            came += len(other.recv(65_536))


@contextlib.contextmanager
def wired() -> Iterator[tuple[Any, ssl.SSLSocket]]:
    """A stream, and the other end, which does nothing by itself."""
    accepted: list[ssl.SSLSocket] = []
    server, kept = serving(), dials()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            taken, _ = listener.accept()
            accepted.append(server.wrap_socket(taken, server_side=True, suppress_ragged_eofs=False))

        taker = threading.Thread(target=accept)
        taker.start()
        line = Line(lambda _: None, kept.at(ADDRESS))
        stream = line.connect_tcp("127.0.0.1", listener.getsockname()[1], 5.0).start_tls(kept.context)
        taker.join()
    with accepted[0] as other:
        yield stream, other


def _ends(work: Callable[[], object]) -> None:
    working = threading.Thread(target=work, daemon=True)
    working.start()
    working.join(10)
    assert not working.is_alive()


def _quietly(work: Callable[[], object]) -> None:
    with contextlib.suppress(httpcore.ReadError):
        work()


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
    monkeypatch.setattr(sessions, "_OWN", 1)
    monkeypatch.setattr(sessions, "_MOST", 27)
    server, nobody, member = serving(), tls.joining_context(lambda _: True), dials().context
    for _ in range(100):
        shake(nobody, server)
    assert server.kept <= 8

    lines = [shake(nobody, server) for _ in range(100)]
    assert server.kept == 24
    lines.append(shake(member, server))
    lines[-1][0].read(1)
    assert not getattr(lines[-1][0].session, "has_ticket", False)

    lines.clear()
    one, _ = shake(member, server)
    one.read(1)
    assert getattr(one.session, "has_ticket", False)
    assert server.kept == 1


def test_the_bound_holds_for_a_port_with_lines_that_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with asyncio, whose lines go when they are done with."""
    monkeypatch.setattr(sessions, "_EACH", 8)
    server, nobody = serving(), tls.joining_context(lambda _: True)
    with port(context=server) as url, contextlib.ExitStack() as stack:
        for number in range(60):
            line = nobody.wrap_socket(socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))))
            line.sendall(b"GET /who HTTP/1.1\r\nhost: x\r\n\r\n")
            assert line.recv(4096).startswith(b"HTTP/1.1 200")
            if number % 20 == 0:
                stack.enter_context(line)
                continue
            line.setblocking(False)
            with contextlib.suppress(ssl.SSLError):
                line.unwrap()
            line.close()
        deadline = time.monotonic() + 20  # for timers of uvicorn, which hold connections that have ended
        while len(server._begun) > 4 and time.monotonic() < deadline:
            time.sleep(0.2)
            gc.collect()
        assert len(server._begun) <= 4, "three with a line that stayed, and the one that is used"
        assert 0 < server.kept <= 4 * 8


def test_lines_that_stay_do_not_keep_contexts_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line in each six hours, for months: contexts take memory too."""
    now, server = 0.0, serving()
    monkeypatch.setattr(server, "_now", lambda: now)
    nobody, lines = tls.joining_context(lambda _: True), []
    for _ in range(200):
        lines.append(shake(nobody, server))
        now += sessions.SHOWN_S
    assert 50 < len(server._begun) < 100


def test_a_disk_without_room_costs_tickets_and_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL reads keys from files only; the context that is there goes on without tickets."""
    server, member = serving(), dials().context

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(tls, "_load", fail)
        client, _ = shake(member, server)
        assert client.read(1) == b"x"
        assert not getattr(client.session, "has_ticket", False)
    client, _ = shake(member, server)
    client.read(1)
    assert getattr(client.session, "has_ticket", False)


def test_every_key_is_shown_again_after_some_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many lines were resumed meanwhile."""
    now, server = 0.0, serving()
    monkeypatch.setattr(server, "_now", lambda: now)
    ours, session, resumed = dials().context, None, []
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
    """The lines of one meeting are closed; the next is dialled with what they brought."""
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
    assert resumed[0] is False
    replicator = clinic.service._replicator
    for line, _ in replicator._kept.values():
        line.close()
    replicator._kept.clear()
    resumed.clear()
    replicator.meet_one(cloud.mesh_address)
    assert resumed[0] is True


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


def test_who_joins_resumes_nothing_and_keeps_nothing(
    mesh: tuple[LocalNode, LocalNode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no certificate yet, and its line must not be told from another one's, or tell of its node."""
    cloud, _ = mesh
    offered: list[object] = []
    wrap = ssl.SSLContext.wrap_socket
    looked: list[object] = []

    def noted(self: ssl.SSLContext, *args: Any, **more: Any) -> ssl.SSLSocket:
        offered.append(more.get("session"))
        return wrap(self, *args, **more)

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", noted)
    monkeypatch.setattr(Sessions, "keep", lambda *kept: looked.append(kept))
    for name in ("courier", "cloud"):
        with LocalNode(tmp_path / f"new {name}") as newcomer:
            cloud.admit(newcomer, name)
    assert len(offered) >= 2
    assert set(offered) == {None}
    assert looked == []
