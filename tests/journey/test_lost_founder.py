"""The node that made the mesh is lost: the paper makes another one its successor, and any sheet is enough."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nacl import utils
from support.nodes import LocalNode
from support.slices import made_slice
from typer.testing import CliRunner

from node import founding, webcert
from node.cli.main import app
from node.clock import SystemClock
from node.errors import BadSettings, Refused
from node.home import Home
from node.keys import Keystore
from node.recovery import MAX_ROOTS, RecoverySheet, check_line, parse_root


def command(folder: Path, *words: str, typed: str = "", fails: bool = False) -> Any:
    result = CliRunner().invoke(app, [*words, "--data", str(folder), "--json"], input=typed or None)
    assert (result.exit_code != 0) is fails, result.output
    return json.loads(result.stdout)


def typed(sheet: RecoverySheet, lines: int = 8) -> str:
    return "\n".join(sheet.lines()[:lines]) + "\n"


@pytest.fixture
def sheets() -> list[RecoverySheet]:
    return []


@pytest.fixture
def founder(tmp_path: Path, sheets: list[RecoverySheet]) -> Iterator[LocalNode]:
    """A mesh with three sheets."""
    with LocalNode(tmp_path / "founder") as node:
        said = command(node.folder, "init", "--roots", "3", "--label", "founder")
        sheets += [RecoverySheet.parse("\n".join(lines)) for lines in said["recovery_sheets"]]
        node.write_settings()
        node.start()
        yield node


def test_any_of_several_sheets_makes_a_successor_that_lets_nodes_in(
    tmp_path: Path, founder: LocalNode, sheets: list[RecoverySheet]
) -> None:
    """After the fire in the server room a clinic's laptop invites the new cloud machine, and all meet."""
    with (
        LocalNode(tmp_path / "clinic") as clinic,
        LocalNode(tmp_path / "courier") as courier,
        LocalNode(tmp_path / "cloud") as cloud,
    ):
        founder.admit(clinic, "clinic")
        founder.admit(courier, "courier")
        founder.stop()

        said = command(clinic.folder, "restore-admin", "--all-roles", typed=typed(sheets[1]))

        assert said["roles"] == ["admit", "carry", "enrol", "forward", "ingest"]
        clinic.start()
        clinic.admit(cloud, "cloud")
        cloud.start()
        courier.start([cloud, clinic])
        courier.wait(lambda: all_met(courier), "to meet the one that it has never heard of")
        assert courier.get("/api/v1/status")["roles"] == ["carry"]
        assert cloud.home.membership().web_chain[1:] == clinic.home.membership().web_chain[1:]
        told = command(clinic.folder, "revoke", "cloud", "--yes")
        assert told["may_sign"]


def all_met(node: LocalNode) -> bool:
    return all(peer["met_s_ago"] is not None for peer in node.get("/api/v1/status")["peers"])


def test_a_successor_without_all_roles_gives_what_it_has(
    tmp_path: Path, founder: LocalNode, sheets: list[RecoverySheet]
) -> None:
    """A courier's laptop that may invite couriers need not be able to open studies."""
    with LocalNode(tmp_path / "courier") as courier:
        founder.admit(courier, "courier")
        assert command(courier.folder, "restore-admin", typed=typed(sheets[0]))["roles"] == ["admit", "carry"]
        again = command(courier.folder, "restore-admin", typed=typed(sheets[2]))
        assert again["roles"] == ["admit", "carry"]
        courier.start()
        other = command(courier.folder, "invite", "--as", "cloud", fails=True)

        assert other["error"]["code"] == "roles-too-wide"
        code = command(courier.folder, "invite", "--as", "courier", "--label", "B")
        LocalNode(tmp_path / "b").join(code["code"], courier.mesh_address)


def test_a_stolen_sheet_is_revoked_with_another(
    tmp_path: Path, founder: LocalNode, sheets: list[RecoverySheet]
) -> None:
    """Whoever copied one paper must not be able to take the mesh over."""
    with LocalNode(tmp_path / "clinic") as clinic:
        founder.admit(clinic, "clinic")
    stolen = sheets[2].root.id.hex()

    told = command(founder.folder, "revoke", stolen[:12], "--sheet", "--yes", typed=typed(sheets[1], lines=4))

    assert told["label"] == "a root of the mesh"
    assert (told["lost"]["members"], told["facts"]) == ([], [])
    founder.stop()
    refused = command(founder.folder, "restore-admin", typed=typed(sheets[2]), fails=True)
    assert refused["error"]["code"] == "not-a-member"
    assert command(founder.folder, "restore-admin", typed=typed(sheets[0]))["roles"]


def test_the_sheet_of_another_mesh_restores_nothing(tmp_path: Path, founder: LocalNode) -> None:
    """Two folders in one safe."""
    founder.stop()
    before = founder.home.membership()

    refused = command(founder.folder, "restore-admin", typed=typed(RecoverySheet.create()), fails=True)

    assert refused["error"]["code"] == "recovery-sheet-wrong"
    assert founder.home.membership() == before


def test_a_running_node_is_not_restored(founder: LocalNode, sheets: list[RecoverySheet]) -> None:
    """Two processes on one folder would spoil it."""
    with pytest.raises(BadSettings, match="running"):
        founding.restore_admin(
            founder.home, sheets[0], all_roles=False, clock=SystemClock(), random=utils.random
        )


def test_a_revoked_node_is_not_made_an_admin_by_mistake(
    tmp_path: Path, founder: LocalNode, sheets: list[RecoverySheet]
) -> None:
    """It could not be trusted again anyway: revocation is for ever."""
    with LocalNode(tmp_path / "clinic") as clinic:
        founder.admit(clinic, "clinic")
        command(founder.folder, "revoke", "clinic", "--yes")
        clinic.start([founder])
        clinic.wait(lambda: clinic.get("/api/v1/status")["roles"] == [], "to hear of its revocation")
    with pytest.raises(Refused) as refused:
        founding.restore_admin(
            Home(clinic.folder), sheets[0], all_roles=True, clock=SystemClock(), random=utils.random
        )
    assert refused.value.code == "not-a-member"


def test_each_of_several_sheets_stands_for_the_whole() -> None:
    """Own root, same studies, same certificates for phones; read as printed, also the root alone."""
    made = RecoverySheet.create_many(MAX_ROOTS)

    assert [sheet.lines()[0][0] for sheet in made] == ["C", "D", "E"]
    assert len({sheet.root.id for sheet in made}) == MAX_ROOTS
    assert len({sheet.recovery_secret for sheet in made}) == 1
    assert len({sheet.web_root_key.private_numbers().private_value for sheet in made}) == 1
    for sheet in made:
        assert RecoverySheet.parse("\n".join(sheet.lines())) == sheet
        assert parse_root("\n".join(sheet.lines()[:4])).id == sheet.root.id
        assert [check_line(line) for line in sheet.lines()] == [line[:2] for line in sheet.lines()]
    (only,) = RecoverySheet.create_many(1)
    assert only.lines()[0].startswith("A1 ")


@pytest.mark.parametrize("line", ["", "A1", "A1 ABCD", "X1 0000 0000 0000 0000", "A5 0000 0000 0000 0000"])
def test_a_line_that_is_none_is_asked_for_again(line: str) -> None:
    """The terminal says so at once, not after eight lines."""
    with pytest.raises(Refused) as refused:
        check_line(line)
    assert refused.value.code == "recovery-sheet-wrong"


def test_the_successor_issues_certificates_for_people(
    founder: LocalNode, sheets: list[RecoverySheet]
) -> None:
    """Phones that trust the mesh's root go on without a new one."""
    founder.stop()
    keystore = Keystore.load(founder.home.keys)
    old = founder.home.membership().web_issuer

    founding.restore_admin(founder.home, sheets[1], all_roles=True, clock=SystemClock(), random=utils.random)

    new = founder.home.membership()
    assert new.web_issuer is not None
    assert new.web_issuer != old
    assert new.web_chain[1] == new.web_issuer
    webcert.server_context(keystore.web_key, new.web_chain)


def test_studies_of_before_the_loss_are_opened_with_the_sheet_and_delivered(
    tmp_path: Path, founder: LocalNode, sheets: list[RecoverySheet], sandbox: str
) -> None:
    """The only forwarder has burnt; the paper and a clinic's laptop bring the study home."""
    images = {f"IM{n}": made_slice(91, n) for n in range(1, 4)}
    with LocalNode(tmp_path / "clinic") as clinic:
        founder.admit(clinic, "clinic")
        clinic.start([founder])
        entries = clinic.submit(images)
        founder.stop()
        shutil.rmtree(founder.folder)
        clinic.stop()

        said = command(clinic.folder, "restore-admin", "--all-roles", typed=typed(sheets[2]))
        assert said["opened"] == len(entries)
        again = command(clinic.folder, "restore-admin", "--all-roles", typed=typed(sheets[2]))
        assert again["opened"] == 0
        clinic.start()
        clinic.add_pacs(sandbox)

        clinic.wait(lambda: clinic.states(entries) == {"delivered"}, "the PACS to prove it", 60)
        stored = [path.read_bytes() for path in (tmp_path / "sandbox").rglob("*.dcm")]
        assert sorted(stored) == sorted(images.values())
