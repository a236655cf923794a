"""Whole nodes for tests: `RealNode` is a process that can be killed, `LocalNode` the same in threads.

Both are made by `init` or `join`, started with the peers that are in reach, and asked through their own
HTTP API as the operator of their machine. Nothing here waits for a fixed time: everything polls for what
it waits for, with a deadline.
"""

import contextlib
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import uuid
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from nacl import utils
from support.forkserver import Forked, ForkServer
from support.ports import free_port as free_port

from node import founding, operator
from node.cli.mesh import PRESETS
from node.clock import SystemClock
from node.config import Settings
from node.errors import NodeError, NotRunning
from node.home import Home
from node.recovery import RecoverySheet
from node.service import Service, open_node
from sync.bodies import Role
from sync.genesis import Mode

_POLL_S = 0.1
_START_S, _STOP_S = 60.0, 10.0
_SETTINGS: dict[str, Any] = {
    "bind": "127.0.0.1",
    "discovery": False,  # in reach is who a test says is
    "hold_hours": 0,
    "replicate_every_s": 1,
    "forward_every_s": 1,
    "sweep_every_s": 1,
    "reserve_gb": 0.01,
    "unprotected": True,
}
_TUS = {"Tus-Resumable": "1.0.0"}


class Refusal(AssertionError):
    """The node answered with an error."""

    def __init__(self, answer: httpx.Response) -> None:
        said = answer.json() if "json" in answer.headers.get("content-type", "") else {}
        super().__init__(f"{answer.status_code} {said.get('code')}: {said.get('detail')}")
        self.status = answer.status_code
        self.code = said.get("code")


@contextlib.contextmanager
def fork_server(**environment: str) -> Iterator[ForkServer]:
    """Give a fork server for `RealNode`."""
    server = ForkServer(**environment)
    try:
        yield server
    finally:
        server.close()


def wait_until(holds: Callable[[], object], seconds: float, what: str) -> None:
    """Wait until something holds; a node that does not answer meanwhile is waited for."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(NotRunning, httpx.TransportError):
            if holds():
                return
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain: {what}"
        time.sleep(_POLL_S)


class _Node:
    """A node on a data folder, with ports of its own that stay the same over restarts."""

    def __init__(self, folder: Path, label: str | None = None, **settings: Any) -> None:
        self.folder = folder
        self.label = label or folder.name
        self.home = Home(folder)
        self.local_port, self.mesh_port, self.people_port = free_port(), free_port(), free_port()
        self.settings = _SETTINGS | settings

    @property
    def mesh_address(self) -> str:
        """Where other nodes reach it."""
        return f"127.0.0.1:{self.mesh_port}"

    # -- making ---------------------------------------------------------------------------------

    def init(self, *, mode: Mode = Mode.SEALED_COURIER) -> RecoverySheet:
        """Found a mesh; return the recovery sheet."""
        sheet = founding.found(
            self.home,
            mesh_name="Test",
            label=self.label,
            mode=mode,
            roles=[role.value for role in Role],
            passphrase=None,
            clock=SystemClock(),
            random=utils.random,
        )
        self.write_settings()
        return sheet

    def join(self, code: str, at: str) -> None:
        """Join the mesh of the node that listens at `at` ("host:port")."""
        founding.join(
            self.home,
            address=at,
            code=code,
            label=self.label,
            passphrase=None,
            clock=SystemClock(),
            random=utils.random,
        )
        self.write_settings()

    def admit(self, other: "_Node", preset: str) -> None:
        """Let another node join, with the roles of one of the command line's presets."""
        roles = [role.value for role in PRESETS[preset]]
        said = self.ask("POST", "/api/v1/admin/invitations", {"roles": roles, "label": other.label})
        other.join(said["code"], self.mesh_address)

    def write_settings(self) -> None:
        """Write `node.toml`; called by `init` and `join`."""
        ports = {
            "local_port": self.local_port,
            "mesh_port": self.mesh_port,
            "people_port": self.people_port,
        }
        lines = [f"{key} = {json.dumps(value)}" for key, value in (self.settings | ports).items()]
        (self.folder / "node.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")

    # -- asking ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def api(self) -> Iterator[httpx.Client]:
        """Give a client of the people's API with the operator's token.

        Raises:
            NotRunning: no node is running.
        """
        known = operator.read(self.home.run)
        with httpx.Client(
            base_url=f"http://127.0.0.1:{self.local_port}",
            headers={"Authorization": f"Bearer {known.token}"},
            trust_env=False,
            verify=False,
            timeout=20,
        ) as client:
            yield client

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return what the API answers.

        Raises:
            Refusal: it answers with an error.
            NotRunning: it does not answer.
        """
        try:
            with self.api() as client:
                answer = client.request(method, path, json=body)
        except httpx.TransportError:
            raise NotRunning("the node does not answer") from None
        if not answer.is_success:
            raise Refusal(answer)
        return answer.json() if answer.content else None

    def get(self, path: str) -> Any:
        """Return what a GET answers."""
        return self.ask("GET", path)

    def stories(self) -> dict[str, Any]:
        """Return what the node tells of all studies, by entry."""
        return {story["entry_id"]: story for story in self.get("/api/v1/studies")["studies"]}

    def states(self, entries: Iterable[str]) -> set[str]:
        """Return the states in which these studies are, as this node knows them."""
        told = self.stories()
        return {told[entry]["state"] if entry in told else "unknown" for entry in entries}

    def state(self, entry: str) -> str:
        """Return the state of one study."""
        (state,) = self.states([entry])
        return str(state)

    def story(self, entry: str) -> Any:
        """Return what the node tells of one study."""
        return self.get(f"/api/v1/studies/{entry}")

    def troubles(self) -> list[tuple[str, str, int]]:
        """Return what needs a person: entry, code, images."""
        told = self.get("/api/v1/troubles")["troubles"]
        return [(one["entry_id"], t["code"], t["instances"]) for one in told for t in one["troubles"]]

    def add_pacs(self, url: str, name: str = "main") -> None:
        """Tell the mesh of a PACS."""
        self.ask("POST", "/api/v1/destinations", {"name": name, "url": url})

    def submit(self, files: Mapping[str, bytes], **confirmation: Any) -> list[str]:
        """Hand files in as one ZIP, confirm all studies in it, and return the entries once they are kept."""
        return HandIn(self, files, **confirmation).until_kept()

    def wait(self, holds: Callable[[], object], what: str, seconds: float = 30) -> None:
        """Wait until something holds."""
        wait_until(holds, seconds, f"{self.label}: {what}")

    def start(self, peers: Sequence["_Node | str"] = ()) -> None:
        """Start the node with these peers in reach, and wait until it answers."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop the node."""
        raise NotImplementedError

    def travel(self, peers: Sequence["_Node"]) -> None:
        """Carry the laptop elsewhere: what was in reach is so no longer, and these are."""
        for known in self.get("/api/v1/status")["peers"]:
            self.ask("DELETE", f"/api/v1/admin/peers/{known['address']}")
        self.stop()
        self.start(peers)
        known = {one["address"] for one in self.get("/api/v1/status")["peers"]}
        assert known == {peer.mesh_address for peer in peers}

    # -- looking ---------------------------------------------------------------------------------

    def files(self) -> list[Path]:
        """Return every file that the node has written."""
        return [path for path in self.folder.rglob("*") if path.is_file()]

    def blobs(self) -> list[Path]:
        """Return the sealed files, partial and damaged ones included."""
        return [path for path in self.home.blobs.rglob("*") if path.is_file()]


class RealNode(_Node):
    """A node as people run it: a process of its own, which does not outlive the `with` block.

    With `forks` it is forked from a process that has everything imported, which costs a tenth.
    """

    _process: "subprocess.Popen[bytes] | Forked | None" = None

    def __init__(
        self, folder: Path, label: str | None = None, forks: ForkServer | None = None, **settings: Any
    ) -> None:
        super().__init__(folder, label, **settings)
        self._forks = forks

    def __enter__(self) -> "RealNode":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def out(self) -> Path:
        """What the process printed."""
        return self.folder / "run.out"

    def start(self, peers: Sequence["_Node | str"] = (), *, wait: bool = True) -> None:
        """Start the process with these peers in reach, and wait until it answers."""
        assert self._process is None, "it is running"
        operator.remove(self.home.run)  # what a killed process left behind
        words = ["run", "--data", str(self.folder)]
        for peer in peers:
            words += ["--peer", peer if isinstance(peer, str) else peer.mesh_address]
        self._process = self._launch(words)
        if wait:
            self.wait(self.answers, "to start", _START_S)

    def _launch(self, words: list[str]) -> "subprocess.Popen[bytes] | Forked":
        if self._forks is not None:
            return self._forks.start(words, self.out)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("CLINICMESH_")}
        with self.out.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "node", *words], stdout=out, stderr=out, env=environment
            )

    def answers(self) -> bool:
        """Tell whether the node answers; a process that has ended is an error."""
        assert self._process is not None and self._process.poll() is None, self.out.read_text()[-2000:]
        return bool(self.get("/healthz"))

    @property
    def pid(self) -> int:
        """The process id of the running node."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started, and not stopped or killed since."""
        return self._process is not None

    def kill(self) -> None:
        """End the process as a power cut does, as far as the process is concerned."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Ask the process to end; it must within ten seconds."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.label} did not end within {_STOP_S:.0f} s") from None
        self._process = None
        assert code == 0, self.out.read_text()[-2000:]


class LocalNode(_Node):
    """A node in threads of the test: starts at once, and cannot be killed."""

    _stack: contextlib.ExitStack | None = None

    def __enter__(self) -> "LocalNode":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, peers: Sequence["_Node | str"] = ()) -> None:
        """Start the node with these peers in reach."""
        assert self._stack is None, "it is running"
        addresses = [peer if isinstance(peer, str) else peer.mesh_address for peer in peers]
        settings = Settings.load(self.folder, peers=addresses or None)
        with contextlib.ExitStack() as stack:
            self.node = stack.enter_context(open_node(self.home, settings))
            self.service = Service(self.node)
            self.service.start()
            stack.callback(self.service.stop)
            self._stack = stack.pop_all()

    def stop(self) -> None:
        """Stop the node, if it runs."""
        if self._stack is not None:
            self._stack.close()
            self._stack = None


class HandIn:
    """Somebody's upload that goes on through anything: asks again until the node has kept it.

    Args:
        node: where.
        files: what, by name; or one file.
        confirmation: `impression`, `priority`, `destination`.
    """

    def __init__(self, node: _Node, files: Mapping[str, bytes] | bytes, **confirmation: Any) -> None:
        self.sent = 0
        self._node = node
        self._data = files if isinstance(files, bytes) else packed(files)
        self._confirmation = confirmation
        self.client_id = str(uuid.uuid4())

    def begin(self, octets: int) -> None:
        """Upload the first octets and leave it at that, as a phone that goes out of reach."""
        with self._node.api() as client:
            self._upload(client, self._made(client)["id"], octets)

    def examined(self, seconds: float = 90) -> Any:
        """Upload everything, and return the submission as it waits for the confirmation, or has failed."""
        deadline = time.monotonic() + seconds
        with self._node.api() as client:
            made = self._made(client)["id"]
            self._upload(client, made, len(self._data))
            while True:
                said = _checked(client.get(f"/api/v1/submissions/{made}")).json()
                if said["state"] in ("examined", "failed"):
                    return said
                assert time.monotonic() < deadline, f"waited in vain to be examined: {said['state']}"
                time.sleep(_POLL_S)

    def until_kept(self, seconds: float = 90) -> list[str]:
        """Hand in, confirm, and return the entries."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                with self._node.api() as client:
                    return self._once(client, deadline)
            except (httpx.TransportError, NodeError):
                assert time.monotonic() < deadline, "waited in vain for the submission to be kept"
                time.sleep(_POLL_S)

    def _once(self, client: httpx.Client, deadline: float) -> list[str]:
        made = self._made(client)
        path = f"/api/v1/submissions/{made['id']}"
        while True:
            said = _checked(client.get(path)).json()
            match said["state"]:
                case "waiting":
                    self._upload(client, made["id"], len(self._data))
                case "examined":
                    _checked(client.post(f"{path}/confirm", json=self._confirmed(said["examination"])))
                case "kept":
                    return list(said["entries"])
                case "received" | "confirmed":
                    assert time.monotonic() < deadline, f"waited in vain, {said['problem']}"
                    time.sleep(_POLL_S)
                case _:
                    raise AssertionError(f"the submission is {said['state']}: {said['problem']}")

    def _made(self, client: httpx.Client) -> Any:
        body = {"client_id": self.client_id, "kind": "zip"}
        return _checked(client.post("/api/v1/submissions", json=body)).json()

    def _upload(self, client: httpx.Client, submission: str, until: int) -> None:
        metadata = f"submission {b64encode(submission.encode()).decode()}"
        headers = {**_TUS, "Upload-Length": str(len(self._data)), "Upload-Metadata": metadata}
        made = _checked(client.post("/api/v1/uploads", headers=headers))
        location = urlsplit(made.headers["Location"]).path
        self.sent = int(_checked(client.head(location, headers=_TUS)).headers["Upload-Offset"])
        while self.sent < until:
            part = self._data[self.sent : min(self.sent + 256 * 1024, until)]
            headers = {
                **_TUS,
                "Upload-Offset": str(self.sent),
                "Upload-Checksum": f"sha256 {b64encode(hashlib.sha256(part).digest()).decode()}",
                "Content-Type": "application/offset+octet-stream",
            }
            answer = _checked(client.patch(location, headers=headers, content=part))
            self.sent = int(answer.headers["Upload-Offset"])

    def _confirmed(self, examination: Any) -> dict[str, Any]:
        keys = ("study_uid", "digest", "instances")
        return {
            "studies": [{key: study[key] for key in keys} for study in examination["studies"]],
            **self._confirmation,
        }


def packed(files: Mapping[str, bytes]) -> bytes:
    """Return a ZIP with stored members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def _checked(answer: httpx.Response) -> httpx.Response:
    if not answer.is_success:
        raise Refusal(answer)
    return answer
