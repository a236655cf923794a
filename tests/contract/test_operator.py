"""The file by which the command line reaches the running node."""

import stat
from pathlib import Path

import pytest

from node import operator
from node.errors import NotRunning
from node.operator import Operator


def test_the_command_line_finds_the_running_node(tmp_path: Path) -> None:
    """And a node that was started again is found under its new address."""
    for port in (8443, 9443):
        running = Operator(f"https://127.0.0.1:{port}", operator.new_token())
        operator.write(tmp_path / "run", running)

        assert operator.read(tmp_path / "run") == running


def test_only_the_owner_reads_the_token(tmp_path: Path) -> None:
    """Who reads it is an admin here."""
    token = operator.new_token()
    operator.write(tmp_path / "run", Operator("https://127.0.0.1:8443", token))

    assert stat.S_IMODE((tmp_path / "run" / "operator.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700
    assert len(token) == 64 and token != operator.new_token()
    assert token not in repr(operator.read(tmp_path / "run"))


@pytest.mark.parametrize("content", [None, "", "{}", "[1]", '{"url": "x"'])
def test_without_a_node_the_command_line_says_so(tmp_path: Path, content: str | None) -> None:
    """Instead of a traceback."""
    if content is not None:
        (tmp_path / "operator.json").write_text(content)

    with pytest.raises(NotRunning):
        operator.read(tmp_path)


def test_a_node_that_ended_is_not_found(tmp_path: Path) -> None:
    """Its token is worth nothing any more."""
    operator.write(tmp_path, Operator("https://127.0.0.1:8443", "token"))
    operator.remove(tmp_path)
    operator.remove(tmp_path)

    with pytest.raises(NotRunning):
        operator.read(tmp_path)
