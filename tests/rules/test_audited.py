"""What people can change through the API stands in the audit trail."""

from pathlib import Path

from support.nodes import LocalNode
from support.routes import walk

from node.api.audit import ACTS, act_of
from node.audit import EVENTS


def test_every_route_that_changes_something_has_a_name_in_the_trail(tmp_path: Path) -> None:
    """A route that somebody adds is found here, before it does something that nobody can see later."""
    with LocalNode(tmp_path / "cloud") as node:
        node.init()
        node.start()
        routes = set(walk(node.service.people_app().routes))
    changing = {pair for pair in routes if pair[0] in {"POST", "PUT", "PATCH", "DELETE"}}

    assert changing - ACTS.keys() == set()
    assert ACTS.keys() - routes == set()
    assert {what for what in ACTS.values() if what} <= EVENTS.keys()
    assert act_of("DELETE", f"/api/v1/submissions/{'ab' * 16}") == ("submission-removed", bytes([0xAB] * 16))
    assert act_of("GET", "/api/v1/studies") == (None, None)
