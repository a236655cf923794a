"""The main job, with whole nodes as real processes: from the clinic to the PACS, and erased everywhere."""

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from nacl import utils
from support.archives import by_uid, read_back, real_cd, uids_of
from support.nodes import HandIn, RealNode
from support.traces import found_in, markers

from node.keys import Keystore
from node.recovery import RecoverySheet
from node.store.blobs import DiskBlobStore, MemoryBlobStore
from node.store.vault import Vault
from sync import cbor
from sync.errors import CannotOpen
from sync.manifest import parse_manifest

CD = real_cd()
IMPRESSION = "Suspected fracture of the left hip"
MARKERS = markers(CD.values(), IMPRESSION)
Three = tuple[RealNode, RealNode, RealNode]


def command(node: RealNode, *words: str) -> Any:
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


def traces(*nodes: RealNode) -> list[str]:
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
