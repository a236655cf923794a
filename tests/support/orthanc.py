"""Debian's real Orthanc with its DICOMweb plugin, as a PACS to deliver to.

`running_orthanc(folder)` is a context manager; tests ask for `missing()` first and skip with its
reason. Options of Orthanc's own configuration are given as a dict, for example
`{"OverwriteInstances": True}` or `{"AuthenticationEnabled": True, "RegisteredUsers": {"a": "b"}}`.
"""

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from support.ports import free_port

_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
_START_S = 30


@dataclass(frozen=True, slots=True)
class RunningOrthanc:
    """Where a started Orthanc answers; `process` and `folder` let a test kill it and look at its disk."""

    url: str
    dimse: int  # the port of its DICOM server, if `DicomServerEnabled` was asked for
    process: "subprocess.Popen[bytes]"
    folder: Path

    @property
    def dicomweb(self) -> str:
        """The DICOMweb base URL."""
        return f"{self.url}/dicom-web"


def missing() -> str | None:
    """Say what this machine lacks to run Orthanc, or None."""
    if _binary() is None:
        return "Orthanc is not installed (apt-get install orthanc)"
    if not _PLUGIN.exists():
        return "Orthanc's DICOMweb plugin is not installed (apt-get install orthanc-dicomweb)"
    return None


@contextlib.contextmanager
def running_orthanc(
    folder: Path,
    options: Mapping[str, Any] | None = None,
    *,
    port: int | None = None,
    wrapper: Sequence[str] = (),
) -> Iterator[RunningOrthanc]:
    """Start Orthanc on free ports of the loopback with its data in `folder`, and stop it at the end.

    Args:
        folder: where its configuration, log, and database lie; the same folder again finds the same images.
        options: settings that are added to Orthanc's configuration, or replace ours.
        port: for HTTP, to come back at the same address; any free one if not given.
        wrapper: words of a command that starts Orthanc, such as one that mounts its disk anew.
    """
    binary = _binary()
    assert binary is not None, missing()
    folder.mkdir(parents=True, exist_ok=True)
    port, dimse = port or free_port(), free_port()
    settings: dict[str, Any] = {
        "Name": "TEST",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "HttpPort": port,
        "DicomPort": dimse,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "HttpServerEnabled": True,
        "DicomServerEnabled": False,
        "Plugins": [str(_PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False, "StudiesMetadata": "Full"},
        **(options or {}),
    }
    (folder / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
    with (folder / "orthanc.log").open("ab") as log:
        words = [*wrapper, binary, str(folder / "orthanc.json")]
        process = subprocess.Popen(words, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_up(url, process, folder)
        yield RunningOrthanc(url, dimse, process, folder)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _binary() -> str | None:
    return shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")


def _wait_until_up(url: str, process: "subprocess.Popen[bytes]", folder: Path) -> None:
    deadline = time.monotonic() + _START_S
    with httpx.Client(trust_env=False, timeout=2) as client:
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                # 401 is an answer, too: with registered users it is up.
                if client.get(f"{url}/system").status_code in (200, 401):
                    return
            time.sleep(0.05)
    tail = (folder / "orthanc.log").read_text(encoding="utf-8", errors="replace")[-2000:]
    raise RuntimeError(f"Orthanc did not start: {tail}")


def on_another_disk(mount: str) -> list[str] | None:
    """Return a wrapper that runs a shell command in a mount namespace of its own first; None if forbidden."""
    begin = ["unshare", "-rm", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*begin, "true"], capture_output=True).returncode:
        return None
    return [*begin, f'{mount} && exec "$@"', "--"]
