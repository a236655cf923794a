"""How fast a study is sealed and opened again: `python bench/seal_speed.py [--mb 200] [--dir DIR]`.

Seals synthetic CT-like slices (512 x 512, 16 bit, noisy) into a blob store on the disk of DIR, flushed as in
a node, and reads them back; with and without zstd and `keep_large_buffers`, each case in a process of
its own. The budget is Orthanc's serial POST /instances: 84 MB/s for slices of 512 kB, 150 a second for 27 kB.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from nacl.public import PrivateKey

sys.path.insert(0, str(Path(__file__).parents[1]))

from node.store import codecs
from node.store.blobs import DiskBlobStore
from node.store.memory import keep_large_buffers
from node.store.vault import Incoming, Vault
from sync.ids import MeshId

SECRET = bytes(range(32))


def slices(count: int, side: int) -> list[bytes]:
    """Make noisy slices with a round body in them; they differ from one another."""
    random = np.random.default_rng(1)
    y, x = np.mgrid[:side, :side]
    inside = np.hypot(x - side / 2, y - side / 2) < side * 0.4
    made = []
    for n in range(count):
        body = inside * (1000 + 40 * np.cos(y / 30) + 40 * np.sin(x / 40 + n))
        made.append((body + random.normal(0, 12, (side, side)) * inside).astype("<i2").tobytes())
    return made


def run(case: str, megabytes: int, folder: Path, compress: bool, large_buffers: bool) -> None:
    """Seal and open one study; print one line of the table."""
    if large_buffers:
        keep_large_buffers()
    if not compress:
        codecs._CODERS.clear()
    side, piece = {
        "CT slices, 512 kB": (512, 0),
        "small slices, 27 kB": (116, 0),
        "one large file": (512, 1),
    }[case]
    contents = slices(min(64, megabytes * 1_000_000 // (side * side * 2)), side)
    contents *= max(1, megabytes * 1_000_000 // sum(map(len, contents)))
    instances = []
    for n, group in enumerate([contents] if piece else [[data] for data in contents]):
        digest = hashlib.sha256()
        for part in group:
            digest.update(part)
        size = sum(map(len, group))
        source = lambda group=group: iter(group)  # noqa: E731
        instances.append(Incoming(f"2.25.{n}", "1.2", "1.2", size, digest.digest(), source))
    total = sum(instance.size for instance in instances)
    vault = Vault(DiskBlobStore(folder), os.urandom)
    recipients = [bytes(PrivateKey(SECRET).public_key)]

    start, cpu = time.perf_counter(), time.process_time()
    kept = vault.keep_study("2.25.1", instances, {}, recipients=recipients, mesh=MeshId(bytes(32)))
    sealed_s, sealed_cpu = time.perf_counter() - start, time.process_time() - cpu
    start = time.perf_counter()
    study = vault.open_study(kept.manifest, SECRET)
    back = sum(len(part) for instance in study.index.instances for part in study.read(instance))
    opened_s = time.perf_counter() - start

    assert back == total
    peak = "-"
    if sys.platform.startswith("linux"):
        peak = str(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024)
    print(
        f"{case:20} {'zstd' if compress else 'stored':7} {'kept' if large_buffers else 'default':8}"
        f"{total / sealed_s / 1e6:10.0f} {len(instances) / sealed_s:8.0f} {total / sealed_cpu / 1e6:10.0f}"
        f"{total / opened_s / 1e6:10.0f} {kept.size / total:7.2f} {peak:>8}",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--mb", type=int, default=200, help="size of each study, in MB")
    parser.add_argument("--dir", type=Path, help="a folder on the disk to measure")
    parser.add_argument("--one", nargs=3, metavar=("CASE", "ZSTD", "BUFFERS"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        with tempfile.TemporaryDirectory(dir=asked.dir) as folder:
            run(asked.one[0], asked.mb, Path(folder), asked.one[1] == "1", asked.one[2] == "1")
        return
    print(
        f"{'study':20} {'codec':7} {'buffers':8}{'seal MB/s':>10} {'inst./s':>8} {'per CPU s':>10}"
        f"{'open MB/s':>10} {'ratio':>7} {'peak MB':>8}"
    )
    for case in ("CT slices, 512 kB", "small slices, 27 kB", "one large file"):
        for zstd, buffers in (("1", "1"), ("1", "0"), ("0", "1"), ("0", "0")):
            if case == "one large file" and zstd == "0":
                continue
            command = [sys.executable, __file__, "--mb", str(asked.mb), "--one", case, zstd, buffers]
            subprocess.run(command + (["--dir", str(asked.dir)] if asked.dir else []), check=True)


if __name__ == "__main__":
    main()
