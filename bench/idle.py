"""What a node costs that does nothing: start-up, memory and CPU at rest, beside Orthanc and Syncthing.

    python bench/idle.py [--starts 5] [--seconds 60]

Each is a process of its own with an empty store and answers its health or system address when the first
clock stops; the CPU that it took until then does not depend on what else runs. Ours has founded its mesh
before, has its byte code, and has one peer that does not answer. Budgets: healthy within 2 s; at rest below
150 MB and 0.5 % of a core.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from studies import cpu_s, resident_mb  # noqa: E402
from support.nodes import RealNode, free_port  # noqa: E402
from support.orthanc import running_orthanc  # noqa: E402

_SETTLED_S = 10.0


@contextmanager
def ours(folder: Path) -> Iterator[int]:
    """A node with the settings that it ships with."""
    shipped = {"replicate_every_s": 30.0, "forward_every_s": 15.0, "sweep_every_s": 60.0}
    with RealNode(folder / "node", **shipped) as node:
        if (node.folder / "mesh.cbor").exists():
            node.write_settings()
        else:
            node.init()
        node.start([f"127.0.0.1:{free_port()}"])
        process = node._process
        assert process is not None
        yield process.pid
        node.stop()


@contextmanager
def orthanc(folder: Path) -> Iterator[int]:
    """Orthanc with its DICOMweb plugin."""
    with running_orthanc(folder / "orthanc") as running:
        yield running.process.pid


@contextmanager
def syncthing(folder: Path) -> Iterator[int]:
    """Syncthing as it ships, but that it calls nobody outside."""
    home, port = folder / "syncthing", free_port()
    if not home.exists():
        subprocess.run(["syncthing", "generate", f"--home={home}"], check=True, capture_output=True)
        config = (home / "config.xml").read_text()
        for name in ("globalAnnounceEnabled", "localAnnounceEnabled", "relaysEnabled", "natEnabled"):
            config = config.replace(f"<{name}>true", f"<{name}>false")
        config = config.replace("<urAccepted>0", "<urAccepted>-1").replace(
            "crashReportingEnabled>true", "crashReportingEnabled>false"
        )
        (home / "config.xml").write_text(config)
    url = f"127.0.0.1:{port}"
    words = ["syncthing", "serve", "--no-browser", "--no-restart", "--no-upgrade"]
    process = subprocess.Popen(
        [*words, f"--home={home}", f"--gui-address={url}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            with suppress(httpx.HTTPError):
                if httpx.get(f"http://{url}/rest/noauth/health", trust_env=False, timeout=2).status_code in (
                    200,
                    403,
                    404,
                ):
                    break
            time.sleep(0.02)
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


CONTENDERS: dict[str, Callable[[Path], "contextmanager[int]"]] = {  # type: ignore[type-arg]
    "ours": ours,
    "Orthanc": orthanc,
    "Syncthing": syncthing,
}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long it is watched at rest")
    parser.add_argument("--only", choices=CONTENDERS)
    given = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program has been compiled
    print(
        "| process | answers after s, median (least–most) | CPU s until then | MB at rest | CPU at rest, % |"
    )
    print("|---|---|---|---|---|")
    held = True
    for name, run in CONTENDERS.items():
        if given.only not in (None, name):
            continue
        took: list[float] = []
        spent: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            with run(Path(folder)):
                pass  # the first start makes what the later ones find
            for number in range(given.starts):
                started = time.perf_counter()
                with run(Path(folder)) as pid:
                    took.append(time.perf_counter() - started)
                    spent.append(cpu_s(pid))
                    if number == given.starts - 1:
                        time.sleep(_SETTLED_S)
                        cpu, began = cpu_s(pid), time.perf_counter()
                        time.sleep(given.seconds)
                        share = 100 * (cpu_s(pid) - cpu) / (time.perf_counter() - began)
                        memory = resident_mb(pid)
        median = statistics.median(took)
        if name == "ours":
            held = median <= 2 and memory <= 150 and share <= 0.5
        answers = f"{median:.2f} ({min(took):.2f}–{max(took):.2f}) | {statistics.median(spent):.2f}"
        print(f"| {name} | {answers} | {memory:.0f} | {share:.2f} |", flush=True)
    print(f"\nbudget {'held' if held else 'MISSED'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
