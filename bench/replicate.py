"""A study from one node to the next, beside Syncthing, rsync and an Orthanc peer, on equal terms in one run.

Budget: ahead of Syncthing in wall time, well ahead with small slices.

    python bench/replicate.py [--ct 300] [--mr 600] [--rounds 3] [--study FOLDER]...

Sender and receiver are processes in network namespaces of their own, joined by a bridge, so that the octets
on the wire are those that the cable counted. The sender has the study on its disk already: sealed, indexed,
or as files. The clock runs from the word to begin until the receiver has everything, durably (Syncthing and
Orthanc as they ship, rsync with --fsync). CPU and peak memory are of sender and receiver together. Then
a new study of 10 small slices: from "kept" on the first node until the second one says that it holds it.
A folder may hold several studies: they are
handed over together. Needs root, and of Debian the packages syncthing, rsync, time and orthanc
(`apt-get install syncthing rsync time orthanc`); it says which are missing.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pydicom

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from studies import cpu_s, ct_study, mr_study, peak_mb  # noqa: E402
from support.netns import Lab, Machine, missing  # noqa: E402
from support.nodes import fork_server, wait_until  # noqa: E402

_WAIT_S = 600.0
_POLL_S = 0.005
_SMALL = 10
_STUDY = "StudyInstanceUID"


@dataclass(frozen=True)
class Cost:
    """What one transfer cost."""

    seconds: float
    wire: int
    cpu: float
    peak: float


@dataclass(frozen=True)
class Scene:
    """Two machines, the study, and a folder for everything that is written."""

    here: Machine
    there: Machine
    files: list[bytes]
    folder: Path

    def write(self, folder: Path) -> None:
        """Write the study as files."""
        folder.mkdir(parents=True)
        for number, data in enumerate(self.files):
            (folder / f"IM{number:05}.dcm").write_bytes(data)

    @contextmanager
    def process(self, machine: Machine, *words: str, name: str) -> Iterator[int]:
        """Run a process on a machine; give its id."""
        with machine.inside(), (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(words, stdout=log, stderr=log)
        try:
            yield process.pid
        finally:
            process.terminate()
            process.wait(30)

    def measure(self, pids: list[int], begin: Callable[[], object], done: Callable[[], bool]) -> Cost:
        """Begin, wait until it is done, and say what it cost."""
        cpu, wire = sum(map(cpu_s, pids)), self.octets()
        started = time.perf_counter()
        begin()
        while not done():
            if time.perf_counter() - started > _WAIT_S:
                raise TimeoutError
            time.sleep(_POLL_S)
        seconds = time.perf_counter() - started
        return Cost(seconds, self.octets() - wire, sum(map(cpu_s, pids)) - cpu, sum(map(peak_mb, pids)))

    def octets(self) -> int:
        """Return how many octets went over the receiver's cable."""
        return self.there.received() + self.here.received()


# -- ours ------------------------------------------------------------------------------------------------


def ours(scene: Scene, fresh: list[float] | None = None) -> Cost:
    """Two nodes; a further small study measures how soon the second one has what is new."""
    from support.netnodes import NetNode

    with fork_server() as forks, ExitStack() as stack:
        quiet: dict[str, Any] = {"discovery": False, "replicate_every_s": 30.0}
        here = stack.enter_context(NetNode(scene.folder / "here", scene.here, forks, **quiet))
        there = stack.enter_context(NetNode(scene.folder / "there", scene.there, forks, **quiet))
        here.init()
        here.start()
        with scene.there.inside():
            here.admit(there, "courier")
        entries = here.submit({f"IM{n:05}": data for n, data in enumerate(scene.files)})
        there.start()
        cost = scene.measure(
            [here.pid, there.pid],
            lambda: there.ask("POST", "/api/v1/admin/peers", {"address": here.mesh_address}),
            lambda: _holds(there, entries),
        )
        if fresh is not None:
            fresh.append(_until_there(here, there))
        return cost


def _holds(node: Any, entries: list[str]) -> bool:
    told = node.stories()
    return all(node.label in told.get(entry, {}).get("holders", ()) for entry in entries)


def _until_there(here: Any, there: Any) -> float:
    entries = here.submit({f"IM{n}": data for n, data in enumerate(mr_study(8_888_888_888_888, _SMALL))})
    kept = time.perf_counter()
    while not _holds(there, entries):
        time.sleep(_POLL_S)
    return time.perf_counter() - kept


# -- Syncthing -------------------------------------------------------------------------------------------


class Syncthing:
    """One of its processes, with a REST client."""

    def __init__(self, scene: Scene, machine: Machine, name: str, compression: str) -> None:
        self.home, self.data = scene.folder / f"st-{name}", scene.folder / f"st-{name}-data"
        self.machine, self._scene, self._name, self._compression = machine, scene, name, compression
        self.home.mkdir()
        with machine.inside():
            subprocess.run(["syncthing", "generate", f"--home={self.home}"], check=True, capture_output=True)
        config = ET.parse(self.home / "config.xml").getroot()
        (gui,) = config.findall("gui")
        self._key = str(gui.findtext("apikey"))
        self.id = str(config.find("device").get("id"))  # type: ignore[union-attr]

    def configure(self, other: "Syncthing", *, sends: bool) -> None:
        """Write a configuration that knows the other one and nobody else; the line is paused."""
        devices = "".join(
            f'<device id="{one.id}" compression="{self._compression}"><address>tcp://{one.machine.address}:22000'
            f"</address><paused>{str(one is other).lower()}</paused></device>"
            for one in (self, other)
        )
        members = "".join(f'<device id="{one.id}"/>' for one in (self, other))
        kind = "sendonly" if sends else "receiveonly"
        (self.home / "config.xml").write_text(
            f'<configuration version="35"><folder id="f" path="{self.data}" type="{kind}" '
            f'rescanIntervalS="3600" fsWatcherEnabled="false">{members}</folder>{devices}<gui enabled="true">'
            f"<address>127.0.0.1:8384</address><apikey>{self._key}</apikey></gui><options>"
            "<listenAddress>tcp://0.0.0.0:22000</listenAddress>"
            "<globalAnnounceEnabled>false</globalAnnounceEnabled><localAnnounceEnabled>false</localAnnounceEnabled><relaysEnabled>false</relaysEnabled>"
            "<natEnabled>false</natEnabled><urAccepted>-1</urAccepted><startBrowser>false</startBrowser>"
            "<crashReportingEnabled>false</crashReportingEnabled></options></configuration>"
        )

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return what its REST API answers."""
        with self.machine.inside(), httpx.Client(trust_env=False, timeout=60) as http:
            url, headers = f"http://127.0.0.1:8384/rest{path}", {"X-API-Key": self._key}
            answer = http.request(method, url, headers=headers, json=body)
            answer.raise_for_status()
            return answer.json() if answer.content else None

    def up(self) -> bool:
        """Tell whether it answers and its folder is scanned."""
        return bool(self.ask("GET", "/db/status?folder=f")["state"] == "idle")


def syncthing(scene: Scene, compression: str = "metadata") -> Cost:
    here = Syncthing(scene, scene.here, "here", compression)
    there = Syncthing(scene, scene.there, "there", compression)
    here.configure(there, sends=True)
    there.configure(here, sends=False)
    scene.write(here.data)
    there.data.mkdir()
    for one in (here, there):
        (one.data / ".stfolder").mkdir()
    run = ("syncthing", "serve", "--no-browser", "--no-restart", "--no-upgrade")
    with (
        scene.process(scene.here, *run, f"--home={here.home}", name="st-here") as one,
        scene.process(scene.there, *run, f"--home={there.home}", name="st-there") as two,
    ):
        wait_until(lambda: here.up() and there.up(), 60, "Syncthing")
        wait_until(
            lambda: here.ask("GET", "/db/status?folder=f")["localFiles"] == len(scene.files), 60, "its scan"
        )
        here.ask("PATCH", f"/config/devices/{there.id}", {"paused": False})

        def done() -> bool:
            status = there.ask("GET", "/db/status?folder=f")
            return bool(status["inSyncFiles"] == len(scene.files) and status["state"] == "idle")

        return scene.measure(
            [one, two], lambda: there.ask("PATCH", f"/config/devices/{here.id}", {"paused": False}), done
        )


# -- rsync and Orthanc -----------------------------------------------------------------------------------


def rsync(scene: Scene, *options: str) -> Cost:
    source, target = scene.folder / "rsync-here", scene.folder / "rsync-there"
    scene.write(source)
    target.mkdir()
    config = scene.folder / "rsyncd.conf"
    config.write_text(
        f"use chroot = no\nuid = {target.stat().st_uid}\ngid = {target.stat().st_gid}\n"
        f"[in]\npath = {target}\nread only = no\n"
    )
    words = ("rsync", "--daemon", "--no-detach", f"--config={config}", "--port=8730")
    with scene.process(scene.there, *words, name="rsyncd") as daemon:
        time.sleep(0.5)
        running: list[subprocess.Popen[bytes]] = []
        url = f"rsync://{scene.there.address}:8730/in/"

        def begin() -> None:
            with scene.here.inside():
                command = [
                    "/usr/bin/time",
                    "-f",
                    "%U %S %M",
                    "rsync",
                    "-r",
                    "--fsync",
                    *options,
                    f"{source}/",
                    url,
                ]
                running.append(subprocess.Popen(command, stderr=subprocess.PIPE))

        cost = scene.measure([daemon], begin, lambda: running[0].poll() is not None)
        assert running[0].stderr is not None
        user, system, peak = running[0].stderr.read().split()[-3:]
    assert len(list(target.iterdir())) == len(scene.files)
    return Cost(cost.seconds, cost.wire, cost.cpu + float(user) + float(system), cost.peak + int(peak) / 1000)


def orthanc(scene: Scene) -> Cost:
    from support.orthanc import running_orthanc

    options = {"RemoteAccessAllowed": True, "ConcurrentJobs": 2}
    with ExitStack() as stack:
        with scene.there.inside():
            there = stack.enter_context(running_orthanc(scene.folder / "orthanc-there", options))
        port = there.url.rpartition(":")[2]
        peers = {"there": [f"http://{scene.there.address}:{port}/", "", ""]}
        with scene.here.inside():
            here = stack.enter_context(
                running_orthanc(scene.folder / "orthanc-here", options | {"OrthancPeers": peers})
            )
            http = stack.enter_context(httpx.Client(base_url=here.url, trust_env=False, timeout=_WAIT_S))
            said = [http.post("/instances", content=data).raise_for_status().json() for data in scene.files]
            studies = sorted({one["ParentStudy"] for one in said})
            return scene.measure(
                [here.process.pid, there.process.pid],
                lambda: http.post("/peers/there/store", json={"Resources": studies}).raise_for_status(),
                lambda: True,
            )


CONTENDERS: dict[str, Callable[[Scene], Cost]] = {
    "ours": ours,
    "Syncthing": syncthing,
    "Syncthing, compression always": lambda scene: syncthing(scene, "always"),
    "rsync daemon --fsync": rsync,
    "rsync daemon --fsync -z zstd": lambda scene: rsync(scene, "-z", "--zc=zstd"),
    "Orthanc peer": orthanc,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ct", type=int, default=300, help="slices of 512 kB")
    parser.add_argument("--mr", type=int, default=600, help="slices of 27 kB")
    parser.add_argument(
        "--study", type=Path, action="append", default=[], help="a folder with one study or several, as well"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="contenders whose name begins so")
    given = parser.parse_args()
    absent = [p for p in ("syncthing", "rsync", "time", "Orthanc") if shutil.which(p) is None]
    if reason := missing() or ", ".join(absent):
        print(f"missing here: {reason}")
        return 2
    studies = {
        "CT": ct_study(1_111_111_111_111, given.ct, given.ct),
        "MR": mr_study(2_222_222_222_222, given.mr, given.mr),
    }
    for folder in given.study:
        studies[folder.name] = [path.read_bytes() for path in sorted(folder.rglob("*.dcm"))]
    fresh: list[float] = []
    behind = False
    print("| study | by | s | MB/s | wire / payload | CPU s | peak MB, both |\n|---|---|---|---|---|---|---|")
    for name, files in studies.items():
        if files:
            behind |= _compare(name, files, given.rounds, given.only or "", fresh)
    if fresh:
        told = ", ".join(f"{one:.2f}" for one in fresh)
        print(f"\na new study of {_SMALL} small slices is on the next node after {told} s")
    return 1 if behind or any(one > 2 for one in fresh) else 0


def _compare(name: str, files: list[bytes], rounds: int, only: str, fresh: list[float]) -> bool:
    """Measure all contenders in turn, print the medians, and say whether we are behind Syncthing."""
    total = sum(map(len, files))
    several = len({pydicom.dcmread(BytesIO(one), specific_tags=[_STUDY])[_STUDY].value for one in files})
    told_of = f"{name}, {len(files)} slices" + (f" of {several} studies" if several > 1 else "")
    costs: dict[str, list[Cost]] = {}
    for _ in range(rounds):
        for contender, run in CONTENDERS.items():
            if contender.startswith(only):
                with tempfile.TemporaryDirectory() as folder, Lab() as lab:
                    lab.place("lan")
                    scene = Scene(
                        lab.machine("here", "lan"), lab.machine("there", "lan"), files, Path(folder)
                    )
                    cost = ours(scene, fresh) if run is ours else run(scene)
                    costs.setdefault(contender, []).append(cost)
    seconds = {one: statistics.median(c.seconds for c in cost) for one, cost in costs.items()}
    for contender, runs in costs.items():
        s, wire = seconds[contender], statistics.median(c.wire for c in runs) / total
        cpu, peak = statistics.median(c.cpu for c in runs), max(c.peak for c in runs)
        spread = f" ({min(c.seconds for c in runs):.2f}–{max(c.seconds for c in runs):.2f})"
        told = f"{s:.2f}{spread} | {total / s / 1e6:.0f} | {wire:.2f} | {cpu:.1f} | {peak:.0f}"
        print(f"| {told_of}, {total / 1e6:.0f} MB | {contender} | {told} |", flush=True)
    return seconds.get("ours", 0.0) > seconds.get("Syncthing", float("inf"))


if __name__ == "__main__":
    sys.exit(main())
