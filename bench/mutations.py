"""Hand a node broken files by the thousand: `python bench/mutations.py [--count 50000]`.

A whole node takes them in, 500 in each ZIP and every hundredth by itself. Says what the files were found to
be, and ends with 0 only if the node is still the same process, answered all the while, and logged no error
that it did not name.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

from support.mutants import mutants  # noqa: E402
from support.nodes import HandIn, RealNode  # noqa: E402

_IN_EACH = 500


def main() -> int:
    """Hand in, count, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    found = Counter[str]()
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="clinicmesh-mutants-") as folder,
        RealNode(Path(folder) / "clinic") as node,
    ):
        node.init()
        node.start()
        assert node._process is not None
        pid = node._process.pid
        lot: dict[str, bytes] = {}
        for number, data in enumerate(mutants(given.seed, given.count), 1):
            if number % 100 == 0:
                found += told(HandIn(node, data).examined())
            else:
                lot[str(number)] = data
            if len(lot) == _IN_EACH or number == given.count:
                found += told(HandIn(node, lot).examined())
                lot = {}
                seconds = time.monotonic() - started
                print(f"{number:6} files, {seconds:5.0f} s, {found.total()} told", flush=True)
        node.get("/api/v1/status")
        same = node._process.poll() is None and node._process.pid == pid
        peak = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmHWM" in x)
        log = node.out.read_text()
    megabytes = int(peak.split()[1]) / 1000
    print(f"\n{given.count} files, seed {given.seed}, peak of the node {megabytes:.0f} MB\n")
    print("| found | files |\n|---|---|")
    for what, count in found.most_common():
        print(f"| {what} | {count} |")
    unnamed = [line for line in log.splitlines() if "job failed" in line or "Traceback" in line]
    print("\n".join(unnamed[:20]))
    return int(bool(unnamed) or not same)


def told(said: dict) -> Counter[str]:
    """Return what a submission was found to hold."""
    if said["examination"] is None:
        return Counter([said["problem"]["code"]])
    examination = said["examination"]
    left_out = [one["code"] for one in (*examination["skipped"], *examination["quarantined"])]
    images = sum(study["instances"] for study in examination["studies"])
    return Counter(left_out) + Counter({"accepted": images, "documents": len(examination["documents"])})


if __name__ == "__main__":
    sys.exit(main())
