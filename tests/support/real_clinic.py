"""A real clinic for the browser's tests: its node, a cloud node that joins later, and the sandbox PACS.

Fulfils `support.phone.Clinic`. What the clinic keeps is opened with the mesh's recovery key, since a
sealed clinic cannot open it itself.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.nodes import LocalNode, wait_until
from support.servers import serve

from node.intake.uploads import Part
from node.sandbox_pacs import sandbox_app
from sync.ids import BlobId

_SLOW_S = 0.4


class RealClinic:
    """A clinic's node with its app, and what happens to what it keeps."""

    def __init__(self, node: LocalNode, cloud: LocalNode, pacs: str, recovery_secret: bytes) -> None:
        self.url = f"http://localhost:{node.local_port}"
        self.node = self._node = node
        self.cloud = self._cloud = cloud
        self._pacs = pacs
        self._secret = recovery_secret
        self._patch = pytest.MonkeyPatch()

    def enrolment_code(self, role: str = "clinician") -> str:
        """Return a code that enrols one device."""
        said = self._node.ask("POST", "/api/v1/admin/device-codes", {"role": role})
        return str(said["code"])

    def held(self) -> dict[str, bytes]:
        """Return the original bytes of every instance that the clinic holds whole, by its UID."""
        parts = self._node.node
        found: dict[str, bytes] = {}
        for entry in parts.queue.all():
            if entry.complete:
                study = parts.vault.open_study(parts.blobs.get(BlobId(entry.entry)), self._secret)
                found |= {one.uid: b"".join(study.read(one)) for one in study.index.instances}
        return found

    def replicate(self) -> None:
        """Let the cloud node take a copy of everything."""
        parts = self._node.node
        parts.notes.add_peer(self._cloud.mesh_address)
        parts.signals.tell("replicate")
        wait_until(self._all_copied, 30, "a second copy")

    def plant(self, part10: bytes) -> None:
        """Have the PACS hold an image before anything is delivered."""
        body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + part10 + b"\r\n--b--\r\n"
        kind = 'multipart/related; type="application/dicom"; boundary=b'
        answer = httpx.post(f"{self._pacs}/studies", content=body, headers={"Content-Type": kind})
        answer.raise_for_status()

    def start_delivery(self) -> None:
        """Let everything reach the cloud node, and tell that of the PACS."""
        self.replicate()
        self._cloud.add_pacs(self._pacs)

    def deliver(self) -> None:
        """Let everything reach the PACS and be proven there."""
        self.start_delivery()
        wait_until(lambda: self._all("delivered"), 60, "the PACS's proof")

    def erase(self) -> None:
        """Wait until every node has erased what was delivered, and said so."""
        wait_until(lambda: all(self._erased(one) for one in self._stories()), 60, "the erasure")

    def slow_down(self) -> None:
        """Make each piece of an upload take long enough to look at."""
        commit = Part.commit

        def slowly(part: Part) -> Any:
            time.sleep(_SLOW_S)
            return commit(part)

        self._patch.setattr(Part, "commit", slowly)

    def undo(self) -> None:
        """Be as fast as before."""
        self._patch.undo()

    def _stories(self) -> list[Any]:
        return list(self._node.get("/api/v1/studies")["studies"])

    def _all(self, state: str) -> bool:
        return all(story["state"] == state for story in self._stories())

    def _all_copied(self) -> bool:
        return all(story["copies"] >= 2 or story["evidence"] for story in self._stories())

    @staticmethod
    def _erased(story: Any) -> bool:
        return bool(story["erased"]["n"] == story["erased"]["of"])


@contextlib.contextmanager
def real_clinic(folder: Path) -> Iterator[RealClinic]:
    """Run a clinic's node, a cloud node and a PACS with their data below `folder`."""
    with (
        serve(sandbox_app(folder / "pacs")) as pacs,
        LocalNode(folder / "cloud") as cloud,
        LocalNode(folder / "clinic") as node,
    ):
        sheet = cloud.init()
        cloud.start()
        cloud.admit(node, "clinic")
        node.start()
        clinic = RealClinic(node, cloud, f"{pacs}/dicom-web", sheet.recovery_secret)
        try:
            yield clinic
        finally:
            clinic.undo()
