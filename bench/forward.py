"""How fast a study goes to a real Orthanc, and what the sender needs for it.

Budgets: at least 0.9 of bare httpx streaming STOW, above dicomweb-client; sender below 150 MB.

    python bench/forward.py [--slices 300] [--octets 524288] [--rounds 3]

Each sender runs in a process of its own against an Orthanc that is fresh for it, in turn, so that all
meet the same machine; the medians of the rounds count. "bare httpx" is a minimal hand-written loop with one
request a batch of ten; "verified" adds the query before and the read-back of every byte after.
"""

import argparse
import hashlib
import json
import logging
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

_STUDY = 31415
_BATCH = 10
DIGESTS: dict[Path, bytes] = {}
_PIECE = 4 * 1024 * 1024  # what the vault gives at a time


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--octets", type=int, default=512 * 1024, help="of pixels in each slice")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--as", dest="sender", choices=SENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--to", help=argparse.SUPPRESS)
    parser.add_argument("--from", dest="folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.sender:
        return _one_run(SENDERS[given.sender], given.to, sorted(given.folder.glob("*.dcm")))
    # Only here: a sender's own process is measured without them.
    from support.orthanc import missing
    from support.slices import made_slice

    if reason := missing():
        print(reason)
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        total = 0
        for number in range(given.slices):
            part10 = made_slice(_STUDY, number, octets=given.octets)
            total += len(part10)
            (folder / f"{number:05}.dcm").write_bytes(part10)
        runs: dict[str, list[dict[str, float]]] = {sender: [] for sender in SENDERS}
        for number in range(given.rounds):
            for sender in SENDERS:
                runs[sender].append(_measured(sender, folder, f"{sender}-{number}"))
    return _report(runs, total, given.slices)


def _measured(sender: str, folder: Path, name: str) -> dict[str, float]:
    from support.orthanc import running_orthanc

    with running_orthanc(folder / name) as orthanc:
        command = [sys.executable, __file__, "--as", sender, "--to", orthanc.dicomweb, "--from", str(folder)]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    shutil.rmtree(folder / name)
    result: dict[str, float] = json.loads(answer.stdout)
    return result


def _one_run(send: Callable[[str, list[Path]], None], url: str, files: list[Path]) -> int:
    logging.disable(logging.CRITICAL)
    send("", [])  # imports do not count as sending
    for path in files:
        DIGESTS[path] = hashlib.sha256(path.read_bytes()).digest()  # known since the confirmation
    started, spent = time.monotonic(), time.process_time()
    send(url, files)
    seconds = time.monotonic() - started
    processor = time.process_time() - spent
    # Not ru_maxrss, which remembers the parent across fork and exec.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    print(json.dumps({"seconds": seconds, "peak_mb": peak, "processor": processor}))
    return 0


def _report(runs: dict[str, list[dict[str, float]]], total: int, slices: int) -> int:
    print(f"{slices} slices, {total / 1e6:.0f} MB, to Orthanc on the loopback, median of each\n")
    print("| sender | s | MB/s | of bare httpx | processor s | peak MB |\n|---|---|---|---|---|---|")
    seconds = {sender: statistics.median(r["seconds"] for r in rounds) for sender, rounds in runs.items()}
    # Round by round, since a busy machine slows neighbours in time alike.
    ratios = {
        sender: statistics.median(
            bare["seconds"] / own["seconds"] for bare, own in zip(runs["bare httpx"], rounds, strict=True)
        )
        for sender, rounds in runs.items()
    }
    peaks = {sender: max(r["peak_mb"] for r in rounds) for sender, rounds in runs.items()}
    for sender, s in seconds.items():
        rate = total / 1e6 / s
        cpu = statistics.median(r["processor"] for r in runs[sender])
        each = " ".join(f"{r['seconds']:.2f}" for r in runs[sender])
        told = f"{s:.2f} ({each}) | {rate:.0f} | {ratios[sender]:.2f} | {cpu:.2f} | {peaks[sender]:.0f}"
        print(f"| {sender} | {told} |")
    fast = ratios["ours"] >= 0.9 and ratios["ours"] > ratios["dicomweb-client"]
    held = fast and max(peaks["ours"], peaks["ours, verified"]) < 150
    print(f"\nbudget {'held' if held else 'MISSED'}")
    return 0 if held else 1


def _bare(url: str, files: list[Path]) -> None:
    """Stream batches of ten by httpx, and look at the status only."""
    import httpx

    if not files:
        return
    with httpx.Client(trust_env=False, timeout=120) as client:
        for at in range(0, len(files), _BATCH):
            batch = files[at : at + _BATCH]
            head = b"--edge\r\nContent-Type: application/dicom\r\n\r\n"
            size = sum(len(head) + path.stat().st_size + 2 for path in batch) + 8

            def body(batch: list[Path] = batch, head: bytes = head) -> Iterator[bytes]:
                for path in batch:
                    yield head + path.read_bytes() + b"\r\n"
                yield b"--edge--"

            answer = client.post(
                f"{url}/studies",
                content=body(),
                headers={
                    "Content-Type": 'multipart/related; type="application/dicom"; boundary=edge',
                    "Content-Length": str(size),
                    "Accept": "application/dicom+json",
                },
            )
            answer.raise_for_status()


def _dicomweb_client(url: str, files: list[Path]) -> None:
    """Send batches of ten by dicomweb-client, as its documentation shows."""
    import pydicom
    from dicomweb_client.api import DICOMwebClient

    if not files:
        return
    client = DICOMwebClient(url)
    for at in range(0, len(files), _BATCH):
        client.store_instances([pydicom.dcmread(path) for path in files[at : at + _BATCH]])


def _ours(url: str, files: list[Path], *, verified: bool = False) -> None:
    from node.deliver.access import http_client
    from node.deliver.destination import Outgoing
    from node.deliver.dicomweb import DicomWebDestination
    from node.deliver.stow import StowSender
    from sync.evidence import Evidence, Expected, Outcome, judge

    if not files:
        return

    def outgoing(path: Path) -> Outgoing:
        def opened() -> Iterator[bytes]:
            with path.open("rb") as file:
                while piece := file.read(_PIECE):
                    yield piece

        uid = f"2.25.{_STUDY}.1.{int(path.stem)}"
        return Outgoing(f"2.25.{_STUDY}", uid, "", "", path.stat().st_size, DIGESTS[path], opened)

    instances = [outgoing(path) for path in files]
    if not verified:
        with http_client() as client:
            results = StowSender(client, url).send(instances)
        assert {r.outcome for r in results} == {Outcome.STORED}
        return
    pacs = DicomWebDestination(url)
    pacs.store(instances)
    proofs = pacs.prove(instances[0].study_uid, instances, Evidence.READ_BACK)
    judged = judge([Expected(i.uid, i.sha256) for i in instances], proofs, demanded=Evidence.READ_BACK)
    assert judged.may_end
    pacs.close()


def _ours_verified(url: str, files: list[Path]) -> None:
    _ours(url, files, verified=True)


SENDERS: dict[str, Callable[[str, list[Path]], None]] = {
    "bare httpx": _bare,
    "ours": _ours,
    "ours, verified": _ours_verified,
    "dicomweb-client": _dicomweb_client,
}

if __name__ == "__main__":
    sys.exit(main())
