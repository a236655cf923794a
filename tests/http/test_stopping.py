"""A node stops at once, whatever it waits for; and nobody keeps it waiting for ever."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from support import netns
from support.killing import noisy_study
from support.netns import Lab
from support.nodes import LocalNode, RealNode, fork_server, wait_until
from support.proxy import DEAD, Line, proxied
from support.slices import made_slice

from node.errors import PeerUnreachable
from node.mesh import tls
from node.mesh.client import PeerClient
from node.mesh.sessions import Sessions
from sync.ids import BlobId

MB = 1_000_000
_AT_ONCE_S = 2.0
_ESTABLISHED, _SYN_SENT = "01", "02"


@contextmanager
def black_hole(*, accepts: bool) -> Iterator[str]:
    """Give an address from which nothing comes; the kernel acknowledges all that is sent if it `accepts`."""
    with socket.create_server(("127.0.0.1", 0), backlog=8 if accepts else 0) as listener, ExitStack() as full:
        address = listener.getsockname()
        for _ in range(0 if accepts else 2):  # what waits to be accepted fills the queue
            one = full.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(address)
        yield f"127.0.0.1:{address[1]}"


def lines_to(address: str) -> int:
    """Count this machine's connections to a port, those that are being dialled included."""
    port = f":{int(address.rpartition(':')[2]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(port) and row[3] in (_ESTABLISHED, _SYN_SENT) for row in rows)


@pytest.mark.parametrize("accepts", [False, True])
def test_a_node_that_dials_a_black_hole_stops_at_once(tmp_path: Path, accepts: bool) -> None:
    """Whoever closes the laptop on the road must not be tempted to pull the plug."""
    with (
        black_hole(accepts=accepts) as address,
        fork_server() as forks,
        RealNode(tmp_path / "node", forks=forks) as node,
    ):
        node.init()
        before = lines_to(address)
        node.start([address])
        node.wait(lambda: lines_to(address) > before, "to dial", 10)
        began = time.monotonic()
        node.stop()

        assert time.monotonic() - began < _AT_ONCE_S


def test_a_node_that_looks_up_a_name_without_a_network_stops_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolver waits for ten seconds and more for a server that is not there."""
    asked, answered = threading.Event(), threading.Event()
    look_up = socket.getaddrinfo

    def slow(host: str, *more: Any, **named: Any) -> Any:
        if host == "cloud.example":
            asked.set()
            answered.wait(30)
        return look_up(host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with LocalNode(tmp_path / "node") as node:
        node.init()
        node.start(["cloud.example:8444"])
        assert asked.wait(10)
        began = time.monotonic()
        node.stop()
        took = time.monotonic() - began
        answered.set()

    assert took < _AT_ONCE_S


def test_a_node_whose_peer_falls_silent_in_the_middle_of_a_blob_stops_at_once(tmp_path: Path) -> None:
    """The other laptop has gone to sleep; its kernel, or a router, still acknowledges what comes."""
    with LocalNode(tmp_path / "cloud") as cloud, LocalNode(tmp_path / "clinic") as clinic:
        cloud.init()
        cloud.start()
        cloud.admit(clinic, "clinic")
        clinic.start()
        clinic.submit(noisy_study(1, 3, 3 * MB))
        with proxied(cloud.mesh_address, Line(rate=MB)) as proxy:
            clinic.ask("POST", "/api/v1/admin/peers", {"address": proxy.address})
            clinic.wait(lambda: proxy.octets[0] > MB, "to give blobs")
            proxy.line = DEAD
            began = time.monotonic()
            clinic.stop()

            assert time.monotonic() - began < _AT_ONCE_S


# -- who drips ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    with LocalNode(tmp_path_factory.mktemp("drip") / "cloud") as node:
        node.init()
        node.start()
        yield node


def line_to(cloud: LocalNode, address: str) -> PeerClient:
    """Return a line of the node to itself, or to what stands there in its name."""
    membership = cloud.node.membership
    identity = tls.Identity(cloud.node.keystore.node_key, membership.chain)
    return PeerClient(address, Sessions(tls.client_context(identity, membership.genesis.mesh_ca)))


@contextmanager
def dripping(cloud: LocalNode, *, every_s: float) -> Iterator[str]:
    """Serve a member that answers one octet after the other."""
    membership = cloud.node.membership
    identity = tls.Identity(cloud.node.keystore.node_key, membership.chain)
    context = tls.server_context(identity, membership.genesis.mesh_ca)
    ended = threading.Event()

    def drip(made: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(made, server_side=True) as line:
            line.recv(65536)
            for octet in b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + bytes(MB):
                if ended.wait(every_s):
                    return
                line.sendall(bytes([octet]))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def serve() -> None:
            with suppress(OSError):
                while not ended.is_set():
                    threading.Thread(target=drip, args=(listener.accept()[0],)).start()

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_an_answer_that_drips_is_given_up(cloud: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """One octet a minute is no silence; without a bound it would hold a meeting for years."""
    monkeypatch.setattr("node.mesh.line._SPAN_S", 1.0)
    with dripping(cloud, every_s=0.02) as address, line_to(cloud, address) as line:
        began = time.monotonic()
        with pytest.raises(PeerUnreachable):
            list(line.get_blob(BlobId(bytes(32)), 0))

        assert 1.0 < time.monotonic() - began < 5


def test_a_hello_that_drips_is_given_up_after_20_seconds(
    cloud: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is small, and comes before anybody knows who is there."""
    monkeypatch.setattr("node.mesh.client._HELLO_S", 1.0)
    with dripping(cloud, every_s=0.02) as address, line_to(cloud, address) as line:
        began = time.monotonic()
        with pytest.raises(PeerUnreachable):
            line.hello(cloud.service._exchange.hello())

        assert time.monotonic() - began < 3


def test_addresses_where_nobody_was_ever_met_keep_no_known_node_waiting(tmp_path: Path) -> None:
    """Somebody announces dozens of nodes that never answer; the neighbours are met all the same."""
    with ExitStack() as stack:
        cloud, clinic = (
            stack.enter_context(LocalNode(tmp_path / name, replicate_every_s=600))
            for name in ("cloud", "clinic")
        )
        cloud.init()
        cloud.start()
        cloud.admit(clinic, "clinic")
        clinic.start([cloud])
        clinic.wait(lambda: clinic.node.notes.peers()[0].met_ms, "to meet the cloud node")
        holes = [stack.enter_context(black_hole(accepts=True)) for _ in range(40)]
        for hole in holes:
            clinic.service._found(hole)
        clinic.wait(lambda: sum(map(lines_to, holes)) > 0, "to dial them")
        began = time.monotonic()
        (entry,) = clinic.submit({"a.dcm": made_slice(1, 1)})
        cloud.wait(lambda: entry in cloud.stories(), "to hear of a new study", 4)

        assert time.monotonic() - began < 4


# -- who is gone --------------------------------------------------------------------------------------


@pytest.mark.skipif(netns.missing() is not None, reason=f"missing here: {netns.missing()}")
def test_a_laptop_that_was_carried_away_is_not_served_any_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for news, and its cable is gone: nobody says so, and only the kernel can find out."""
    monkeypatch.setattr("node.lines._QUIET_S", 1)  # of a node: 15 s
    monkeypatch.setattr("node.lines._UNHEARD_MS", 3_000)  # of a node: 30 s
    with Lab() as lab, ExitStack() as stack:
        lab.place("town")
        town, laptop = lab.machine("cloud", "town"), lab.machine("laptop", "town")
        with town.inside():
            cloud = stack.enter_context(LocalNode(tmp_path / "cloud", bind="0.0.0.0"))
            cloud.init()
            cloud.start()
        served = cloud.service._servers._pairs[-1][0].server_state.connections
        with line_to(cloud, f"{town.address}:{cloud.mesh_port}") as line:

            def ask() -> None:
                with laptop.inside(), suppress(PeerUnreachable):
                    line.news(cloud.service._exchange.hello().fingerprints)

            asking = threading.Thread(target=ask)
            asking.start()
            wait_until(lambda: served, 10, "the laptop to ask for news")
            laptop.pull()
            began = time.monotonic()
            wait_until(lambda: not served, 12, "the node to notice")
            took = time.monotonic() - began
            line.cut()
            asking.join()

    assert took > 1
