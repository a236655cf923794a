"""Two clinics, a courier and a cloud node on machines of their own, in network namespaces.

Nodes find each other by zeroconf; the courier's cable is moved from place to place, so that it is never in
two. All tests share one mesh, and leave it with nothing under way. Each ends with the same questions: the
PACS got every image exactly once and gives it back bit for bit, no node holds anything any more, and all
nodes have the same facts.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
from support import netns
from support.archives import by_uid, read_back
from support.forkserver import ForkServer
from support.killing import CountingPacs, counting_pacs, noisy_study
from support.netnodes import NetNode, a_year_later, all_equal, copied, forks_at, restore
from support.netns import Lab
from support.slices import made_slice

from node.errors import PeerUnreachable
from sync.bodies import Custody, Tombstone
from sync.ids import EntryId

pytestmark = pytest.mark.skipif(netns.missing() is not None, reason=f"missing here: {netns.missing()}")

NORTH, SOUTH, TOWN = "north", "south", "town"
_STUDIES = count(7001)


@dataclass
class World:
    """The mesh, its PACS, and every study that was handed in so far."""

    lab: Lab
    folder: Path
    forks: ForkServer
    pacs: CountingPacs
    north: NetNode
    south: NetNode
    courier: NetNode
    cloud: NetNode
    studies: dict[str, dict[str, bytes]] = field(default_factory=dict, repr=False)

    @property
    def nodes(self) -> list[NetNode]:
        return [self.north, self.south, self.courier, self.cloud]

    def hand_in(self, clinic: NetNode, files: dict[str, bytes] | None = None) -> str:
        """Hand a study in at a clinic; return its entry."""
        number = next(_STUDIES)
        files = files or {f"IM{at}": made_slice(number, at, octets=20_000) for at in (1, 2)}
        (entry,) = clinic.submit(files)
        self.studies[entry] = files
        return entry

    def fetch(self, place: str, *entries: str) -> None:
        """Let the courier visit a place until it holds these studies."""
        self.courier.carried_to(place)
        self.courier.wait(lambda: self.holds(*entries), f"to hold {len(entries)} studies", 60)

    def holds(self, *entries: str, by: NetNode | None = None) -> bool:
        """Tell whether a node, the courier if none is named, holds these studies whole."""
        node = by or self.courier
        told = node.stories()
        return all(
            node.label in told.get(one, {}).get("holders", ()) and one in {p.name for p in node.blobs()}
            for one in entries
        )

    def deliver(self) -> None:
        """Let the courier bring what it holds to town, and learn what became of it."""
        self.courier.carried_to(TOWN)
        self.courier.wait(lambda: self.proven(self.courier), "every delivery", 60)

    def settle(self, *extra: NetNode) -> None:
        """Deliver what is under way, let everybody hear of it over radio links, and check the rest."""
        self.deliver()
        nodes = [*self.nodes, *extra]
        with self.radio():
            for node in nodes:
                node.wait(lambda node=node: self.proven(node), "the proofs", 60)
                node.wait(lambda node=node: not node.blobs(), "to erase", 60)
            self.cloud.wait(lambda: all_equal(nodes), "the same facts everywhere", 60)
        self.courier.carried_to(None)
        self.check(nodes)

    @contextmanager
    def radio(self) -> Iterator[None]:
        """Join all places while the block runs."""
        with self.lab.joined(NORTH, TOWN), self.lab.joined(SOUTH, TOWN):
            yield

    def proven(self, node: NetNode) -> bool:
        """Tell whether a node knows of every study that it is delivered."""
        return node.states(self.studies) == {"delivered"}

    def check(self, nodes: list[NetNode]) -> None:
        files = [data for study in self.studies.values() for data in study.values()]
        with self.cloud.machine.inside():
            assert read_back(self.pacs.url, files) == by_uid(files)
        assert {uid: n for uid, n in self.pacs.arrived.items() if n != 1} == {}
        for node in nodes:
            assert node.blobs() == []
            assert "Traceback" not in node.printed()


def revoked(node: NetNode, label: str) -> bool:
    """Tell whether a node knows that another one was revoked."""
    return any(one["revoked"] for one in node.get("/api/v1/status")["members"] if one["label"] == label)


def kept_parts(node: NetNode) -> int:
    """Return how many octets of blobs that are not whole yet are on a node's disk."""
    return sum(part.stat().st_size for part in (node.home.blobs / "part").iterdir())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, forks: ForkServer) -> Iterator[World]:
    """Founded in town; the others come to town to join by a code, with no address typed, and go home."""
    folder = tmp_path_factory.mktemp("far-apart")
    with ExitStack() as stack:
        lab = stack.enter_context(Lab())
        for place in (NORTH, SOUTH, TOWN):
            lab.place(place)
        nodes = [
            stack.enter_context(NetNode(folder / name, lab.machine(name, TOWN), forks))
            for name in ("north", "south", "courier", "cloud")
        ]
        north, south, courier, cloud = nodes
        cloud.init()
        cloud.start()
        with cloud.machine.inside():
            pacs = stack.enter_context(counting_pacs(folder / "pacs"))
        cloud.add_pacs(pacs.url)
        for node, preset, home in (
            (north, "clinic", NORTH),
            (south, "clinic", SOUTH),
            (courier, "courier", None),
        ):
            node.join_near_by(cloud, preset)
            node.carried_to(home)
        yield World(lab, folder, forks, pacs, north, south, courier, cloud)


def test_studies_of_two_clinics_reach_the_pacs_by_one_courier(world: World) -> None:
    """Nobody typed an address, and no two of the three places are ever connected."""
    first, second = world.hand_in(world.north), world.hand_in(world.south)

    world.fetch(NORTH, first)
    assert world.cloud.stories() == {}
    world.fetch(SOUTH, second)
    assert world.cloud.stories() == {}
    world.deliver()
    for place, clinic in ((NORTH, world.north), (SOUTH, world.south)):
        world.courier.carried_to(place)
        clinic.wait(lambda clinic=clinic: world.proven(clinic), "the proofs", 60)
        clinic.wait(lambda clinic=clinic: not clinic.blobs(), "to erase", 60)
    world.settle()


def test_a_study_that_was_cut_in_the_middle_goes_on_where_it_was_cut(world: World) -> None:
    """The courier's battery dies while it copies over a weak radio; what had come is not sent again."""
    files = noisy_study(next(_STUDIES), 2, 4_000_000)
    octets = sum(map(len, files.values()))
    entry = world.hand_in(world.north, files)
    courier, machine = world.courier, world.courier.machine
    machine.slow_down(2_000_000)
    courier.carried_to(NORTH)
    courier.wait(lambda: kept_parts(courier) > octets // 4, "a quarter of it to be on its disk", 60)
    courier.kill()
    before = machine.received()
    other = world.hand_in(world.north)  # life goes on meanwhile

    courier.start()
    courier.wait(lambda: world.holds(entry, other), "to hold both", 60)
    assert machine.received() - before < octets
    machine.speed_up()
    world.settle()


def test_a_link_that_drops_under_a_meeting_is_noticed_and_nothing_starts_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The radio is gone and nobody says so; both laptops stay on, and it comes back."""
    files = noisy_study(next(_STUDIES), 2, 4_000_000)
    octets = sum(map(len, files.values()))
    entry = world.hand_in(world.north, files)
    courier, machine = world.courier, world.courier.machine
    machine.slow_down(2_000_000)
    before = machine.received()
    courier.carried_to(NORTH)
    monkeypatch.setattr("node.lines._UNHEARD_MS", 3_000)  # of this line of the test; nodes wait for 30 s
    with world.north.line_to(courier) as line:
        line.lack([])
        courier.wait(lambda: kept_parts(courier) > octets // 4, "a quarter of it to be on its disk", 60)
        machine.pull()
        began = time.monotonic()
        with pytest.raises(PeerUnreachable):
            line.lack([])
        assert time.monotonic() - began < 50  # the kernel said so, before the 60 s of silence were over
    other = world.hand_in(world.north)  # life goes on meanwhile
    assert not world.holds(entry)

    machine.plug()
    courier.wait(lambda: world.holds(entry, other), "to hold both", 90)
    assert machine.received() - before < 1.6 * octets
    machine.speed_up()
    world.settle()


def test_a_restored_disk_brings_nothing_back(world: World) -> None:
    """The courier's laptop is put back to the day before: what was delivered since is on it again."""
    delivered, kept = world.hand_in(world.north), world.hand_in(world.south)
    world.fetch(NORTH, delivered)
    world.courier.kill()
    copied(world.courier, world.folder / "backup", world.courier.machine)
    world.fetch(SOUTH, kept)
    world.settle()
    restore(world.courier, world.folder / "backup")
    assert world.courier.blobs()

    world.courier.carried_to(NORTH)
    world.courier.wait(lambda: world.courier.states([delivered]) <= {"carried", "delivered"}, "to start")
    world.settle()


def test_who_comes_back_after_a_year_is_merged(world: World) -> None:
    """It has a study that was delivered long ago, and one of which nobody ever heard."""
    with NetNode(world.folder / "away", world.lab.machine("away", TOWN), world.forks) as away:
        away.join_near_by(world.cloud, "clinic")
        away.carried_to(NORTH)
        shared = world.hand_in(world.north)
        away.wait(lambda: "away" in away.stories().get(shared, {}).get("holders", ()), "to hold a copy", 60)
        away.carried_to(SOUTH)
        away.machine.pull()  # from now on nobody hears of it
        own = world.hand_in(away)
        unheard = world.studies.pop(own)
        away.kill()
        world.fetch(NORTH, shared)
        world.settle()
        for node in world.nodes:
            node.kill()
            a_year_later(node)
            if node is not world.courier:
                node.start()
        world.fetch(SOUTH, world.hand_in(world.south))
        world.settle()

        world.studies[own] = unheard
        away.carried_to(TOWN)
        away.wait(lambda: away.states([shared, own]) == {"delivered"}, "the proofs", 60)
        world.settle(away)


def test_two_clones_of_one_disk_both_count(world: World) -> None:
    """Somebody copied the courier's disk onto a new laptop, and both go on: one key, two stories."""
    first, second = world.hand_in(world.north), world.hand_in(world.south)
    world.fetch(NORTH, first)
    world.courier.kill()
    with copied(world.courier, world.folder / "twin", world.lab.machine("twin")) as twin:
        twin.write_settings()
        twin.carried_to(TOWN)
        world.fetch(SOUTH, second)
        twin.wait(lambda: twin.states([first]) == {"delivered"}, "the delivery", 60)
        with world.lab.joined(SOUTH, TOWN):
            twin.wait(
                lambda: twin.states([second]) <= {"carried", "at-forwarder", "delivered"}, "to meet", 60
            )
        world.settle(twin)


def test_a_stranger_a_liar_and_a_thief_change_nothing(world: World) -> None:
    """A laptop of another mesh; and a courier whose program was changed, and which is then revoked."""
    lab, folder = world.lab, world.folder
    with (
        NetNode(folder / "stranger", lab.machine("stranger", NORTH), world.forks) as stranger,
        NetNode(folder / "liar", lab.machine("liar", TOWN), world.forks) as liar,
    ):
        liar.join_near_by(world.cloud, "courier")
        stranger.init()
        stranger.start([world.north])
        entry = world.hand_in(world.north)
        about, now = EntryId(bytes.fromhex(entry)), time.time_ns() // 1_000_000
        liar.machine.move(NORTH)
        says = Tombstone("delivered", "main", "read-back", 2, 2, bytes(32), 1, world.north.node_id)
        lie, forged = liar.sign(Custody(True), about, at=now), liar.sign(says, about, at=now)
        with liar.line_to(world.north) as line:
            assert line.send_facts(liar.signed()) == 0  # north has not heard of it yet
            assert line.send_facts([lie, forged, forged[:-1] + bytes([forged[-1] ^ 1])]) == 1
        world.north.wait(lambda: "liar" in world.north.story(entry)["holders"], "to be told the lie")
        assert world.north.state(entry) != "delivered"
        assert world.north.blobs()

        liar.start()  # the program that it should have run: it fetches what it said that it had
        liar.wait(lambda: world.holds(entry, by=liar), "to hold it now", 60)
        liar.kill()
        seen = world.cloud.get("/api/v1/admin/revocations?key=liar")
        revocation = {"node": seen["node"], "shown": seen["shown"], "reason": "stolen"}
        world.cloud.ask("POST", "/api/v1/admin/revocations", revocation)
        world.courier.carried_to(TOWN)
        world.courier.wait(lambda: revoked(world.courier, "liar"), "to hear of the theft", 60)
        world.fetch(NORTH, entry)
        liar.start()
        liar.wait(lambda: revoked(liar, "liar"), "the thief to hear of it, too", 60)
        unheard = world.hand_in(world.north)
        world.courier.wait(lambda: world.holds(entry, unheard), "to hold both", 60)
        assert unheard not in liar.stories()  # nobody tells it of studies any more
        world.settle()
        assert not liar.blobs()  # it hears of what has ended, and its program is still ours
        assert not stranger.facts() & world.north.facts()
        assert [one["met_s_ago"] for one in stranger.get("/api/v1/status")["peers"]] == [None]
        assert "Traceback" not in stranger.printed() + liar.printed()


@pytest.mark.needs("faketime")
def test_clocks_of_2001_and_2046_join_meet_and_deliver(world: World) -> None:
    """One laptop's battery was flat for years, somebody mistyped the other's year."""
    with (
        forks_at("2001-02-03 04:05:06") as past,
        forks_at("2046-02-03 04:05:06") as future,
        NetNode(world.folder / "flat", world.lab.machine("flat", TOWN), past) as flat,
        NetNode(world.folder / "late", world.lab.machine("late", TOWN), future) as late,
    ):
        flat.join_near_by(world.cloud, "clinic")
        late.join_near_by(world.cloud, "courier")
        flat.carried_to(SOUTH)
        entry = world.hand_in(flat)
        late.carried_to(SOUTH)
        late.wait(lambda: world.holds(entry, by=late), "to hold it", 60)
        late.carried_to(TOWN)
        late.wait(lambda: late.state(entry) == "delivered", "the delivery", 60)
        assert late.printed().count("2046-02-03") > 1  # it does believe so
        world.settle(flat, late)


def test_what_an_older_version_does_not_understand_freezes_one_erasure_and_no_other(world: World) -> None:
    """A newer courier says something critical of a study. It is kept until somebody understands it."""
    frozen, free = world.hand_in(world.north), world.hand_in(world.north)
    world.courier.machine.move(NORTH)
    about = EntryId(bytes.fromhex(frozen))
    with world.courier.line_to(world.north) as line:
        assert line.send_facts([world.courier.sign_unknown(about, at=time.time_ns() // 1_000_000)]) == 0
    kept = {path.name for path in world.north.blobs()}

    world.fetch(NORTH, frozen, free)
    world.deliver()
    with world.radio():
        world.north.wait(lambda: world.proven(world.north), "the proofs", 60)
        world.cloud.wait(lambda: all_equal(world.nodes), "the same facts everywhere", 60)
        world.north.wait(lambda: len(world.north.blobs()) < len(kept), "to erase the other one", 60)

    left = {path.name for path in world.north.blobs()}
    assert frozen in left < kept
    assert free not in left
