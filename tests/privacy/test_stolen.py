"""A stolen laptop shows nothing of any patient, whenever it is stolen: every file of it is searched."""

import gzip
import hashlib
import io
import os
import signal
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import zstandard
from pydicom.dataset import Dataset
from support.forkserver import ForkServer
from support.nodes import HandIn, RealNode, fork_server
from support.searching import Search, forms
from support.servers import serve
from support.slices import CT_IMAGE, written

from node.keys import Keystore
from node.sandbox_pacs import sandbox_app

STUDY, SERIES = "2.25.77001144225599001", "2.25.77001144225599002"
IMAGES = 6
PASSPHRASE = "a sentence that only the clinic knows"
IMPRESSION = "STOLENMARK-impression: pain in the chest"
# Every attribute below that holds text holds a marker of its own.
TEXTS = {
    "PatientID": "SH",
    "OtherPatientIDs": "LO",
    "PatientComments": "LT",
    "EthnicGroup": "SH",
    "PatientAddress": "LO",
    "PatientTelephoneNumbers": "SH",
    "Occupation": "SH",
    "CountryOfResidence": "LO",
    "StudyDescription": "LO",
    "SeriesDescription": "LO",
    "AccessionNumber": "SH",
    "StudyID": "SH",
    "InstitutionName": "LO",
    "InstitutionAddress": "ST",
    "StationName": "SH",
    "ProtocolName": "LO",
    "AdditionalPatientHistory": "LT",
    "ImageComments": "LT",
    "MedicalRecordLocator": "LO",
    "ReasonForStudy": "LO",
    "AdmittingDiagnosesDescription": "LO",
    "RequestedProcedureDescription": "LO",
}
NAMES = (
    "PatientName",
    "ReferringPhysicianName",
    "PhysiciansOfRecord",
    "OperatorsName",
    "PatientMotherBirthName",
)


def image(number: int) -> bytes:
    """Return an image with a marker in every text, and pixels that no other image has."""
    data = Dataset()
    data.SpecificCharacterSet = "ISO_IR 192"
    data.SOPClassUID, data.SOPInstanceUID = CT_IMAGE, f"2.25.7700114422559{number:05d}"
    data.StudyInstanceUID, data.SeriesInstanceUID = STUDY, SERIES
    data.Modality, data.PatientBirthDate, data.StudyDate = "CT", "19610523", "20261124"
    for at, (keyword, kind) in enumerate(TEXTS.items()):
        setattr(data, keyword, f"STOLENMARK-{at:02d}"[: 16 if kind == "SH" else 60])
    for at, keyword in enumerate(NAMES):
        setattr(data, keyword, f"STOLENMARK^Name{at}")
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows = data.Columns = 256
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    noise = b"".join(hashlib.sha256(f"{number}.{at}".encode()).digest() for at in range(4096))
    data.PixelData = noise
    return written(data)


FILES = {f"STOLENMARK folder/IM{number}": image(number) for number in range(1, IMAGES + 1)}
MARKERS = frozenset(
    {b"STOLENMARK", b"19610523", STUDY.encode(), SERIES.encode()}
    | {f"2.25.7700114422559{number:05d}".encode() for number in range(1, IMAGES + 1)}
    | {data[-600:-568] for data in FILES.values()}
)


@dataclass
class Stolen:
    """The mesh, and the folder where its processes put temporary files."""

    clinic: RealNode
    courier: RealNode
    cloud: RealNode
    temporary: Path

    def search(self) -> dict[str, set[bytes]]:
        """Return what a thief of all three machines would find."""
        folders = [node.folder for node in (self.clinic, self.courier, self.cloud)]
        return Search(MARKERS).in_folders(*folders, self.temporary)


@pytest.fixture
def mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stolen]:
    """A clinic under a passphrase, a courier and a cloud node, all processes."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    with fork_server() as forks:
        yield from _made(tmp_path, forks, temporary)


def _made(folder: Path, forks: ForkServer, temporary: Path) -> Iterator[Stolen]:
    with (
        RealNode(folder / "clinic", forks=forks) as clinic,
        RealNode(folder / "courier", forks=forks) as courier,
        RealNode(folder / "cloud", forks=forks) as cloud,
    ):
        cloud.init()
        cloud.start()
        for node in (clinic, courier):
            cloud.admit(node, node.label)
        keystore = Keystore.load(clinic.home.keys)
        keystore.protect(PASSPHRASE)
        yield Stolen(clinic, courier, cloud, temporary)


def test_the_search_finds_what_is_planted(tmp_path: Path) -> None:
    """In each form that software writes text in; else it would prove nothing."""
    whole = b"\n".join(FILES.values())
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", whole)
    noise = os.urandom(5000)
    planted = {
        "raw": noise + whole + noise,
        "zlib": noise + zlib.compress(whole) + noise,
        "gzip": noise + gzip.compress(whole),
        "zip": noise + packed.getvalue(),
        "zstd": noise + zstandard.compress(whole) + noise,
    }
    for number, form in enumerate(forms(b"STOLENMARK")):
        planted[f"form{number}"] = noise + b"xy" + form + noise
        planted[f"form{number} in zlib"] = noise + zlib.compress(noise + form)
        planted[f"form{number} in zstd"] = noise + zstandard.compress(noise + form)
    for name, data in planted.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "STOLENMARK.dcm").write_bytes(noise)

    found = Search(MARKERS).in_folders(tmp_path)

    assert {Path(path).name for path in found} == {*planted, "STOLENMARK.dcm"}
    assert all(found[str(tmp_path / name)] == MARKERS for name in ("raw", "zlib", "gzip", "zip", "zstd"))


def test_nothing_is_found_on_any_machine_whenever_it_is_stolen(mesh: Stolen, tmp_path: Path) -> None:
    """In mid-upload, locked, unlocked, in mid-transfer, carried, erased; the log and the WAL, too."""
    clinic, courier, cloud = mesh.clinic, mesh.courier, mesh.cloud
    with serve(sandbox_app(tmp_path / "pacs")) as url:
        cloud.add_pacs(f"{url}/dicom-web")
        clinic.start()
        assert clinic.get("/api/v1/status")["locked"]
        hand = HandIn(clinic, FILES, impression=IMPRESSION)
        hand.begin(300_000)
        clinic.kill()
        assert mesh.search() == {}

        clinic.start()
        with clinic.api() as client:
            submission = hand._made(client)["id"]
            hand._upload(client, submission, len(hand._data))
        clinic.wait(lambda: clinic.get(f"/api/v1/submissions/{submission}")["state"] == "received", "all")
        assert mesh.search() == {}
        clinic.ask("POST", "/api/v1/admin/unlock", {"passphrase": PASSPHRASE})
        clinic.wait(
            lambda: clinic.get(f"/api/v1/submissions/{submission}")["state"] == "examined", "examined"
        )
        assert mesh.search() == {}
        clinic.kill()
        assert mesh.search() == {}

        clinic.start()
        clinic.ask("POST", "/api/v1/admin/unlock", {"passphrase": PASSPHRASE})
        entries = hand.until_kept()
        courier.start([clinic])
        clinic.wait(lambda: clinic.states(entries) == {"carried"}, "the courier to hold it")
        courier.kill()
        assert mesh.search() == {}

        courier.start([cloud, clinic])
        cloud.wait(lambda: cloud.states(entries) == {"delivered"}, "the PACS to prove it", 60)
        for node in (cloud, courier, clinic):
            node.wait(lambda node=node: not node.blobs(), "to erase")
        assert len(list((tmp_path / "pacs").rglob("*.dcm"))) == IMAGES + 1  # and the impression
        assert Search(MARKERS).in_folders(tmp_path / "pacs")
        for node in (clinic, courier, cloud):
            node.kill()
        assert mesh.search() == {}


@dataclass
class Places:
    """Where a machine may put what a process had in mind, and a node with a study under way."""

    node: RealNode
    folder: Path


@pytest.fixture
def crashing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Places]:
    """A node that was started in a folder of its own, on a system that would keep any process's core."""
    resource = pytest.importorskip("resource")
    pattern = Path("/proc/sys/kernel/core_pattern")
    if not pattern.exists() or pattern.read_text()[0] in "|/":
        pytest.skip("this system gives cores to a program, or puts them elsewhere")
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (limits[1], limits[1]))
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    try:
        with RealNode(tmp_path / "clinic") as node:
            node.init()
            node.start()
            yield Places(node, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, limits)


def _mind(folder: Path) -> dict[str, set[bytes]]:
    return Search(MARKERS).in_folders(folder)


def test_a_crash_leaves_nothing_of_a_patient(crashing: Places) -> None:
    """Images and keys are in its memory. A program with the same images and no limit shows the difference."""
    node = crashing.node
    HandIn(node, FILES, impression=IMPRESSION).examined()
    os.kill(node.pid, signal.SIGABRT)
    assert node._process is not None
    node._process.wait(20)  # a core takes a while; to kill it would end the writing
    node.kill()
    assert _mind(crashing.folder) == {}

    (crashing.folder / "cwd" / "images").write_bytes(b"".join(FILES.values()))
    subprocess.run(
        [sys.executable, "-c", "import os; kept = open('images', 'rb').read(); os.abort()"], check=False
    )
    (crashing.folder / "cwd" / "images").unlink()
    if not list((crashing.folder / "cwd").iterdir()):
        pytest.skip("this system writes no cores at all")
    assert any("core" in path for path in _mind(crashing.folder / "cwd"))


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="needs /proc")
def test_a_node_writes_no_core_dump(tmp_path: Path) -> None:
    """A crash must not put keys and images from memory into a file."""
    with RealNode(tmp_path / "node") as node:
        node.init()
        node.start()
        limits = Path(f"/proc/{node.pid}/limits").read_text()
        line = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
        assert line.split()[-3:-1] == ["0", "0"]
        worker = subprocess.run(
            ["ps", "--ppid", str(node.pid), "-o", "pid="], check=False, capture_output=True, text=True
        )
        for pid in worker.stdout.split():
            told = Path(f"/proc/{pid}/limits").read_text()
            assert "Max core file size         0                    0" in told
