"""The main job, with whole nodes as real processes: from the clinic to the PACS, and erased everywhere."""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from nacl import utils
from support.archives import by_uid, of_one_patient, read_back, real_cd, uids_of
from support.nodes import HandIn, LocalNode, RealNode
from support.traces import found_in, markers

from node.keys import Keystore
from node.recovery import RecoverySheet
from node.store.blobs import DiskBlobStore, MemoryBlobStore
from node.store.vault import Vault
from sync import cbor
from sync.errors import CannotOpen
from sync.genesis import Mode
from sync.manifest import parse_manifest

CD = of_one_patient(real_cd())  # whose impression it is
IMPRESSION = "Suspected fracture of the left hip"
MARKERS = markers(CD.values(), IMPRESSION)
Three = tuple[RealNode, RealNode, RealNode]


def command(node: RealNode | LocalNode, *words: str) -> Any:
    """Run a command of the command line on a node's folder; return what it printed as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "node", *words, "--data", str(node.folder), "--json"],
        capture_output=True,
        check=True,
        text=True,
    )
    return json.loads(done.stdout)


def steps(node: RealNode, entries: Iterable[str]) -> set[tuple[str, ...]]:
    """Return the steps that are done, of each study."""
    told = node.stories()
    return {tuple(step["step"] for step in told[entry]["journey"] if step["done"]) for entry in entries}


def traces(*nodes: RealNode | LocalNode) -> list[str]:
    return found_in((path for node in nodes for path in node.files()), MARKERS)


def secrets_in(node: RealNode) -> list[bytes]:
    """Return everything in a node's keystore that could be a key, what needs a passphrase included."""
    keystore = Keystore.load(node.home.keys)
    value = cbor.decode((node.home.keys / "keystore").read_bytes())
    found = [one for one in value["open"].values() if isinstance(one, bytes)]
    found += [one for one in cbor.decode(value["sealed"]["box"]).values() if isinstance(one, bytes)]
    assert keystore.intake_secret in found and keystore.seal_secret in found
    return [one for one in found if len(one) == 32]


def manifest_of(node: RealNode, entry: str) -> bytes:
    return (node.home.blobs / entry[:2] / entry).read_bytes()


def test_the_search_for_traces_finds_them_where_they_are(tmp_path: Path) -> None:
    """Else the searches below would prove nothing."""
    for number, data in enumerate(CD.values()):
        (tmp_path / f"{number}").write_bytes(data)
    (tmp_path / "log").write_text(f'{{"event": "{IMPRESSION}"}}')

    assert len(found_in(tmp_path.iterdir(), MARKERS)) == len(CD) + 1


def test_a_study_comes_to_the_pacs_by_courier_and_is_erased_everywhere(three: Three, pacs: str) -> None:
    """The whole promise: nobody does anything, nothing is lost, nothing is left, nobody can look."""
    clinic, courier, cloud = three
    sheet = RecoverySheet.parse("\n".join(command(cloud, "init", "--label", "cloud")["recovery_sheet"]))
    cloud.write_settings()
    cloud.start()
    cloud.add_pacs(pacs)
    for node in (clinic, courier):
        cloud.admit(node, node.label)
    clinic.start()
    assert traces(*three) == []

    hand = HandIn(clinic, CD, impression=IMPRESSION, priority="urgent")
    hand.begin(60_000)
    assert any(clinic.home.spool.iterdir())
    assert traces(clinic) == []
    entries = hand.until_kept()
    assert len(entries) == len({uid for uid, _, _ in map(uids_of, CD.values())})
    assert not any(path.is_file() for path in clinic.home.spool.rglob("*"))
    assert traces(clinic) == []
    assert clinic.states(entries) == {"waiting"}
    assert steps(clinic, entries) == {("clinic",)}

    courier.start([clinic])
    clinic.wait(lambda: clinic.states(entries) == {"carried"}, "the courier to hold all studies")
    assert steps(clinic, entries) == {("clinic", "carried")}
    assert cloud.get("/api/v1/studies")["studies"] == []
    for node in (clinic, courier):
        for entry in entries:
            _cannot_open(node, manifest_of(node, entry))
    opened = Vault(DiskBlobStore(courier.home.blobs), utils.random).open_study(
        manifest_of(courier, entries[0]), sheet.recovery_secret
    )
    assert b"".join(opened.read(opened.index.instances[0])) in CD.values()
    assert traces(clinic, courier) == []

    courier.travel([cloud])
    cloud.wait(lambda: cloud.states(entries) == {"delivered"}, "the PACS to prove all", 60)
    assert read_back(pacs, CD.values()) == by_uid(CD.values())
    assert {story["evidence"]["level"] for story in cloud.stories().values()} == {"read-back"}
    cloud.wait(lambda: not cloud.blobs(), "to erase")
    courier.wait(lambda: not courier.blobs() and courier.states(entries) == {"delivered"}, "to erase")
    assert clinic.states(entries) == {"carried"}
    assert clinic.blobs()

    courier.travel([clinic])
    clinic.wait(lambda: not clinic.blobs() and clinic.states(entries) == {"delivered"}, "to erase")
    courier.wait(lambda: {story["erased"]["n"] for story in courier.stories().values()} == {3}, "all reports")
    courier.travel([cloud])
    cloud.wait(lambda: steps(cloud, entries) == {("clinic", "carried", "cloud", "pacs", "erased")}, "reports")
    told = command(cloud, "studies")["studies"]
    assert {(one["erased"]["n"], one["erased"]["of"]) for one in told} == {(3, 3)}
    status = command(clinic, "status")
    assert (status["held"], status["waiting_to_erase"]) == (0, 0)
    assert status["studies"] == {"delivered": len(entries)}

    assert traces(*three) == []
    for node in three:
        assert node.blobs() == []
        node.stop()
    assert traces(*three) == []


def _cannot_open(node: RealNode, manifest: bytes) -> None:
    """Try every key that lies in a node's folder."""
    parse_manifest(manifest)
    for secret in secrets_in(node):
        with pytest.raises(CannotOpen):
            Vault(MemoryBlobStore(), utils.random).open_study(manifest, secret)


def test_a_clinic_that_may_deliver_does_it_itself(tmp_path: Path, sandbox: str) -> None:
    """The mode "peer forwarder": a trusted laptop with a line to the PACS needs nobody else."""
    with LocalNode(tmp_path / "founder") as founder, LocalNode(tmp_path / "laptop") as laptop:
        founder.init(mode=Mode.PEER_FORWARDER)
        founder.start()
        founder.add_pacs(sandbox)
        founder.admit(laptop, "forwarder")
        laptop.start([founder])
        laptop.wait(lambda: laptop.get("/api/v1/status")["destinations"] == ["main"], "to hear of the PACS")
        laptop.travel([])

        entries = laptop.submit(CD, impression=IMPRESSION)
        laptop.wait(lambda: laptop.states(entries) == {"delivered"} and not laptop.blobs(), "to deliver")

        assert read_back(sandbox, CD.values()) == by_uid(CD.values())
        assert founder.stories() == {}
        founder.travel([laptop])
        told = "to know that all is erased"
        laptop.wait(lambda: {one["erased"]["n"] for one in laptop.stories().values()} == {2}, told)
        assert traces(founder, laptop) == []


def test_what_a_dead_laptop_held_is_delivered_from_its_files_alone(tmp_path: Path, sandbox: str) -> None:
    """Its database and its keys are gone; somebody brought the blobs folder, which opens for nobody there."""
    with LocalNode(tmp_path / "cloud") as cloud, LocalNode(tmp_path / "clinic") as clinic:
        cloud.init()
        cloud.start()
        cloud.add_pacs(sandbox)
        cloud.admit(clinic, "clinic")
        clinic.start()
        entries = clinic.submit(CD)
        clinic.stop()
        rescued = shutil.copytree(clinic.home.blobs, tmp_path / "rescued")
        shutil.rmtree(clinic.folder)
        segments = [
            path for path in rescued.rglob("*") if path.is_file() and path.read_bytes()[:4] == b"CMB1"
        ]
        spoilt = max(segments, key=lambda path: path.stat().st_size)
        good = spoilt.read_bytes()
        spoilt.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))

        with LocalNode(tmp_path / "other") as other:
            cloud.admit(other, "clinic")
            other.start()
            first = command(other, "salvage", str(rescued))
            spoilt.write_bytes(good)
            second = command(other, "salvage", str(rescued))
            other.ask("POST", "/api/v1/admin/peers", {"address": cloud.mesh_address})
            cloud.wait(lambda: cloud.states(entries) == {"delivered"}, "to deliver")
            other.wait(lambda: other.states(entries) == {"delivered"} and not other.blobs(), "to erase")
            third = command(other, "salvage", str(rescued))

        everything = len(entries)
        assert (first["found"], first["handed_over"], first["incomplete"]) == (everything, everything - 1, 1)
        assert (second["handed_over"], second["known_already"]) == (1, everything - 1)
        assert (third["ended_before"], third["handed_over"]) == (everything, 0)
        assert read_back(sandbox, CD.values()) == by_uid(CD.values())
        assert list(rescued.rglob("*.tmp")) == []


def test_the_command_runs_a_node_and_ends_it_in_time(tmp_path: Path) -> None:
    """As people start it, and as a system stops it, even while a PACS keeps it waiting."""
    with RealNode(tmp_path / "node") as node, socket.create_server(("127.0.0.1", 0)) as silent:
        node.init()
        node.start()
        node.add_pacs(f"http://127.0.0.1:{silent.getsockname()[1]}/dicom-web")
        (entry,) = node.submit({"IM": next(iter(CD.values()))})
        silent.settimeout(30)
        with silent.accept()[0]:
            node.stop()

        assert node.home.membership().label == "node"
        assert not (node.home.run / "operator.json").exists()
        assert node.blobs()
        assert (node.home.blobs / entry[:2] / entry).exists()
