"""Nodes of one mesh find each other on the local network, and nobody else is found."""

import hashlib
import logging
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nacl import utils
from support.clock import FakeClock
from support.nodes import LocalNode, free_port, wait_until
from zeroconf import IPVersion, ServiceBrowser, ServiceInfo, ServiceListener, Zeroconf

from node.mesh.discovery import (
    SERVICE,
    Discovery,
    Reach,
    is_of_mesh,
    places,
    properties_for,
    tag_for,
)
from sync.ids import MeshId

MESH, STRANGERS = MeshId(hashlib.sha256(b"ours").digest()), MeshId(hashlib.sha256(b"theirs").digest())
_FOUND_S = 60.0


class Finder:
    """A discovery on loopback that remembers what it was told. `look` is called as the schedule does."""

    def __init__(self, mesh: MeshId, addresses: Callable[[], list[str]] | None = None) -> None:
        self.found: list[str] = []
        self.moves = 0
        self.clock = FakeClock()
        self.port = free_port()
        settings = {} if addresses is None else {"addresses": addresses}
        self.discovery = Discovery(
            mesh,
            bind="127.0.0.1" if addresses is None else "0.0.0.0",
            public=False,
            found=self.found.append,
            moved=self._note_move,
            wake=lambda: None,
            random=utils.random,
            clock=self.clock,
            **settings,
        )
        self.discovery.announce(self.port)
        self.discovery.look()

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"

    def finds(self, place: str) -> bool:
        self.discovery.look()
        return place in self.found

    def _note_move(self) -> None:
        self.moves += 1


class Ear(ServiceListener):
    """A stranger who listens on the network, and keeps the octets of what is announced."""

    def __init__(self) -> None:
        self.heard: dict[str, ServiceInfo] = {}

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        info = zc.get_service_info(type_, name)
        if info is not None:
            self.heard[name] = info

    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        pass

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        pass


@pytest.fixture
def finder() -> Iterator[Callable[..., Finder]]:
    made: list[Finder] = []

    def make(mesh: MeshId = MESH, addresses: Callable[[], list[str]] | None = None) -> Finder:
        made.append(Finder(mesh, addresses))
        return made[-1]

    yield make
    for one in made:
        one.discovery.close()


# -- the tag ----------------------------------------------------------------------------------------


def test_the_tag_is_the_same_on_every_version_of_the_program() -> None:
    """A laptop that was not updated for a year still recognises its mesh."""
    assert tag_for(MeshId(bytes(range(32))), bytes(8), 8444).hex() == "6da26e4338d9f77d"


def test_the_tag_tells_strangers_nothing_that_stays() -> None:
    """Who listens at two places cannot tell that the same mesh is there."""
    first, second = (tag_for(MESH, utils.random(8), 8444) for _ in range(2))

    assert first != second
    assert tag_for(MESH, bytes(8), 8444) != tag_for(STRANGERS, bytes(8), 8444)


@pytest.mark.parametrize(
    "change",
    [
        {b"v": b"2"},
        {b"n": b"00" * 8},
        {b"n": b"zz" * 8},
        {b"n": None},
        {b"t": b""},
        {b"t": b"00" * 8},
        {b"t": "é".encode() * 8},
    ],
)
def test_an_announcement_that_is_not_of_the_mesh_is_passed_over(change: dict[bytes, bytes | None]) -> None:
    """Whatever strangers put into an announcement, the node neither dials them nor falls over."""
    honest = {
        key.encode(): value.encode() for key, value in properties_for(MESH, utils.random(8), 4000).items()
    }

    assert is_of_mesh(MESH, honest, 4000)
    assert not is_of_mesh(MESH, honest, 4001)
    assert not is_of_mesh(STRANGERS, honest, 4000)
    assert not is_of_mesh(MESH, {**honest, **change}, 4000)


# -- what may be dialled ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "127.0.0.1", "::1", "0.0.0.0", "255.255.255.255", "224.0.0.251", "192.0.2.1", "fe80::1",
     "2001:4860::1", "::ffff:127.0.0.1", "10.0.0.1@evil", "evil.example", ""],
)  # fmt: skip
def test_a_node_is_not_sent_to_places_beyond_the_local_network(address: str) -> None:
    """An announcement is a stranger's word; the node must not become their tool against others."""
    assert places([address], 8444, own=[], own_port=1, reach=Reach()) == []


@pytest.mark.parametrize("port", [0, 22, 443, 1023, 65536])
def test_a_node_is_not_sent_to_the_ports_of_other_services(port: int) -> None:
    """Below 1024 listen the services of the machine, never a node."""
    assert places(["10.0.0.1"], port, own=[], own_port=1, reach=Reach()) == []


def test_private_and_link_local_addresses_are_dialled_and_the_node_s_own_are_not() -> None:
    """The clinic's network, a hotspot, a cable between two laptops: all that people use."""
    told = ["192.168.43.7", "169.254.3.4", "10.1.1.1", "172.20.0.9", "fd12::5"]

    assert places(told, 8444, own=["10.1.1.1"], own_port=8444, reach=Reach()) == [
        "192.168.43.7:8444",
        "169.254.3.4:8444",
        "172.20.0.9:8444",
        "[fd12::5]:8444",
    ]
    assert "10.1.1.1:9000" in places(told, 9000, own=["10.1.1.1"], own_port=8444, reach=Reach())
    assert len(places([f"10.0.0.{n}" for n in range(50)], 8444, own=[], own_port=1, reach=Reach())) == 8


def test_public_addresses_are_dialled_only_if_an_operator_says_so() -> None:
    """Some hospitals number their own network publicly."""
    told = ["8.8.8.8", "224.0.0.251", "0.0.0.0"]

    assert places(told, 8444, own=[], own_port=1, reach=Reach(public=True)) == ["8.8.8.8:8444"]


# -- on the network -----------------------------------------------------------------------------------


def test_nodes_of_one_mesh_find_each_other_and_no_stranger(finder: Callable[..., Finder]) -> None:
    """Two clinics' meshes meet at the market; each sees its own."""
    one, two, stranger = finder(), finder(), finder(STRANGERS)

    wait_until(lambda: one.finds(two.place) and two.finds(one.place), _FOUND_S, "to find each other")
    assert set(one.found) == {two.place}
    assert set(two.found) == {one.place}
    stranger.discovery.look()
    assert stranger.found == []


def test_an_announcement_names_neither_the_machine_nor_the_mesh(finder: Callable[..., Finder]) -> None:
    """dr-okafors-laptop would tell the whole café whose it is, and tomorrow that it is there again."""
    one, ear = finder(), Ear()
    with Zeroconf(interfaces=["127.0.0.1"], ip_version=IPVersion.V4Only) as stranger:
        browser = ServiceBrowser(stranger, SERVICE, ear)
        wait_until(lambda: ear.heard, _FOUND_S, "to hear the node")
        first = dict(ear.heard)
        one.clock.advance(4 * 3_600_000)
        one.discovery.look()
        wait_until(lambda: len(ear.heard) > len(first), _FOUND_S, "to hear the node under another name")
        browser.cancel()
    infos = list(ear.heard.values())

    said = " ".join(f"{info.name} {info.server} {info.properties}" for info in infos)
    assert socket.gethostname().split(".")[0] not in said
    assert MESH.hex()[:8] not in said
    assert len({info.name for info in infos}) == len({info.server for info in infos}) == len(infos)
    assert len({info.properties[b"t"] for info in infos}) == len({info.properties[b"n"] for info in infos})
    assert set(infos[0].properties) == {b"v", b"n", b"t"}


def test_a_node_without_a_network_says_so_once_and_finds_the_others_when_there_is_one(
    finder: Callable[..., Finder], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Laptops are opened before the Wi-Fi is up, and their logs must stay readable."""
    other = finder()
    with monkeypatch.context() as broken, caplog.at_level(logging.INFO, "node"):
        broken.setattr("node.mesh.discovery.Zeroconf", _no_network)
        one = finder()
        for _ in range(3):
            one.discovery.look()
    complaints = [record for record in caplog.records if "does not work" in record.message]

    assert len(complaints) == 1
    wait_until(lambda: one.finds(other.place) and other.finds(one.place), _FOUND_S, "to find each other")


def test_a_node_follows_its_addresses_at_a_measured_pace(
    finder: Callable[..., Finder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Carried to another network it is heard there; a loose cable does not make it shout all day."""
    opened: list[list[str]] = []
    monkeypatch.setattr("node.mesh.discovery.Zeroconf", lambda **given: Air(opened, given["interfaces"]))
    mine = ["192.168.1.7", "8.8.8.8", "127.0.0.1"]
    one = finder(addresses=lambda: list(mine))
    one.discovery.look()
    for n in range(5):
        mine[:] = [f"10.0.0.{n}"]
        one.discovery.look()
    in_a_moment = list(opened)
    one.clock.advance(60_000)
    one.discovery.look()

    assert in_a_moment == [["192.168.1.7"]]
    assert opened == [["192.168.1.7"], ["10.0.0.4"]]
    assert one.moves == 1


def _no_network(**_: object) -> Zeroconf:
    raise OSError


class Air:
    """Stands for zeroconf where only the opening matters."""

    def __init__(self, opened: list[list[str]], interfaces: list[str]) -> None:
        opened.append(interfaces)

    def register_service(self, info: ServiceInfo, cooperating_responders: bool) -> None:
        assert cooperating_responders

    def add_service_listener(self, service: str, listener: ServiceListener) -> None:
        assert service == SERVICE

    def close(self) -> None:
        pass


# -- whole nodes --------------------------------------------------------------------------------------


def test_a_node_that_was_let_in_meets_the_others_without_anybody_typing_an_address(tmp_path: Path) -> None:
    """Nobody at a clinic knows what an IP address is."""
    with (
        LocalNode(tmp_path / "cloud", discovery=True) as cloud,
        LocalNode(tmp_path / "clinic", discovery=True) as clinic,
    ):
        cloud.init()
        cloud.start()
        cloud.admit(clinic, "clinic")
        clinic.start()

        clinic.wait(lambda: _met(clinic, cloud), "to meet the cloud node", 30)
        cloud.wait(lambda: _met(cloud, clinic), "to meet the clinic", 30)


def _met(node: LocalNode, other: LocalNode) -> bool:
    peers = node.get("/api/v1/status")["peers"]
    return any(peer["address"] == other.mesh_address and peer["met_s_ago"] is not None for peer in peers)
