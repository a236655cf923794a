"""A meeting begins with what is to be given: decided before the line is dialled, corrected by the answer."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter
from support.nodes import LocalNode
from support.slices import made_slice

from node.errors import DiskFull, NodeError, PeerUnreachable, StoreDamaged, WrongOffset
from node.keys import Keystore
from node.mesh import client, offering, server, wire
from node.mesh.client import PeerClient
from node.mesh.exchange import Exchange
from node.mesh.line import Line
from node.mesh.meeting import Meeting, _Meet
from node.mesh.moving import Mover
from node.store.blobs import DiskBlobStore
from sync.bodies import Tombstone
from sync.ids import BlobId, EntryId, NodeId

_NEVER = 3600.0


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[LocalNode]:
    with LocalNode(tmp_path / "cloud", replicate_every_s=_NEVER) as node:
        node.init()
        node.start()
        yield node


@pytest.fixture
def clinic(tmp_path: Path, cloud: LocalNode) -> Iterator[LocalNode]:
    """A clinic that has met the cloud node, and meets it again when a test says so."""
    with LocalNode(tmp_path / "clinic", replicate_every_s=_NEVER) as node:
        cloud.admit(node, "clinic")
        node.start()
        replicator = node.service._replicator
        replicator._watch = replicator._want = lambda *_: None  # type: ignore[method-assign]
        node.node.notes.add_peer(cloud.mesh_address)
        assert replicator.meet_one(cloud.mesh_address).done
        yield node


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests of the meetings, in their order."""
    paths: list[str] = []
    ask = PeerClient._ask

    def asking(client: PeerClient, method: str, path: str, **more: Any) -> Any:
        paths.append(path.partition("/blobs/")[1] or path)
        return ask(client, method, path, **more)

    monkeypatch.setattr(PeerClient, "_ask", asking)
    return paths


def met(clinic: LocalNode, cloud: LocalNode) -> Meeting:
    """Hold a meeting over a line that is dialled anew."""
    for kept, _ in clinic.service._replicator._kept.values():
        kept.close()
    clinic.service._replicator._kept.clear()
    return clinic.service._replicator.meet_one(cloud.mesh_address)


def met_in_vain(clinic: LocalNode, cloud: LocalNode) -> Meeting:
    """Hold meetings until one has nothing more to move."""
    for _ in range(10):
        meeting = met(clinic, cloud)
        if not meeting.moved:
            return meeting
    raise AssertionError("always something to move")


def submitted(node: LocalNode, number: int, **confirmation: Any) -> EntryId:
    (entry,) = node.submit({"a.dcm": made_slice(number, 1)}, **confirmation)
    return EntryId(bytes.fromhex(entry))


def holds(node: LocalNode, entry: EntryId) -> bool:
    held = node.node.queue.get(entry)
    return held is not None and held.complete


def test_the_first_blob_follows_the_first_answer(
    cloud: LocalNode, clinic: LocalNode, asked: list[str]
) -> None:
    """A courier's minute on a far line: nothing is asked that is known already."""
    routine, urgent = submitted(clinic, 1), submitted(clinic, 2, priority="urgent")
    asked.clear()
    offer = offering.offer_for(clinic.service._exchange, cloud.node.facts.node_id)
    meeting = met(clinic, cloud)

    assert offer is not None
    assert [entry for entry, _ in offer.entries] == [urgent, routine]
    assert asked[:2] == ["/offer", "/blobs/"]
    assert meeting.done
    assert holds(cloud, routine) and holds(cloud, urgent)
    asked.clear()
    assert met(clinic, cloud).done
    assert asked == ["/hello"]  # nothing is left to be offered


def test_what_the_peer_did_not_want_or_has_is_not_sent_again(cloud: LocalNode, clinic: LocalNode) -> None:
    """A full peer is not offered the same study at each meeting, nor the same manifest after each cut."""
    exchange, peer = clinic.service._exchange, cloud.node.facts.node_id
    entry = submitted(clinic, 3)
    exchange.manifests_at[peer] = frozenset({entry})
    offer = offering.offer_for(exchange, peer)
    assert offer is not None
    assert offer.entries == ((entry, None),)

    cloud.service._exchange.space.takes = lambda *_: False  # type: ignore[method-assign]
    assert met(clinic, cloud).done
    assert offering.offer_for(exchange, peer) is None


@pytest.mark.parametrize("rotten", ["the manifest", "another blob"])
def test_what_has_rotted_here_ends_no_meeting(
    cloud: LocalNode, clinic: LocalNode, rotten: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bad sector must not cut a node off from all others."""
    bad, good = submitted(clinic, 8), submitted(clinic, 9)
    blobs = clinic.node.queue.blobs(bad)
    at = next(blob for blob, _ in blobs if (blob == bad) == (rotten == "the manifest"))
    read = DiskBlobStore.read

    def failing(store: DiskBlobStore, blob: BlobId, offset: int, length: int) -> bytes:
        if blob == at:
            raise StoreDamaged("the disk reported error 5")
        return read(store, blob, offset, length)

    monkeypatch.setattr(DiskBlobStore, "read", failing)

    assert met(clinic, cloud).done
    assert holds(cloud, good) and not holds(cloud, bad)
    assert not holds(clinic, bad)  # it is repaired from whoever has it


def test_an_offered_study_that_becomes_urgent_may_pass(
    cloud: LocalNode, clinic: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was offered waits behind a large one like all else."""
    tried: list[dict[EntryId, int]] = []
    give = Mover.give
    monkeypatch.setattr(
        Mover, "give", lambda mover, lacks: (tried.append(dict(meets[-1]._tried)), give(mover, lacks))[1]
    )
    meets: list[_Meet] = []
    hold = _Meet.hold
    monkeypatch.setattr(_Meet, "hold", lambda one: (meets.append(one), hold(one))[1])
    submitted(clinic, 10)
    urgent = submitted(clinic, 11, priority="urgent")

    assert met(clinic, cloud).done
    assert [list(one) for one in tried] == [[urgent]]


def test_what_waited_its_turn_is_asked_for_again(
    cloud: LocalNode, clinic: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a large study the answer to the offer grows old: others may have brought the rest."""
    for number in range(12, 12 + wire.BESIDE + 2):
        submitted(clinic, number)
    monkeypatch.setattr(PeerClient, "lack", lambda *_: {})  # others have
    assert met(clinic, cloud).blobs_out == wire.BESIDE


def test_an_offer_that_got_stuck_is_followed_by_a_hello(
    cloud: LocalNode, clinic: LocalNode, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a line that is too slow for it the next meeting must not fail in the same way."""
    times: list[float | None] = []
    limited = Line.limited

    def noted(line: Line, *, seconds: float | None = None, **more: Any) -> Any:
        times.append(seconds)
        return limited(line, seconds=seconds, **more)

    monkeypatch.setattr(Line, "limited", noted)
    submitted(clinic, 20)
    peer = cloud.node.facts.node_id
    offer = offering.offer_for(clinic.service._exchange, peer)
    assert offer is not None
    size = len(wire.encode_offer(clinic.service._exchange.hello(), offer))
    asked.clear()
    with monkeypatch.context() as slow:
        take = Exchange.take_offer
        slow.setattr(client, "_OFFER_S", 0.0)
        slow.setattr(Exchange, "take_offer", lambda *all_: (time.sleep(size / 1000 + 1), take(*all_))[1])
        with pytest.raises(PeerUnreachable):
            met(clinic, cloud)
    assert times[0] == pytest.approx(size / 1000)
    assert met(clinic, cloud).done
    submitted(clinic, 21)
    assert met(clinic, cloud).done
    assert [path for path in asked if path == "/offer" or path == "/hello"][:2] == ["/offer", "/hello"]
    assert asked.count("/offer") == 2


def test_a_peer_that_is_not_there_is_offered_the_study_when_it_is(
    cloud: LocalNode, clinic: LocalNode
) -> None:
    """A courier dials on the whole road; in town the first octets are the study's."""
    address = cloud.mesh_address
    submitted(clinic, 22)
    cloud.stop()
    with pytest.raises(PeerUnreachable):
        clinic.service._replicator.meet_one(address)
    assert offering.offer_for(clinic.service._exchange, cloud.node.facts.node_id) is not None


@pytest.mark.parametrize(("refusal", "rests"), [(WrongOffset(0), False), (DiskFull("full"), True)])
def test_a_peer_rests_only_if_nothing_was_left(
    cloud: LocalNode, clinic: LocalNode, refusal: NodeError, rests: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half moved study must not lie for a quarter of an hour; on a full disk it would be sent in vain."""
    replicator, peer = clinic.service._replicator, cloud.node.facts.node_id
    replicator._metered = True
    submitted(clinic, 23)

    def refusing(*_: Any) -> bool:
        raise refusal

    monkeypatch.setattr(cloud.service._exchange, "put_blob", refusing)
    met(clinic, cloud)
    assert not met(clinic, cloud).moved
    assert (peer in replicator._resting()) is rests


def test_a_node_rests_on_what_it_has_said(cloud: LocalNode, clinic: LocalNode) -> None:
    """What became known here while a meeting ended was not told there."""
    replicator, peer = clinic.service._replicator, cloud.node.facts.node_id
    replicator._metered = True
    meeting = met_in_vain(clinic, cloud)
    assert peer in replicator._resting()
    submitted(clinic, 24)
    replicator._note_quiet(meeting)
    assert peer not in replicator._resting()


def test_a_node_that_pays_meets_a_neighbour_over_the_local_network(
    cloud: LocalNode, clinic: LocalNode
) -> None:
    """The cloud address of the laptop in the next room was met last, and costs money."""
    replicator, peer, near = clinic.service._replicator, cloud.node.facts.node_id, "127.0.0.2:9"
    assert replicator.found(near)
    clinic.node.notes.note_met(near, peer, at_ms=1)
    assert [one.address for one in replicator._places()[peer]] == [cloud.mesh_address, near]

    replicator._metered = True
    assert [one.address for one in replicator._places()[peer]] == [near, cloud.mesh_address]
    met_in_vain(clinic, cloud)
    assert peer in replicator._resting()
    assert not replicator.found(cloud.mesh_address)  # a person typed it: it tells nothing of where it is
    assert replicator.found(near)
    assert peer not in replicator._resting()
    assert not replicator.found(near)


def test_a_hello_within_a_meeting_waits_its_turn(
    cloud: LocalNode, clinic: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among blobs on a weak line it takes longer than over a line on which nothing goes."""
    calls: list[float] = []
    hello = cloud.service._exchange.hello

    def slow() -> wire.Hello:
        calls.append(time.monotonic())
        time.sleep(1.0 if len(calls) > 1 else 0)
        return hello()

    monkeypatch.setattr(client, "_AGAIN_S", 0.2)
    monkeypatch.setattr(cloud.service._exchange, "hello", slow)
    submitted(clinic, 27)
    assert met(clinic, cloud).done
    assert len(calls) > 1


def test_nothing_waits_for_an_urgent_study_that_the_peer_does_not_take(
    cloud: LocalNode, clinic: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A courier's disk is full; the others' studies must not stop for that again and again."""
    meets: list[_Meet] = []
    hold = _Meet.hold
    monkeypatch.setattr(_Meet, "hold", lambda one: (meets.append(one), hold(one))[1])
    monkeypatch.setattr(cloud.service._exchange.space, "takes", lambda *_: False)
    submitted(clinic, 25, priority="urgent")
    assert met(clinic, cloud).done
    assert meets[-1]._new_and_urgent() == []

    full = clinic.service._exchange.space
    monkeypatch.setattr(full, "could_take", lambda *_: False)
    submitted(cloud, 26, priority="urgent")
    assert met(clinic, cloud).facts_in
    assert len(meets[-1]._tried) == 2 and meets[-1]._new_and_urgent() == []


def test_the_facts_of_the_peer_correct_what_was_decided(cloud: LocalNode, clinic: LocalNode) -> None:
    """What has ended there in the meantime costs its manifest and no blob."""
    entry = submitted(clinic, 4)
    origin = clinic.node.facts.node_id
    ended = Tombstone("delivered", "main", "read-back", 1, 1, bytes(32), 1, origin)
    cloud.node.facts.issue(ended, entry)
    meeting = met(clinic, cloud)

    assert meeting.done
    assert meeting.blobs_out == 0
    assert not cloud.node.holdings.has_manifest(entry)
    assert clinic.node.holdings.view(entry).tombstone is not None


def test_another_node_at_the_same_address_is_offered_nothing(
    tmp_path: Path, cloud: LocalNode, clinic: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Addresses are handed out anew; what was meant for one member is not for another."""
    seen: list[NodeId] = []
    take = Exchange.take_offer
    monkeypatch.setattr(
        Exchange, "take_offer", lambda here, offer, peer: (seen.append(peer), take(here, offer, peer))[1]
    )
    courier = LocalNode(tmp_path / "courier")
    cloud.admit(courier, "courier")
    assert met(clinic, cloud).done
    there = NodeId(bytes(Keystore.load(courier.home.keys).node_key.verify_key))
    entry = submitted(clinic, 5)
    clinic.node.notes.note_met(cloud.mesh_address, there, at_ms=1)
    meeting = met(clinic, cloud)

    assert seen == []
    assert meeting.done
    assert meeting.peer == cloud.node.facts.node_id
    assert holds(cloud, entry)


def test_a_peer_that_knows_no_offers_is_asked_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    """Nodes of last year are still out there; they are tried once."""
    router = server.router

    def older(*given: Any, **named: Any) -> APIRouter:
        routes = router(*given, **named)
        routes.routes[:] = [
            one for one in routes.routes if not str(getattr(one, "path", "")).endswith("/offer")
        ]
        return routes

    monkeypatch.setattr(server, "router", older)
    with LocalNode(tmp_path / "cloud", replicate_every_s=_NEVER) as cloud:
        cloud.init()
        cloud.start()
        monkeypatch.setattr(cloud.service._exchange, "_caps", ("zstd",))
        with LocalNode(tmp_path / "clinic", replicate_every_s=_NEVER) as clinic:
            cloud.admit(clinic, "clinic")
            clinic.start()
            replicator = clinic.service._replicator
            replicator._watch = replicator._want = lambda *_: None  # type: ignore[method-assign]
            clinic.node.notes.add_peer(cloud.mesh_address)
            assert replicator.meet_one(cloud.mesh_address).done
            asked.clear()
            entries = []
            for number in (6, 7):
                entries.append(submitted(clinic, number))
                assert met(clinic, cloud).done

            peer = cloud.node.facts.node_id
            assert asked.count("/offer") == 1
            assert asked[:2] == ["/offer", "/hello"]
            assert peer in clinic.service._exchange.offerless
            monkeypatch.setattr(cloud.service._exchange, "_caps", wire.CAPS)  # it was updated
            assert met(clinic, cloud).done
            assert peer not in clinic.service._exchange.offerless


@pytest.mark.parametrize("entries", [wire.MAX_IDS + 1])
def test_no_offer_is_larger_than_is_allowed(entries: int) -> None:
    """What a peer makes us look at is bounded."""
    hello = wire.Hello(NodeId(bytes(32)), bytes(16), bytes(16), 0, "1")
    many = wire.Offer((), tuple((EntryId(bytes(32)), None) for _ in range(entries)))
    with pytest.raises(wire.Refused):
        wire.decode_offer(wire.encode_offer(hello, many))
