"""How fast a study is coded, sealed and kept, and opened again, and how small it becomes.

    python bench/seal_speed.py [--mb 200] [--dir DIR] [--scans FOLDER] [--runs 3] [--json]

Studies: CT slices of 512 kB and MR slices of 27 kB made by `studies.py`, one multi-frame file, and each
folder of real scans (`--scans`, TEST_SCANS or ../shared/data), repeated until they are as large; each with
JPEG-LS and zstd ("pack"), with zstd alone, and as it is ("stored"), in a process of its own, with the blobs
on the disk of DIR, flushed as in a node. The ratio is that of the study sealed once, without repetition.
"peak MB": what the process held at most, without the study itself, which is in memory here.
Goals: at least 80 MB/s in, 100 MB/s out, on two cores.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from nacl.public import PrivateKey

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from studies import ct_study, mr_study, peak_mb, resident_mb
from support.scans import Pixels, made_file

from node.store import codecs, units
from node.store.blobs import DiskBlobStore
from node.store.memory import keep_large_buffers
from node.store.vault import Incoming, Kept, Vault
from sync.ids import MeshId

ROOT = Path(__file__).resolve().parents[1]
SECRET = bytes(range(32))
MADE = ("CT slices, 512 kB", "MR slices, 27 kB", "one large file")
CODECS = ("pack", "zstd", "stored")


@dataclass(frozen=True, slots=True)
class Run:
    """One study in and out. `ratio`: octets of all blobs and the manifest to those of the study."""

    seal_mb_s: float
    instances_s: float
    cpu_mb_s: float
    open_mb_s: float
    ratio: float
    peak_mb: float


def scans(folder: Path | None) -> dict[str, Path]:
    """Return the folders of real scans that are here, by name."""
    given = folder or Path(os.environ.get("TEST_SCANS", ROOT.parent / "shared" / "data"))
    return {f"real {path.name}": path for path in sorted(given.glob("*")) if path.is_dir()}


def contents_of(case: str, octets: int, folder: Path | None) -> list[bytes]:
    """Return the files of a study of about so many octets."""
    if case == MADE[1]:
        return mr_study(1_000_000_000_001, octets // 27_000)
    if case == MADE[2]:
        slices = ct_study(1_000_000_000_000, 16)
        pixels = Pixels(512, 512, frames=octets // (512 * 1024), stored=12, signed=True)
        data = b"".join(slices[n % 16][-512 * 1024 :] for n in range(pixels.frames))
        return [made_file(pixels, data)]
    if case in MADE:
        return ct_study(1_000_000_000_000, octets // (512 * 1024))
    paths = sorted(path for path in scans(folder)[case].rglob("*") if path.is_file())
    return [data for path in paths if (data := path.read_bytes())[128:132] == b"DICM"]


def only(codec: str) -> None:
    """Let nothing but this codec be written."""
    if codec == "zstd":
        units._image = lambda layout, raw, native: None
    if codec == "stored":
        codecs.code = lambda parts: codecs.Coded(codecs.STORED, b"".join(part.data for part in parts))


def run(case: str, octets: int, folder: Path, codec: str, real: Path | None) -> Run:
    """Seal and open one study."""
    keep_large_buffers()
    only(codec)
    contents = contents_of(case, octets, real)
    vault = Vault(DiskBlobStore(folder), os.urandom)
    once = _instances(contents)
    ratio = _keep(vault, once).size / sum(instance.size for instance in once)
    instances = _instances(contents * max(1, octets // sum(map(len, contents))))
    total = sum(instance.size for instance in instances)
    held = resident_mb(os.getpid())
    if sys.platform.startswith("linux"):
        Path("/proc/self/clear_refs").write_text("5")  # measure the peak from here (proc(5))
    start, cpu = time.perf_counter(), time.process_time()
    kept = _keep(vault, instances)
    sealed_s, sealed_cpu = time.perf_counter() - start, time.process_time() - cpu
    start = time.perf_counter()
    study = vault.open_study(kept.manifest, SECRET)
    back = sum(len(part) for instance in study.index.instances for part in study.read(instance))
    opened_s = time.perf_counter() - start
    assert back == total
    return Run(
        seal_mb_s=total / sealed_s / 1e6,
        instances_s=len(instances) / sealed_s,
        cpu_mb_s=total / sealed_cpu / 1e6,
        open_mb_s=total / opened_s / 1e6,
        ratio=ratio,
        peak_mb=peak_mb(os.getpid()) - held + 45,  # what a process with these libraries holds at rest
    )


def _instances(contents: list[bytes]) -> list[Incoming]:
    return [
        Incoming(f"2.25.{n}", "1.2", "1.2", len(data), hashlib.sha256(data).digest(), partial(_pieces, data))
        for n, data in enumerate(contents)
    ]


def _pieces(data: bytes) -> Iterator[bytes]:
    """Yield the octets as the spool does."""
    for at in range(0, len(data), 1 << 20):
        yield data[at : at + (1 << 20)]


def _keep(vault: Vault, instances: list[Incoming]) -> Kept:
    recipients = [bytes(PrivateKey(SECRET).public_key)]
    return vault.keep_study("2.25.1", instances, {}, recipients=recipients, mesh=MeshId(bytes(32)))


def measured(asked: argparse.Namespace, case: str, codec: str) -> list[Run]:
    """Run one case in processes of its own."""
    command = [sys.executable, __file__, "--mb", str(asked.mb), "--one", case, codec]
    command += ["--dir", str(asked.dir)] if asked.dir else []
    command += ["--scans", str(asked.scans)] if asked.scans else []
    told = [subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(asked.runs)]
    return [Run(**json.loads(one.stdout)) for one in told]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mb", type=int, default=200, help="size of each study, in MB")
    parser.add_argument("--dir", type=Path, help="a folder on the disk to measure")
    parser.add_argument("--scans", type=Path, help="a folder with folders of real scans")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("CASE", "CODEC"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        with tempfile.TemporaryDirectory(dir=asked.dir) as folder:
            made = run(asked.one[0], asked.mb * 1_000_000, Path(folder), asked.one[1], asked.scans)
        print(json.dumps(asdict(made)))
        return
    rows = {}
    if not asked.json:
        print("| study | codec | seal MB/s | instances/s | MB per CPU s | open MB/s | ratio | peak MB |")
        print("|---|---|---|---|---|---|---|---|")
    for case in (*MADE, *scans(asked.scans)):
        for codec in CODECS:
            runs = measured(asked, case, codec)
            rows[f"{case}, {codec}"] = [asdict(one) for one in runs]
            if not asked.json:
                print(f"| {case} | {codec} | {_row(runs)} |", flush=True)
    if asked.json:
        print(json.dumps(rows))


def _row(runs: list[Run]) -> str:
    def of(name: str, digits: int = 0) -> str:
        values = [getattr(one, name) for one in runs]
        spread = f" ({min(values):.0f}–{max(values):.0f})" if name.endswith("mb_s") and len(runs) > 1 else ""
        return f"{statistics.median(values):.{digits}f}{spread}"

    names = ("seal_mb_s", "instances_s", "cpu_mb_s", "open_mb_s")
    return " | ".join([*(of(name) for name in names), of("ratio", 3), of("peak_mb")])


if __name__ == "__main__":
    main()
