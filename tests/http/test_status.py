"""What a node tells of the others: when each was heard of, what it said, where each study is."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.killing import noisy_study
from support.nodes import LocalNode
from typer.testing import CliRunner

from node.cli.main import app


@pytest.fixture
def three(tmp_path: Path) -> Iterator[tuple[LocalNode, LocalNode, LocalNode]]:
    """A cloud node, a clinic and a courier, which all meet."""
    with (
        LocalNode(tmp_path / "cloud") as cloud,
        LocalNode(tmp_path / "clinic") as clinic,
        LocalNode(tmp_path / "courier") as courier,
    ):
        cloud.init()
        cloud.start()
        cloud.admit(clinic, "clinic")
        cloud.admit(courier, "courier")
        clinic.start([cloud])
        courier.start([cloud])
        yield cloud, clinic, courier


def test_status_tells_who_was_heard_of_and_where_each_study_is(
    three: tuple[LocalNode, LocalNode, LocalNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An administrator at the hospital sees which laptop went silent, and with what on its disk."""
    cloud, clinic, _ = three
    (entry,) = clinic.submit(noisy_study(1, 1, 100_000), priority="urgent")
    cloud.wait(
        lambda: set(cloud.stories().get(entry, {}).get("holders", [])) == {"cloud", "courier"}, "all copies"
    )
    cloud.wait(lambda: all(one["report"] for one in cloud.get("/api/v1/status")["members"]), "all reports")

    members = {one["label"]: one for one in cloud.get("/api/v1/status")["members"]}

    assert {label for label, one in members.items() if one["me"]} == {"cloud"}
    assert {one["holds"] for one in members.values()} == {1}
    assert {one["to_erase"] for one in members.values()} == {0}
    assert all(one["report"]["free"] > 0 and one["heard_s_ago"] >= 0 for one in members.values())
    told = cloud.story(entry)
    assert (told["copies"], told["silent"]) == (3, [])

    monkeypatch.setattr(cloud.node.holdings, "holders", lambda view: frozenset({cloud.node.facts.node_id}))
    told = cloud.story(entry)
    assert (told["copies"], told["silent"]) == (1, ["clinic", "courier"]), "silent for two weeks"

    for columns in (80, 120):
        shown = CliRunner().invoke(
            app, ["status", "--data", str(cloud.folder)], env={"COLUMNS": str(columns)}
        )
        assert shown.exit_code == 0, shown.output
        assert max(len(line) for line in shown.output.splitlines()) <= columns
        assert {"clinic", "courier"} <= set(shown.output.split())
