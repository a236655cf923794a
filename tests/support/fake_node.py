"""A stand-in for a node, with the people's API in memory: for the app's tests where no node is wanted.

It holds to docs/architecture.md §3 where the app relies on it, and is strict there: tokens, offsets,
checksums and digests are verified, so that an app which is wrong fails here as it would in a clinic.
"""

import asyncio
import base64
import hashlib
import io
import json
import time
import uuid
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from joserfc import jwt
from joserfc.jwk import ECKey

MESH = "0a1b2c3d"
STEPS = ("phone", "clinic", "carried", "cloud", "pacs", "erased")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "manifest-src 'self'; worker-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types clinicmesh"
)


class _Refused(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


@dataclass
class _Submission:
    id: str
    client_id: str
    kind: str
    length: int | None = None
    data: bytearray = field(default_factory=bytearray)
    body: dict[str, Any] | None = None
    state: str = "waiting"
    entries: list[str] = field(default_factory=list)
    problem: dict[str, str] | None = None


@dataclass
class _Entry:
    id: str
    urgent: bool
    instances: dict[str, bytes]
    copies: int = 1
    state: str = "waiting"
    reached: dict[str, int] = field(default_factory=dict)


class FakeNode:
    """The state of the stand-in. `app` is what a server serves; the rest is for tests."""

    def __init__(self, dist: Path) -> None:
        self.codes: set[str] = set()
        self.devices: dict[str, ECKey] = {}
        self.tokens: set[str] = set()
        self.submissions: dict[str, _Submission] = {}
        self.entries: dict[str, _Entry] = {}
        self.patches = 0
        self.delay_s = 0.0
        self.down = False
        self.app = _build(self, dist)

    def advance(self, step: str, copies: int | None = None) -> None:
        """Let every entry reach `step` now."""
        for entry in self.entries.values():
            entry.reached[step] = _now_ms()
            entry.copies = copies if copies is not None else entry.copies
            entry.state = "delivered" if step in ("pacs", "erased") else entry.state

    def held(self) -> dict[str, bytes]:
        """Return the original file of every instance that was kept, by its SOP Instance UID."""
        return {uid: data for entry in self.entries.values() for uid, data in entry.instances.items()}


def _now_ms() -> int:
    return int(time.time() * 1000)


def _authorise(node: FakeNode, request: Request) -> None:
    if request.headers.get("authorization", "").removeprefix("Bearer ") not in node.tokens:
        raise _Refused(401, "unauthorised")


def _submission(node: FakeNode, submission_id: str) -> _Submission:
    if submission_id not in node.submissions:
        raise _Refused(404, "no-such-submission")
    return node.submissions[submission_id]


def _keep_if_complete(node: FakeNode, submission: _Submission) -> None:
    if submission.length is None or len(submission.data) < submission.length:
        return
    submission.state = "examined"
    if submission.body is None:
        return
    found: dict[str, dict[str, bytes]] = {}
    for data in _files(submission):
        header = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
        found.setdefault(str(header.StudyInstanceUID), {})[str(header.SOPInstanceUID)] = data
    for study in submission.body["studies"]:
        held = found.get(study["study_uid"], {})
        if _digest(held) != study["digest"] or len(held) != study["instances"]:
            submission.state = "differs"
            return
        entry_id = hashlib.sha256(study["digest"].encode() + submission.id.encode()).hexdigest()
        reached = {"phone": _now_ms(), "clinic": _now_ms()}
        urgent = submission.body["priority"] == "urgent"
        node.entries[entry_id] = _Entry(entry_id, urgent, held, reached=reached)
        submission.entries.append(entry_id)
    submission.state = "kept"
    submission.data = bytearray()


def _files(submission: _Submission) -> list[bytes]:
    if submission.kind == "file":
        return [bytes(submission.data)]
    with zipfile.ZipFile(io.BytesIO(submission.data)) as archive:
        return [archive.read(name) for name in archive.namelist()]


def _digest(instances: dict[str, bytes]) -> str:
    lines = sorted(f"{uid} {hashlib.sha256(data).hexdigest()}\n" for uid, data in instances.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _study(entry: _Entry) -> dict[str, Any]:
    journey = [
        {
            "step": step,
            "done": step in entry.reached,
            "at": entry.reached.get(step),
            "by": "Asha's laptop" if step == "carried" else None,
            "detail": None,
        }
        for step in STEPS
    ]
    return {
        "entry_id": entry.id,
        "code": f"{entry.id[:3]}-{entry.id[3:6]}".upper(),
        "state": entry.state,
        "priority": "urgent" if entry.urgent else "routine",
        "copies": entry.copies,
        "journey": journey,
        "trouble": None,
    }


def _build(node: FakeNode, dist: Path) -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.exception_handler(_Refused)
    async def refused(_request: Request, error: _Refused) -> Response:
        body = {
            "type": "about:blank",
            "title": "Refused",
            "status": error.status,
            "code": error.code,
            "detail": "",
        }
        return JSONResponse(body, error.status, media_type="application/problem+json")

    @app.middleware("http")
    async def outside(request: Request, call_next: Any) -> Response:
        if node.down:
            return Response(status_code=502)
        response: Response = await call_next(request)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    @app.get("/healthz")
    async def healthz() -> dict[str, Any]:
        return {"status": "ok", "time": time.time(), "node": "11223344", "mesh": MESH, "version": "0"}

    @app.post("/api/v1/devices", status_code=201)
    async def enrol(request: Request) -> dict[str, str]:
        body = await request.json()
        if body["code"] not in node.codes:
            raise _Refused(403, "wrong-code")
        node.codes.discard(body["code"])
        device_id = uuid.uuid4().hex[:16]
        node.devices[device_id] = ECKey.import_key(body["key"])
        return {"device_id": device_id, "role": "upload"}

    @app.post("/oauth/token")
    async def token(request: Request) -> dict[str, Any]:
        form = dict(pair.split("=", 1) for pair in (await request.body()).decode().split("&"))
        part = form["assertion"].split(".")[1]
        device_id = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["iss"]
        if device_id not in node.devices:
            raise _Refused(401, "invalid_grant")
        claims = jwt.decode(form["assertion"], node.devices[device_id], algorithms=["ES256"]).claims
        now = time.time()
        if claims["aud"] != f"clinicmesh:{MESH}" or not now - 5 < claims["exp"] <= now + 300:
            raise _Refused(401, "invalid_grant")
        access = uuid.uuid4().hex
        node.tokens.add(access)
        return {"access_token": access, "token_type": "Bearer", "expires_in": 900, "scope": "upload status"}

    @app.post("/api/v1/submissions", status_code=201)
    async def announce(request: Request) -> dict[str, str]:
        _authorise(node, request)
        body = await request.json()
        known = next((s for s in node.submissions.values() if s.client_id == body["client_id"]), None)
        made = known or _Submission(uuid.uuid4().hex, body["client_id"], body["kind"])
        node.submissions[made.id] = made
        return {"id": made.id, "upload_url": str(request.url_for("create")), "state": made.state}

    @app.get("/api/v1/submissions/{submission_id}")
    async def show(request: Request, submission_id: str) -> dict[str, Any]:
        _authorise(node, request)
        made = _submission(node, submission_id)
        return {
            "id": made.id,
            "client_id": made.client_id,
            "state": made.state,
            "kind": made.kind,
            "bytes": len(made.data),
            "length": made.length,
            "entries": made.entries,
            "examination": None,
            "problem": made.problem,
        }

    @app.delete("/api/v1/submissions/{submission_id}", status_code=204)
    async def remove(request: Request, submission_id: str) -> None:
        _authorise(node, request)
        if _submission(node, submission_id).state == "kept":
            raise _Refused(409, "already-kept")
        del node.submissions[submission_id]

    @app.post("/api/v1/submissions/{submission_id}/confirm")
    async def confirm(request: Request, submission_id: str) -> dict[str, str]:
        _authorise(node, request)
        made = _submission(node, submission_id)
        body = await request.json()
        if made.body not in (None, body):
            raise _Refused(409, "confirmation-differs")
        made.body = body
        made.state = "confirmed" if made.state == "waiting" else made.state
        _keep_if_complete(node, made)
        return {"id": made.id, "state": made.state}

    @app.post("/api/v1/uploads", status_code=201)
    async def create(request: Request) -> Response:
        _authorise(node, request)
        metadata = dict(pair.split(" ") for pair in request.headers["upload-metadata"].split(","))
        made = _submission(node, base64.b64decode(metadata["submission"]).decode())
        made.length = int(request.headers["upload-length"])
        location = f"{request.base_url}api/v1/uploads/{made.id}"
        return Response(status_code=201, headers={"Location": location, "Tus-Resumable": "1.0.0"})

    @app.head("/api/v1/uploads/{upload_id}")
    async def offset(request: Request, upload_id: str) -> Response:
        _authorise(node, request)
        made = _submission(node, upload_id)
        sent = made.length if made.state == "kept" else len(made.data)
        return Response(headers={"Upload-Offset": str(sent), "Upload-Length": str(made.length)})

    @app.patch("/api/v1/uploads/{upload_id}", status_code=204)
    async def patch(request: Request, upload_id: str) -> Response:
        _authorise(node, request)
        made = _submission(node, upload_id)
        if int(request.headers["upload-offset"]) != len(made.data):
            raise _Refused(409, "wrong-offset")
        await asyncio.sleep(node.delay_s)
        piece = await request.body()
        algorithm, digest = request.headers["upload-checksum"].split(" ")
        if algorithm != "sha256" or base64.b64decode(digest) != hashlib.sha256(piece).digest():
            raise _Refused(460, "checksum-mismatch")
        made.data += piece
        node.patches += 1
        sent = len(made.data)
        _keep_if_complete(node, made)
        return Response(status_code=204, headers={"Upload-Offset": str(sent), "Tus-Resumable": "1.0.0"})

    @app.get("/api/v1/studies/{entry_id}")
    async def study(request: Request, entry_id: str) -> dict[str, Any]:
        _authorise(node, request)
        if entry_id not in node.entries:
            raise _Refused(404, "no-such-study")
        return _study(node.entries[entry_id])

    @app.get("/api/v1/events")
    async def events(request: Request) -> Response:
        _authorise(node, request)

        async def said() -> AsyncIterator[str]:
            # Ends by itself, so that a server at its end need not wait for a page; the app asks again.
            seen = ""
            for _ in range(100):
                now = repr([(e.id, e.copies, sorted(e.reached)) for e in node.entries.values()])
                if now != seen:
                    yield 'event: studies\ndata: {"id": null}\n\n'
                seen = now
                await asyncio.sleep(0.1)

        return StreamingResponse(said(), media_type="text/event-stream")

    @app.get("/{path:path}")
    async def files(path: str) -> Response:
        file = (dist / (path or "index.html")).resolve()
        if not file.is_relative_to(dist.resolve()) or not file.is_file():
            raise _Refused(404, "no-such-file")
        return FileResponse(file, headers={"Cache-Control": "no-cache"})

    return app
