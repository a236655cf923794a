"""What is new on one node is on its neighbours at once, whichever of the two can dial the other."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.nodes import LocalNode, free_port, wait_until
from support.slices import made_slice

from node.errors import PeerRefused, PeerUnreachable
from node.mesh.client import PeerClient
from node.mesh.sessions import Sessions
from node.mesh.tls import Identity, client_context
from node.store.notes import Notes

_NEVER_S = 600  # the schedule is out of the game
_SLOW_MACHINE_S = 6.0  # two seconds are the aim


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[LocalNode]:
    with LocalNode(tmp_path / "cloud", replicate_every_s=_NEVER_S) as node:
        node.init()
        node.start()
        yield node


@pytest.fixture
def clinic(tmp_path: Path, cloud: LocalNode) -> Iterator[LocalNode]:
    with LocalNode(tmp_path / "clinic", replicate_every_s=_NEVER_S) as node:
        cloud.admit(node, "clinic")
        node.start([cloud])
        node.wait(lambda: met(node), "to meet the cloud node")
        yield node


@pytest.fixture
def asker(tmp_path: Path, cloud: LocalNode) -> Iterator[LocalNode]:
    """A member that runs and knows nobody's address: what it asks, the test asks with its key."""
    with LocalNode(tmp_path / "asker", replicate_every_s=_NEVER_S) as node:
        cloud.admit(node, "courier")
        node.start()
        yield node


def met(node: LocalNode) -> bool:
    return all(peer["met_s_ago"] is not None for peer in node.get("/api/v1/status")["peers"])


def client_of(node: LocalNode, at: LocalNode) -> PeerClient:
    """Return a line with the node's own certificate."""
    membership = node.node.membership
    identity = Identity(node.node.keystore.node_key, membership.chain)
    return PeerClient(at.mesh_address, Sessions(client_context(identity, membership.genesis.mesh_ca)))


def test_a_study_reaches_a_neighbour_that_the_node_can_dial(cloud: LocalNode, clinic: LocalNode) -> None:
    """The clinician walks away; the courier may leave a minute later."""
    entry = clinic.submit({"a.dcm": made_slice(1, 1)})[0]

    cloud.wait(lambda: holds(cloud, entry), "to hold the study", _SLOW_MACHINE_S)


def test_a_study_reaches_a_neighbour_that_the_node_cannot_dial(cloud: LocalNode, clinic: LocalNode) -> None:
    """Laptops sit behind firewalls and hotspots; who dialled first must not matter."""
    assert cloud.get("/api/v1/status")["peers"] == []
    entry = cloud.submit({"a.dcm": made_slice(2, 1)})[0]

    clinic.wait(lambda: holds(clinic, entry), "to hold the study", _SLOW_MACHINE_S)


@pytest.mark.parametrize("who", ["this node", "the peer"])
def test_on_a_metered_way_nothing_is_asked_again_and_again(
    tmp_path: Path, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question each half minute costs money, whoever pays; what is new goes at once all the same."""
    asked: list[bytes | None] = []
    monkeypatch.setattr(PeerClient, "news", lambda _, told: asked.append(told))
    metered = {"this node": (False, True), "the peer": (True, False)}[who]
    with LocalNode(tmp_path / "cloud", replicate_every_s=_NEVER_S, metered=metered[0]) as cloud:
        cloud.init()
        cloud.start()
        with LocalNode(tmp_path / "clinic", replicate_every_s=_NEVER_S, metered=metered[1]) as node:
            cloud.admit(node, "clinic")
            node.start([cloud])
            replicator, peer = node.service._replicator, cloud.node.facts.node_id

            def rests() -> bool:
                replicator.meet_all()
                return peer in replicator._resting() and not replicator._under_way

            node.wait(rests, "to have nothing to say to the cloud node")
            before = met_ms(node)
            for _ in range(5):
                replicator.meet_all()
            assert not replicator._under_way
            assert met_ms(node) == before
            assert asked == []
            node.ask("POST", "/api/v1/admin/meet")
            node.wait(lambda: met_ms(node) != before, "to meet because a person asked for it")

            here = node.submit({"a.dcm": made_slice(5, 1)})[0]
            cloud.wait(lambda: holds(cloud, here), "to hold what is new here", _SLOW_MACHINE_S)

            node.wait(rests, "to have nothing to say again")
            replicator._rest_ms = 0
            assert not replicator._resting()  # and a quarter of an hour later it asks


def test_what_was_found_on_the_local_network_is_not_a_metered_way(tmp_path: Path, cloud: LocalNode) -> None:
    """The neighbour's laptop costs nothing; its news come at once."""
    with LocalNode(tmp_path / "metered", replicate_every_s=_NEVER_S, metered=True) as node:
        cloud.admit(node, "clinic")
        node.start()
        assert node.service._replicator.found(cloud.mesh_address)
        node.service._replicator.meet_all()
        node.wait(lambda: met(node) and node.service._replicator._watched, "to wait for news")

        there = cloud.submit({"a.dcm": made_slice(4, 1)})[0]
        node.wait(lambda: holds(node, there), "to hold what is new there", _SLOW_MACHINE_S)
        assert not node.service._replicator._resting()


def met_ms(node: LocalNode) -> list[int | None]:
    return [peer.met_ms for peer in node.node.notes.peers()]


def holds(node: LocalNode, entry: str) -> bool:
    held = node.node.queue.get(bytes.fromhex(entry))  # type: ignore[arg-type]
    return held is not None and held.complete


def test_who_asks_for_news_waits_until_there_are_some(cloud: LocalNode, asker: LocalNode) -> None:
    """A request each second of each node would keep every radio of the clinic awake."""
    with client_of(asker, cloud) as client:
        told = client.news(None)
        assert told is not None
        assert told.node == cloud.node.facts.node_id
        again = client.news(bytes(32))
        assert again is not None
        assert again.fingerprints == told.fingerprints
        heard: list[float] = []
        waiting = threading.Thread(target=lambda: client.news(told.fingerprints) and heard.append(0))
        waiting.start()
        waiting.join(1.0)
        assert waiting.is_alive()
        cloud.submit({"a.dcm": made_slice(3, 1)})
        waiting.join(_SLOW_MACHINE_S)
        assert heard


def test_fingerprints_that_are_none_are_refused(cloud: LocalNode, asker: LocalNode) -> None:
    """The mesh port takes nothing that it does not understand."""
    with client_of(asker, cloud) as client, pytest.raises(PeerRefused):
        client.news(b"short")


def test_a_node_stops_at_once_while_others_wait_for_its_news(cloud: LocalNode, clinic: LocalNode) -> None:
    """Whoever closes the laptop must not be kept waiting, nor be tempted to pull the plug."""
    wait_until(lambda: clinic.service._replicator._watched, 10, "the clinic to wait for news")
    began = time.monotonic()
    cloud.stop()
    clinic.stop()

    assert time.monotonic() - began < 10
    assert not [thread.name for thread in threading.enumerate() if thread.name == "news"]


def test_a_line_that_is_cut_ends_what_waits_on_it(cloud: LocalNode, asker: LocalNode) -> None:
    """A node that is stopped in the middle of a long transfer ends all the same."""
    with client_of(asker, cloud) as client:
        told = client.news(None)
        assert told is not None
        ended: list[str] = []

        def wait() -> None:
            try:
                client.news(told.fingerprints)
            except PeerUnreachable:
                ended.append("cut")

        waiting = threading.Thread(target=wait)
        waiting.start()
        waiting.join(0.5)
        client.cut()
        waiting.join(5)

        assert ended == ["cut"]
        with pytest.raises(PeerUnreachable):
            client.news(None)


# -- addresses that were found ------------------------------------------------------------------------


def test_an_address_that_was_found_and_never_answers_is_forgotten_and_a_typed_one_is_not(
    tmp_path: Path,
) -> None:
    """Made-up announcements must not pile up; what a person typed holds until that person takes it back."""
    with LocalNode(tmp_path / "node", replicate_every_s=0.2) as node:
        node.init()
        typed, found = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        node.start([typed])
        node.service._found(found)
        assert {peer.address for peer in node.node.notes.peers()} == {typed, found}

        node.wait(lambda: len(node.node.notes.peers()) == 1, "to forget one")
        assert [peer.address for peer in node.node.notes.peers()] == [typed]
        node.service._found(found)
        assert len(node.node.notes.peers()) == 2


def test_a_node_s_own_address_is_forgotten_as_soon_as_it_answers(tmp_path: Path) -> None:
    """Two names of one laptop are not two copies."""
    with LocalNode(tmp_path / "node", replicate_every_s=_NEVER_S) as node:
        node.init()
        node.start()
        node.service._found(node.mesh_address)

        node.wait(lambda: node.node.notes.peers() == [], "to forget itself")


def test_found_addresses_are_bounded_and_known_neighbours_are_not_driven_out(tmp_path: Path) -> None:
    """A stranger who announces a thousand nodes gains nothing by it."""
    with LocalNode(tmp_path / "node") as node:
        node.init()
        node.start()
        notes: Notes = node.node.notes
        notes.add_peer("10.0.0.1:8444")
        for n in range(3):
            assert notes.add_found(f"10.0.1.{n}:8444", most=3)
            notes.note_met(f"10.0.1.{n}:8444", node.node.facts.node_id, at_ms=n + 1)
        assert not notes.add_found("10.0.1.1:8444", most=3)
        assert notes.add_found("10.0.2.1:8444", most=3)
        assert not notes.add_found("10.0.2.2:8444", most=3)

        assert {peer.address for peer in notes.peers()} == {
            *("10.0.0.1:8444", "10.0.1.1:8444", "10.0.1.2:8444", "10.0.2.1:8444")
        }
