"""Run every benchmark beside its peers and write bench/RESULTS.md.

    python bench/all.py [--quick] [--runs 3] [--only NAME …] [--resume] [--scans FOLDER]

`--quick` takes smaller studies: about half an hour on two cores that do nothing else, with the three runs
that each number is the median of; without it hours. Each part is a script of this folder and can be run by
itself; its table is taken as it printed it, at once: what was measured stays if a later part is cut.
`--resume` leaves out the parts that were measured today by the same command; a part that is not run keeps the
section that it had in RESULTS.md. What could not run here says why.
"""

import argparse
import datetime
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS.md"
_LIMIT_S = 3600
_HEAD = """# Results

Written by `python bench/all.py`; tables are as the scripts printed them; each can be run by itself. What
was learnt: [performance](../docs/performance.md).

* Machine of the latest run: {machine}
* Versions: {versions}
* Medians, with the least and the most where a script prints them. "Load" is how many processes wanted a
  core when a part began (nothing else running: below 0.5). With a higher one, seconds are worse than the
  machine's; ratios, octets and memory are not.
"""


@dataclass(frozen=True, slots=True)
class Part:
    """A script, what it measures, and its arguments, whole and quick.

    `runs`: how the script calls the number of runs; `minutes`: what the quick ones take, about.
    """

    name: str
    title: str
    script: str
    whole: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()
    runs: str = "--runs"
    minutes: float = 1

    def arguments(self, *, quick: bool, runs: int) -> tuple[str, ...]:
        """Return what the script is called with."""
        return (*(self.quick if quick else self.whole), *((self.runs, str(runs)) if self.runs else ()))


PARTS = (
    Part(
        "codecs",
        "Wire ratio for each data set and codec; sealing and opening",
        "seal_speed.py",
        (),
        ("--mb", "50"),
        minutes=4,
    ),
    Part(
        "ingest",
        "Ingest beside Orthanc",
        "ingest.py",
        (),
        ("--slices", "100", "--small", "1000"),
        minutes=2,
    ),
    Part(
        "replicate",
        "Node to node beside Syncthing, rsync and Orthanc, and how soon a new study is there",
        "replicate.py",
        (),
        ("--ct", "100", "--mr", "300"),
        runs="--rounds",
        minutes=3,
    ),
    Part(
        "forward",
        "Forward beside httpx, dicomweb-client and Orthanc",
        "forward.py",
        (),
        ("--slices", "100"),
        runs="--rounds",
        minutes=4,
    ),
    Part(
        "links", "From confirm to the PACS's proof over bad lines", "links.py", (), ("--part", "2"), minutes=9
    ),
    Part("first", "The first octets on a far line", "first_octet.py", (), (), minutes=3),
    Part(
        "rest",
        "Octets between two nodes that have nothing to say",
        "at_rest.py",
        (),
        ("--seconds", "30"),
        runs="",
        minutes=3.5,
    ),
    Part("reconcile", "What it costs to compare facts", "reconcile_cost.py", minutes=0.5),
    Part(
        "idle",
        "Start-up, and the cost of doing nothing",
        "idle.py",
        (),
        ("--seconds", "30"),
        runs="--starts",
        minutes=2.5,
    ),
    Part("memory", "One very large instance", "memory.py", ("--gb", "2"), ("--gb", "0.25"), minutes=1.5),
)


def machine() -> str:
    """Say on what all this was measured."""
    cpu = platform.processor() or platform.machine()
    memory = ""
    if sys.platform.startswith("linux"):
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        cpu = found[1] if found else cpu
        kilobytes = int(Path("/proc/meminfo").read_text().split()[1])
        memory = f", {kilobytes / 1e6:.0f} GB of memory"
    return f"{os.cpu_count()} × {cpu}{memory}, {platform.system()} {platform.release()}"


def versions() -> str:
    """Name the versions of what takes part."""
    ours = [
        f"{name} {importlib.metadata.version(name)}"
        for name in ("httpx", "imagecodecs", "zstandard", "PyNaCl")
    ]
    told = [f"Python {platform.python_version()}", *ours]
    for program, words in {
        "Orthanc": ["--version"],
        "syncthing": ["--version"],
        "rsync": ["--version"],
        "storescu": ["--version"],
    }.items():
        path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
        if path:
            said = subprocess.run([path, *words], capture_output=True, text=True).stdout
            found = re.search(r"v?\d+\.\d+(\.\d+)?", said)
            told.append(f"{program} {found[0] if found else 'of unknown version'}")
    return ", ".join(told)


def command_of(part: Part, arguments: tuple[str, ...]) -> str:
    """Return the command that measures a part."""
    return f"python bench/{part.script} {' '.join(arguments)}".strip()


def is_measured(section: str, command: str) -> bool:
    """Say whether a section was written today by this command, from its begin to its end."""
    said = section.partition("-->")[2].lstrip().partition("\n")[0]
    return said.startswith(f"`{command}`, {_today()},") and "Exit status 2" not in said


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def measured(part: Part, arguments: tuple[str, ...]) -> str:
    """Run one part and return its section."""
    script = HERE / part.script
    command = command_of(part, arguments)
    head = f"## {part.title}\n\n<!-- {part.name} -->\n`{command}`"
    if not script.exists():
        return f"{head}\n\nNot here yet.\n"
    load, started = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0, time.monotonic()
    try:
        run = subprocess.run(
            [sys.executable, str(script), *arguments], capture_output=True, text=True, timeout=_LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return f"{head}\n\nNot done within an hour.\n"
    minutes = (time.monotonic() - started) / 60
    said = "\n".join(line.rstrip() for line in run.stdout.strip().splitlines()) or run.stderr.strip()[-600:]
    if "|---" not in said:
        said = f"```\n{said}\n```"
    failed = "" if run.returncode == 0 else f" Exit status {run.returncode}."
    return f"{head}, {_today()}, {minutes:.1f} min, load {load:.1f} when it began.{failed}\n\n{said}\n"


def known_sections() -> dict[str, str]:
    """Return the sections of RESULTS.md by the names of their parts."""
    if not RESULTS.exists():
        return {}
    found = re.split(r"^(?=## )", RESULTS.read_text(encoding="utf-8"), flags=re.M)[1:]
    return {
        name[1]: section.strip() + "\n"
        for section in found
        if (name := re.search(r"<!-- (\w+) -->", section))
    }


def write(sections: dict[str, str]) -> None:
    """Write the page."""
    head = _HEAD.format(machine=machine(), versions=versions())
    listed = [sections[part.name] for part in PARTS if part.name in sections]
    RESULTS.write_text("\n".join([head, *listed]), encoding="utf-8")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", type=int, default=3, help="of each number")
    parser.add_argument("--resume", action="store_true", help="not again what was measured today")
    parser.add_argument("--only", nargs="+", choices=[part.name for part in PARTS])
    parser.add_argument("--scans", type=Path, help="a folder with folders of real scans")
    asked = parser.parse_args()
    if asked.scans:
        os.environ["TEST_SCANS"] = str(asked.scans.resolve())
    sections = known_sections()
    chosen = [part for part in PARTS if asked.only is None or part.name in asked.only]
    for number, part in enumerate(chosen, 1):
        arguments = part.arguments(quick=asked.quick, runs=asked.runs)
        about = f", about {part.minutes * asked.runs / 3:.0f} min" if asked.quick else ""
        print(f"{number} of {len(chosen)}, {part.name}: {part.title}{about}", flush=True)
        if asked.resume and is_measured(sections.get(part.name, ""), command_of(part, arguments)):
            print("  measured today", flush=True)
            continue
        started = time.monotonic()
        sections[part.name] = measured(part, arguments)
        write(sections)
        print(f"  took {(time.monotonic() - started) / 60:.1f} min", flush=True)


if __name__ == "__main__":
    main()
