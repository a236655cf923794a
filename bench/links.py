"""From confirm to the PACS's proof over bad lines, beside Orthanc-to-Orthanc and Syncthing plus a script.

    python bench/links.py [--scans FOLDER] [--only LINE] [--runs 1] [--part 1] [--json]

The lines are TCP proxies (tests/support/proxy.py), each cut every 30 s, so that all connections are reset:
64 kbit/s / 600 ms, 384 kbit/s / 700 ms, 1 Mbit/s / 80 ms, 20 Mbit/s / 30 ms. The study is as large as the
line makes bearable: real slices (`--scans`, TEST_SCANS or ../shared/data), else made ones. All have it on the
near side when the clock starts, ours uploaded and examined; at the far side an Orthanc is the PACS. It stops

* ours: when the cloud node, at the far side, has read all images back from the PACS and says "delivered";
  the clock starts with the confirmation, so sealing counts; the clinic looks for its peer every second;
* Orthanc peer, Orthanc DICOMweb: when the far Orthanc has acknowledged each instance and lists all of them;
  a script sends one after another and repeats what failed after a second, since a job that sends a whole
  study begins anew after each cut. The peer sends gzip;
* Syncthing (compression "always", reconnecting every second): when a script at the far side has posted each
  file that arrived to the PACS, which lists all of them.

Octets are those that the proxy passed on, both ways. Nothing but the far PACS is asked for the end. On lines
of up to 1 Mbit/s all wait for the line, so six of these measurements go on at the same time, each over a
line of its own; on the fast one each is alone. `--part 2` takes half of each study and of the time.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from studies import ct_study, mr_study  # noqa: E402
from support.nodes import HandIn, RealNode, free_port, wait_until  # noqa: E402
from support.orthanc import RunningOrthanc, running_orthanc  # noqa: E402
from support.proxy import Line, Proxy, proxied  # noqa: E402

_CUT_S = 30.0
_SLOW, _AT_ONCE = 1_000_000 / 8, 6


@dataclass(frozen=True, slots=True)
class Way:
    """A line, what goes over it, and how long anybody may take."""

    line: Line
    scans: str
    slices: int
    most_s: float


WAYS = {
    "64 kbit/s, 600 ms": Way(Line(rate=64_000 / 8, rtt_s=0.6), "mr-ge/mr_0004", 20, 240),
    "384 kbit/s, 700 ms": Way(Line(rate=384_000 / 8, rtt_s=0.7), "ct-ge", 8, 300),
    "1 Mbit/s, 80 ms": Way(Line(rate=1_000_000 / 8, rtt_s=0.08), "ct-ge", 14, 240),
    "20 Mbit/s, 30 ms": Way(Line(rate=20_000_000 / 8, rtt_s=0.03), "ct-ge", 28, 120),
}


@dataclass(frozen=True, slots=True)
class Told:
    """How one went; `seconds` is None if it did not come to its end in time."""

    seconds: float | None
    octets: int


@dataclass(frozen=True, slots=True)
class Scene:
    """The study, the far PACS, and a folder for everything that is written."""

    files: list[bytes]
    way: Way
    pacs: RunningOrthanc
    folder: Path

    def timed(self, proxy: Proxy, begin: Callable[[], object], done: Callable[[], object]) -> Told:
        """Begin, wait for the end, and say how it went."""
        before, start = sum(proxy.octets), time.monotonic()
        begin()
        while time.monotonic() - start < self.way.most_s:
            with suppress(httpx.HTTPError):
                if done():
                    return Told(time.monotonic() - start, sum(proxy.octets) - before)
            time.sleep(0.1)
        return Told(None, sum(proxy.octets) - before)

    def arrived(self) -> bool:
        """Tell whether the PACS lists all instances."""
        listed = httpx.get(f"{self.pacs.url}/instances", trust_env=False, timeout=30).json()
        return len(listed) >= len(self.files)

    @contextmanager
    def line_to(self, address: str) -> Iterator[Proxy]:
        """Give the bad line to an address; it is perfect until the clock starts."""
        with proxied(address) as proxy:
            yield proxy

    @property
    def bad(self) -> Line:
        return replace(self.way.line, cut_every_s=_CUT_S)


def ours(scene: Scene) -> Told:
    """A clinic, the line, and a cloud node beside the PACS."""
    settings: dict[str, Any] = {"replicate_every_s": 1.0, "forward_every_s": 15.0}
    with ExitStack() as stack:
        cloud = stack.enter_context(RealNode(scene.folder / "cloud", **settings))
        clinic = stack.enter_context(RealNode(scene.folder / "clinic", **settings))
        cloud.init()
        cloud.start()
        cloud.admit(clinic, "clinic")
        cloud.add_pacs(scene.pacs.dicomweb)
        proxy = stack.enter_context(scene.line_to(cloud.mesh_address))
        clinic.start([proxy.address])
        clinic.wait(lambda: len(cloud.get("/api/v1/status")["members"]) > 1, "to be known", 60)
        hand_in = HandIn(clinic, {f"IM{n:04}": data for n, data in enumerate(scene.files)})
        hand_in.examined()
        proxy.line = scene.bad
        made: list[str] = []
        return scene.timed(
            proxy,
            lambda: made.extend(hand_in.until_kept()),
            lambda: cloud.states(made) == {"delivered"},
        )


def orthanc(scene: Scene, kind: str) -> Told:
    """Another Orthanc at the near side, and a script that repeats what failed."""
    with ExitStack() as stack:
        proxy = stack.enter_context(scene.line_to(scene.pacs.url.removeprefix("http://")))
        there = f"http://{proxy.address}/"
        options = {
            "OrthancPeers": {"far": [there, "", ""]},
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "Servers": {"far": [f"{there}dicom-web/"]}},
        }
        near = stack.enter_context(running_orthanc(scene.folder / "near", options))
        # A connection each: Orthanc closes one that rests for a second, as a script does that waits.
        once = httpx.Limits(max_keepalive_connections=0)
        http = stack.enter_context(httpx.Client(base_url=near.url, trust_env=False, timeout=60, limits=once))
        ids = [http.post("/instances", content=data).json()["ID"] for data in scene.files]
        proxy.line = scene.bad

        def send(one: str) -> bool:
            path = "/peers/far/store" if kind == "peer" else "/dicom-web/servers/far/stow"
            body = {"Resources": [one], "Synchronous": True} | ({"Compress": True} if kind == "peer" else {})
            with suppress(httpx.TimeoutException):
                return http.post(path, json=body).is_success
            return False

        def begin() -> None:
            deadline = time.monotonic() + scene.way.most_s
            for one in ids:
                while time.monotonic() < deadline and not send(one):
                    time.sleep(1)

        return scene.timed(proxy, begin, scene.arrived)


def syncthing(scene: Scene) -> Told:
    """Two of them, and a script that posts what arrives."""
    with ExitStack() as stack:
        here, there = _Syncthing(scene.folder / "here"), _Syncthing(scene.folder / "there")
        proxy = stack.enter_context(scene.line_to(f"127.0.0.1:{there.port}"))
        here.configure(there, f"tcp://{proxy.address}", "sendonly")
        there.configure(here, "dynamic", "receiveonly")
        for number, data in enumerate(scene.files):
            (here.data / f"IM{number:04}.dcm").write_bytes(data)
        stack.enter_context(here.running())
        stack.enter_context(there.running())
        wait_until(
            lambda: here.ask("GET", "/db/status?folder=f").get("localFiles") == len(scene.files),
            60,
            "its scan",
        )
        proxy.line = scene.bad
        posted: set[str] = set()

        def done() -> bool:
            for path in sorted(there.data.glob("IM*.dcm")):
                if path.name not in posted:
                    httpx.post(
                        f"{scene.pacs.url}/instances", content=path.read_bytes(), trust_env=False, timeout=60
                    ).raise_for_status()
                    posted.add(path.name)
            return len(posted) == len(scene.files) and scene.arrived()

        return scene.timed(
            proxy, lambda: here.ask("PATCH", f"/config/devices/{there.id}", {"paused": False}), done
        )


class _Syncthing:
    """One of its processes, which knows one other and nobody else."""

    def __init__(self, folder: Path) -> None:
        self.home, self.data = folder / "home", folder / "data"
        self.home.mkdir(parents=True)
        (self.data / ".stfolder").mkdir(parents=True)
        self.port, self._gui = free_port(), free_port()
        subprocess.run(["syncthing", "generate", f"--home={self.home}"], check=True, capture_output=True)
        config = ET.parse(self.home / "config.xml").getroot()
        self._key = str(config.findtext("gui/apikey"))
        device = config.find("device")
        assert device is not None
        self.id = str(device.get("id"))

    def configure(self, other: "_Syncthing", address: str, kind: str) -> None:
        """Write a configuration that finds nobody by itself."""
        devices = "".join(
            f'<device id="{one.id}" compression="always"><address>{address if one is other else "dynamic"}'
            f"</address><paused>{str(one is other and kind == 'sendonly').lower()}</paused></device>"
            for one in (self, other)
        )
        members = "".join(f'<device id="{one.id}"/>' for one in (self, other))
        off = "".join(
            f"<{name}>false</{name}>"
            for name in (
                *("globalAnnounceEnabled", "localAnnounceEnabled", "relaysEnabled", "natEnabled"),
                *("startBrowser", "crashReportingEnabled"),
            )
        )
        (self.home / "config.xml").write_text(
            f'<configuration version="35"><folder id="f" path="{self.data}" type="{kind}" '
            f'rescanIntervalS="3600" fsWatcherEnabled="false">{members}</folder>{devices}<gui enabled="true">'
            f"<address>127.0.0.1:{self._gui}</address><apikey>{self._key}</apikey></gui><options>"
            f"<listenAddress>tcp://127.0.0.1:{self.port}</listenAddress>{off}<urAccepted>-1</urAccepted>"
            "<reconnectionIntervalS>1</reconnectionIntervalS></options></configuration>"
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run it, and wait until it answers."""
        words = ["syncthing", "serve", "--no-browser", "--no-restart", "--no-upgrade", f"--home={self.home}"]
        with (self.home / "log").open("wb") as log:
            process = subprocess.Popen(words, stdout=log, stderr=log)
        try:
            wait_until(self._answers, 60, "Syncthing")
            yield
        finally:
            process.terminate()
            process.wait(30)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return what its REST API answers."""
        url, headers = f"http://127.0.0.1:{self._gui}/rest{path}", {"X-API-Key": self._key}
        answer = httpx.request(method, url, headers=headers, json=body, trust_env=False, timeout=60)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def _answers(self) -> bool:
        with suppress(httpx.HTTPError):
            return bool(self.ask("GET", "/db/status?folder=f"))
        return False


CONTENDERS: dict[str, Callable[[Scene], Told]] = {
    "ours": ours,
    "Orthanc peer, gzip": lambda scene: orthanc(scene, "peer"),
    "Orthanc DICOMweb": lambda scene: orthanc(scene, "dicomweb"),
    "Syncthing and a script": syncthing,
}


def study(way: Way, scans: Path) -> tuple[list[bytes], str]:
    """Return the slices for a line, and what they are."""
    paths = [path for path in sorted((scans / way.scans).glob("*")) if path.is_file()]
    real = [data for path in paths if (data := path.read_bytes())[128:132] == b"DICM"][: way.slices]
    if len(real) == way.slices:
        return real, f"{way.slices} real slices of {way.scans}"
    made = mr_study if way.scans.startswith("mr") else ct_study
    return made(3_333_333_333_333, way.slices), f"{way.slices} made slices"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scans", type=Path)
    parser.add_argument("--only", default="", help="lines whose name begins so")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--part", type=int, default=1, help="the how manieth part of each study is taken")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    scans = given.scans or Path(os.environ.get("TEST_SCANS", ROOT.parent / "shared" / "data"))
    ways = {
        name: replace(way, slices=way.slices // given.part, most_s=way.most_s / given.part)
        for name, way in WAYS.items()
        if name.startswith(given.only)
    }
    told: dict[tuple[str, str], list[Told]] = {(name, one): [] for name in ways for one in CONTENDERS}
    slow = [(ways[at[0]].most_s, at) for at in told if (ways[at[0]].line.rate or 0) <= _SLOW]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        waiting = [
            (at, pool.submit(measured, ways[at[0]], scans, CONTENDERS[at[1]]))
            for _ in range(given.runs)
            for _, at in sorted(slow, reverse=True)
        ]
        for at, one in waiting:
            told[at].append(one.result())
    for at in [at for at in told if (ways[at[0]].line.rate or 0) > _SLOW for _ in range(given.runs)]:
        told[at].append(measured(ways[at[0]], scans, CONTENDERS[at[1]]))
    if given.json:
        print(
            json.dumps(
                [{"line": at[0], "by": at[1], "told": [asdict(x) for x in one]} for at, one in told.items()]
            )
        )
        return
    print("| line, cut every 30 s | study | MB | by | s, median (least–most) | octets on the line / study |")
    print("|---|---|---|---|---|---|")
    for (name, contender), runs in told.items():
        files, what = study(ways[name], scans)
        total = sum(map(len, files))
        share = f"{statistics.median(one.octets for one in runs) / total:.2f}"
        took = seconds_of(runs, ways[name].most_s)
        print(f"| {name} | {what} | {total / 1e6:.2f} | {contender} | {took} | {share} |", flush=True)


def measured(way: Way, scans: Path, run: Callable[[Scene], Told]) -> Told:
    """Let one of them bring a study over a line to a PACS of its own."""
    files, _ = study(way, scans)
    with tempfile.TemporaryDirectory() as folder, running_orthanc(Path(folder) / "pacs") as pacs:
        return run(Scene(files, way, pacs, Path(folder)))


def seconds_of(runs: list[Told], most_s: float) -> str:
    """Return the median with its spread; who did not arrive in time is worse than all that did."""
    took = sorted(one.seconds if one.seconds is not None else math.inf for one in runs)
    shown = ["more than " * (one == math.inf) + f"{min(one, most_s):.1f}" for one in took]
    spread = f" ({shown[0]}–{shown[-1]})" if len(runs) > 1 else ""
    return shown[len(took) // 2] + spread


if __name__ == "__main__":
    main()
