"""How fast a study is taken in, in each shape that it comes in, beside Orthanc and the reference tus server.

    python bench/ingest_shapes.py [--slices 300] [--small 5000] [--cine-mb 2048] [--scans] [--only …]

Shapes: one CT as a ZIP, as single files (a submission each), as a folder by `clinicmesh submit` (its start
included); many small MR slices as a ZIP; one multi-frame file (a cine loop). The same files go to Orthanc's
`POST /instances`, one after another, and the same octets by tus to `@tus/server` with its file
store, which neither looks at them, nor seals, nor flushes. Ours counts until the study is `kept`: examined,
compressed, sealed and flushed. `--scans`: real slices, repeated, as `studies.py` makes them.
Each server is a process of its own, fresh for each shape; they take turns.
"""

import argparse
import base64
import contextlib
import http.client
import itertools
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np
from ingest import Client, Run, hand_in, known_before, measured, post_all, statement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from studies import ct_study, mr_study, packed, scanned_ct, scanned_mr
from support.nodes import RealNode
from support.orthanc import missing, running_orthanc

from node import operator

HERE = Path(__file__).resolve().parent
PART_BYTES = 4 << 20
_TUS = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
_CINE = "1.2.840.10008.5.1.4.1.1.3.1"  # Ultrasound Multi-frame
_SIDES = (640, 480)
_NUMBERS = itertools.count(1_000_000_000_001)


@dataclass(frozen=True, slots=True)
class Shape:
    """What is measured: octets and instances of one hand-in, and how each server is given it."""

    octets: int
    instances: int
    to_node: Callable[["Target"], None]
    to_orthanc: Callable[[Client], None]
    to_tus: Callable[[Client], None]


@dataclass(frozen=True, slots=True)
class Target:
    """The running node: its folder, its client, and its address."""

    folder: Path
    client: Client


# -- the shapes ---------------------------------------------------------------------------------


Make = Callable[[int, int], list[bytes]]


def as_zip(make: Make, slices: int) -> Shape:
    """One study as the app sends it, confirmed before its bytes."""
    study = next(_NUMBERS)
    files = make(study, slices)
    data, first = packed(files), known_before(study, files)
    return Shape(
        sum(map(len, files)),
        slices,
        lambda node: hand_in(node.client, data, first),
        lambda orthanc: post_all(orthanc, files),
        lambda tus: upload(tus, "/files", [data], len(data)),
    )


def as_files(make: Make, slices: int) -> Shape:
    """Each slice by itself, as a simple tool does it: submission, bytes with the creation, confirmation."""
    files = make(next(_NUMBERS), slices)

    def to_node(node: Target) -> None:
        for data in files:
            single(node.client, [data], len(data))

    def to_tus(tus: Client) -> None:
        for data in files:
            upload(tus, "/files", [data], len(data))

    octets = sum(map(len, files))
    return Shape(octets, slices, to_node, lambda orthanc: post_all(orthanc, files), to_tus)


def as_folder(make: Make, slices: int, folder: Path) -> Shape:
    """A folder of files by the command line."""
    files = make(next(_NUMBERS), slices)
    folder.mkdir()
    for number, data in enumerate(files):
        (folder / f"IM{number:06}").write_bytes(data)

    def to_node(node: Target) -> None:
        command = [sys.executable, "-m", "node", "submit", str(folder), "--yes", "--data", str(node.folder)]
        subprocess.run(command, check=True, capture_output=True, cwd=HERE.parent)

    data = packed(files)
    return Shape(
        sum(map(len, files)),
        slices,
        to_node,
        lambda orthanc: post_all(orthanc, files),
        lambda tus: upload(tus, "/files", [data], len(data)),
    )


def as_cine(megabytes: int, file: Path) -> Shape:
    """One multi-frame file of so many MB, read from disk in pieces."""
    octets = write_cine(file, megabytes << 20)
    return Shape(
        octets,
        1,
        lambda node: single(node.client, _pieces(file), octets),
        lambda orthanc: post_file(orthanc, file, octets),
        lambda tus: upload(tus, "/files", _pieces(file), octets),
    )


def write_cine(file: Path, octets: int) -> int:
    """Write a multi-frame ultrasound with speckle that moves; return its size."""
    width, height = _SIDES
    frames = max(1, octets // (width * height))
    study = next(_NUMBERS)
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = _CINE, f"2.25.{study}.1"
    data.StudyInstanceUID, data.SeriesInstanceUID = f"2.25.{study}", f"2.25.{study}.2"
    data.PatientName, data.PatientID, data.Modality, data.StudyDate = "Cine^Loop", "C1", "US", "20260102"
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns, data.NumberOfFrames = height, width, frames
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.PixelData = b"\0" * 2
    data["PixelData"].VR = "OB"
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = _CINE, data.SOPInstanceUID
    data.file_meta = meta
    dcmwrite(file, data, enforce_file_format=True)
    head = file.read_bytes()[:-6]
    size = frames * width * height
    lots = np.random.default_rng(1)
    speckle = lots.gamma(2.0, 18.0, (height, width * 2)).clip(0, 255).astype(np.uint8)
    speckle[:, : width // 3] //= 16
    with file.open("wb") as sink:
        sink.write(head + (size + size % 2).to_bytes(4, "little"))
        for number in range(frames):
            at = number * 3 % width
            sink.write(np.ascontiguousarray(speckle[:, at : at + width]).tobytes())
        sink.write(b"\0" * (size % 2))
    return file.stat().st_size


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as source:
        while piece := source.read(PART_BYTES):
            yield piece


# -- the ways in --------------------------------------------------------------------------------


def single(client: Client, pieces: Iterable[bytes], octets: int) -> None:
    """Hand one file in, say yes to what is found, and wait until it is kept."""
    made = client.post("/api/v1/submissions", {"client_id": str(uuid.uuid4()), "kind": "file"})
    upload(client, "/api/v1/uploads", pieces, octets, submission=made["id"])
    path = f"/api/v1/submissions/{made['id']}"
    while (said := client.ask("GET", path)[1])["state"] != "kept":
        assert said["state"] in ("received", "examined", "confirmed"), said["problem"]
        if said["state"] == "examined":
            client.post(f"{path}/confirm", statement(said["examination"]["studies"]))
        else:
            time.sleep(0.01)


def upload(client: Client, path: str, pieces: Iterable[bytes], octets: int, *, submission: str = "") -> None:
    """Upload by tus, the first part with the creation, each part of at most 4 MiB."""
    parts = itertools.chain.from_iterable(
        (piece[at : at + PART_BYTES] for at in range(0, len(piece), PART_BYTES)) for piece in pieces
    )
    named = {"Upload-Metadata": f"submission {base64.b64encode(submission.encode()).decode()}"}
    first = next(parts)
    create = {"Upload-Length": str(octets), **(named if submission else {}), **_TUS}
    place = client.ask("POST", path, first, **create)[0]["Location"]
    where, offset = place[place.index("/", 8) :] if "://" in place else place, len(first)
    for part in parts:
        client.ask("PATCH", where, part, **{"Upload-Offset": str(offset), **_TUS})
        offset += len(part)


def post_file(client: Client, file: Path, octets: int) -> None:
    """Give Orthanc one file as a stream."""
    connection: http.client.HTTPConnection = client._connection
    connection.timeout = 600
    client.begin()
    headers = {"Content-Type": "application/dicom", "Content-Length": str(octets)}
    connection.request("POST", "/instances", _pieces(file), headers)  # type: ignore[arg-type]
    answer = connection.getresponse()
    said = answer.read()
    assert answer.status == 200, (answer.status, said[:300])


# -- the servers --------------------------------------------------------------------------------


@contextlib.contextmanager
def our_node(folder: Path) -> Iterator[tuple[Target, int]]:
    """Run a node, warmed up."""
    with RealNode(folder / "node", replicate_every_s=3600, forward_every_s=3600) as node:
        node.init()
        node.start()
        client = Client(node.local_port, {"Authorization": f"Bearer {operator.read(node.home.run).token}"})
        hand_in(client, packed(ct_study(next(_NUMBERS), 3)), None)
        yield Target(node.folder, client), node._process.pid  # type: ignore[union-attr]


@contextlib.contextmanager
def orthanc(folder: Path) -> Iterator[tuple[Client, int]]:
    """Run Orthanc as Debian configures it."""
    with running_orthanc(folder / "orthanc") as running:
        client = Client(int(running.url.rpartition(":")[2]), {})
        post_all(client, ct_study(next(_NUMBERS), 3))
        yield client, running.process.pid


@contextlib.contextmanager
def tus_server(folder: Path) -> Iterator[tuple[Client, int]]:
    """Run the reference tus server."""
    store = folder / "tus"
    store.mkdir()
    command = ["node", str(HERE / "tus_server" / "server.mjs"), str(store)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        client = Client(int(process.stdout.readline()), {})
        upload(client, "/files", [b"x" * PART_BYTES], PART_BYTES)
        yield client, process.pid
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def measure(name: str, make: Callable[[Path], Shape]) -> list[tuple[str, Run, Shape]]:
    """Give one shape to each server in its turn."""
    found: list[tuple[str, Run, Shape]] = []
    servers: Sequence[tuple[str, Any, str]] = (
        ("ClinicMesh, kept", our_node, "to_node"),
        ("Orthanc, stored", orthanc, "to_orthanc"),
        ("@tus/server, bytes only", tus_server, "to_tus"),
    )
    for label, server, way in servers:
        with tempfile.TemporaryDirectory(prefix="ingest-") as folder:
            shape = make(Path(folder))
            with server(Path(folder)) as (target, pid):
                run = measured(lambda w=way, s=shape, t=target: getattr(s, w)(t), pid)  # type: ignore[misc]
            found.append((label, run, shape))
            print(row(name, label, run, shape), flush=True)
    return found


def row(name: str, label: str, run: Run, shape: Shape) -> str:
    """Return a line of the table."""
    return (
        f"| {name} | {label} | {run.seconds:.1f} | {shape.octets / 1e6 / run.seconds:.0f} "
        f"| {shape.instances / run.seconds:.1f} | {run.cpu_s / shape.octets * 1e9:.1f} "
        f"| {run.peak_mb:.0f} | {run.worker_mb:.0f} |"
    )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--small", type=int, default=5000)
    parser.add_argument("--cine-mb", type=int, default=2048)
    parser.add_argument("--scans", action="store_true", help="real slices instead of made ones")
    parser.add_argument("--only", default="zip,files,folder,small,cine")
    given = parser.parse_args()
    if reason := missing():
        print(reason)
        return 2
    subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund"], cwd=HERE / "tus_server", check=True, capture_output=True
    )
    ct, mr = (scanned_ct, scanned_mr) if given.scans else (ct_study, mr_study)
    shapes: dict[str, tuple[str, Callable[[Path], Shape]]] = {
        "zip": (f"CT of {given.slices} as a ZIP", lambda _: as_zip(ct, given.slices)),
        "files": ("the same as single files", lambda _: as_files(ct, given.slices)),
        "folder": ("the same as a folder", lambda at: as_folder(ct, given.slices, at / "cd")),
        "small": (f"{given.small} small MR slices", lambda _: as_zip(mr, given.small)),
        "cine": (f"one loop of {given.cine_mb} MB", lambda at: as_cine(given.cine_mb, at / "cine.dcm")),
    }
    print("| what | into | s | MB/s | instances/s | CPU ms per MB | peak MB | worker MB |")
    print("|---|---|---|---|---|---|---|---|")
    for short, (name, make) in shapes.items():
        if short in given.only.split(","):
            measure(name, make)
    return 0


if __name__ == "__main__":
    sys.exit(main())
