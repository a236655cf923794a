"""The demo's PACS: a real Orthanc in a folder of its own where one is installed, else the sandbox."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from node.demo.ports import free_port
from node.errors import NotRunning

_PLUGINS = (
    Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so"),
    Path("/usr/local/share/orthanc/plugins/libOrthancDicomWeb.so"),
)
_START_S = 30.0


@dataclass(frozen=True, slots=True)
class DemoPacs:
    """A running PACS: what it is, its DICOMweb root, and a page to look at, if it has one."""

    name: str
    dicomweb: str
    page: str | None


@contextmanager
def running_pacs(folder: Path) -> Iterator[DemoPacs]:
    """Run a PACS with its data in `folder` until the block ends.

    Raises:
        NotRunning: it did not start.
    """
    folder.mkdir(parents=True)
    port = free_port()
    orthanc = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    plugin = next((one for one in _PLUGINS if one.exists()), None)
    url = f"http://127.0.0.1:{port}"
    if orthanc is not None and plugin is not None:
        settings = folder / "orthanc.json"
        settings.write_text(json.dumps(_orthanc_settings(folder, port, plugin)), encoding="utf-8")
        command, probe = [orthanc, str(settings)], f"{url}/system"
        pacs = DemoPacs("Orthanc", f"{url}/dicom-web", f"{url}/app/explorer.html")
    else:
        command = [
            sys.executable,
            "-m",
            "node.sandbox_pacs",
            "--port",
            str(port),
            "--dir",
            str(folder / "images"),
        ]
        probe = f"{url}/dicom-web/studies"
        pacs = DemoPacs("the sandbox PACS (not for clinical use)", f"{url}/dicom-web", None)
    with (folder / "pacs.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait_until_up(probe, process)
        yield pacs
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _orthanc_settings(folder: Path, port: int, plugin: Path) -> dict[str, Any]:
    return {
        "Name": "ClinicMesh demo",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomServerEnabled": False,
        "Plugins": [str(plugin)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "StudiesMetadata": "Full"},
    }


def _wait_until_up(probe: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_S
    with httpx.Client(trust_env=False, timeout=2.0) as http:
        while process.poll() is None and time.monotonic() < deadline:
            try:
                if http.get(probe).status_code < 500:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
    raise NotRunning("the demo's PACS did not start")
