"""The layers of the house hold. The contracts stand in pyproject.toml, under tool.importlinter."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# In a process of its own: the linter sets up logging, and silences the loggers of all later tests.
LINT = """
import sys
from importlinter.cli import lint_imports
sys.exit(lint_imports(config_filename="pyproject.toml", no_cache=True, no_logo=True))
"""


def test_each_module_imports_only_what_its_layer_may() -> None:
    """What decides never touches a socket, a clock or a disk, and no layer knows of those above it."""
    done = subprocess.run(
        [sys.executable, "-c", LINT], cwd=ROOT, check=False, capture_output=True, text=True, encoding="utf-8"
    )

    assert done.returncode == 0, done.stdout + done.stderr
