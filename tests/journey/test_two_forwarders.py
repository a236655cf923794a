"""Two forwarders at once on one study: real processes, a real Orthanc, one line to it that is held shut.

Both hold the study whole. Once they see each other, and once they do not: then both send at the same time,
since both asked what is there before either had sent. The PACS has one copy of each image, both nodes tell
of the same end, and nothing is lost.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.archives import by_uid, read_back
from support.forkserver import ForkServer
from support.nodes import RealNode, wait_until
from support.orthanc import RunningOrthanc, missing, running_orthanc
from support.proxy import DEAD, PERFECT, Line, Proxy, proxied
from support.slices import made_slice

from sync import facts
from sync.bodies import Tombstone
from sync.genesis import Mode

FILES = {f"IM{at}": made_slice(611, at, octets=100_000) for at in range(1, 7)}
OCTETS = sum(map(len, FILES.values()))

pytestmark = pytest.mark.orthanc


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[RunningOrthanc]:
    if reason := missing():
        pytest.skip(reason)
    with running_orthanc(tmp_path / "orthanc") as running:
        yield running


@pytest.fixture
def line(orthanc: RunningOrthanc) -> Iterator[Proxy]:
    """The line to the PACS, shut: connections are made, and no octet comes through."""
    with proxied(urlsplit(orthanc.url).netloc, DEAD) as proxy:
        yield proxy


@pytest.fixture
def pair(tmp_path: Path, forks: ForkServer) -> Iterator[tuple[RealNode, RealNode]]:
    """Two forwarders of one mesh, on lines for urgent studies only; the second one does not run yet."""
    settings = {"replicate_every_s": 0.3, "metered": True, "metered_every_s": 0.3}
    with (
        RealNode(tmp_path / "one", forks=forks, **settings) as one,
        RealNode(tmp_path / "two", forks=forks, **settings) as two,
    ):
        one.init(mode=Mode.PEER_FORWARDER)
        one.start()
        one.admit(two, "forwarder")
        yield one, two


def test_who_sees_that_another_one_delivers_leaves_it_to_that_one(
    pair: tuple[RealNode, RealNode], line: Proxy, orthanc: RunningOrthanc
) -> None:
    """The first has claimed it and waits for the PACS; the second gets all of it, and sends nothing."""
    one, two = pair
    one.add_pacs(f"http://{line.address}/dicom-web")
    (entry,) = one.submit(FILES, priority="urgent")
    one.wait(lambda: line.connections, "to turn to the PACS")
    two.start([one])
    two.wait(lambda: holds(two, entry), "to hold the study")
    for node in pair:
        node.wait(lambda node=node: node.story(entry)["copies"] == 2, "to know both copies")

    line.line = PERFECT

    ended(pair, entry, orthanc)
    assert OCTETS < line.octets[0] < 1.5 * OCTETS
    assert {len(tombstones(node)) for node in pair} == {1}


def test_two_that_do_not_see_each_other_send_at_the_same_time_and_do_no_harm(
    pair: tuple[RealNode, RealNode], line: Proxy, orthanc: RunningOrthanc
) -> None:
    """Each asks the PACS first; neither has sent yet; both send everything. Then they meet."""
    one, two = pair
    two.start([one])
    one.add_pacs(f"http://{line.address}/dicom-web")
    (entry,) = one.submit(FILES)  # not urgent, so that nobody claims it before the two are apart
    two.wait(lambda: holds(two, entry), "to hold the study")
    two.wait(lambda: two.get("/api/v1/destinations")["destinations"], "to know the PACS")
    for node in (two, one):
        for known in node.get("/api/v1/status")["peers"]:
            node.ask("DELETE", f"/api/v1/admin/peers/{known['address']}")
        node.stop()
        node.settings["metered"] = False
        node.write_settings()
    assert line.connections == 0
    for node in pair:
        node.start()
        assert node.get("/api/v1/status")["peers"] == []
    wait_until(lambda: line.connections == 2, 60, "both turn to the PACS")

    line.line = Line(rate=300_000)  # two seconds for a study: longer than any question takes
    for node in pair:
        node.wait(lambda node=node: node.state(entry) == "delivered", "to deliver", 60)

    assert line.octets[0] > 1.9 * OCTETS
    assert [len(tombstones(node)) for node in pair] == [1, 1]
    assert not tombstones(one).keys() & tombstones(two).keys()
    two.travel([one])
    ended(pair, entry, orthanc)
    assert {len(tombstones(node)) for node in pair} == {2}


def ended(pair: tuple[RealNode, RealNode], entry: str, orthanc: RunningOrthanc) -> None:
    """Wait until both nodes know the same end and hold nothing, and ask the PACS for what it has."""
    one, two = pair
    for node in pair:
        node.wait(lambda node=node: node.state(entry) == "delivered", "to know of the end", 60)
        node.wait(lambda node=node: not node.blobs(), "to erase", 60)
    one.wait(lambda: tombstones(one) == tombstones(two), "the same tombstones", 60)
    told = [node.story(entry)["evidence"] for node in pair]
    assert told[0] == told[1]
    assert (told[0]["level"], told[0]["proven"]) == ("read-back", len(FILES))
    assert read_back(orthanc.dicomweb, FILES.values()) == by_uid(FILES.values())
    for node in pair:
        assert node.troubles() == []
        assert "Traceback" not in node.out.read_text(encoding="utf-8")


def holds(node: RealNode, entry: str) -> bool:
    """Tell whether a node says that it holds all of a study."""
    return node.label in node.stories().get(entry, {}).get("holders", ())


def tombstones(node: RealNode) -> dict[bytes, bytes]:
    """Return the tombstones in a node's database, by fact, with who signed them."""
    with closing(sqlite3.connect(f"file:{node.home.database}?mode=ro", uri=True)) as rows:
        mesh = node.home.membership().genesis.mesh_id
        known = [facts.parse(row[0], mesh=mesh) for row in rows.execute("SELECT raw FROM fact")]
    return {fact.id: fact.header.author for fact in known if isinstance(fact.body, Tombstone)}
