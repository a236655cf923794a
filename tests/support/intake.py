"""An intake for tests: keys and a keeper in memory, and the people's routes with a made-up authorisation."""

import atexit
import base64
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI, Request
from nacl.public import PrivateKey, SealedBox
from support.clock import FakeClock

from node.api import problems, submissions, uploads
from node.api.auth import Caller
from node.errors import Locked, Refused
from node.intake.dicom import HeaderReader
from node.intake.examination import ExaminedStudy
from node.intake.submissions import Intake
from node.intake.uploads import Limits
from node.store.database import Database
from node.store.intake import OnCommit
from node.store.vault import Incoming

CLIENT = "6b0f9d2e-0000-4000-8000-000000000001"
TYPE = "application/offset+octet-stream"

# One worker process for all tests: it takes half a second to start.
HEADERS = HeaderReader()
atexit.register(HEADERS.close)


class FakeKeys:
    """Intake keys; set `locked` to take the secret away."""

    def __init__(self, seed: bytes = bytes(32)) -> None:
        self._secret = PrivateKey.from_seed(seed)
        self.locked = False

    def seal(self, plaintext: bytes) -> bytes:
        return bytes(SealedBox(self._secret.public_key).encrypt(plaintext))

    def open(self, box: bytes) -> bytes:
        if self.locked:
            raise Locked("locked")
        return bytes(SealedBox(self._secret).decrypt(box))


class FakeKeeper:
    """Keeps studies in memory; `fail_at` makes the nth call fail after its bytes were read."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.kept: list[dict[str, bytes]] = []
        self.confirmed: list[dict[str, Any]] = []
        self.made: set[str] = set()
        self.fail_at: int | None = None
        self.calls = 0

    def came(self) -> list[dict[str, bytes]]:
        """Return what was kept of each study without what was made of the confirmation."""
        return [{uid: data for uid, data in one.items() if uid not in self.made} for one in self.kept]

    def __call__(
        self,
        study: ExaminedStudy,
        instances: Sequence[Incoming],
        confirmed: dict[str, Any],
        *,
        submission: bytes,
        on_commit: OnCommit,
    ) -> bytes:
        self.calls += 1
        came = {instance.uid for instance in study.instances}
        self.made |= {instance.uid for instance in instances} - came
        read = {instance.uid: b"".join(instance.open()) for instance in instances}
        for instance in instances:
            assert hashlib.sha256(read[instance.uid]).digest() == instance.sha256
            assert len(read[instance.uid]) == instance.size
        if self.calls == self.fail_at:
            raise KeyError("power cut")
        entry = hashlib.sha256(study.study_uid.encode() + submission).digest()
        with self._database.write() as session:
            on_commit(session, entry)
        self.kept.append(read)
        self.confirmed.append(confirmed)
        return entry


class Bench:
    """One intake on a folder, which may be started again as after a power cut."""

    def __init__(self, folder: Path, *, clock: FakeClock | None = None, **limits: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.spool = folder / "spool"
        self.clock = clock or FakeClock()
        self.keys = FakeKeys()
        self.database = Database(folder / "node.sqlite")
        self.keeper = FakeKeeper(self.database)
        self.woken = 0
        self.intake = Intake(
            self.database,
            self.spool,
            keys=self.keys,
            clock=self.clock,
            keep=self.keeper,
            limits=Limits(**{"reserve_bytes": 0, **limits}),
            destinations=lambda: {"City"},
            label_of=lambda device: f"the {device}",
            wake=self._wake,
        )
        self.intake._headers = HEADERS

    def _wake(self) -> None:
        self.woken += 1

    def close(self) -> None:
        self.database.close()

    def hand_in(self, data: bytes, *, kind: str = "zip", device: str = "phone", client: str = "c1") -> str:
        """Take a whole upload and return the submission's id."""
        made = self.intake.submit(device, client, kind)
        upload = self.intake.uploads.create(device, made.id, length=len(data), metadata=b"")
        if data:
            part = self.intake.uploads.begin(upload, 0)
            for begin in range(0, len(data), 1 << 20):
                part.write(data[begin : begin + (1 << 20)])
            part.commit()
            part.close()
        return made.id

    def view(self, submission: str, device: str = "phone") -> dict[str, Any]:
        return self.intake.view(self.intake.get(device, submission))

    def work(self) -> None:
        """Examine and keep all that waits."""
        while self.intake.examine_next() or self.intake.keep_next():
            pass


def grow(bench: Bench, data: bytes, parts: list[tuple[int, bytes, bool]]) -> str:
    """Upload parts at their offsets, each looked at before the next; those that do not count are dropped."""
    made = bench.intake.submit("phone", "c1", "zip")
    upload = bench.intake.uploads.create("phone", made.id, length=len(data), metadata=b"")
    for offset, octets, counts in parts:
        upload = bench.intake.uploads.get("phone", upload.id)
        part = bench.intake.uploads.begin(upload, offset)
        part.write(octets)
        if counts:
            part.commit()
        else:
            part.discard()
        part.close()
        while bench.intake.examine_ahead():
            pass
    return made.id


def require(scope: str) -> Callable[..., Caller]:
    """Let in who sends `Authorization: Bearer <device>`."""

    def caller(request: Request) -> Caller:
        kind, _, device = request.headers.get("Authorization", "").partition(" ")
        if kind != "Bearer" or not device:
            raise Refused("token-missing", "A token is needed.")
        return Caller(device, "clinician", frozenset({scope}))

    return caller


def app_of(intake: Intake) -> FastAPI:
    """Return the people's routes of an intake, and `/healthz`."""
    app = FastAPI()
    problems.install(app)
    app.include_router(uploads.router(intake, require))
    app.include_router(submissions.router(intake, require))

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    return app


class Phone:
    """The app on a device."""

    def __init__(self, base: str, device: str = "phone") -> None:
        self.base = base
        self.http = httpx.Client(
            base_url=f"{base}/api/v1",
            headers={"Authorization": f"Bearer {device}", "Tus-Resumable": "1.0.0"},
            timeout=20,
        )

    def submit(self, client: str = CLIENT, kind: str = "zip") -> httpx.Response:
        return self.http.post("/submissions", json={"client_id": client, "kind": kind})

    def begin(self, length: int, client: str = CLIENT, kind: str = "zip") -> tuple[str, str]:
        """Return a submission and the address of its upload."""
        made = self.submit(client, kind).json()
        named = base64.b64encode(made["id"].encode()).decode()
        answer = self.http.post(
            made["upload_url"],
            headers={
                "Upload-Length": str(length),
                "Upload-Metadata": f"filename {base64.b64encode(b'Doe.dcm').decode()},submission {named}",
            },
        )
        return made["id"], answer.headers["Location"]

    def send(self, url: str, data: bytes, offset: int = 0) -> httpx.Response:
        return self.http.patch(
            url, content=data, headers={"Upload-Offset": str(offset), "Content-Type": TYPE}
        )

    def hand_in(self, data: bytes, client: str = CLIENT, kind: str = "zip") -> str:
        submission, url = self.begin(len(data), client, kind)
        assert self.send(url, data).status_code == 204
        return submission

    def look(self, submission: str) -> dict[str, Any]:
        answer = self.http.get(f"/submissions/{submission}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def confirm(self, submission: str, body: Any) -> httpx.Response:
        return self.http.post(f"/submissions/{submission}/confirm", json=body)


def statement(view: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Confirm all that the examination shows."""
    studies = [
        {name: study[name] for name in ("study_uid", "digest", "instances")}
        for study in view["examination"]["studies"]
    ]
    return {"studies": studies, "impression": "", "priority": "urgent", **more}
