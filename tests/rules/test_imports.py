"""The layers of the house hold. The contracts stand in pyproject.toml, under tool.importlinter."""

from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[2]


def test_each_module_imports_only_what_its_layer_may(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What decides never touches a socket, a clock or a disk, and no layer knows of those above it."""
    monkeypatch.chdir(ROOT)

    code = lint_imports(config_filename="pyproject.toml", no_cache=True, no_logo=True)

    assert code == 0, capfd.readouterr().out
