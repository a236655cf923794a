"""The demo's nodes: real processes that are started, stopped and asked through their own API."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from node import operator
from node.demo.ports import free_port
from node.errors import NodeError, NotRunning, Refused

_START_S, _STOP_S, _WAIT_S, _POLL_S = 60.0, 20.0, 600.0, 0.2
_ENVIRONMENT_OF_NODE = {
    "CLINICMESH_BIND": "127.0.0.1",
    "CLINICMESH_REPLICATE_EVERY_S": "1",
    "CLINICMESH_UNPROTECTED": "1",  # nobody is there to type a passphrase, and there are no patients
}
_FIND_S = 20.0


class DemoNode:
    """One node: its folder, its ports, and its process while it runs."""

    def __init__(self, label: str, folder: Path, environment: dict[str, str]) -> None:
        self.label = label
        self.folder = folder
        self.mesh_address = f"127.0.0.1:{free_port()}"
        self.url = f"http://localhost:{free_port()}"
        self._people_port = free_port()
        self._environment = environment | _ENVIRONMENT_OF_NODE
        self._process: subprocess.Popen[bytes] | None = None
        self._http = httpx.Client(trust_env=False, timeout=30.0)  # making one takes longer than asking

    def command(self, *words: str) -> None:
        """Run a command of the node's own command line on its folder.

        Raises:
            Refused: it failed.
        """
        done = subprocess.run(
            [sys.executable, "-m", "node", *words, "--data", str(self.folder)],
            env=self._environment,
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            raise Refused("demo-command", f"`clinicmesh {words[0]}` failed on the {self.label} node")

    def start(self) -> None:
        """Start the node's process if it does not run, and wait until it answers."""
        if self._process is not None:
            return
        words = [sys.executable, "-m", "node", "run", "--data", str(self.folder), "--hold-hours", "0"]
        words += ["--mesh-port", self.mesh_address.rpartition(":")[2]]
        words += ["--local-port", self.url.rpartition(":")[2], "--people-port", str(self._people_port)]
        with (self.folder.parent / f"{self.label}.out").open("ab") as out:
            self._process = subprocess.Popen(words, env=self._environment, stdout=out, stderr=out)
        self.wait_for(lambda: bool(self.get("/healthz")), _START_S, "start")

    @property
    def pid(self) -> int:
        """The process id of the running node."""
        assert self._process is not None, "it does not run"
        return self._process.pid

    def stop(self) -> None:
        """Stop the process and wait for it."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def close(self) -> None:
        """Stop the process for good."""
        self.stop()
        self._http.close()

    def join(self, inviter: "DemoNode", code: str) -> bool:
        """Join by a code; say whether it had to be told the inviter's address.

        The local network is that of this machine. Where it lets no multicast through, an address is given.
        """
        words = ("join", code, "--label", self.label, "--no-remember")
        try:
            self.command(*words)
        except Refused:
            self.command(*words, "--at", inviter.mesh_address)
            return True
        return False

    def find(self, other: "DemoNode") -> bool:
        """Wait until this node has found another one; say whether it had to be told its address."""

        def met() -> bool:
            peers = self.get("/api/v1/status")["peers"]
            return any(one["address"] == other.mesh_address and one["met_s_ago"] is not None for one in peers)

        try:
            self.wait_for(met, _FIND_S)
        except NotRunning:
            self.ask("POST", "/api/v1/admin/peers", {"address": other.mesh_address})
            self.wait_for(met, what=f"a meeting with the {other.label} node")
            return True
        return False

    def get(self, path: str) -> Any:
        """Return what the node's API answers to a GET."""
        return self.ask("GET", path)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return what the node's API answers.

        Raises:
            NotRunning: it does not answer.
            Refused: it answers with an error.
        """
        known = operator.read(self.folder / "run")
        try:
            headers = {"Authorization": f"Bearer {known.token}"}
            answer = self._http.request(method, f"{known.url}{path}", json=body, headers=headers)
        except httpx.TransportError:
            raise NotRunning(f"the {self.label} node does not answer") from None
        if not answer.is_success:
            raise Refused(str(answer.json().get("code", "refused")), str(answer.json().get("detail", "")))
        return answer.json() if answer.content else None

    def wait_for(self, holds: Callable[[], bool], seconds: float = _WAIT_S, what: str = "") -> None:
        """Wait until something holds.

        Raises:
            NotRunning: it does not in time, or the process ended.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                break
            try:
                if holds():
                    return
            except NodeError:
                pass
            time.sleep(_POLL_S)
        raise NotRunning(f"the {self.label} node: waited in vain for {what or 'its step'}")

    def blobs(self) -> int:
        """Return how many sealed files lie in the node's folder."""
        return sum(1 for path in (self.folder / "blobs").rglob("*") if path.is_file())
