"""The proxy that makes lines bad does what it says: tests of the mesh rest on it."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from support.proxy import DEAD, PERFECT, Line, proxied

HALF_MB = bytes(range(256)) * 2048


@pytest.fixture
def echo() -> Iterator[str]:
    """The address of a server that sends everything back."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=[listener.accept()[0]], daemon=True).start()

        def answer(one: socket.socket) -> None:
            with one, contextlib.suppress(OSError):
                while piece := one.recv(65_536):
                    one.sendall(piece)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def connect(address: str, timeout_s: float = 20) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout_s)


def sent_and_back(one: socket.socket, data: bytes) -> bytes:
    """Send data and the end of it, and return what comes back."""

    def send() -> None:
        with contextlib.suppress(OSError):
            one.sendall(data)
            one.shutdown(socket.SHUT_WR)

    threading.Thread(target=send, daemon=True).start()
    got = bytearray()
    while piece := one.recv(65_536):
        got += piece
    return bytes(got)


def test_a_perfect_line_changes_nothing(echo: str) -> None:
    """Every octet both ways, and the end of each direction by itself."""
    with proxied(echo) as proxy, connect(proxy.address) as one:
        assert sent_and_back(one, HALF_MB) == HALF_MB
        assert proxy.octets == [len(HALF_MB), len(HALF_MB)]


def test_a_slow_and_far_line_takes_its_time(echo: str) -> None:
    """At least what rate and distance cost; how much more is the machine's affair."""
    began = time.monotonic()
    with proxied(echo, Line(rate=1_000_000, rtt_s=0.1)) as proxy, connect(proxy.address) as one:
        assert sent_and_back(one, HALF_MB) == HALF_MB
    assert time.monotonic() - began >= len(HALF_MB) / 1_000_000 + 0.2


def test_the_rate_is_shared_by_all_connections(echo: str) -> None:
    """A town's uplink does not grow because a node opens four connections."""
    began = time.monotonic()
    with (
        proxied(echo, Line(rate=1_000_000)) as proxy,
        connect(proxy.address) as one,
        connect(proxy.address) as two,
    ):
        first = threading.Thread(target=sent_and_back, args=[one, HALF_MB])
        first.start()
        assert sent_and_back(two, HALF_MB) == HALF_MB
        first.join()
    assert time.monotonic() - began >= 2 * len(HALF_MB) / 1_000_000


@pytest.mark.parametrize("line", [Line(rate=200_000, cut_every_s=0.3), Line(cut_after=100_000)])
def test_a_line_is_cut_by_a_reset(echo: str, line: Line) -> None:
    """By the clock or after so many octets: the peer sees an error, no end of the stream."""
    with proxied(echo, line) as proxy, connect(proxy.address) as one:
        with pytest.raises(ConnectionResetError):
            sent_and_back(one, HALF_MB)
        proxy.line = PERFECT
        with connect(proxy.address) as again:
            assert sent_and_back(again, b"again") == b"again"


def test_a_silent_line_keeps_its_connections_and_goes_on_later(echo: str) -> None:
    """Half open: nobody is told anything, in the old connection or in a new one."""
    with proxied(echo) as proxy, connect(proxy.address) as old:
        old.sendall(b"x")
        assert old.recv(10) == b"x"
        proxy.line = DEAD
        with connect(proxy.address) as new:
            for one in (old, new):
                one.sendall(b"y")
                one.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    one.recv(10)
                one.settimeout(20)
            proxy.line = PERFECT
            assert (old.recv(10), new.recv(10)) == (b"y", b"y")
            assert proxy.cut() == 2


def test_a_line_that_refuses_answers_nothing(echo: str) -> None:
    """As a machine does at whose port nobody listens any more."""
    with proxied(echo, Line(refused=True)) as proxy:
        with contextlib.suppress(ConnectionError), connect(proxy.address) as one:
            one.sendall(b"x")
            assert one.recv(10) == b""
        assert proxy.octets == [0, 0]
