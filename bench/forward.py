"""How fast a study goes to a real Orthanc, what the sender needs for it, and how well it uses a slow line.

Budgets: at least 0.9 of bare httpx streaming STOW, above dicomweb-client; sender below 150 MB.

    python bench/forward.py                          300 slices of 512 kB, and 5,000 of 27 kB
    python bench/forward.py --slow                   a line of 384 kbit/s with round trips of 700 ms
    python bench/forward.py --slices 300 --octets 524288 --rounds 3 --only ours "bare httpx"

Each sender runs in a process of its own against an Orthanc that is fresh for it, in turn, so that all
meet the same machine; ratios are taken round by round. "bare httpx" is a minimal hand-written loop with one
request a batch of ten, and looks at the status only. "verified" adds the query before and the proof after:
by reading back every byte (STOW, C-STORE), or by the checksum that Orthanc takes of its file (REST).
Orthanc's own client sends what it has in its database; the images are put there before the clock runs.
"""

import argparse
import hashlib
import json
import logging
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

_STUDY = 31415
_BATCH = 10
_PIECE = 4 * 1024 * 1024  # what the vault gives at a time
_CHUNK = 100  # instances that the forward job sends and proves together at most
_SLOW_RATE, _SLOW_RTT_S = 48_000, 0.7
WORKLOADS = {"CT": (300, 512 * 1024), "small": (5000, 27_000)}
SLOW = {"slow": (24, 27_000)}
DIGESTS: dict[Path, bytes] = {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--slices", type=int, help="one workload of so many")
    parser.add_argument("--octets", type=int, default=512 * 1024, help="of pixels in each slice")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slow", action="store_true", help="over a slow line")
    parser.add_argument("--only", nargs="+", choices=SENDERS, default=list(SENDERS))
    parser.add_argument("--as", dest="sender", choices=SENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--to", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--from", dest="folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.sender:
        return _one_run(SENDERS[given.sender], given.to, sorted(given.folder.glob("*.dcm")))
    # Only here: a sender's own process is measured without them.
    from support.orthanc import missing

    if reason := missing():
        print(reason)
        return 2
    workloads = SLOW if given.slow else WORKLOADS
    if given.slices:
        workloads = {"given": (given.slices, given.octets)}
    senders = [name for name in given.only if not (given.slow and name in _NOT_SLOW)]
    held = True
    for count, octets in workloads.values():
        held &= _workload(senders, count, octets, given.rounds, slow=given.slow)
    return 0 if held else 1


def _workload(senders: list[str], count: int, octets: int, rounds: int, *, slow: bool) -> bool:
    from support.slices import made_slice

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        total = 0
        for number in range(count):
            part10 = made_slice(_STUDY, number, octets=octets)
            total += len(part10)
            (folder / f"{number:05}.dcm").write_bytes(part10)
        runs: dict[str, list[dict[str, float]]] = {sender: [] for sender in senders}
        for number in range(rounds):
            # Whoever is first meets a cold machine: each round begins with another one.
            for sender in senders[number % len(senders) :] + senders[: number % len(senders)]:
                runs[sender].append(_measured(sender, folder, f"{sender}-{number}".replace(" ", "-"), slow))
                print(f"  {sender}: {runs[sender][-1]['seconds']:.2f} s", file=sys.stderr, flush=True)
    return _report(runs, total, count, slow=slow)


def _measured(sender: str, folder: Path, name: str, slow: bool) -> dict[str, float]:
    from support.orthanc import running_orthanc
    from support.proxy import Line, proxied

    options = {"DicomServerEnabled": True, "DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True}
    with ExitStack() as stack:
        orthanc = stack.enter_context(running_orthanc(folder / name, options))
        web, dimse = orthanc.url.removeprefix("http://"), f"127.0.0.1:{orthanc.dimse}"
        if slow:
            line = Line(rate=_SLOW_RATE, rtt_s=_SLOW_RTT_S)
            web, dimse = (stack.enter_context(proxied(one, line)).address for one in (web, dimse))
        to = {"url": f"http://{web}", "dicomweb": f"http://{web}/dicom-web", "dimse": dimse}
        to["slow"] = "yes" if slow else ""
        if sender == "Orthanc's client":
            measured = _orthancs_client(stack, folder, f"{name}-source", to)
        else:
            command = [
                sys.executable,
                __file__,
                "--as",
                sender,
                "--to",
                json.dumps(to),
                "--from",
                str(folder),
            ]
            answer = subprocess.run(command, capture_output=True, text=True, check=False)
            if answer.returncode:
                print(answer.stderr[-2000:], file=sys.stderr)
            failed = {"seconds": float("nan"), "peak_mb": float("nan"), "processor": float("nan")}
            measured = failed if answer.returncode else json.loads(answer.stdout)
    for used in (name, f"{name}-source"):
        shutil.rmtree(folder / used, ignore_errors=True)
    return measured


def _one_run(send: Callable[[dict[str, str], list[Path]], Any], to: dict[str, str], files: list[Path]) -> int:
    logging.disable(logging.CRITICAL)
    send(to, [])  # imports do not count as sending
    for path in files:
        DIGESTS[path] = hashlib.sha256(path.read_bytes()).digest()  # known since the confirmation
    started, spent = time.monotonic(), time.process_time()
    child = send(to, files)
    seconds = time.monotonic() - started
    processor, peak = time.process_time() - spent, _peak(os.getpid())
    if isinstance(child, tuple):
        processor, peak = child
    print(json.dumps({"seconds": seconds, "peak_mb": peak, "processor": processor}))
    return 0


def _peak(pid: int) -> float:
    # Not ru_maxrss, which remembers the parent across fork and exec.
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _processor(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _report(runs: dict[str, list[dict[str, float]]], total: int, slices: int, *, slow: bool) -> bool:
    where = "over 384 kbit/s with 700 ms" if slow else "on the loopback"
    count = len(next(iter(runs.values())))
    print(f"\n{slices} slices, {total / 1e6:.1f} MB, to Orthanc {where}, median of {count}\n")
    last = "of the line" if slow else "of bare httpx"
    print(f"| sender | s | MB/s | {last} | processor s | peak MB |\n|---|---|---|---|---|---|")
    ratios = {}
    for sender, rounds in runs.items():
        s = statistics.median(r["seconds"] for r in rounds)
        # Round by round, since a busy machine slows neighbours in time alike.
        bare = runs.get("bare httpx", rounds)
        ratio = statistics.median(b["seconds"] / own["seconds"] for b, own in zip(bare, rounds, strict=True))
        ratios[sender] = ratio
        share = f"{total / (s * _SLOW_RATE):.0%}" if slow else f"{ratio:.2f}"
        each = " ".join(f"{r['seconds']:.1f}" for r in rounds)
        cpu = statistics.median(r["processor"] for r in rounds)
        peak = max(r["peak_mb"] for r in rounds)
        if math.isnan(s):
            print(f"| {sender} | fails | | | | |")
            continue
        print(f"| {sender} | {s:.1f} ({each}) | {total / 1e6 / s:.2f} | {share} | {cpu:.1f} | {peak:.0f} |")
    if slow or not {"ours", "dicomweb-client"} <= runs.keys():
        return True
    peaks = [r["peak_mb"] for sender in runs if sender.startswith("ours") for r in runs[sender]]
    held = ratios["ours"] >= 0.9 and ratios["ours"] > ratios["dicomweb-client"] and max(peaks) < 150
    print(f"\nbudget {'held' if held else 'MISSED'}", flush=True)
    return held


# -- who sends --------------------------------------------------------------------------------------


def _bare(to: dict[str, str], files: list[Path]) -> None:
    """Stream batches of ten by httpx, and look at the status only."""
    import httpx

    if not files:
        return
    # Orthanc closes a connection that rests for a second, which a slow line makes of each.
    kept = httpx.Limits(max_keepalive_connections=0 if to["slow"] else 1)
    with httpx.Client(trust_env=False, timeout=300, limits=kept) as client:
        for at in range(0, len(files), _BATCH):
            batch = files[at : at + _BATCH]
            head = b"--edge\r\nContent-Type: application/dicom\r\n\r\n"
            size = sum(len(head) + path.stat().st_size + 2 for path in batch) + 8

            def body(batch: list[Path] = batch, head: bytes = head) -> Iterator[bytes]:
                for path in batch:
                    yield head + path.read_bytes() + b"\r\n"
                yield b"--edge--"

            answer = client.post(
                f"{to['dicomweb']}/studies",
                content=body(),
                headers={
                    "Content-Type": 'multipart/related; type="application/dicom"; boundary=edge',
                    "Content-Length": str(size),
                    "Accept": "application/dicom+json",
                },
            )
            answer.raise_for_status()


def _dicomweb_client(to: dict[str, str], files: list[Path]) -> None:
    """Send batches of ten by dicomweb-client, as its documentation shows."""
    import pydicom
    from dicomweb_client.api import DICOMwebClient

    if not files:
        return
    client = DICOMwebClient(to["dicomweb"])
    for at in range(0, len(files), _BATCH):
        client.store_instances([pydicom.dcmread(path) for path in files[at : at + _BATCH]])


def _storescu(to: dict[str, str], files: list[Path], *, nodelay: str = "") -> tuple[float, float] | None:
    """Send by DCMTK's storescu, all over one association."""
    if not files:
        return None
    host, _, port = to["dimse"].rpartition(":")
    command = ["storescu", "-aec", "ORTHANC", "+sd", "-to", "300", host, port, str(files[0].parent)]
    env = {**os.environ, **({"TCP_NODELAY": nodelay} if nodelay else {})}
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seen = [0.0, 0.0]

    def watch() -> None:
        while process.poll() is None:
            try:
                seen[:] = [_processor(process.pid), _peak(process.pid)]
            except (OSError, ValueError, IndexError):
                return
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert process.wait() == 0
    watcher.join()
    return seen[0], seen[1]


def _storescu_nodelay(to: dict[str, str], files: list[Path]) -> tuple[float, float] | None:
    return _storescu(to, files, nodelay="1")


def _orthancs_client(stack: ExitStack, folder: Path, name: str, to: dict[str, str]) -> dict[str, float]:
    """Let another Orthanc send what it has by its own STOW client."""
    import httpx
    from support.orthanc import running_orthanc

    options = {"DicomWeb": {"Enable": True, "Root": "/dicom-web/", "Servers": {"to": [to["dicomweb"] + "/"]}}}
    source = stack.enter_context(running_orthanc(folder / name, options))
    pid = source.process.pid
    with httpx.Client(base_url=source.url, trust_env=False, timeout=3600) as client:
        for path in sorted(folder.glob("*.dcm")):
            client.post("/instances", content=path.read_bytes()).raise_for_status()
        (study,) = client.get("/studies").json()
        Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")  # the peak counts from here
        started, spent = time.monotonic(), _processor(pid)
        order = {"Resources": [study], "Synchronous": True}
        client.post("/dicom-web/servers/to/stow", json=order).raise_for_status()
        return {
            "seconds": time.monotonic() - started,
            "processor": _processor(pid) - spent,
            "peak_mb": _peak(pid),
        }


def _ours(kind: str, *, verified: bool = False) -> Callable[[dict[str, str], list[Path]], None]:
    """Send as a forwarder does, in the chunks of its job."""

    def send(to: dict[str, str], files: list[Path]) -> None:
        from node.deliver.destination import Outgoing
        from sync.evidence import Evidence, Expected, Outcome, judge

        pacs = _destination(kind, to)
        if not files:
            return

        def outgoing(path: Path) -> Outgoing:
            def opened() -> Iterator[bytes]:
                with path.open("rb") as file:
                    while piece := file.read(_PIECE):
                        yield piece

            uid, size = f"2.25.{_STUDY}.1.{int(path.stem)}", path.stat().st_size
            ct, explicit = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"
            return Outgoing(f"2.25.{_STUDY}", uid, ct, explicit, size, DIGESTS[path], opened)

        level = Evidence.CHECKSUM if kind == "orthanc" else Evidence.READ_BACK
        sender = pacs._sender if kind == "dicomweb" and not verified else None
        everything = [outgoing(path) for path in files]
        for at in range(0, len(everything), _CHUNK):
            chunk = everything[at : at + _CHUNK]
            results = sender.send(chunk) if sender is not None else pacs.store(chunk)
            assert {r.outcome for r in results} == {Outcome.STORED}
            if verified:
                proofs = pacs.prove(chunk[0].study_uid, chunk, level)
                assert judge([Expected(i.uid, i.sha256) for i in chunk], proofs, demanded=level).may_end
        pacs.close()

    return send


def _destination(kind: str, to: dict[str, str]) -> Any:
    if kind == "dimse":
        from node.deliver.dimse import DimseDestination

        return DimseDestination(f"dicom://ORTHANC@{to['dimse']}", idle_s=300)
    if kind == "orthanc":
        from node.deliver.orthanc import OrthancDestination

        return OrthancDestination(to["url"], idle_s=300)
    from node.deliver.dicomweb import DicomWebDestination

    return DicomWebDestination(to["dicomweb"], idle_s=300)


SENDERS: dict[str, Callable[[dict[str, str], list[Path]], Any]] = {
    "bare httpx": _bare,
    "ours": _ours("dicomweb"),
    "ours, verified": _ours("dicomweb", verified=True),
    "ours, REST": _ours("orthanc"),
    "ours, REST, verified": _ours("orthanc", verified=True),
    "ours, C-STORE": _ours("dimse"),
    "ours, C-STORE, verified": _ours("dimse", verified=True),
    "dicomweb-client": _dicomweb_client,
    "storescu": _storescu,
    "storescu, TCP_NODELAY=1": _storescu_nodelay,
    "Orthanc's client": lambda to, files: None,  # another Orthanc does it, see `_orthancs_client`
}
_NOT_SLOW = {"storescu, TCP_NODELAY=1"}

if __name__ == "__main__":
    sys.exit(main())
