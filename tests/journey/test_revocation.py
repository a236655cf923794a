"""A node is lost: what it could do is told, its trust ends everywhere, and no study is lost over it."""

import json
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.lying_pacs import LyingPacs, lying_pacs
from support.nodes import LocalNode, Refusal
from support.slices import made_slice
from typer.testing import CliRunner

from node.cli.main import app
from node.recovery import RecoverySheet
from sync import facts
from sync.bodies import Device, Revoked
from sync.ids import HlcMs, NodeId

FILES = {f"IM{number}": made_slice(41, number, octets=20_000) for number in (1, 2)}
OTHERS = {f"IM{number}": made_slice(42, number, octets=20_000) for number in (1, 2)}


@pytest.fixture
def pacs() -> Iterator[LyingPacs]:
    with lying_pacs() as one:
        yield one


@pytest.fixture
def sheet() -> list[RecoverySheet]:
    return []


@pytest.fixture
def cloud(tmp_path: Path, sheet: list[RecoverySheet]) -> Iterator[LocalNode]:
    """The node that made the mesh; its sheet is put where the test finds it."""
    with LocalNode(tmp_path / "cloud") as node:
        sheet.append(node.init())
        node.start()
        yield node


def command(node: LocalNode, *words: str, typed: str = "", fails: bool = False) -> Any:
    """Run a command on a node's folder and return its JSON."""
    result = CliRunner().invoke(app, [*words, "--data", str(node.folder), "--json"], input=typed or None)
    assert (result.exit_code != 0) is fails, result.output
    return json.loads(result.stdout)


def text_of(node: LocalNode, *words: str, typed: str = "") -> str:
    """Run a command and return what a person reads, on one line."""
    result = CliRunner().invoke(app, [*words, "--data", str(node.folder)], input=typed or None)
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


def add_pacs(node: LocalNode, url: str) -> None:
    """Tell the mesh of a PACS that wants credentials."""
    body = {"name": "main", "url": url, "user": "relay", "password": "x"}
    node.ask("POST", "/api/v1/destinations", body)


def seen_by(node: LocalNode, label: str) -> bool:
    """Tell whether a node knows that another one was revoked."""
    members = node.get("/api/v1/status")["members"]
    return any(one["revoked"] for one in members if one["label"] == label)


def deliver_by(
    forwarder: LocalNode, clinic: LocalNode, cloud: LocalNode, pacs: LyingPacs, *studies: dict[str, bytes]
) -> list[str]:
    """Let a new forwarder, and not the cloud node, deliver the clinic's studies; then it is gone."""
    cloud.admit(forwarder, "cloud")
    cloud.add_pacs(pacs.url)
    forwarder.start([cloud])
    forwarder.wait(lambda: forwarder.get("/api/v1/destinations")["destinations"], "to hear of the PACS")
    forwarder.travel([])
    clinic.start([forwarder])
    entries = [clinic.submit(files)[0] for files in studies]
    clinic.wait(lambda: clinic.states(entries) == {"delivered"}, "the delivery", 60)
    forwarder.wait(lambda: not forwarder.blobs(), "to erase")
    forwarder.travel([cloud])
    cloud.wait(lambda: cloud.states(entries) == {"delivered"}, "the tombstones")
    forwarder.stop()
    return entries


def test_a_thiefs_tombstone_ends_nothing_and_the_study_is_delivered_by_another(
    tmp_path: Path, cloud: LocalNode, pacs: LyingPacs
) -> None:
    """A stolen forwarder says "delivered". The clinic still has it, for the hold; so it travels again."""
    with (
        LocalNode(tmp_path / "clinic", hold_hours=72) as clinic,
        LocalNode(tmp_path / "thief", hold_hours=0) as thief,
        lying_pacs() as thiefs_pacs,
    ):
        cloud.admit(clinic, "clinic")
        (entry,) = deliver_by(thief, clinic, cloud, thiefs_pacs, FILES)
        assert clinic.blobs()
        clinic.travel([cloud])
        add_pacs(cloud, pacs.url)

        told = command(cloud, "revoke", "thief", "--yes", "--reason", "stolen")

        assert told["lost"]["tombstones"] == 1
        assert told["credentials"] == ["main"]
        assert told["could_open"]["delivered"] == 1
        clinic.wait(lambda: seen_by(clinic, "thief"), "to hear of the revocation")
        clinic.wait(lambda: clinic.state(entry) == "delivered", "the delivery by the cloud node", 60)
        assert set(pacs.kept.values()) == set(FILES.values())
        assert clinic.story(entry)["journey"][3]["by"] == "cloud"
        cloud.wait(lambda: not cloud.blobs(), "to erase")
        assert clinic.blobs()


def test_what_is_vouched_for_stays_ended(tmp_path: Path, cloud: LocalNode) -> None:
    """A forwarder that was only replaced: its deliveries are proven and must not be sent once more."""
    with (
        LocalNode(tmp_path / "clinic", hold_hours=72) as clinic,
        LocalNode(tmp_path / "old", hold_hours=0) as old,
        lying_pacs() as pacs,
    ):
        cloud.admit(clinic, "clinic")
        first, second = deliver_by(old, clinic, cloud, pacs, FILES, OTHERS)
        clinic.stop()

        told = command(cloud, "revoke", "old", "--yes", "--vouch", first[:12])

        assert (told["lost"]["tombstones"], len(told["vouched"]), told["announced_again"]) == (2, 1, 1)
        assert cloud.state(first) == "delivered"
        assert second not in cloud.stories()  # nobody in reach announces it: the clinic is away
        again = command(cloud, "revoke", "old", "--yes", "--vouch-for-all")
        assert again["revoked"]
        assert cloud.states([first, second]) == {"delivered"}


def test_a_revoked_clinics_studies_wait_until_a_person_lets_them_go(
    tmp_path: Path, cloud: LocalNode, pacs: LyingPacs
) -> None:
    """A thief can hand in nonsense; what the clinic had handed in before is a patient's all the same."""
    with LocalNode(tmp_path / "clinic") as clinic:
        cloud.admit(clinic, "clinic")
        clinic.start([cloud])
        (entry,) = clinic.submit(FILES)
        cloud.wait(lambda: cloud.state(entry) == "at-forwarder", "the copy")
        clinic.stop()
    shown = text_of(cloud, "revoke", "clinic", "--yes")
    assert "What it took in stays: 1 study" in shown

    cloud.add_pacs(pacs.url)
    assert cloud.troubles() == [(entry, "author-revoked", 0)]
    assert cloud.story(entry)["trouble"]["code"] == "author-revoked"
    (held,) = (one["since"] for one in cloud.get("/api/v1/troubles")["troubles"][0]["troubles"])
    assert held > 0
    handed = cloud.submit(OTHERS)
    cloud.wait(lambda: cloud.states(handed) == {"delivered"}, "the delivery of another study", 60)
    assert set(pacs.kept.values()) == set(OTHERS.values())

    command(cloud, "troubles", "decide", entry, "retry", "--person", "Dr Test")

    cloud.wait(lambda: cloud.state(entry) == "delivered", "the delivery that was decided", 60)
    assert cloud.troubles() == []


def test_before_anything_is_signed_a_person_reads_what_is_at_stake(tmp_path: Path, cloud: LocalNode) -> None:
    """Sealed to the lost machine, held by it, signed by it, known to it: all by name."""
    with LocalNode(tmp_path / "spare") as spare, LocalNode(tmp_path / "clinic") as clinic:
        cloud.admit(spare, "forwarder")
        cloud.admit(clinic, "clinic")
        add_pacs(cloud, "http://127.0.0.1:9/none")
        spare.start([cloud])
        clinic.start([spare])
        (entry,) = clinic.submit(FILES)
        cloud.wait(lambda: cloud.stories().get(entry, {}).get("copies") == 3, "all copies")

        result = CliRunner().invoke(app, ["revoke", "spare", "--data", str(cloud.folder)], input="n\n")

        said = " ".join(result.stdout.split())
        assert result.exit_code == 1
        assert f"could open 1 study under way ({cloud.story(entry)['code']})" in said
        assert "it says that it holds 1 of them" in said
        assert "Change the credentials at the PACS main" in said
        assert not seen_by(cloud, "spare")
        courier = command(clinic, "revoke", "cloud", fails=True)
        assert courier["error"]["code"] == "may-not-revoke"


def test_a_courier_is_told_apart_by_digits_and_by_label(tmp_path: Path, cloud: LocalNode) -> None:
    """To revoke the wrong laptop cannot be undone."""
    twins = [LocalNode(tmp_path / name, label="Laptop") for name in ("a", "b")]
    for twin in twins:
        cloud.admit(twin, "courier")
    first, second = (twin.home.membership().chain[0] for twin in twins)
    assert first != second

    ambiguous = command(cloud, "revoke", "laptop", "--yes", fails=True)["error"]
    unknown = command(cloud, "revoke", "0000", "--yes", fails=True)["error"]
    ids = [one["node"] for one in cloud.get("/api/v1/status")["members"] if one["label"] == "Laptop"]
    assert (ambiguous["code"], unknown["code"]) == ("node-ambiguous", "node-unknown")
    assert all(short in ambiguous["detail"] for short in ids)
    assert "cloud" in unknown["detail"]

    told = command(cloud, "revoke", ids[0], "--yes")

    assert told["could_open"]["studies"] == []
    revoked = {one["node"] for one in cloud.get("/api/v1/status")["members"] if one["revoked"]}
    assert revoked == {ids[0]}


def test_what_a_node_signs_after_the_look_is_not_vouched_for(tmp_path: Path, cloud: LocalNode) -> None:
    """A thief writes tombstones while the administrator reads."""
    with LocalNode(tmp_path / "thief") as thief:
        cloud.admit(thief, "forwarder")
        thief.start([cloud])
        seen = cloud.get("/api/v1/admin/revocations?key=thief")
        thief.node.facts.issue(Device(bytes(16), "{}", "Phone", "clinician"))
        cloud.wait(
            lambda: cloud.get("/api/v1/admin/revocations?key=thief")["facts"] != seen["facts"], "the fact"
        )
        body = {"node": seen["node"], "shown": seen["shown"], "vouch_for_all": True}

        with pytest.raises(Refusal) as refusal:
            cloud.ask("POST", "/api/v1/admin/revocations", body)
        assert refusal.value.code == "said-more"
        assert not seen_by(cloud, "thief")
        told = command(cloud, "revoke", "thief", "--yes")
        assert told["lost"]["devices"] == ["Phone"]


def test_the_sheet_revokes_the_node_that_made_the_mesh_and_its_members_stay(
    tmp_path: Path, cloud: LocalNode, sheet: list[RecoverySheet]
) -> None:
    """The cloud machine is stolen. The paper in the safe ends its trust, and the clinics go on."""
    with LocalNode(tmp_path / "clinic") as clinic, LocalNode(tmp_path / "courier") as courier:
        cloud.admit(clinic, "clinic")
        cloud.admit(courier, "courier")
        cloud.stop()
        clinic.start()
        courier.start([clinic])
        clinic.wait(lambda: len(clinic.get("/api/v1/status")["members"]) == 3, "to hear of the courier")
        typed = "\n".join([*sheet[0].lines()[:1], "A2 WRONG", *sheet[0].lines()[1:4]]) + "\n"

        told = command(clinic, "revoke", "cloud", "--sheet", "--yes", "--vouch-for-all", typed=typed)

        assert told["lost"]["members"] == ["clinic", "courier"]
        assert {fact["kind"] for fact in told["facts"]} == {"member"}
        courier.wait(lambda: seen_by(courier, "cloud"), "to hear of the revocation")
        for node in (clinic, courier):
            assert node.get("/api/v1/status")["roles"]
        wrong = "\n".join(RecoverySheet(bytes(32), bytes(32)).lines()[:4]) + "\n"
        other = command(clinic, "revoke", "courier", "--sheet", "--yes", typed=wrong, fails=True)
        assert other["error"]["code"] == "recovery-sheet-wrong"
        assert not seen_by(clinic, "courier")


def test_nothing_but_a_roots_word_is_taken_with_signed_facts(cloud: LocalNode) -> None:
    """The way in for signed revocations must not be one for anything else."""
    key, mesh = cloud.node.facts.key, cloud.node.membership.genesis.mesh_id
    mine = facts.sign(Revoked(NodeId(bytes(32))), key=key, mesh=mesh, timestamp=HlcMs(9))
    for raw in (b"nonsense", mine):
        with pytest.raises(Refusal) as refusal:
            body = {"facts": [b64encode(raw).decode()]}
            cloud.ask("POST", "/api/v1/admin/revocations/signed", body)
        assert refusal.value.code == "bad-fact"
