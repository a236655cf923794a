"""How fast a study is taken in, sealed and durable, beside Orthanc's `POST /instances` of the same files.

    python bench/ingest.py [--slices 300] [--small 2000] [--runs 3] [--scans] [--json] [--only ct|mr]

Budget: at least as fast as Orthanc; peak memory below 250 MB.

Node and Orthanc are processes of their own and take turns. To the node goes one ZIP with stored members by
tus, in parts of 4 MiB with a checksum each; the clock stops when the submission is `kept`. "confirmed first":
the confirmation is there before the bytes, as the app sends it; "confirmed after": the sender waits for the
examination, as the command line does. To Orthanc go the files one after another over one connection.
The client is the same for both. `--scans`: the slices are real ones, repeated, with UIDs of their own and
pixels that moved; else made ones, whose noise is harder. CPU seconds: the serving process and its children.
"""

import argparse
import base64
import hashlib
import http.client
import json
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from studies import (
    CT_OCTETS,
    children,
    cpu_s,
    ct_study,
    mr_study,
    packed,
    peak_mb,
    scanned_ct,
    scanned_mr,
    uid_of,
)
from support.nodes import RealNode
from support.orthanc import missing, running_orthanc

from node import operator

PART_BYTES = 4 << 20
PEAK_MB = 250
_ASK_S = 0.02
_TUS = {"Tus-Resumable": "1.0.0"}


@dataclass(frozen=True, slots=True)
class Run:
    """What one study cost. `peak_mb`: of the server since it started, `worker_mb` of its worker process."""

    seconds: float
    cpu_s: float
    peak_mb: float
    worker_mb: float


class Client:
    """One kept connection to the node, as its operator or to Orthanc."""

    def __init__(self, port: int, headers: dict[str, str]) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self._headers = headers

    def begin(self) -> None:
        """Open the next connection anew: servers close those that rest."""
        self._connection.close()

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[Any, Any]:
        """Return the headers and the JSON of an answer that must be a success."""
        self._connection.request(method, path, body, self._headers | headers)
        answer = self._connection.getresponse()
        said = answer.read()
        assert answer.status < 300, (method, path, answer.status, said)
        return answer.headers, json.loads(said) if said[:1] in (b"{", b"[") else None

    def post(self, path: str, value: Any) -> Any:
        """Post JSON, and return what is answered."""
        return self.ask("POST", path, json.dumps(value).encode(), **{"Content-Type": "application/json"})[1]


def hand_in(client: Client, data: bytes, confirmation: Any) -> None:
    """Upload a ZIP and have it kept; `confirmation` None: say yes to what was found."""
    client.begin()
    made = client.post("/api/v1/submissions", {"client_id": str(uuid.uuid4()), "kind": "zip"})
    path = f"/api/v1/submissions/{made['id']}"
    if confirmation is not None:
        client.post(f"{path}/confirm", confirmation)
    metadata = f"submission {base64.b64encode(made['id'].encode()).decode()}"
    create = {"Upload-Length": str(len(data)), "Upload-Metadata": metadata, **_TUS}
    place = client.ask("POST", "/api/v1/uploads", **create)[0]["Location"]
    where = place[place.index("/api/") :]
    view = memoryview(data)
    for begin in range(0, len(data), PART_BYTES):
        part = bytes(view[begin : begin + PART_BYTES])
        checksum = base64.b64encode(hashlib.sha256(part).digest()).decode()
        headers = {
            "Upload-Offset": str(begin),
            "Upload-Checksum": f"sha256 {checksum}",
            "Content-Type": "application/offset+octet-stream",
            **_TUS,
        }
        client.ask("PATCH", where, part, **headers)
    while (said := client.ask("GET", path)[1])["state"] != "kept":
        assert said["state"] in ("received", "examined", "confirmed"), said
        if said["state"] == "examined":
            client.post(f"{path}/confirm", statement(said["examination"]["studies"]))
        time.sleep(_ASK_S)


def statement(studies: Any) -> Any:
    """Return what confirms studies of an examination."""
    keys = ("study_uid", "digest", "instances")
    return {"studies": [{key: study[key] for key in keys} for study in studies]}


def known_before(study: int, files: list[bytes]) -> Any:
    """Return what confirms a made study, as the app knows it before it has sent anything."""
    lines = sorted(
        f"{uid_of(study, number)} {hashlib.sha256(data).hexdigest()}\n" for number, data in enumerate(files)
    )
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    return statement([{"study_uid": f"2.25.{study}", "digest": digest, "instances": len(files)}])


def measured(work: Callable[[], None], pid: int) -> Run:
    """Run something that makes a server work."""
    before, started = cpu_s(pid), time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    worker = max((peak_mb(child) for child in children(pid)), default=0.0)
    return Run(seconds, cpu_s(pid) - before, peak_mb(pid), worker)


def one_kind(
    folder: Path, make: Callable[[int, int], list[bytes]], slices: int, runs: int
) -> tuple[int, dict[str, list[Run]]]:
    """Measure one kind of study in fresh servers; return its size and the runs by name."""
    found: dict[str, list[Run]] = {name: [] for name in ("confirmed first", "confirmed after", "Orthanc")}
    size = 0
    with RealNode(folder / "node", replicate_every_s=3600, forward_every_s=3600) as node:
        node.init()
        node.start()
        bearer = {"Authorization": f"Bearer {operator.read(node.home.run).token}"}
        ours, pid = Client(node.local_port, bearer), node._process.pid  # type: ignore[union-attr]
        warm = make(10**12 + 10**6, 3)
        hand_in(ours, packed(warm), None)  # starts the worker, and fills caches
        with running_orthanc(folder / "orthanc") as orthanc:
            theirs = Client(int(orthanc.url.rpartition(":")[2]), {})
            for number in range(runs):
                for name, results in found.items():
                    study = 10**12 + number * 10 + len(name)
                    files = make(study, slices)
                    size = sum(map(len, files))
                    if name == "Orthanc":
                        results.append(measured(lambda f=files: post_all(theirs, f), orthanc.process.pid))  # type: ignore[misc]
                        continue
                    data = packed(files, descriptors=name == "confirmed after")
                    first = known_before(study, files) if name == "confirmed first" else None
                    del files
                    results.append(measured(lambda d=data, c=first: hand_in(ours, d, c), pid))  # type: ignore[misc]
    return size, found


def post_all(client: Client, files: list[bytes]) -> None:
    """Give Orthanc all files, one after another."""
    client.begin()
    for data in files:
        client.ask("POST", "/instances", data, **{"Content-Type": "application/dicom"})


def report(kind: str, slices: int, size: int, found: dict[str, list[Run]]) -> bool:
    """Print the table of one kind; tell whether the budgets are held."""
    print(f"\n{kind}: {slices} slices, {size / 1e6:.0f} MB; median of {len(found['Orthanc'])}\n")
    print("| into | s | MB/s | instances/s | CPU ms per MB | peak MB | worker MB |")
    print("|---|---|---|---|---|---|---|")
    medians = {name: statistics.median(run.seconds for run in runs) for name, runs in found.items()}
    for name, runs in found.items():
        s = medians[name]
        cpu = statistics.median(run.cpu_s for run in runs) / size * 1e9
        each = " ".join(f"{run.seconds:.2f}" for run in runs)
        peak, worker = max(run.peak_mb for run in runs), max(run.worker_mb for run in runs)
        print(
            f"| {name} | {s:.2f} ({each}) | {size / 1e6 / s:.0f} | {slices / s:.0f} | {cpu:.1f} "
            f"| {peak:.0f} | {worker:.0f} |"
        )
    ours = [runs for name, runs in found.items() if name != "Orthanc"]
    small = max(run.peak_mb for runs in ours for run in runs) < PEAK_MB
    return small and max(medians.values()) == medians["Orthanc"]


def main() -> int:
    """Measure, print, and return 1 if a budget is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--slices", type=int, default=300, help=f"of {CT_OCTETS // 1024} kB")
    parser.add_argument("--small", type=int, default=2000, help="slices of 27 kB")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=("ct", "mr"))
    parser.add_argument("--scans", action="store_true", help="real slices instead of made ones")
    parser.add_argument("--json", action="store_true", help="print every run instead of tables")
    given = parser.parse_args()
    if reason := missing():
        print(reason)
        return 2
    kinds = {
        "ct": ("CT", scanned_ct if given.scans else ct_study, given.slices),
        "mr": ("small MR", scanned_mr if given.scans else mr_study, given.small),
    }
    told: dict[str, Any] = {}
    held = True
    for short, (kind, make, slices) in kinds.items():
        if given.only in (None, short):
            with tempfile.TemporaryDirectory() as name:
                size, found = one_kind(Path(name), make, slices, given.runs)
            told[short] = {
                "octets": size,
                "slices": slices,
                "runs": {name: [asdict(run) for run in runs] for name, runs in found.items()},
            }
            held = (given.json or report(kind, slices, size, found)) and held
    print(json.dumps(told, indent=1) if given.json else f"\nbudget {'held' if held else 'MISSED'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
