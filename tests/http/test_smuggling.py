"""One request is one request: what tries to hide a second one in the first is refused."""

import re
import socket
from collections.abc import Iterator

import pytest
from support.nodes import LocalNode
from support.source import ROOT

HIDDEN = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)


_POST = b"POST /api/v1/nothing HTTP/1.1\r\nHost: localhost\r\n"
# Each is one request to a route that reads no body, with another one hidden where parsers may differ.
REQUESTS: dict[str, bytes] = {
    "length and chunks": _POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "chunks and length": _POST + b"Transfer-Encoding: chunked\r\n"
    b"Content-Length: %d\r\n\r\n0\r\n\r\n" % (5 + len(HIDDEN)) + HIDDEN,
    "two lengths": _POST + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "a list of lengths": _POST + b"Content-Length: 0, %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "a length with a sign": _POST + b"Content-Length: +0\r\n\r\n" + HIDDEN,
    "a length in hex": _POST + b"Content-Length: 0x0\r\n\r\n" + HIDDEN,
    "a space before the colon": _POST
    + b"Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"
    + HIDDEN,
    "an unknown coding": _POST + b"Transfer-Encoding: xchunked\r\n\r\n" + chunked(b"") + HIDDEN,
    "a folded line": _POST + b"Transfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + HIDDEN,
    "a chunk with a sign": _POST + b"Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n" + HIDDEN,
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    with LocalNode(tmp_path_factory.mktemp("smuggling") / "cloud") as node:
        node.init()
        node.start()
        yield node


def answers(port: int, request: bytes, *, wanted: int = 2) -> list[int]:
    """Return the statuses of the answers that one connection gets: until it ends, or is silent after one."""
    heard = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.sendall(request)
        while len(told := [int(one) for one in re.findall(rb"HTTP/1\.1 (\d{3})", heard)]) < wanted:
            line.settimeout(0.7 if told else 10)
            try:
                part = line.recv(65_536)
            except TimeoutError:
                break
            if not part:
                break
            heard += part
    return told


@pytest.mark.parametrize("name", REQUESTS)
def test_a_hidden_request_is_not_answered(node: LocalNode, name: str) -> None:
    """A proxy in front that reads it otherwise must not let somebody speak in another's name."""
    told = answers(node.local_port, REQUESTS[name])

    assert len(told) <= 1 or 200 not in told, told
    assert all(400 <= status < 500 for status in told)


def test_two_honest_requests_on_one_line_are_answered_both(node: LocalNode) -> None:
    """Else the test above would prove nothing."""
    assert answers(node.local_port, HIDDEN + HIDDEN) == [200, 200]


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"A" * 100_000,
        b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=["no such version", "TLS to the plain port", "no end of the line", "a nought in the path"],
)
def test_what_is_no_request_ends_the_line_and_nothing_else(node: LocalNode, request_: bytes) -> None:
    """Port scanners and broken phones are on every Wi-Fi."""
    told = answers(node.local_port, request_)

    assert all(400 <= status < 500 for status in told)
    assert answers(node.local_port, HIDDEN, wanted=1) == [200]


def test_the_libraries_are_none_of_the_versions_with_known_holes() -> None:
    """What was found out about them since (docs/security.md)."""
    floors = {
        "starlette": (1, 3, 1),
        "pydicom": (3, 0, 2),
        "pynacl": (1, 6, 2),
        "cryptography": (47,),
        "h11": (0, 16),
    }
    locked = dict(
        re.findall(r"^([a-z0-9-]+)==([\d.]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    )

    for name, floor in floors.items():
        version = tuple(map(int, locked[name].split(".")))
        assert version >= floor, name
    assert "python-multipart" not in locked  # its forms spool plaintext to disk
