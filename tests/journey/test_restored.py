"""A node whose database was put back from an older backup: what lies in its files is not lost."""

from hashlib import sha256
from pathlib import Path

import pytest
from support.nodes import LocalNode
from support.slices import made_slice

from node.store.vault import Incoming
from sync.facts import FactClass
from sync.ids import EntryId

DATABASE = ("state.db", "state.db-wal", "state.db-shm")


@pytest.fixture
def clinic(tmp_path: Path) -> LocalNode:
    return LocalNode(tmp_path / "clinic")


def test_blobs_that_came_after_the_backup_stay_when_only_the_fact_is_known(
    tmp_path: Path, clinic: LocalNode
) -> None:
    """The backup knows the study and not its files; the clinic may have burnt down since."""
    courier = LocalNode(tmp_path / "courier")
    with clinic, courier:
        clinic.init()
        clinic.start()
        clinic.admit(courier, "courier")
        courier.start([clinic])
        courier.wait(lambda: len(courier.get("/api/v1/status")["members"]) == 2, "to know the mesh")
        courier.stop()
        (name,) = clinic.submit({"IM1": made_slice(1, 1, octets=200_000)})
        entry = EntryId(bytes.fromhex(name))
        courier.start()
        live = clinic.node.facts.ask(lambda ledger: [f.raw for f in ledger.facts(FactClass.LIVE).values()])
        for known in courier.get("/api/v1/status")["peers"]:
            courier.ask("DELETE", f"/api/v1/admin/peers/{known['address']}")
        courier.node.facts.add_many(live)
        courier.stop()
        backup = {
            one: (courier.folder / one).read_bytes() for one in DATABASE if (courier.folder / one).exists()
        }
        courier.start([clinic])
        courier.wait(lambda: clinic.state(name) == "carried", "a copy")
        courier.stop()
        clinic.stop()
        before = {path.name for path in courier.blobs()}
        for one in DATABASE:
            (courier.folder / one).unlink(missing_ok=True)
        for one, data in backup.items():
            (courier.folder / one).write_bytes(data)

        courier.start()

        assert {path.name for path in courier.blobs()} == before
        held = courier.node.queue.get(entry)
        assert held is not None
        assert held.complete


def test_a_damaged_manifest_among_strays_stops_neither_the_start_nor_costs_blobs(
    tmp_path: Path, clinic: LocalNode
) -> None:
    """A lost database and a bad sector come together: the same disk fails."""
    with clinic:
        clinic.init()
        clinic.start()
        (name,) = clinic.submit({"IM1": made_slice(1, 1, octets=200_000)})
        clinic.stop()
        manifest = clinic.home.blobs / name[:2] / name
        data = manifest.read_bytes()
        manifest.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        for one in DATABASE:
            (clinic.folder / one).unlink(missing_ok=True)

        clinic.start()

        assert len(clinic.blobs()) == 2


def test_a_sealing_that_was_cut_off_is_not_announced_at_the_next_start(clinic: LocalNode) -> None:
    """Its submission is sealed anew, or was taken back: the wrong patient must not travel after all."""
    data = made_slice(1, 1, octets=50_000)
    with clinic:
        clinic.init()
        clinic.start()
        parts = clinic.node
        incoming = Incoming("1.2", "1.3", "1.4", len(data), sha256(data).digest(), lambda: iter([data]))
        kept = parts.vault.keep_study(
            "1.1",
            [incoming],
            {},
            recipients=parts.recipients(),
            mesh=parts.membership.genesis.mesh_id,
            named=parts.notes.note_sealing,
        )
        clinic.stop()

        clinic.start()

        assert clinic.blobs() == []
        assert clinic.node.queue.get(kept.entry_id) is None
        assert clinic.node.notes.sealing() == set()
