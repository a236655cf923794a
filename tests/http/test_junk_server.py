"""A member whose program answers junk as a server: each meeting with it ends soon, and others go on."""

import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support.nodes import LocalNode
from support.slices import made_slice

from node.errors import NodeError, PeerRefused
from node.keys import Keystore
from node.mesh import tls, wire
from node.store.notes import KnownPeer
from sync import cbor
from sync.errors import SyncError
from sync.ids import NodeId

_MB = bytes(1_000_000)
Answer = Iterable[bytes]


def answer(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """Return a whole HTTP answer."""
    told = [f"HTTP/1.1 {status}", f"content-length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*told, "connection: close", "", ""]).encode() + body


def endless() -> Iterator[bytes]:
    """Return an answer that says no length and has no end."""
    yield b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"
    yield from itertools.repeat(_MB)


class Rogue:
    """A TLS server with a member's certificate, and the answers of the moment."""

    def __init__(self, node: LocalNode) -> None:
        membership, key = node.home.membership(), Keystore.load(node.home.keys).node_key
        self.node_id = NodeId(bytes(key.verify_key))
        self.says: Callable[[str, bytes], Answer] = lambda _path, _body: []
        self.asked: list[str] = []
        rogue = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                rogue.asked.append(self.path)
                self.close_connection = True
                try:
                    for piece in rogue.says(self.path.removeprefix("/mesh/v1"), body):
                        self.wfile.write(piece)
                except OSError:
                    pass  # the node has had enough

            do_GET = do_POST = do_PUT = any

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        identity = tls.Identity(key, membership.chain)
        context = tls.server_context(identity, membership.genesis.mesh_ca)
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalNode, LocalNode, Rogue]]:
    """A cloud node, a clinic that knows no address yet, and a courier whose program was changed."""
    tmp_path = tmp_path_factory.mktemp("junk")
    with (
        LocalNode(tmp_path / "cloud", replicate_every_s=600) as cloud,
        LocalNode(tmp_path / "clinic", replicate_every_s=600) as clinic,
    ):
        cloud.init()
        cloud.start()
        courier = LocalNode(tmp_path / "rogue")
        cloud.admit(clinic, "clinic")
        cloud.admit(courier, "courier")
        clinic.start([cloud])
        rogue = Rogue(courier)
        yield cloud, clinic, rogue
        rogue.close()


def hello(clinic: LocalNode, node: NodeId, live: bytes | None = None) -> bytes:
    """Return a hello whose permanent facts are the clinic's own."""
    own = clinic.service._replicator._exchange.hello()
    return wire.Hello(node, own.permanent, live or own.live, 0, "9").encode()


def try_to_meet(clinic: LocalNode, rogue: Rogue) -> None:
    """Try as the schedule does, which logs what it foresees and raises what it does not."""
    peer = KnownPeer(rogue.address, None, True, None)
    assert clinic.service._replicator._meet_quietly(peer) is None


def test_junk_ends_a_meeting_in_one_line_of_the_log_and_nothing_else(
    mesh: tuple[LocalNode, LocalNode, Rogue], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it answers to hello or to the questions after it, studies go another way meanwhile."""
    cloud, clinic, rogue = mesh
    good = hello(clinic, rogue.node_id, bytes(16))
    to_hello: dict[str, Callable[[], Answer]] = {
        "nothing": list,
        "no http": lambda: [b"\xff\x00SSH-2.0-x\r\n\r\n"],
        "no cbor": lambda: [answer(b"\xff" * 300)],
        "a list": lambda: [answer(cbor.encode([1, 2]))],
        "nested": lambda: [answer(b"\x81" * 100_000)],
        "a short id": lambda: [answer(cbor.encode({"node": b"x"}))],
        "endless": endless,
        "says more than comes": lambda: [answer(good, length=len(good) + 10)],
        "says less than comes": lambda: [answer(good, length=len(good) - 10)],
        "no number": lambda: [b"HTTP/1.1 200 OK\r\ncontent-length: -7\r\n\r\n"],
        "a header without end": lambda: [b"HTTP/1.1 200 OK\r\nx: ", *[_MB] * 3],
        "gzip that is none": lambda: [answer(good, "content-encoding: gzip")],
        "gzip in gzip": lambda: [answer(good, "content-encoding: gzip, gzip")],
        "zstd that is none": lambda: [answer(good, "content-encoding: zstd")],
        "sent on": lambda: [answer(b"", "location: http://127.0.0.1:9/", status="302 Found")],
        "a problem that is none": lambda: [answer(b"[" * 60_000, status="400 Bad Request")],
        "another node": lambda: [answer(hello(clinic, NodeId(bytes(32))))],
        "the clinic itself": lambda: [answer(hello(clinic, clinic.node.facts.node_id))],
    }
    after_it: dict[str, Callable[[], Answer]] = {
        f"then {name}": to_hello[name] for name in ("no cbor", "nested", "endless", "gzip in gzip", "nothing")
    }
    caplog.set_level(logging.INFO)
    for name, says in (to_hello | after_it).items():
        if name in to_hello:
            rogue.says = lambda _path, _body, says=says: says()  # type: ignore[misc]
        else:
            rogue.says = lambda path, _body, says=says: [answer(good)] if path == "/hello" else says()  # type: ignore[misc]
        clinic.service._replicator._failures.clear()
        caplog.clear()
        rogue.asked.clear()
        try_to_meet(clinic, rogue)
        try_to_meet(clinic, rogue)
        assert len(rogue.asked) >= 2, name
        told = [one.getMessage() for one in caplog.records if "peer not met" in one.getMessage()]
        assert len(told) == 1, (name, told)
        assert not [one for one in caplog.records if one.levelno >= logging.ERROR], name

    (entry,) = clinic.submit({"a.dcm": made_slice(1, 1)})
    cloud.wait(lambda: cloud.node.queue.get(bytes.fromhex(entry)) is not None, "to hear of it")  # type: ignore[arg-type]
    cloud.wait(lambda: cloud.node.queue.get(bytes.fromhex(entry)).complete, "to hold it")  # type: ignore[arg-type, union-attr]


def test_who_says_that_it_is_another_node_is_told_nothing(mesh: tuple[LocalNode, LocalNode, Rogue]) -> None:
    """A stolen laptop whose key was revoked answers at its old address, in a trusted name."""
    cloud, clinic, rogue = mesh
    rogue.asked.clear()
    rogue.says = lambda _path, _body: [answer(hello(clinic, cloud.node.facts.node_id, bytes(16)))]

    with pytest.raises(PeerRefused) as caught:
        clinic.service._replicator.meet_one(rogue.address)

    assert caught.value.peer_code == "wrong-node"
    assert rogue.asked == ["/mesh/v1/hello"]


def test_a_peer_that_takes_blobs_and_keeps_none_does_not_hold_a_meeting_for_ever(
    mesh: tuple[LocalNode, LocalNode, Rogue],
) -> None:
    """It would cost the clinic its whole battery, and everything that waits behind it."""
    _, clinic, rogue = mesh
    (entry,) = clinic.submit({"a.dcm": made_slice(2, 1)})
    blobs = [blob for blob, _ in clinic.node.queue.blobs(bytes.fromhex(entry))]  # type: ignore[arg-type]
    lacks = cbor.encode({bytes.fromhex(entry): {"manifest": False, "blobs": [[blob, 0] for blob in blobs]}})

    def says(path: str, _body: bytes) -> Answer:
        if path == "/hello":
            return [answer(hello(clinic, rogue.node_id))]
        if path == "/lack":
            return [answer(lacks)]
        if path.startswith("/reconcile/"):  # the clinic said something meanwhile
            return [answer(b"\x61")]  # nothing to compare
        return [answer(b"", status="202 Accepted")]

    rogue.says = says
    rogue.asked.clear()
    meeting = clinic.service._replicator.meet_one(rogue.address)

    given = [path for path in rogue.asked if path.startswith("/mesh/v1/blobs/")]
    assert meeting.done
    assert blobs
    assert len(blobs) <= len(given) <= 3 * len(blobs)
    assert clinic.node.queue.get(bytes.fromhex(entry)).complete  # type: ignore[arg-type, union-attr]


def test_blobs_of_other_octets_are_not_kept(mesh: tuple[LocalNode, LocalNode, Rogue]) -> None:
    """What a peer sends in place of a blob is measured by its hash, however it is packed."""
    _, clinic, rogue = mesh
    client = clinic.service._dial(rogue.address)
    with client:
        rogue.says = lambda _path, _body: [answer(b"x" * 500, "content-encoding: gzip")]
        with pytest.raises((NodeError, SyncError)):
            list(client.get_blob(b"b" * 32, 0))  # type: ignore[arg-type]
        rogue.says = lambda _path, _body: [answer(b"x" * 500)]
        with pytest.raises(PeerRefused):  # it was asked for the rest, and sends something whole
            list(client.get_blob(b"b" * 32, 100))  # type: ignore[arg-type]
