"""Blobs between whole nodes on bad lines: resumed inside, not asked of a liar twice, shared by couriers."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.killing import noisy_study
from support.nodes import LocalNode
from support.proxy import Line, proxied

from node.mesh.moving import Meeting
from sync.ids import BlobId, EntryId

MB = 1_000_000


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[tuple[LocalNode, LocalNode, LocalNode, LocalNode]]:
    """A clinic, two couriers and a cloud node; only the cloud node runs."""
    with ExitStack() as stack:
        cloud, clinic, one, two = (
            stack.enter_context(LocalNode(tmp_path / name)) for name in ("cloud", "clinic", "one", "two")
        )
        cloud.init()
        cloud.start()
        cloud.admit(clinic, "clinic")
        cloud.admit(one, "courier")
        cloud.admit(two, "courier")
        yield cloud, clinic, one, two


def holds(node: LocalNode, entry: str) -> bool:
    """Say whether a node has a study whole."""
    return node.label in node.stories().get(entry, {"holders": []})["holders"]


@pytest.mark.parametrize("way", ["given", "fetched"])
def test_a_blob_goes_on_inside_where_the_line_was_cut(
    mesh: tuple[LocalNode, LocalNode, LocalNode, LocalNode], way: str
) -> None:
    """A line that never lasts for a whole blob brings the study all the same, and hardly an octet twice."""
    cloud, clinic, courier, _ = mesh
    taker, way_of_blobs = (cloud, 0) if way == "given" else (courier, 1)
    clinic.start()
    (entry,) = clinic.submit(noisy_study(1, 3, 3 * MB))
    size = clinic.story(entry)["bytes"]
    target = cloud if way == "given" else clinic
    with proxied(target.mesh_address, Line(cut_after=2 * MB, rate=4 * MB)) as proxy:
        if way == "given":
            clinic.ask("POST", "/api/v1/admin/peers", {"address": proxy.address})
        else:
            courier.start([proxy.address])

        taker.wait(lambda: holds(taker, entry), "to have the study whole", 90)

        assert proxy.connections > size // (2 * MB)
        assert size < proxy.octets[way_of_blobs] < 1.6 * size


def test_a_peer_that_sends_something_else_is_not_asked_for_that_blob_again(
    mesh: tuple[LocalNode, LocalNode, LocalNode, LocalNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failing disk gives the same wrong octets each time; another node has the right ones."""
    _, clinic, one, two = mesh
    clinic.start()
    (entry,) = clinic.submit(noisy_study(2, 3, 2 * MB))
    one.start([clinic])
    one.wait(lambda: holds(one, entry), "to carry the study", 60)
    one.travel([])
    bad = one.node.queue.blobs(EntryId(bytes.fromhex(entry)))[1][0]
    path = one.home.blobs / bad.hex()[:2] / bad.hex()
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    asked: Counter[BlobId] = Counter()
    exchange = one.service._exchange
    read = exchange.read_blob

    def counted(blob: BlobId, offset: int, length: int) -> bytes:
        asked[blob] += 1
        return read(blob, offset, length)

    monkeypatch.setattr(exchange, "read_blob", counted)

    two.start([one])
    two.wait(lambda: asked[bad] > 0, "to ask for it", 60)
    meetings = Meetings(two)
    two.wait(lambda: meetings.held >= 3, "to meet again and again", 60)
    assert asked[bad] == 1
    assert not holds(two, entry)

    two.travel([clinic])
    two.wait(lambda: holds(two, entry), "to have it from the clinic", 60)


class Meetings:
    """Counts the meetings that a node holds from now on."""

    def __init__(self, node: LocalNode) -> None:
        self._replicator = node.service._replicator
        self._meet_one = self._replicator.meet_one
        self._replicator.meet_one = self._count  # type: ignore[method-assign]
        self.held = 0

    def _count(self, address: str, under: Any = None) -> Meeting:
        meeting = self._meet_one(address, under)
        self.held += 1
        return meeting


def test_two_couriers_at_the_cloud_share_a_study(
    mesh: tuple[LocalNode, LocalNode, LocalNode, LocalNode],
) -> None:
    """Both have all of it, and both lines are slow: each moves a part, and none moves what the other has."""
    cloud, clinic, one, two = mesh
    clinic.start()
    (entry,) = clinic.submit(noisy_study(3, 8, 4 * MB))
    size = clinic.story(entry)["bytes"]
    for courier in (one, two):
        courier.start([clinic])
    for courier in (one, two):
        courier.wait(lambda courier=courier: holds(courier, entry), "to carry the study", 60)  # type: ignore[misc]
        courier.travel([])
    slow = Line(rate=4 * MB)
    with proxied(cloud.mesh_address, slow) as first, proxied(cloud.mesh_address, slow) as second:
        for courier, line in ((one, first), (two, second)):
            courier.ask("POST", "/api/v1/admin/peers", {"address": line.address})

        cloud.wait(lambda: holds(cloud, entry), "to have the study whole", 90)
        moved = first.octets[0], second.octets[0]

    assert size <= sum(moved) < 1.3 * size
    assert min(moved) > 0.1 * size
