"""What a node writes while it examines: nothing but its own sealed files, whatever has to be unpacked."""

import re
import signal
import subprocess
import zipfile
from pathlib import Path

import pytest
from support.dicoms import deflated, element, header, zip_of
from support.nodes import HandIn, RealNode, wait_until
from support.slices import made_slice

MARK = b"Canary^Plaintext"
PIXELS = element(0x7FE0, 0x10, "OW", (MARK * 4000)[:60_000])
_OPENED = re.compile(r'(?:openat\([^,]+, |open\(|creat\()"([^"]+)"(?:, ([A-Z_|]+))?')
_WRITING = {"O_WRONLY", "O_RDWR", "O_CREAT"}


def written(trace: str) -> set[Path]:
    """Return what was opened for writing, successfully or not."""
    found = set()
    for line in trace.splitlines():
        opened = _OPENED.search(line)
        if opened and (_WRITING & set((opened[2] or "O_CREAT").split("|"))):
            found.add(Path(opened[1]))
    return found


def _opens_a_file(node: RealNode) -> bool:
    """Let the node open one of the app's files, so that the tracer shows that it is there."""
    with node.api() as client:
        return client.get("/").status_code == 200


@pytest.mark.needs("strace")
def test_nothing_is_unpacked_to_disk(tmp_path: Path) -> None:
    """A laptop that is stolen while it unpacks a CD must not have the CD lying in a temporary folder."""
    slices = {f"IM{n}": made_slice(55, n, name=MARK.decode(), octets=400_000) for n in range(1, 9)}
    inner = zip_of(slices, method=zipfile.ZIP_DEFLATED)
    files = {"a.zip": zip_of({"b.zip": inner}, method=zipfile.ZIP_DEFLATED), "c.zip": inner}
    files["deflated"] = deflated(header(study=56, name=MARK) + PIXELS)
    whole = zip_of(files, method=zipfile.ZIP_DEFLATED)
    log = tmp_path / "trace"
    with RealNode(tmp_path / "clinic") as node:
        node.init()
        node.start()
        assert node._process is not None
        calls = "trace=open,openat,creat,memfd_create,mkdir,rename"
        tracer = subprocess.Popen(
            ["strace", "-f", "-qq", "-e", calls, "-o", str(log), "-p", str(node._process.pid)],
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: _opens_a_file(node) and log.exists() and log.stat().st_size, 60, "traced")
            said = HandIn(node, whole).examined()
            entries = node.submit({"d.zip": inner})
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(20)
        lying_about = [path for path in node.files() if MARK in path.read_bytes()]

    assert [study["instances"] for study in said["examination"]["studies"]] == [8, 1]
    assert said["examination"]["studies"][0]["patient"]["name"] == MARK.decode()
    assert [one["code"] for one in said["examination"]["quarantined"]] == ["zip-in-zip"]
    assert len(entries) == 1
    opened = written(log.read_text(errors="replace"))
    assert any("spool" in path.parts for path in opened)
    allowed = (node.folder, Path("/dev"), Path("/proc"))
    assert [path for path in opened if not any(path.is_relative_to(one) for one in allowed)] == []
    assert lying_about == []
