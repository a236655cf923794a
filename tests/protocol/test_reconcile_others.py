"""Another implementation of Negentropy asks, and ours answers: the wire is what the specification says."""

import os
import random
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.source import ROOT

PROGRAM = ROOT / "tests" / "support" / "negentropy_client.mjs"
PACKAGES = ROOT / "pwa" / "package.json"
pytestmark = pytest.mark.needs("node")

Item = tuple[int, str]


class Side:
    """One program that speaks the line protocol of the project's test harnesses."""

    def __init__(self, stack: ExitStack, *words: str, **environment: str) -> None:
        self._process = stack.enter_context(
            subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | environment,
                cwd=ROOT,
            )
        )
        stack.callback(self._process.kill)

    def tell(self, *lines: str) -> None:
        """Say lines."""
        assert self._process.stdin is not None
        self._process.stdin.write("".join(line + "\n" for line in lines))
        self._process.stdin.flush()

    def answer(self) -> tuple[list[str], str | None]:
        """Return what is told up to the next message, and that message; None when all is known."""
        told: list[str] = []
        assert self._process.stdout is not None
        for line in self._process.stdout:
            kind, _, said = line.strip().partition(",")
            if kind in ("msg", "done"):
                return told, said if kind == "msg" else None
            told.append(line.strip())
        raise AssertionError("the program ended")


def sets(seed: int, size: int) -> tuple[list[Item], list[Item]]:
    """Return what two sides hold: much in common, something missing on each, and equal timestamps."""
    dice = random.Random(seed)
    all_items = [(dice.randrange(1, 2 * size + 2), dice.randbytes(32).hex()) for _ in range(size)]
    missing = dice.choice([0.0, 0.02, 0.5, 1.0])
    here = [item for item in all_items if dice.random() >= missing]
    there = [item for item in all_items if dice.random() >= missing]
    return here, there


@pytest.mark.parametrize("frame_limit", [0, 4_096, 20_000])
@pytest.mark.parametrize(("seed", "size"), [(1, 0), (2, 1), (3, 40), (4, 1_000), (5, 5_000), (6, 5_000)])
def test_it_finds_the_differences_by_asking_us(
    tmp_path: Path, seed: int, size: int, frame_limit: int
) -> None:
    """Whoever writes another node in another language has only the specification."""
    node = shutil.which("node")
    assert node is not None
    here, there = sets(seed, size)
    with ExitStack() as stack:
        asks = Side(stack, node, str(PROGRAM), str(PACKAGES), str(frame_limit))
        ours = Side(stack, sys.executable, "-m", "node.reconcile_stdio", FRAMESIZELIMIT=str(frame_limit))
        asks.tell(*(f"item,{at},{one}" for at, one in here), "seal", "initiate")
        ours.tell(*(f"item,{at},{one}" for at, one in there), "seal")
        found: list[str] = []
        _, message = asks.answer()
        while message is not None:
            assert frame_limit == 0 or len(message) // 2 <= frame_limit
            ours.tell(f"msg,{message}")
            _, reply = ours.answer()
            assert reply is not None
            assert frame_limit == 0 or len(reply) // 2 <= frame_limit
            asks.tell(f"msg,{reply}")
            told, message = asks.answer()
            found += told

    mine, theirs = {one for _, one in here}, {one for _, one in there}
    assert {line[5:] for line in found if line.startswith("have,")} == mine - theirs
    assert {line[5:] for line in found if line.startswith("need,")} == theirs - mine
