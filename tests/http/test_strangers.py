"""What anybody on the network may do, and any web page in the laptop's own browser: nothing that matters."""

import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request
from support.devices import GRANT_TYPE, FakeDevice
from support.nodes import LocalNode
from support.routes import walk
from support.servers import serve
from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.http.h11_impl import H11Protocol

from node import callers
from node.api import events
from node.api.auth import Caller
from node.api.tokens import make_access_token
from node.callers import Door, patient
from node.mesh import joining
from node.serving import Servers
from node.signals import Signals
from sync.invitation import parse_code


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    with LocalNode(tmp_path_factory.mktemp("strangers") / "cloud", setup_port=0) as node:
        node.init()
        node.start()
        yield node


def status(port: int, head: str, body: bytes = b"") -> int:
    """Send octets as they are; return the status of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.sendall(head.replace("\n", "\r\n").encode() + b"\r\n" + body)
        heard = line.recv(65_536)
    told = re.match(rb"HTTP/1\.1 (\d{3})", heard)
    assert told, heard
    return int(told[1])


# -- pages in the laptop's own browser ------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/", "/openapi.json", "/api/v1/studies"])
@pytest.mark.parametrize(
    "host",
    ["Host: evil.example:8480\n", "Host: localhost.evil.example\n", "Host: 192.0.2.1\n", "Host:\n", ""],
    ids=["its own name", "a name that begins like ours", "another address", "no name", "no line"],
)
def test_a_page_whose_name_leads_to_this_machine_reads_nothing(node: LocalNode, path: str, host: str) -> None:
    """DNS rebinding: a page of another site makes its name mean 127.0.0.1, and is then our own origin."""
    assert status(node.local_port, f"GET {path} HTTP/1.1\n{host}Connection: close\n") == 421


def test_nobody_says_by_himself_how_and_from_where_he_came(node: LocalNode) -> None:
    """uvicorn believes a proxy on this machine: whoever says https would be asked for no name."""
    said = "Host: evil.example\nX-Forwarded-Proto: https\nX-Forwarded-For: 192.0.2.9\nConnection: close\n"

    assert status(node.local_port, f"GET /metrics HTTP/1.1\n{said}") == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8480", "127.0.0.1:5173", "[::1]:8480"])
def test_this_machine_is_answered_by_its_own_names(node: LocalNode, host: str) -> None:
    """Else the test above would prove nothing."""
    assert status(node.local_port, f"GET /healthz HTTP/1.1\nHost: {host}\nConnection: close\n") == 200


def test_the_set_up_page_is_for_machines_near_by(node: LocalNode) -> None:
    """By address or by a name of the local network; not under the name of a page of the internet."""
    port = int(node.ask("POST", "/api/v1/admin/setup-page")["pages"][0].rstrip("/").rpartition(":")[2])

    told = {
        host: status(port, f"GET / HTTP/1.1\nHost: {host}\nConnection: close\n")
        for host in ("evil.example", "local.evil.example", "192.168.1.5:8481", "test.local", "localhost")
    }
    assert list(told.values()) == [421, 421, 200, 200, 200], told


_SIMPLE = ("text/plain", "application/x-www-form-urlencoded")


def test_what_a_page_may_send_without_asking_first_does_nothing(node: LocalNode) -> None:
    """A form or a fetch of another site is sent with no preflight; not even a right code counts there."""
    code = node.ask("POST", "/api/v1/admin/device-codes", {"role": "admin"})["code"]
    body = json.dumps({"code": code, "label": "evil", "key": FakeDevice().jwk}).encode()
    posts = {path for method, path in walk(node.service.people_app().routes) if method == "POST"}
    assert len(posts) > 15
    with httpx.Client(base_url=f"http://localhost:{node.local_port}", trust_env=False) as page:
        for kind in (
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "",
        ):
            for path in sorted(posts):
                headers = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
                headers |= {"Content-Type": kind}
                answer = page.post(re.sub(r"\{\w+\}", "0" * 32, path), content=body, headers=headers)
                assert answer.status_code in (400, 401, 422), (kind, path)
                assert "access-control-allow-origin" not in answer.headers
    assert not node.get("/api/v1/admin/devices")["devices"]

    honest = node.ask("POST", "/api/v1/devices", json.loads(body))
    assert honest["role"] == "admin"


def test_a_stranger_does_not_write_the_trail_full(node: LocalNode) -> None:
    """Anybody may ask to be enrolled; what is wrong with it makes one line a minute, not one each."""
    before = node.node.audit.head.count
    with httpx.Client(base_url=f"http://localhost:{node.local_port}", trust_env=False) as stranger:
        for number in range(60):
            stranger.post("/api/v1/devices", json={"code": number})
            stranger.post("/oauth/token", content=b"x")

    assert node.node.audit.head.count - before <= 4


# -- connections ----------------------------------------------------------------------------------------


def _ended_within(line: socket.socket, seconds: float) -> bool:
    line.settimeout(seconds)
    try:
        while line.recv(65_536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


HEAD = b"POST /count HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n"
WHOLE = b"GET /count HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module", params=[AutoHTTPProtocol, H11Protocol], ids=["httptools", "h11"])
def hasty(request: pytest.FixtureRequest) -> Iterator[int]:
    """A server whose patience is short."""
    app = FastAPI()

    @app.post("/count")
    async def count(request: Request) -> int:
        return sum([len(part) async for part in request.stream()])

    @app.get("/count")
    async def nothing() -> int:
        return 0

    @app.post("/refuse")
    async def refuse() -> int:
        return 0

    with serve(app, http=patient(request.param, head_s=0.4, silence_s=0.8)) as url:
        yield int(url.rpartition(":")[2])


@pytest.mark.parametrize(
    "said",
    [b"", b"GET /cou", WHOLE[:-2], HEAD, HEAD + b"12345", WHOLE + b"GET /"],
    ids=["nothing", "part of a line", "part of a head", "a head", "part of a body", "half of a second one"],
)
def test_a_request_that_does_not_go_on_is_ended(hasty: int, said: bytes) -> None:
    """Each holds a connection, and a phone's study may be waiting for it."""
    with socket.create_connection(("127.0.0.1", hasty)) as line:
        if said.startswith(WHOLE):
            line.sendall(WHOLE)
            assert line.recv(65_536).startswith(b"HTTP/1.1 200")
        line.sendall(said.removeprefix(WHOLE))

        assert _ended_within(line, 3)  # uvicorn's own end of an idle line is after five seconds


def test_one_that_goes_on_slowly_is_not(hasty: int) -> None:
    """A radio link gives an octet now and then for longer than any pause that is allowed."""
    with socket.create_connection(("127.0.0.1", hasty), timeout=10) as line:
        line.sendall(HEAD)
        for octet in b"123456789":
            time.sleep(0.2)
            line.sendall(bytes([octet]))
        line.sendall(b"0")

        assert line.recv(65_536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("begun", "goes_on"),
    [
        (WHOLE[:-2], b"X-More: " + bytes([120]) * 1000 + b"\r\n"),
        (WHOLE[:-2] + b"X-One: ", bytes([120]) * 1000),
        (b"GET /", bytes([120]) * 1000),
    ],
    ids=["lines", "one line", "the address"],
)
def test_a_head_without_end_fills_no_memory(hasty: int, begun: bytes, goes_on: bytes) -> None:
    """150 MB of it were taken in half a second, before anybody was asked who he is."""
    sent = 0
    with socket.create_connection(("127.0.0.1", hasty), timeout=10) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        try:
            line.sendall(begun)
            while sent < 50_000_000:
                line.sendall(goes_on * 20)
                sent += len(goes_on) * 20
        except OSError:
            pass

    assert sent < 10_000_000  # what the two kernels hold, and one piece


def test_who_is_answered_early_may_end_his_body(hasty: int) -> None:
    """A client that hears of a 413 late must hear of it, and not of a broken line."""
    with socket.create_connection(("127.0.0.1", hasty), timeout=10) as line:
        line.sendall(b"POST /refuse HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n")
        heard = line.recv(65_536)
        assert heard.startswith(b"HTTP/1.1 200")
        line.sendall(bytes(2_000_000))
        line.sendall(WHOLE)
        while heard.count(b"HTTP/1.1 200") < 2 and (part := line.recv(65_536)):
            heard += part

    assert heard.count(b"HTTP/1.1 200") == 2


def _opened(port: int, count: int, source: str) -> list[socket.socket]:
    return [
        socket.create_connection(("127.0.0.1", port), timeout=5, source_address=(source, 0))
        for _ in range(count)
    ]


def _asks(port: int, source: str, wrap: Callable[[socket.socket], socket.socket]) -> bool:
    """Say whether a machine at this address is answered."""
    try:
        with wrap(*_opened(port, 1, source)) as line:
            line.sendall(WHOLE.replace(b"/count", b"/healthz"))
            return line.recv(1024).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


@pytest.mark.parametrize("port", ["local", "people", "mesh"])
def test_one_machine_does_not_shut_out_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: str
) -> None:
    """With a thousand connections that say nothing a laptop had no file left to open, for anybody."""
    monkeypatch.setattr(callers, "_MOST", 40)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with LocalNode(tmp_path / "cloud") as node:
        node.init()
        node.start()
        at = {"local": node.local_port, "people": node.people_port, "mesh": node.mesh_port}[port]
        wrap = (lambda line: line) if port == "local" else context.wrap_socket
        guests = _opened(at, 100, "127.0.0.2")
        try:
            shut = [line for line in guests if _ended_within(line, 0.05)]
            if port == "local":  # only this machine comes in there
                assert len(shut) == 60
                return
            assert len(shut) == 90
            if port == "people":
                assert _asks(at, "127.0.0.3", wrap)
                assert not _asks(at, "127.0.0.2", wrap)
            else:
                with LocalNode(tmp_path / "clinic") as clinic:
                    node.admit(clinic, "clinic")
        finally:
            for line in guests:
                line.close()
        if port == "people":
            node.wait(lambda: _asks(at, "127.0.0.2", wrap), "its places to be free again", 10)


def test_there_are_files_left_when_all_ports_are_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """The places are fewer where the system gives a process few files."""
    resource = pytest.importorskip("resource")
    for files, places in ((1024, 192), (100, 8), (1_000_000, 512)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, files=files: (files, files))
        assert callers.most_connections() == places


def test_refused_connections_make_one_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """Else whoever knocks writes the log full, and what it told is gone."""
    servers = Servers()
    with Door(socket.AF_INET, most=1) as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        lines = _opened(door.getsockname()[1], 6, "127.0.0.1")
        held, _ = door.accept()
        for _ in range(5):
            with pytest.raises(ConnectionAbortedError):
                door.accept()
        for line in (*lines, held):
            line.close()
    servers.ask_to_stop()

    assert [record.getMessage().partition(" refused")[0] for record in caplog.records] == [
        "too many connections"
    ]


# -- guesses and tokens ---------------------------------------------------------------------------------


def test_a_stranger_who_guesses_does_not_end_a_code_that_a_person_is_typing(
    node: LocalNode, tmp_path: Path
) -> None:
    """Three wrong ones from anywhere would be a lock-out that everybody on the Wi-Fi has in hand."""
    inviter = node.service._inviter
    code = inviter.invite(["carry"])
    right = parse_code(code).secret
    told: list[str] = []

    def guess(secret: bytes, address: str) -> str:
        request = joining.JoinRequest(secret, node.node.facts.node_id, bytes(32), "x", bytes(64), b"", ())
        try:
            inviter._accept(request, address)
        except joining.Refused as refused:
            return refused.code
        return ""

    for number in range(10):
        told.append(guess(bytes([number, 1, 2, 3, 4]), "192.168.1.66"))
    assert set(told) == {"code-wrong"}
    assert guess(right, "192.168.1.66") == "code-wrong"  # who guessed is out, even if he is right now
    with LocalNode(tmp_path / "courier") as courier:
        courier.join(code, node.mesh_address)
        assert courier.home.is_member


def test_a_code_ends_when_a_thousand_addresses_guess(node: LocalNode) -> None:
    """So its forty bits are enough, however many addresses somebody has."""
    inviter = node.service._inviter
    inviter.invite(["carry"])
    request = joining.JoinRequest(bytes(5), node.node.facts.node_id, bytes(32), "x", bytes(64), b"", ())
    for number in range(1000):
        with pytest.raises(joining.Refused):
            inviter._accept(request, f"10.0.{number // 250}.{number % 250}")
    inviter._forget_old()

    assert inviter._open == []


def test_a_stream_that_waits_for_a_lock_holds_up_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether its token still counts stands in the facts, which somebody may be writing on a slow disk."""
    asked, written = threading.Event(), threading.Event()

    def still(request: Request, scope: str) -> bool:
        asked.set()
        return written.wait(10)

    app = FastAPI()
    app.include_router(
        events.router(Signals(), lambda scope: lambda: Caller("x", "admin", frozenset()), still)
    )

    @app.get("/count")
    async def count() -> int:
        return 0

    monkeypatch.setattr(events, "_ASK_S", 0.0)
    with (
        serve(app) as base,
        httpx.Client(base_url=base, trust_env=False, timeout=3) as page,
        page.stream("GET", "/api/v1/events") as stream,
    ):
        assert next(stream.iter_text()).startswith(": hello")
        assert asked.wait(5)
        try:
            assert page.get("/count").status_code == 200
        finally:
            written.set()


@pytest.mark.parametrize("end", ["revoked", "expired"])
def test_a_stream_ends_with_the_token_that_opened_it(node: LocalNode, end: str) -> None:
    """A phone that was stolen and revoked must not go on hearing what moves."""
    code = node.ask("POST", "/api/v1/admin/device-codes", {"role": "clinician"})["code"]
    device = FakeDevice()
    device.id = node.ask("POST", "/api/v1/devices", {"code": code, "label": "x", "key": device.jwk})[
        "device_id"
    ]
    clock = node.node.clock
    with httpx.Client(base_url=f"http://localhost:{node.local_port}", trust_env=False) as phone:
        health = phone.get("/healthz").json()
        assertion = device.sign(device.claims(int(health["time"]), mesh=health["mesh"]))
        form = {"grant_type": GRANT_TYPE, "assertion": assertion}
        token = phone.post("/oauth/token", data=form).json()["access_token"]
        if end == "expired":
            token = make_access_token(
                node.node.keystore.token_key,
                node=f"clinicmesh-node:{node.node.facts.node_id.hex()}",
                device_id=device.id,
                scopes=frozenset({"status"}),
                now_s=clock.now_ms() / 1000 - 897,
                jti="5" * 32,
            )
        with phone.stream("GET", "/api/v1/events", headers={"Authorization": f"Bearer {token}"}) as events:
            heard = events.iter_text()
            assert next(heard).startswith(": hello")
            if end == "revoked":
                node.ask("DELETE", f"/api/v1/admin/devices/{device.id}")
            ended = threading.Event()

            def listen() -> None:
                for _ in heard:
                    pass
                ended.set()

            threading.Thread(target=listen, daemon=True).start()
            assert ended.wait(8)
