"""Measure what reconciliation costs: bytes, round trips and processor time.

Run it from the root of the repository: `python bench/reconcile_cost.py [--frame-limit BYTES] [--runs 3]`.
Processor time is the median of the runs, with the least and the most; all else is the same in each.
The budget is checked at the end and told by the exit status: one new fact, among 100,000 or fewer, takes
at most 2.5 kB, 3 round trips and 100 ms of processor time (both sides together, snapshots not counted).
"""

import argparse
import random
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from sync.reconcile import Item, Reconciler, Snapshot

SIZES = (100, 1_000, 10_000, 100_000)
MAX_BYTES, MAX_ROUNDS, MAX_MS = 2_500, 3, 100


@dataclass(frozen=True, slots=True)
class Cost:
    up: int
    down: int
    rounds: int
    milliseconds: float


def facts(count: int, lots: random.Random) -> list[Item]:
    """Make facts, one every three minutes, in the order of time."""
    return [
        (1_700_000_000_000 + n * 180_000 + lots.randrange(1000), lots.randbytes(32)) for n in range(count)
    ]


def without(items: list[Item], missing: set[int]) -> list[Item]:
    return [item for n, item in enumerate(items) if n not in missing]


CASES: dict[str, Callable[[list[Item], random.Random], list[Item]]] = {
    "in sync": lambda items, lots: items,
    "one newest missing": lambda items, lots: items[:-1],
    "one random missing": lambda items, lots: without(items, {lots.randrange(len(items))}),
    "newest 1 % missing": lambda items, lots: items[: -max(1, len(items) // 100)],
    "random 1 % missing": lambda items, lots: without(
        items, set(lots.sample(range(len(items)), max(1, len(items) // 100)))
    ),
    "client empty": lambda items, lots: [],
    "disjoint": lambda items, lots: facts(len(items), lots),
}


def measure(client: Snapshot, server: Snapshot, frame_limit: int) -> Cost:
    up = down = rounds = 0
    started = time.process_time()
    initiator, responder = Reconciler(client, frame_limit), Reconciler(server, frame_limit)
    message: bytes | None = initiator.initiate()
    while message is not None:
        answer = responder.respond(message)
        up, down, rounds = up + len(message), down + len(answer), rounds + 1
        message = initiator.reconcile(answer)
    return Cost(up, down, rounds, 1000 * (time.process_time() - started))


def milliseconds_of(action: Callable[[], object]) -> float:
    started = time.process_time()
    action()
    return 1000 * (time.process_time() - started)


def build_costs(console: Console, lots: random.Random) -> None:
    table = Table("facts", "build ms", "build ms, shuffled", "add newest ms", "memory MB", box=box.MARKDOWN)
    for count in SIZES:
        items = facts(count, lots)
        shuffled = lots.sample(items, count)
        newest = facts(1, lots)[0][1]
        tracemalloc.start()
        snapshot = Snapshot(items)
        memory = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        times = [
            milliseconds_of(lambda items=items: Snapshot(items)),
            milliseconds_of(lambda items=shuffled: Snapshot(items)),
            milliseconds_of(lambda s=snapshot, i=newest: s.with_added([(2**60, i)])),
        ]
        table.add_row(f"{count:,}", *(f"{value:.1f}" for value in times), f"{memory / 1e6:.1f}")
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what reconciliation costs.")
    parser.add_argument("--frame-limit", type=int, default=0, help="bytes; 0, the default, is none")
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    frame_limit = asked.frame_limit
    console, lots = Console(width=110), random.Random(1)
    build_costs(console, lots)
    table = Table("facts", "case", "bytes up", "bytes down", "round trips", "CPU ms", box=box.MARKDOWN)
    over_budget = []
    for count in SIZES:
        items = facts(count, lots)
        server = Snapshot(items)
        for name, client_of in CASES.items():
            client = Snapshot(client_of(items, lots))
            costs = [measure(client, server, frame_limit) for _ in range(asked.runs)]
            took = [one.milliseconds for one in costs]
            cost = replace(costs[0], milliseconds=statistics.median(took))
            cpu = f"{cost.milliseconds:.1f} ({min(took):.1f}–{max(took):.1f})"
            row = (f"{cost.up:,}", f"{cost.down:,}", str(cost.rounds), cpu)
            table.add_row(f"{count:,}", name, *row)
            within = cost.up + cost.down <= MAX_BYTES and cost.rounds <= MAX_ROUNDS
            if name.startswith("one ") and not (within and cost.milliseconds <= MAX_MS):
                over_budget.append(f"{count:,} facts, {name}")
    console.print(table)
    console.print("over budget: " + "; ".join(over_budget) if over_budget else "all budgets kept")
    return 1 if over_budget else 0


if __name__ == "__main__":
    sys.exit(main())
