"""What nodes say to each other is short: no headers for browsers, facts in one frame, one line kept."""

import threading
from collections.abc import Iterator

import httpx
import pytest
import zstandard
from support.nodes import LocalNode
from support.proxy import Proxy, proxied

from node.errors import PeerRefused
from node.keys import Keystore
from node.mesh import tls, wire
from node.mesh.client import PeerClient
from node.mesh.moving import Lanes
from node.mesh.sessions import Sessions
from sync import cbor
from sync.facts import FactClass

_NEVER = 3600.0


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalNode, LocalNode, Proxy]]:
    """A cloud node, a clinic, and the line between them."""
    folder = tmp_path_factory.mktemp("pair")
    with LocalNode(folder / "cloud", replicate_every_s=_NEVER) as cloud:
        cloud.init()
        cloud.start()
        with LocalNode(folder / "clinic", replicate_every_s=_NEVER) as clinic:
            cloud.admit(clinic, "clinic")
            clinic.start()
            with proxied(cloud.mesh_address) as proxy:
                yield cloud, clinic, proxy


@pytest.fixture
def line(pair: tuple[LocalNode, LocalNode, Proxy]) -> Iterator[PeerClient]:
    _, clinic, proxy = pair
    membership = clinic.home.membership()
    identity = tls.Identity(Keystore.load(clinic.home.keys).node_key, membership.chain)
    with PeerClient(
        proxy.address, Sessions(tls.client_context(identity, membership.genesis.mesh_ca))
    ) as client:
        yield client


def ids_of(node: LocalNode) -> list[bytes]:
    return node.node.facts.ask(
        lambda ledger: [bytes(fact_id) for fact_id in ledger.facts(FactClass.PERMANENT)]
    )


def raws_of(node: LocalNode) -> list[bytes]:
    return list(node.node.facts.raw_of(ids_of(node)))  # type: ignore[arg-type]


def test_a_hello_is_short(pair: tuple[LocalNode, LocalNode, Proxy], line: PeerClient) -> None:
    """In sync, a meeting over a kept line costs one: at most 300 octets each way with TLS and headers."""
    _, clinic, proxy = pair
    mine = clinic.service._exchange.hello()
    line.hello(mine)
    before = list(proxy.octets)
    line.hello(mine)
    sent, received = (now - then for now, then in zip(proxy.octets, before, strict=True))

    assert sent <= 300
    assert received <= 300


def test_facts_come_and_go_as_one_frame(pair: tuple[LocalNode, LocalNode, Proxy], line: PeerClient) -> None:
    """They are mostly keys and signatures; the rest repeats."""
    cloud, clinic, proxy = pair
    line.hello(clinic.service._exchange.hello())
    known = ids_of(cloud) * 20
    before = list(proxy.octets)
    got = line.get_facts(known)
    received = proxy.octets[1] - before[1]
    refused = line.send_facts(got)
    sent = proxy.octets[0] - before[0] - 34 * len(known)

    assert set(got) == set(raws_of(cloud))
    assert refused == 0
    assert received < 0.5 * sum(map(len, got))
    assert sent < 0.5 * sum(map(len, got))


def test_a_peer_that_does_not_know_frames_is_understood(
    pair: tuple[LocalNode, LocalNode, Proxy], line: PeerClient
) -> None:
    """Nodes of last year are still out there."""
    cloud, *_ = pair
    body = cbor.encode(ids_of(cloud))
    plain = line._http.post("/facts/get", content=body)

    assert "content-encoding" not in plain.headers
    assert wire.decode_facts(plain.content) == wire.decode_facts(cbor.encode(line.get_facts(ids_of(cloud))))
    assert line.send_facts(raws_of(cloud)) == 0  # before any hello: not squeezed


@pytest.mark.parametrize(
    "body",
    [
        zstandard.ZstdCompressor().compress(bytes(wire.MAX_BODY + 1)),
        zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 100),
        b"no frame",
        zstandard.ZstdCompressor().compress(b"x" * 1000)[:-4],
        b"",
    ],
    ids=["too large", "no size", "no frame", "cut short", "nothing"],
)
def test_a_bad_frame_is_refused(line: PeerClient, body: bytes) -> None:
    """And no memory is given to a bomb."""
    answer = line._http.post("/facts", content=body, headers={"Content-Encoding": "zstd"})

    assert answer.status_code == 400
    assert answer.json()["code"] == "bad-message"


def test_a_bad_frame_from_a_peer_is_refused(line: PeerClient) -> None:
    """A node does not trust what it asked for, either."""
    bomb = zstandard.ZstdCompressor().compress(bytes(wire.MAX_BODY + 1))
    answers = [
        httpx.Response(200, headers={"Content-Encoding": "zstd"}, content=_Stream(body))
        for body in (bomb, b"no frame")
    ]
    line._http._mounts.clear()
    line._http._transport = httpx.MockTransport(lambda _: answers.pop())

    for _ in range(2):
        with pytest.raises(PeerRefused):
            line.get_facts([bytes(32)])


class _Stream:
    """A body that is not decoded before it is asked for."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        yield self._body


def test_no_headers_for_browsers_are_sent(line: PeerClient) -> None:
    """600 octets in each answer would be a twelfth of a second at 64 kbit/s."""
    answer = line._http.get("/blobs/00")

    assert set(answer.headers) <= {"date", "content-length", "content-type", "cache-control"}
    assert answer.json()["code"] == "bad-request"


def test_meetings_share_a_line_until_it_is_cut(pair: tuple[LocalNode, LocalNode, Proxy]) -> None:
    """A handshake costs 0.7 to 3 kB and two journeys there and back; a dead line costs one try."""
    _, clinic, proxy = pair
    meet = clinic.service._replicator.meet_one
    clinic.service._replicator._watch = lambda *_: None  # type: ignore[method-assign]
    assert meet(proxy.address).done
    made = proxy.connections
    assert meet(proxy.address).done
    assert meet(proxy.address).done
    assert proxy.connections == made

    proxy.cut()
    assert meet(proxy.address).done
    assert proxy.connections == made + 1


def test_small_studies_go_beside_each_other_and_large_ones_alone() -> None:
    """In the order that was decided; what fails ends it, and nothing begins afterwards."""
    log: list[str] = []
    gate = threading.Event()

    def small(name: str) -> None:
        log.append(name)
        assert gate.wait(30)

    with Lanes() as lanes:
        for name in ("a", "b", "c"):
            lanes.run(lambda name=name: small(name), beside_others=True)  # type: ignore[misc]
        while len(log) < 3:  # all three run now
            gate.wait(0.01)
        threading.Timer(0.05, gate.set).start()
        lanes.run(lambda: log.append("large"), beside_others=False)
        lanes.run(lambda: log.append("last"), beside_others=True)
    assert sorted(log[:3]) == ["a", "b", "c"]
    assert log[3:] == ["large", "last"]

    def failing() -> None:
        raise PeerRefused("no")

    with pytest.raises(PeerRefused), Lanes() as lanes:
        lanes.run(failing, beside_others=True)
        lanes.run(lambda: log.append("large"), beside_others=False)
    assert log[3:] == ["large", "last"]


def test_a_bad_line_between_meetings_costs_little(
    pair: tuple[LocalNode, LocalNode, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A laptop that was carried elsewhere dials anew when its old line says nothing."""
    _, clinic, proxy = pair
    monkeypatch.setattr("node.mesh.client._AGAIN_S", 0.3)
    meet = clinic.service._replicator.meet_one
    assert meet(proxy.address).done
    (kept, _) = clinic.service._replicator._kept[proxy.address]
    proxy.line = type(proxy.line)(silent=True)
    threading.Timer(0.6, lambda: setattr(proxy, "line", type(proxy.line)())).start()

    assert meet(proxy.address).done
    assert clinic.service._replicator._kept[proxy.address][0] is not kept
