"""A month of couriers: what the project's own rules bring through, beside an oracle and plain flooding.

Run `python bench/couriers.py --seeds 9`; each seed is a month, the first one is the known default. Prints,
for four settings, the shares delivered, the median hours from intake to the cloud, and the octets moved for
each octet delivered. The oracle is the same month with an infinitely fast LAN and infinite disks. Time, links
and disks are simulated; what to fetch, give, keep and give up is decided by `sync`. Ends with status 1 if a
study was lost or a goal was missed.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

from support.couriers import DEFAULT_SEED, month  # noqa: E402
from support.couriers_flood import Flood  # noqa: E402
from support.couriers_model import Result, Setting  # noqa: E402
from support.couriers_run import Run  # noqa: E402

GB = 10**9
SETTINGS = [(1e6, 64), (1e6, 4), (0.5e6, 64), (0.5e6, 4)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=9, help="how many months")
    parser.add_argument("--first", type=int, default=0, help="0 is the default seed, n is seed n")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each run")
    options = parser.parse_args()
    missed = 0
    if not options.json:
        print("| uplink, disk | seed | delivered | urgent | median h | wire/useful | lost | flooding | s |")
        print("|---|---|---|---|---|---|---|---|---|")
    for uplink, disk in SETTINGS:
        for number in range(options.first, options.first + options.seeds):
            missed += _one(uplink, disk, number or DEFAULT_SEED, as_json=options.json)
    if not options.json:
        print(f"\nbeside each number, in brackets, the oracle's; goals missed: {missed}")
    return 1 if missed else 0


def _one(uplink: float, disk: int, seed: int, *, as_json: bool) -> bool:
    start, trace, setting = time.monotonic(), month(seed), Setting(uplink, disk * GB)
    oracle, ours, flood = (
        Run(trace, setting.oracle()).run(),
        Run(trace, setting).run(),
        Flood(trace, setting).run(),
    )
    seconds = time.monotonic() - start
    missed = missed_goal(uplink, disk, ours, oracle)
    if as_json:
        sizes = {"uplink": uplink, "disk_gb": disk, "seed": seed, "seconds": round(seconds, 2)}
        results = {"ours": asdict(ours), "oracle": asdict(oracle), "flooding": asdict(flood)}
        print(json.dumps(sizes | results | {"missed": missed}))
    else:
        cells = [
            f"{uplink / 1e6:g} MB/s, {disk} GB", str(seed),
            f"{ours.delivered:.1%} ({oracle.delivered:.1%})", f"{ours.urgent:.1%} ({oracle.urgent:.1%})",
            f"{ours.median_hours:.0f} ({oracle.median_hours:.0f})",
            f"{ours.overhead:.1f} ({oracle.overhead:.1f})", str(ours.lost),
            f"{flood.delivered:.1%}, {flood.median_hours:.0f} h, {flood.overhead:.0f}x", f"{seconds:.0f}",
        ]  # fmt: skip
        print("| " + " | ".join(cells) + " |" + (" MISSED" if missed else ""), flush=True)
    return missed


def missed_goal(uplink: float, disk: int, ours: Result, oracle: Result) -> bool:
    """Say whether a study was lost, or a month stayed further behind the oracle than it may."""
    behind = oracle.delivered - ours.delivered
    if ours.lost:
        return True
    if uplink >= 1e6:
        return behind > 0.005 or oracle.urgent - ours.urgent > 0.005
    return behind > 0.01 or ours.urgent < 0.95 if disk >= 64 else behind > 0.09 or ours.urgent < 0.93


if __name__ == "__main__":
    sys.exit(main())
