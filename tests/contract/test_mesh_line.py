"""A line to a peer: which address it is dialled at, and who goes first on it."""

import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpcore
import pytest

from node.errors import PeerUnreachable
from node.mesh import line, passing
from node.mesh.line import GaveWay, Line
from node.mesh.passing import Passing
from node.mesh.sessions import Sessions

RESUMES = Sessions(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)).at("cloud.example:8444")


@pytest.fixture
def listener() -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()


@pytest.fixture
def silent() -> Iterator[tuple[str, int]]:
    """An address that answers nothing, as a tunnel that swallows all."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as server,
        socket.socket() as one,
        socket.socket() as other,
    ):
        for full in (one, other):  # what waits to be accepted fills the queue
            full.setblocking(False)
            full.connect_ex(server.getsockname())
        yield server.getsockname()


class Reset(socket.socket):
    """As macOS has it after a reset."""

    def setsockopt(self, *_: Any) -> None:
        raise OSError(22, "Invalid argument")


def named(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[int, tuple[str, int]]) -> None:
    found = [(family, socket.SOCK_STREAM, 6, "", address) for family, address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


def test_the_next_address_is_dialled_when_the_first_is_silent(
    monkeypatch: pytest.MonkeyPatch, silent: tuple[str, int], listener: tuple[str, int]
) -> None:
    """A provider's broken IPv6 must not make a cloud node unreachable."""
    unknown = 99, ("127.0.0.1", 1)  # a family that this machine does not know
    named(monkeypatch, unknown, (socket.AF_INET, silent), (socket.AF_INET, listener))
    began = time.monotonic()
    with closing(Line(lambda _: None, RESUMES).connect_tcp("cloud.example", 8444, 0.6)) as stream:
        assert stream.get_extra_info("socket").getpeername() == listener
    assert time.monotonic() - began < 5


def test_many_silent_addresses_cost_no_more_than_a_few(
    monkeypatch: pytest.MonkeyPatch, silent: tuple[str, int]
) -> None:
    named(monkeypatch, *[(socket.AF_INET, silent)] * 12)
    began = time.monotonic()
    with pytest.raises(httpcore.ConnectError):
        Line(lambda _: None, RESUMES).connect_tcp("cloud.example", 8444, 0.3)
    assert 0.5 < time.monotonic() - began < 5


def test_a_line_that_is_cut_dials_no_other_address(
    monkeypatch: pytest.MonkeyPatch, silent: tuple[str, int], listener: tuple[str, int]
) -> None:
    named(monkeypatch, (socket.AF_INET, silent), (socket.AF_INET, listener))
    one = Line(lambda _: None, RESUMES)
    threading.Timer(0.2, one.cut).start()
    with pytest.raises(httpcore.ConnectError, match="cut"):
        one.connect_tcp("cloud.example", 8444, 30)


def test_what_gives_way_does_so_also_on_a_dead_socket(listener: tuple[str, int]) -> None:
    """Some systems take no option any more once the other end has reset."""
    one = Line(lambda _: None, RESUMES)
    stream: Any = one.connect_tcp(*listener, 5)
    stream._socket = Reset(fileno=stream._socket.detach())
    with one.limited(gives_way=lambda: True), pytest.raises(GaveWay):
        stream.write(b"a blob")
    stream.close()


@pytest.mark.parametrize(("platform", "octets"), [("linux", 8), ("win32", 4)])
def test_the_reset_has_the_size_that_the_system_knows(platform: str, octets: int) -> None:
    assert len(line.reset(platform)) == octets
    assert struct.unpack("HH" if octets == 4 else "ii", line.reset(platform)) == (1, 0)


# -- passing --------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the looks follow each other as in a meeting that is a hundred times shorter."""
    monkeypatch.setattr(passing, "_PATIENCE_S", 0.01)
    monkeypatch.setattr(passing, "_BETWEEN_S", 0.01)


def looks(what: Any, *, seconds: float, many: int) -> int:
    """Look round until it was done so many times, or so long; each time something is new."""
    count, enough = 0, threading.Event()
    way = Passing()

    def look(there: bool) -> bool:
        nonlocal count
        count += 1
        way.note_new(there=there)
        if count == many:
            enough.set()
        return bool(what())

    way.note_new(there=True)
    with way.looking(look, lambda: None):
        enough.wait(seconds)
    return count


@pytest.mark.usefixtures("quick")
def test_an_urgent_study_does_not_hold_up_the_next() -> None:
    """The second emergency of the hour passes as soon as the first is through."""

    def passed() -> bool:
        time.sleep(0.2)
        return True

    assert looks(passed, seconds=3, many=3) == 3


@pytest.mark.usefixtures("quick")
def test_looking_in_vain_takes_a_small_part_of_the_time() -> None:
    assert looks(lambda: time.sleep(0.2), seconds=1, many=3) == 1


@pytest.mark.usefixtures("quick")
def test_a_look_that_failed_is_not_the_last() -> None:
    """While blobs fill a weak line, a question may get no answer in time."""
    failures = iter([PeerUnreachable("late"), PeerUnreachable("late")])

    def failing() -> bool:
        for error in failures:
            raise error
        return True

    assert looks(failing, seconds=5, many=3) == 3
