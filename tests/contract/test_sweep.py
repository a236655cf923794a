"""The sweep: what erases blobs, and what must not."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clock import FakeClock
from support.facts import MeshMaker, usual_mesh

from node.config import Settings
from node.jobs.sweep import sweep
from node.store.blobs import MemoryBlobStore
from node.store.database import Database
from node.store.factlog import FactLog
from node.store.holdings import Holdings
from node.store.notes import Notes
from node.store.queue import Queue
from node.store.vault import Incoming, Kept, Vault
from sync.bodies import Role
from sync.ids import BlobId

PIXELS = b"not really a file, but as many octets as it takes" * 100


class Courier:
    """A courier's store, and the mesh around it."""

    def __init__(self, folder: Path, mesh: MeshMaker, members: list[bytes]) -> None:
        self.clock = FakeClock()
        self.database = Database(folder / "state.db")
        self.facts = FactLog(
            self.database, mesh=mesh.id, roots=mesh.root_ids, key=mesh.key("courier"), clock=self.clock
        )
        self.blobs, self.notes = MemoryBlobStore(), Notes(self.database)
        self.queue = Queue(self.database)
        self.holdings = Holdings(self.facts, self.queue, self.blobs, self.clock)
        self.facts.add_many([*members, mesh.member("root", "thief", [Role.INGEST, Role.CARRY])])

    def carry(self, mesh: MeshMaker) -> Kept:
        """Take over a whole study of the clinic."""
        incoming = Incoming(
            "1.2.3", "1.2.4", "1.2.5", len(PIXELS), hashlib.sha256(PIXELS).digest(), lambda: iter([PIXELS])
        )
        kept = Vault(self.blobs, lambda count: bytes(range(count % 256)) or b"").keep_study(
            "1.2", [incoming], {}, recipients=[bytes([9]) + bytes(31)], mesh=mesh.id
        )
        self.facts.add_many([mesh.study("clinic", kept.entry_id)])
        self.holdings.take_manifest(kept.entry_id, kept.manifest)
        assert self.holdings.check_complete(kept.entry_id)
        return kept

    def sweep(self) -> int:
        return sweep(self.holdings, self.notes, Settings(hold_hours=0, reserve_gb=0), self.clock)


@pytest.fixture
def mesh_and_members() -> tuple[MeshMaker, list[bytes]]:
    return usual_mesh()


@pytest.fixture
def courier(tmp_path: Path, mesh_and_members: tuple[MeshMaker, list[bytes]]) -> Iterator[Courier]:
    courier = Courier(tmp_path, *mesh_and_members)
    yield courier
    courier.database.close()


def test_a_delivered_study_leaves_the_courier(
    courier: Courier, mesh_and_members: tuple[MeshMaker, list[bytes]]
) -> None:
    """That is what a tombstone is for."""
    mesh, _ = mesh_and_members
    kept = courier.carry(mesh)
    assert courier.sweep() == 0

    courier.facts.add_many([mesh.tombstone("cloud", kept.entry_id)])

    assert courier.sweep() == 1
    assert list(courier.blobs.ids()) == []


def test_a_withdrawal_by_another_clinic_erases_nothing(
    courier: Courier, mesh_and_members: tuple[MeshMaker, list[bytes]]
) -> None:
    """A thief with an ingest laptop says of a stranger's study that it was his, and takes it back."""
    mesh, _ = mesh_and_members
    kept = courier.carry(mesh)
    false_study = mesh.study("thief", kept.entry_id)

    courier.facts.add_many(
        [mesh.tombstone("thief", kept.entry_id, origin="thief", outcome="withdrawn", study=false_study)]
    )

    assert courier.sweep() == 0
    assert courier.blobs.has(BlobId(kept.entry_id))


def test_a_withdrawal_by_the_studys_own_clinic_erases_it(
    courier: Courier, mesh_and_members: tuple[MeshMaker, list[bytes]]
) -> None:
    """A person may take back what was not delivered yet."""
    mesh, _ = mesh_and_members
    kept = courier.carry(mesh)
    own = mesh.study("clinic", kept.entry_id)

    courier.facts.add_many([mesh.tombstone("clinic", kept.entry_id, outcome="withdrawn", study=own)])

    assert courier.sweep() == 1


def test_erasing_stops_when_the_tombstone_loses_its_standing(
    courier: Courier, mesh_and_members: tuple[MeshMaker, list[bytes]]
) -> None:
    """A power cut between the intent and the first file, and then the news that the forwarder was stolen."""
    mesh, _ = mesh_and_members
    kept = courier.carry(mesh)
    courier.facts.add_many([mesh.tombstone("cloud", kept.entry_id)])
    with courier.facts.writing() as writing:
        courier.queue.set_erasing(writing.session, kept.entry_id, erasing=True)

    courier.facts.add_many([mesh.revoke("root", "cloud")])

    assert courier.sweep() == 0
    courier.holdings.settle()
    held = courier.queue.get(kept.entry_id)
    assert held is not None and held.complete and not held.erasing
    assert all(courier.blobs.has(blob) for blob, _ in kept.blobs)
