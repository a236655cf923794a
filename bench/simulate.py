"""Run the mesh simulation for many seeds: `python bench/simulate.py --seeds 200 --days 30`.

Prints what was acknowledged and lost (must be 0), the faults by kind, and in how many of its runs each
wrong rule was noticed. Ends with status 1 if an invariant was broken or a wrong rule was never noticed.
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

from support.sim_mutants import MUTANTS  # noqa: E402
from support.sim_world import LOST_TO_A_THIEF, Violation, World  # noqa: E402

_STEPS_PER_DAY = 47  # a step is half an hour on average


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--mutant-seeds", type=int, default=20)
    options = parser.parse_args()
    broken = _right_rules(range(options.first, options.first + options.seeds), options.days * _STEPS_PER_DAY)
    unnoticed = _wrong_rules(options.mutant_seeds, options.days * _STEPS_PER_DAY)
    return 1 if broken or unnoticed else 0


def _right_rules(seeds: range, steps: int) -> int:
    faults: Counter[str] = Counter()
    acknowledged = delivered = over = broken = done = 0
    start = time.monotonic()
    for seed in seeds:
        try:
            result = World(seed, scarce=seed % 2 == 1).run(steps)
        except Violation as found:
            broken += 1
            print(found)
            continue
        faults += result.faults
        done += result.steps
        acknowledged += result.acknowledged
        delivered += result.delivered
        over += result.over
    rows = {
        "seeds": len(seeds), "steps": done, "acknowledged studies": acknowledged, "in the PACS": delivered,
        "withdrawn, or lost by the PACS after its proof": over - faults[LOST_TO_A_THIEF],
        LOST_TO_A_THIEF: faults[LOST_TO_A_THIEF], "runs with a broken invariant": broken,
        "seconds": round(time.monotonic() - start),
    }  # fmt: skip
    _print_table("the rules", rows)
    del faults[LOST_TO_A_THIEF]
    _print_table("faults", dict(faults.most_common()))
    return broken


def _wrong_rules(seeds: int, steps: int) -> int:
    rows, unnoticed = {}, 0
    for name, rules in MUTANTS.items():
        noticed = 0
        for seed in range(seeds):
            try:
                World(seed, rules, scarce=seed % 2 == 0).run(min(steps, 500))
            except Violation:
                noticed += 1
        rows[name] = f"{noticed} of {seeds}"
        unnoticed += noticed == 0
    _print_table("wrong rules, noticed in runs of at most 500 steps", rows)
    return unnoticed


def _print_table(title: str, rows: dict[str, object]) -> None:
    print(f"\n{title}")
    for name, value in rows.items():
        print(f"  {name:<60} {value}")


if __name__ == "__main__":
    sys.exit(main())
