"""What a small disk takes in and gives up, and what it never gives up, whoever asks for the room."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clock import FakeClock
from support.facts import MeshMaker, usual_mesh

from node.config import Settings
from node.mesh.space import GB, Space
from node.store.blobs import MemoryBlobStore
from node.store.database import Database
from node.store.factlog import FactLog
from node.store.holdings import Holdings
from node.store.queue import Queue
from node.store.vault import Incoming, Vault
from sync.bodies import Role, Study
from sync.ids import BlobId, EntryId
from sync.plan import HEARD_WITHIN_MS

QUOTA = 100_000
DAY = 86_400_000


class Disk:
    """A courier's disk, and the mesh around it: a clinic, other couriers, a cloud node."""

    def __init__(self, folder: Path, *, quota: int = QUOTA, roles: tuple[Role, ...] = (Role.CARRY,)) -> None:
        self.mesh, members = usual_mesh()
        self.clock = FakeClock()
        self.database = Database(folder / "state.db")
        self.facts = FactLog(
            self.database,
            mesh=self.mesh.id,
            roots=self.mesh.root_ids,
            key=self.mesh.key("me"),
            clock=self.clock,
        )
        self.blobs, self.queue = MemoryBlobStore(), Queue(self.database)
        self.holdings = Holdings(self.facts, self.queue, self.blobs, self.clock)
        settings = Settings(quota_gb=quota / GB, reserve_gb=0)
        self.space = Space(self.holdings, settings, self.clock)
        couriers = [self.mesh.member("root", name, [Role.CARRY]) for name in ("c1", "c2", "c3", "c4")]
        self.facts.add_many([*members, *couriers, self.mesh.member("root", "me", list(roles))])
        self._numbers = 0

    def study(self, octets: int, *, urgent: bool = False, on: tuple[str, ...] = ()) -> EntryId:
        """Announce a study of the clinic's of about so many octets, which others say that they hold."""
        self._numbers += 1
        entry = sealed(self._numbers, octets, self.mesh)
        manifest, blobs = MADE[entry]
        size = len(manifest) + sum(map(len, blobs))
        body = Study(
            manifest=BlobId(entry), size=size, blobs=2, priority="urgent" if urgent else "routine",
            destination="", submission=bytes(16), origin=self.mesh.node("clinic"),
        )  # fmt: skip
        self.facts.add_many([self.mesh.say("clinic", body, entry)])
        self.facts.add_many([self.mesh.custody(name, entry) for name in on])
        return entry

    def offer(self, entry: EntryId) -> bool:
        """Have somebody bring it; say whether it was taken, and take it whole then."""
        held, view = self.queue.get(entry), self.holdings.view(entry)
        assert held is not None and view.announced is not None
        self.clock.advance(2_000)
        self.space.held()  # counts anew
        before = dict(self.space._coming), list(self.holdings.queue.all())
        could = self.space.could_take(held, view, view.announced.size)
        assert (dict(self.space._coming), list(self.holdings.queue.all())) == before
        took = self.space.takes(held, view, view.announced.size)
        assert took == could  # in each of these cases; only the asking changes nothing
        if not took:
            return False
        manifest, blobs = MADE[entry]
        self.holdings.take_manifest(entry, manifest)
        for data in blobs:
            self.blobs.put(data)
        assert self.holdings.check_complete(entry)
        self.clock.advance(90_000)
        return True

    def answer(self, name: str, *entries: EntryId) -> None:
        """Have a node answer now that it holds these."""
        self.space.note_answers(self.mesh.node(name), entries)

    def has(self, entry: EntryId) -> bool:
        """Say whether anything of it is on the disk."""
        return self.holdings.octets_here(entry) > 0

    def says(self, entry: EntryId) -> bool:
        """Say whether this node tells the others that it holds it."""
        return self.mesh.node("me") in self.holdings.view(entry).holders


MADE: dict[EntryId, tuple[bytes, list[bytes]]] = {}  # manifest and stream


def sealed(number: int, octets: int, mesh: MeshMaker) -> EntryId:
    """Make a study by its number."""
    store = MemoryBlobStore()
    noise = b"".join(hashlib.sha256(f"{number}:{n}".encode()).digest() for n in range(octets // 32))
    one = Incoming("1.2.3", "1.2", "1.2", len(noise), hashlib.sha256(noise).digest(), lambda: iter([noise]))
    kept = Vault(store, lambda n: hashlib.shake_128(f"{number}".encode()).digest(n)).keep_study(
        "1.2", [one], {}, recipients=[bytes([9]) + bytes(31)], mesh=mesh.id
    )
    MADE[kept.entry_id] = kept.manifest, [store.get(blob) for blob, _ in kept.blobs]
    return kept.entry_id


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path)
    yield disk
    disk.database.close()


def test_the_first_copies_are_told_of_and_a_further_one_is_not(disk: Disk) -> None:
    """Four copies are a promise; a fifth lies there as long as nobody needs the room."""
    needed = disk.study(10_000, on=("c1", "c2"))
    further = disk.study(10_000, on=("c1", "c2", "c3"))
    urgent = disk.study(10_000, urgent=True, on=("c1", "c2", "c3", "c4"))

    assert disk.offer(needed) and disk.offer(further) and disk.offer(urgent)

    assert (disk.says(needed), disk.says(further), disk.says(urgent)) == (True, False, True)
    assert disk.has(further)


def test_a_spare_copy_is_told_of_once_a_promised_one_is_gone(disk: Disk) -> None:
    """A courier that takes its copy back leaves three; the spare one becomes the fourth."""
    entry = disk.study(10_000, on=("c1", "c2", "c3"))
    disk.offer(entry)
    disk.holdings.settle()
    assert not disk.says(entry)

    disk.facts.add_many([disk.mesh.custody("c2", entry, holds=False)])
    disk.holdings.settle()

    assert disk.says(entry)


def test_copies_of_nodes_that_nobody_heard_of_for_two_weeks_do_not_count(disk: Disk) -> None:
    """A laptop in a cupboard promises nothing; when it comes back its copy counts again."""
    entry = disk.study(10_000, on=("c1", "c2", "c3"))
    disk.offer(entry)
    disk.clock.advance(HEARD_WITHIN_MS - DAY)
    for name in ("clinic", "c1", "c2"):
        disk.facts.add_many([disk.mesh.say_unknown(name, "future")])
    disk.holdings.settle()
    assert not disk.says(entry)

    disk.clock.advance(2 * DAY)
    disk.holdings.settle()

    assert disk.says(entry)


def test_what_a_restart_remembers_of_who_was_heard(disk: Disk) -> None:
    """Two weeks of silence are counted over restarts, from what is on the disk."""
    disk.clock.advance(5 * DAY)
    disk.facts.add_many([disk.mesh.say_unknown("c1", "future")])
    heard = disk.facts.heard_ms()

    again = FactLog(
        disk.database, mesh=disk.mesh.id, roots=disk.mesh.root_ids, key=disk.mesh.key("me"), clock=disk.clock
    )

    assert heard[disk.mesh.node("c1")] >= 5 * DAY
    assert {node: ms for node, ms in heard.items() if node in again.heard_ms()} == again.heard_ms()


def test_a_spare_copy_makes_room_for_what_only_its_origin_has(disk: Disk) -> None:
    """It goes without a word, since nobody was told of it."""
    spare = disk.study(60_000, on=("c1", "c2", "c3"))
    assert disk.offer(spare)
    alone = disk.study(60_000)

    assert disk.offer(alone)

    assert not disk.has(spare) and disk.has(alone) and disk.says(alone)


def test_half_of_the_quota_waits_for_what_nobody_else_has(disk: Disk) -> None:
    """Second copies of the neighbour's studies must not shut out the next clinic's only ones."""
    shared = [disk.study(20_000, on=("c1",)) for _ in range(4)]

    taken = [disk.offer(entry) for entry in shared]
    only = [disk.offer(disk.study(20_000)), disk.offer(disk.study(20_000))]

    assert taken == [True, True, False, False]
    assert only == [True, True]


def test_a_promised_copy_stays_on_hearsay_and_the_new_one_is_refused(disk: Disk) -> None:
    """Three others say that they have it; none of them is here to say so now."""
    old = disk.study(60_000)
    assert disk.offer(old)
    disk.facts.add_many([disk.mesh.custody(name, old) for name in ("c1", "c2", "c3", "c4", "cloud")])

    assert not disk.offer(disk.study(60_000))

    assert disk.has(old) and disk.says(old)


def test_a_copy_beyond_four_goes_while_two_others_answer_and_is_taken_back_first(disk: Disk) -> None:
    """Told to everybody once, so it goes only while two custodians say now that they have it."""
    old = disk.study(60_000)
    assert disk.offer(old)
    disk.facts.add_many([disk.mesh.custody(name, old) for name in ("c1", "c2", "c3", "c4")])
    new = disk.study(60_000)
    disk.answer("c1", old)
    assert not disk.offer(new)

    disk.answer("c1", old)
    disk.answer("c2", old)

    assert disk.offer(new)
    assert not disk.has(old) and not disk.says(old) and disk.has(new)


def test_an_answer_is_good_for_a_minute(disk: Disk) -> None:
    """What was true at the last market is hearsay at this one."""
    old = disk.study(60_000)
    assert disk.offer(old)
    disk.facts.add_many([disk.mesh.custody(name, old) for name in ("c1", "c2", "c3", "c4")])
    disk.answer("c1", old)
    disk.answer("c2", old)
    disk.clock.advance(61_000)

    assert not disk.offer(disk.study(60_000))
    assert disk.has(old)


def test_what_has_arrived_is_cleared_while_the_cloud_answers(disk: Disk) -> None:
    """A courier leaves the town with half of its disk free, though the PACS is down and nothing has ended."""
    old = disk.study(60_000)
    assert disk.offer(old)
    disk.facts.add_many([disk.mesh.custody("cloud", old)])
    assert disk.space.clear() == 0

    disk.answer("cloud", old)

    assert disk.space.clear() == 1
    assert not disk.has(old) and not disk.says(old)
    assert not disk.offer(old), "what was cleared does not come back into that half"


def test_the_origins_own_copy_never_goes(tmp_path: Path) -> None:
    """Whatever the pressure, and whoever answers: the clinic keeps what it took in until it has ended."""
    disk = Disk(tmp_path, roles=(Role.CARRY, Role.INGEST))
    own = disk.study(60_000, on=("c1", "c2", "c3", "c4", "cloud"))
    assert disk.offer(own)
    with disk.database.write() as session:
        session.connection().exec_driver_sql("UPDATE entry SET origin = 1")
    for name in ("c1", "c2", "cloud"):
        disk.answer(name, own)
    disk.space = Space(disk.holdings, Settings(quota_gb=0, reserve_gb=10**6), disk.clock)
    for name in ("c1", "c2", "cloud"):
        disk.answer(name, own)

    assert disk.space.too_much() > 0
    assert disk.space.relieve() == 0
    assert disk.has(own)
    disk.database.close()


def test_under_pressure_parts_go_first_then_spare_copies_then_what_others_answer_for(disk: Disk) -> None:
    """The reserve is what erasing lives from; what is needed here stays to the last."""
    kept = disk.study(10_000)
    answered = disk.study(10_000)
    spare = disk.study(10_000, on=("c1", "c2", "c3"))
    part = disk.study(10_000, on=("c1", "c2", "c3"))
    assert all(map(disk.offer, (kept, answered, spare, part)))
    with disk.facts.writing() as writing:
        disk.queue.set_complete(writing.session, part, complete=False)
    disk.blobs.delete(disk.queue.blobs(part)[1][0])
    disk.facts.add_many([disk.mesh.custody(name, answered) for name in ("c1", "c2")])
    gone = []
    for pressing in (1, 10_000, 10_000, 10_000):
        for name in ("c1", "c2"):
            disk.answer(name, answered)
        held = disk.space.held()
        disk.space._quota = held - pressing
        disk.space.relieve()
        gone.append([disk.has(one) for one in (part, spare, answered, kept)])

    assert gone == [
        [False, True, True, True],
        [False, False, True, True],
        [False, False, False, True],
        [False, False, False, True],
    ]


def test_a_copy_that_was_vouched_for_stays_for_a_while(disk: Disk) -> None:
    """Two couriers that lean on each other's copy at one moment must not both give theirs up."""
    old = disk.study(60_000)
    assert disk.offer(old)
    disk.facts.add_many([disk.mesh.custody(name, old) for name in ("c1", "c2", "c3", "c4")])
    assert disk.space.pin([old, disk.study(5)]) == [old]
    new = disk.study(60_000)
    for name in ("c1", "c2"):
        disk.answer(name, old)

    assert not disk.offer(new)

    disk.clock.advance(11 * 60_000)
    for name in ("c1", "c2"):
        disk.answer(name, old)
    assert disk.offer(new)


def test_a_damaged_copy_is_not_vouched_for(disk: Disk) -> None:
    """Who asks gives his own copy up for the answer."""
    entry = disk.study(10_000)
    assert disk.offer(entry)
    assert disk.space.pin([entry]) == [entry]

    disk.blobs.delete(disk.queue.blobs(entry)[1][0])

    assert disk.space.pin([entry]) == []


def test_room_is_not_given_away_twice(disk: Disk) -> None:
    """Two clinics come at once; the second is refused while the first one's study is still on the line."""
    one, two = disk.study(60_000), disk.study(60_000)
    first, second = disk.queue.get(one), disk.queue.get(two)
    assert first is not None and second is not None

    assert disk.space.takes(first, disk.holdings.view(one), 60_000)
    assert not disk.space.takes(second, disk.holdings.view(two), 60_000)

    disk.clock.advance(61_000)  # nothing came
    assert disk.space.takes(second, disk.holdings.view(two), 60_000)
