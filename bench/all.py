"""Run every benchmark beside its peers and write bench/RESULTS.md.

    python bench/all.py [--quick] [--only NAME …] [--scans FOLDER]

Takes about an hour, with `--quick` about a third of that. Each part is a script of this folder and can be
run by itself; its table is taken as it printed it. What could not run here says why. A part that is not run
keeps the section that it had in RESULTS.md.
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
    """A script, what it measures, and its arguments, whole and quick."""

    name: str
    title: str
    script: str
    whole: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()


PARTS = (
    Part(
        "codecs",
        "Wire ratio for each data set and codec; sealing and opening",
        "seal_speed.py",
        (),
        ("--mb", "100", "--runs", "1"),
    ),
    Part(
        "ingest",
        "Ingest beside Orthanc",
        "ingest.py",
        (),
        ("--slices", "200", "--small", "1000", "--runs", "1"),
    ),
    Part(
        "replicate",
        "Node to node beside Syncthing, rsync and Orthanc, and how soon a new study is there",
        "replicate.py",
        (),
        ("--ct", "100", "--mr", "300", "--rounds", "1"),
    ),
    Part(
        "forward",
        "Forward beside httpx, dicomweb-client and Orthanc",
        "forward.py",
        (),
        ("--slices", "100", "--rounds", "1"),
    ),
    Part("links", "From confirm to the PACS's proof over bad lines", "links.py"),
    Part("reconcile", "What it costs to compare facts", "reconcile_cost.py"),
    Part(
        "idle", "Start-up, and the cost of doing nothing", "idle.py", (), ("--starts", "3", "--seconds", "30")
    ),
    Part("memory", "One very large instance", "memory.py", ("--gb", "2"), ("--gb", "0.5")),
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


def measured(part: Part, arguments: tuple[str, ...]) -> str:
    """Run one part and return its section."""
    script = HERE / part.script
    command = f"python bench/{part.script} {' '.join(arguments)}".strip()
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
    said = run.stdout.strip() or run.stderr.strip()[-600:]
    if "|---" not in said:
        said = f"```\n{said}\n```"
    failed = "" if run.returncode == 0 else f" Exit status {run.returncode}."
    when = datetime.datetime.now(datetime.UTC).date().isoformat()
    return f"{head}, {when}, {minutes:.0f} min, load {load:.1f} when it began.{failed}\n\n{said}\n"


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
    parser.add_argument("--only", nargs="+", choices=[part.name for part in PARTS])
    parser.add_argument("--scans", type=Path, help="a folder with folders of real scans")
    asked = parser.parse_args()
    if asked.scans:
        os.environ["TEST_SCANS"] = str(asked.scans.resolve())
    sections = known_sections()
    for part in PARTS:
        if asked.only is None or part.name in asked.only:
            print(part.title, flush=True)
            sections[part.name] = measured(part, part.quick if asked.quick else part.whole)
            write(sections)


if __name__ == "__main__":
    main()
