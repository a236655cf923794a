"""Files that were made to harm: the examination ends, soon and in little memory, and says what they are."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.hostile import CASES

TESTS = Path(__file__).parents[1]
MB_LIMIT = 400
S_LIMIT = 10  # for each of them


@pytest.fixture(scope="module")
def measured() -> Any:
    run = subprocess.run(
        [sys.executable, "-m", "support.hostile"],
        cwd=TESTS,
        env={"PYTHONPATH": f"{TESTS}:{TESTS.parent}"},
        capture_output=True,
        timeout=250,
        check=True,
    )
    return json.loads(run.stdout)


@pytest.mark.parametrize("name", list(CASES))
def test_each_is_told_for_what_it_is(measured: Any, name: str) -> None:
    """A harmful file costs its sender a plain sentence, and nobody else anything."""
    assert measured["found"][name]["code"] == CASES[name][1]


@pytest.mark.skipif(sys.platform != "linux", reason="rusage counts memory in other units elsewhere")
def test_neither_worker_nor_node_needs_much_for_them(measured: Any) -> None:
    """An old laptop with 4 GB goes on working. Peaks are the kernel's own count."""
    assert measured["worker_mb"] < MB_LIMIT
    assert measured["own_mb"] < MB_LIMIT
    assert max(told["seconds"] for told in measured["found"].values()) < S_LIMIT
