"""Kill nodes at random while studies travel, as often as asked: `python bench/kills.py --kills 300`.

Says what the killed nodes were at, and ends with 0 only if every study arrived once, bit for bit, and was
erased everywhere. The same seed kills after the same pauses; what that strikes depends on the machine.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

from support.killing import Killing, check, counting_pacs, noisy_study, settle  # noqa: E402
from support.nodes import RealNode, fork_server  # noqa: E402

_EACH_ROUND = 11


def main() -> None:
    """Run rounds until there were enough kills."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    kills, struck = Counter[str](), Counter[str]()
    started = time.monotonic()
    number = 0
    while kills.total() < given.kills:
        with tempfile.TemporaryDirectory(prefix="clinicmesh-kills-") as folder:
            killing = one_round(Path(folder), given.seed + number)
        kills += killing.kills
        struck += killing.struck
        number += 1
        seconds = time.monotonic() - started
        print(f"{kills.total():5} kills, {seconds:6.0f} s, round {number} held: {dict(struck)}", flush=True)


def one_round(folder: Path, seed: int) -> Killing:
    """Bring eight studies through a mesh of three whose nodes are killed all the time."""
    studies = [noisy_study(seed * 1000 + n, 40, 50_000) for n in range(7)] + [noisy_study(seed, 220, 40_000)]
    with (
        fork_server() as forks,
        counting_pacs(folder / "pacs") as pacs,
        RealNode(folder / "clinic", forks=forks) as clinic,
        RealNode(folder / "courier", forks=forks) as courier,
        RealNode(folder / "cloud", forks=forks) as cloud,
    ):
        cloud.init()
        cloud.start()
        cloud.add_pacs(pacs.url)
        cloud.admit(clinic, "clinic")
        cloud.admit(courier, "courier")
        clinic.start()
        courier.start([clinic, cloud])
        nodes = (clinic, courier, cloud)
        killing = Killing(nodes, {"clinic": [], "courier": [clinic, cloud], "cloud": []}, seed)
        entries = killing.run(studies, _EACH_ROUND, apart_s=2.5)
        settle(nodes, entries, 120)
        check(nodes, pacs, studies)
        return killing


if __name__ == "__main__":
    main()
