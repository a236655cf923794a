"""How much memory a node needs for one very large instance: taken in, sealed, forwarded, read back.

One node that takes in and delivers, and the sandbox PACS in a process of its own. Budgets: below 250 MB while
it takes in, and the same while it sends, intake and sender being one process here.

    python bench/memory.py [--gb 1.0]
"""

import argparse
import os
import statistics
import struct
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from node.cli.output import Output
from node.cli.packing import Picked
from node.cli.remote import running
from node.cli.submitting import hand_in
from node.demo.nodes import DemoNode
from node.demo.pacs import running_pacs

_PIECE = 1024 * 1024


def write_instance(path: Path, octets: int) -> None:
    """Write a multi-frame instance of noise, piece by piece; its header is made by hand (PS3.10 §7.1)."""

    def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        if vr in (b"OB", b"OW"):
            return struct.pack("<HH2sHI", group, number, vr, 0, len(value)) + value
        return struct.pack("<HH2sH", group, number, vr, len(value)) + value

    side = 1024
    frames = octets // (side * side * 2)
    meta = element(2, 1, b"OB", b"\0\1") + element(2, 2, b"UI", b"1.2.840.10008.5.1.4.1.1.7.3")
    meta += element(2, 3, b"UI", b"2.25.11") + element(2, 16, b"UI", b"1.2.840.10008.1.2.1")
    head = bytes(128) + b"DICM" + element(2, 0, b"UL", struct.pack("<I", len(meta))) + meta
    for group, number, vr, value in (
        (8, 0x16, b"UI", b"1.2.840.10008.5.1.4.1.1.7.3"),
        (8, 0x18, b"UI", b"2.25.11"),
        (8, 0x20, b"DA", b"20260101"),
        (8, 0x60, b"CS", b"OT"),
        (0x10, 0x10, b"PN", b"Bench^Memory"),
        (0x10, 0x20, b"LO", b"BENCH"),
        (0x20, 0x0D, b"UI", b"2.25.12"),
        (0x20, 0x0E, b"UI", b"2.25.13"),
        (0x28, 2, b"US", struct.pack("<H", 1)),
        (0x28, 4, b"CS", b"MONOCHROME2"),
        (0x28, 8, b"IS", str(frames).encode()),
        (0x28, 0x10, b"US", struct.pack("<H", side)),
        (0x28, 0x11, b"US", struct.pack("<H", side)),
        (0x28, 0x100, b"US", struct.pack("<H", 16)),
        (0x28, 0x101, b"US", struct.pack("<H", 12)),
        (0x28, 0x102, b"US", struct.pack("<H", 11)),
        (0x28, 0x103, b"US", struct.pack("<H", 0)),
    ):
        head += element(group, number, vr, value)
    size = frames * side * side * 2
    with path.open("wb") as file:
        file.write(head + struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, size))
        left = size
        while left > 0:
            piece = bytes(b & 15 if at % 2 else b for at, b in enumerate(os.urandom(4096))) * 256
            file.write(piece[: min(_PIECE, left)])
            left -= _PIECE


def peak_mb(pid: int) -> float:
    """Return the peak resident memory of a process, in MB (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1000
    return 0.0


def reset_peak(pid: int) -> None:
    """Begin to measure the peak anew (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


@dataclass(frozen=True, slots=True)
class Run:
    """One way through: seconds, and the node's peaks in MB."""

    pacs: str
    idle: float
    taken: float
    taking: float
    sent: float
    sending: float


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gb", type=float, default=1.0, help="size of the instance")
    parser.add_argument("--runs", type=int, default=1)
    given = parser.parse_args()
    runs = [measured(given.gb) for _ in range(given.runs)]
    print(f"one instance of {given.gb:g} GB, {runs[0].pacs}\n")
    print("| step | seconds | peak MB of the node | budget |\n|---|---|---|---|")
    print(f"| idle | | {spread([one.idle for one in runs])} | 150 |")
    for name, seconds, peaks in (
        ("upload, examine, seal", [one.taken for one in runs], [one.taking for one in runs]),
        ("forward and read back", [one.sent for one in runs], [one.sending for one in runs]),
    ):
        print(f"| {name} | {spread(seconds, 1)} | {spread(peaks)} | 250 |")
    return int(any(one.taking > 250 or one.sending > 250 for one in runs))


def spread(values: list[float], digits: int = 0) -> str:
    """Return the median, with the least and the most if there are several."""
    median = f"{statistics.median(values):.{digits}f}"
    return f"{median} ({min(values):.{digits}f}–{max(values):.{digits}f})" if len(values) > 1 else median


def measured(gigabytes: float) -> Run:
    """Take one instance through a node."""
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top)
        write_instance(folder / "large.dcm", int(gigabytes * 1e9))
        environment = {key: value for key, value in os.environ.items() if not key.startswith("CLINICMESH_")}
        node = DemoNode("both", folder / "both", environment)
        node.command("init", "--name", "Bench", "--label", "both", "--json")
        with running_pacs(folder / "pacs") as pacs:
            node.start()
            try:
                pid = node.pid
                idle = peak_mb(pid)
                started = time.monotonic()
                with running(node.folder) as remote:
                    picked = [Picked(folder / "large.dcm", "large.dcm")]
                    choice = {"impression": "", "priority": "routine", "destination": None}
                    kept = hand_in(remote, Output(as_json=True), picked, choice, ask=False)
                taken, taking = time.monotonic() - started, peak_mb(pid)
                reset_peak(pid)
                started = time.monotonic()
                node.ask("POST", "/api/v1/destinations", {"name": "pacs", "url": pacs.dicomweb})
                entry = kept["entries"][0]
                node.wait_for(lambda: node.get(f"/api/v1/studies/{entry}")["state"] == "delivered")
                sent, sending = time.monotonic() - started, peak_mb(pid)
            finally:
                node.stop()
    return Run(pacs.name, idle, taken, taking, sent, sending)


if __name__ == "__main__":
    sys.exit(main())
