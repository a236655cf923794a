"""How soon a courier's line is used: seconds from the word to begin until the first octets of a study.

    python bench/first_octet.py [--rate 48000] [--rtt 0.7] [--runs 3] [--entries 5000]

A clinic has three new studies of 20 small MR slices, the cloud node has one that the clinic has not heard of,
and they have met before. The line (tests/support/proxy.py) is dialled anew: once with the offer that was
decided before (`POST /offer`), once without it, as with a peer that does not know it. Seconds count from
before the decision, which takes part in them. "Manifest" and "blob": the first octet of one is at the cloud
node. Then what deciding costs for so many entries: `sync.plan` alone, and with the database and facts.
"""

import argparse
import logging
import random
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from studies import mr_study  # noqa: E402
from support.nodes import LocalNode  # noqa: E402
from support.proxy import PERFECT, Line, proxied  # noqa: E402

from node.assembly import open_node  # noqa: E402
from node.config import Settings  # noqa: E402
from node.mesh.exchange import Exchange  # noqa: E402
from node.mesh.offering import could_give, pairs_here  # noqa: E402
from node.mesh.receiving import Receiving  # noqa: E402
from node.mesh.space import Space  # noqa: E402
from sync.bodies import Role, Study  # noqa: E402
from sync.ids import BlobId, EntryId, NodeId  # noqa: E402
from sync.plan import Wanted, first_of, offerable  # noqa: E402

_STUDIES, _SLICES = 3, 20
_NEVER = 3600.0


class Watch:
    """Notes when the first octet of a manifest and of another blob comes in at a node."""

    def __init__(self) -> None:
        self.entries: set[bytes] = set()
        self.seen: dict[str, float] = {}
        self.at: Exchange | None = None
        add, put = Receiving.add, Exchange.put_blob

        def adding(receiving: Receiving, piece: bytes) -> bool:
            self._note(receiving._exchange, receiving._blob)
            return add(receiving, piece)

        def putting(exchange: Exchange, blob: BlobId, *rest: Any) -> bool:
            self._note(exchange, blob)
            return put(exchange, blob, *rest)

        Receiving.add, Exchange.put_blob = adding, putting  # type: ignore[method-assign]

    def _note(self, exchange: Exchange, blob: bytes) -> None:
        if exchange is self.at:
            kind = "manifest" if blob in self.entries else "blob"
            self.seen.setdefault(kind, time.perf_counter())


def meetings(line: Line, runs: int, offered: bool, watch: Watch) -> list[tuple[float, float, float, int]]:
    """Return for each run: seconds until a manifest, a blob, and the end, and the octets."""
    told = []
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"replicate_every_s": _NEVER, "sweep_every_s": _NEVER, "forward_every_s": _NEVER}
        with LocalNode(Path(folder) / "cloud", **quiet) as cloud:
            cloud.init()
            cloud.start()
            with LocalNode(Path(folder) / "clinic", **quiet) as clinic:
                cloud.admit(clinic, "clinic")
                clinic.start()
                replicator, exchange = clinic.service._replicator, clinic.service._exchange
                replicator._watch = lambda *_: None  # type: ignore[method-assign]
                replicator._want = lambda *_: None  # type: ignore[method-assign]
                watch.at = cloud.service._exchange
                with proxied(cloud.mesh_address) as proxy:
                    clinic.node.notes.add_peer(proxy.address)
                    assert replicator.meet_one(proxy.address).done
                    for run in range(runs):
                        if not offered:
                            exchange.offerless.add(cloud.node.facts.node_id)
                        first = 10 * run + (100 if offered else 500)
                        for number in range(first, first + _STUDIES):
                            files = mr_study(1_000_000_000_000 + number, _SLICES)
                            named = {f"IM{n}": data for n, data in enumerate(files)}
                            watch.entries |= {bytes.fromhex(one) for one in clinic.submit(named)}
                        other = mr_study(2_000_000_000_000 + first, 1)
                        cloud.submit({"IM0": other[0]})
                        for kept, _ in replicator._kept.values():
                            kept.cut()
                        replicator._kept.clear()
                        proxy.cut()
                        watch.seen.clear()
                        proxy.line = line
                        before, began = sum(proxy.octets), time.perf_counter()
                        assert replicator.meet_one(proxy.address).done
                        ended = time.perf_counter()
                        at = [watch.seen[kind] - began for kind in ("manifest", "blob")]
                        told.append((at[0], at[1], ended - began, sum(proxy.octets) - before))
                        proxy.line = PERFECT
    return told


def planning(entries: int) -> tuple[float, float]:
    """Return the seconds that deciding takes for so many entries: `sync.plan` alone, and the whole of it."""
    lots = random.Random(1)
    with ExitStack() as stack:
        clinic = LocalNode(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "clinic")
        clinic.init()
        node = stack.enter_context(open_node(clinic.home, Settings.load(clinic.folder)))
        space = Space(node.holdings, node.settings, node.clock, node.ballast)
        exchange = Exchange(node.holdings, space, node.clock, version="1")
        with node.facts.writing() as writing:
            for number in range(entries):
                entry = EntryId(lots.randbytes(32))
                priority = "urgent" if number % 50 == 0 else "routine"
                body = Study(
                    manifest=BlobId(entry),
                    origin=node.facts.node_id,
                    size=lots.randrange(1, 200_000_000),
                    blobs=2,
                    priority=priority,
                    destination="",
                    submission=lots.randbytes(16),
                )
                writing.issue(body, entry)
        with node.database.write() as session:
            for held in node.queue.all():
                node.queue.set_complete(session, held.entry, complete=True)
        peer, roles = NodeId(lots.randbytes(32)), frozenset({Role.CARRY})
        pairs = pairs_here(exchange)
        assert len(pairs) == entries
        exchange.holdings.facts.ask(lambda ledger: ledger.membership)
        began = time.process_time()
        could = [
            Wanted(held.entry, view.urgent, held.seen_ms, view.announced.size if view.announced else 0, 1)
            for held, view in pairs
            if offerable(view, peer=peer, roles=roles)
        ]
        first = first_of(could, 8)
        pure = time.process_time() - began
        assert len(first) == 8 and first[0].urgent
        began = time.process_time()
        pairs = pairs_here(exchange)
        assert len(first_of(could_give(exchange, peer, pairs, roles).values(), 8)) == 8
        whole = time.process_time() - began
        return pure, whole


def spread(values: list[float]) -> str:
    """Return the median, with the least and the most."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=48_000, help="octets a second each way")
    parser.add_argument("--rtt", type=float, default=0.7, help="seconds")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--entries", type=int, default=5000)
    given = parser.parse_args()
    logging.disable()
    watch = Watch()
    print(f"{given.rate * 8 / 1000:.0f} kbit/s, {given.rtt * 1000:.0f} ms, median (least–most):\n")
    print("| meeting | manifest after s | blob after s | done after s | octets |")
    print("|---|---|---|---|---|")
    for offered in (False, True):
        told = meetings(Line(rate=given.rate, rtt_s=given.rtt), given.runs, offered, watch)
        cells = [spread([one[at] for one in told]) for at in range(3)]
        octets = statistics.median(one[3] for one in told)
        name = "offered before the hello" if offered else "asked after the facts"
        print(f"| {name} | {' | '.join(cells)} | {octets:,.0f} |", flush=True)
    print("\n| entries to decide about | `sync.plan` alone, CPU ms | with the database, CPU ms |")
    print("|---|---|---|")
    for entries in (100, 1000, given.entries):
        pure, whole = planning(entries)
        print(f"| {entries:,} | {1000 * pure:.1f} | {1000 * whole:.0f} |", flush=True)


if __name__ == "__main__":
    main()
