"""A small PACS on a folder, for demonstrations and tests. NOT FOR CLINICAL USE.

Speaks STOW-RS, QIDO-RS and WADO-RS (PS3.18 §10) as far as a forwarder needs them, and answers like
Orthanc: original bytes are kept, and of two contents under one UID the first. It has no access control
and keeps patient data unsealed, so it listens on the loopback only. Run it by
`python -m node.sandbox_pacs --port 8090 --dir FOLDER`; the demo starts it where no Orthanc is installed.
"""

import argparse
import asyncio
import hashlib
import secrets
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pydicom
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from node.deliver.compare import UNREADABLE
from node.deliver.multipart import MultipartParser, PartBegins, PartData, boundary_of
from node.errors import Refused

BANNER = "ClinicMesh sandbox PACS: not for clinical use"
_MARK = {"X-Sandbox": "not for clinical use"}
_DICOM_JSON = "application/dicom+json"
_PAGE = 100  # what a query answers at most, as many archives do
_CHUNK = 262_144
_CANNOT_UNDERSTAND = 0xC000
_PROCESSING_FAILURE = 0x0110


@dataclass(frozen=True, slots=True)
class _Kept:
    """An instance in the folder. `header` is its DICOM JSON without bulk data."""

    study: str
    series: str
    uid: str
    sop_class: str
    syntax: str
    sha256: bytes
    path: Path
    header: dict[str, Any]


class SandboxArchive:
    """The folder and what is known of it. Files are named by the hash of the UID."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._by_uid: dict[str, _Kept] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.glob("*.dcm")):
            kept = _examine(path)
            if kept is not None:
                self._by_uid[kept.uid] = kept

    def part_file(self) -> Path:
        """Return a free name to write an arriving part to."""
        return self._folder / f"{secrets.token_hex(8)}.part"

    def take(self, part: Path, study: str | None) -> tuple[_Kept | None, int]:
        """Keep an arrived part: (what it is, failure reason or 0). Of a known UID the old one stays."""
        kept = _examine(part)
        if kept is None:
            part.unlink()
            return None, _CANNOT_UNDERSTAND
        if study is not None and kept.study != study:
            part.unlink()
            return kept, _PROCESSING_FAILURE
        path = self._folder / f"{hashlib.sha256(kept.uid.encode()).hexdigest()}.dcm"
        with self._lock:
            if kept.uid in self._by_uid:
                part.unlink()
            else:
                part.rename(path)
                self._by_uid[kept.uid] = replace(kept, path=path)
        return kept, 0

    def find(
        self, study: str | None = None, series: str | None = None, uid: str | None = None
    ) -> list[_Kept]:
        """Return the instances under a study, a series or a UID; all for none."""
        with self._lock:
            return [
                kept for kept in self._by_uid.values()
                if study in (None, kept.study) and series in (None, kept.series) and uid in (None, kept.uid)
            ]  # fmt: skip

    def lose(self, found: Sequence[_Kept]) -> None:
        """Forget and delete instances."""
        with self._lock:
            for kept in found:
                del self._by_uid[kept.uid]
                kept.path.unlink()


def _examine(path: Path) -> _Kept | None:
    """Read what a file is; None if it is no DICOM file with the UIDs that it needs."""
    try:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while piece := file.read(_CHUNK):
                digest.update(piece)
        data_set = pydicom.dcmread(path, stop_before_pixels=True)
        header = data_set.to_json_dict(4096, lambda _element: "")
        uids = [str(data_set[name].value) for name in _UIDS]
        syntax = str(data_set.file_meta.TransferSyntaxUID)
    except UNREADABLE:
        return None
    if not all(uids):
        return None
    study, series, uid, sop_class = uids
    header["00083002"] = {"vr": "UI", "Value": [syntax]}
    return _Kept(study, series, uid, sop_class, syntax, digest.digest(), path, header)


_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


def sandbox_app(folder: Path, root: str = "/dicom-web") -> FastAPI:
    """Return the PACS as an ASGI application with its DICOMweb service under `root`."""
    archive = SandboxArchive(folder)
    app = FastAPI(title=BANNER, openapi_url=None)

    @app.middleware("http")
    async def mark(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        response.headers.update(_MARK)
        return response

    @app.get("/")
    def banner() -> Response:
        return Response(BANNER + "\n", media_type="text/plain")

    @app.post(root + "/studies")
    async def store(request: Request) -> Response:
        return await _store(archive, request, None)

    @app.post(root + "/studies/{study}")
    async def store_study(request: Request, study: str) -> Response:
        return await _store(archive, request, study)

    @app.get(root + "/studies")
    def studies(limit: int = _PAGE, offset: int = 0) -> Response:
        first = {kept.study: kept for kept in reversed(archive.find())}
        return _page([_study_header(archive, kept) for kept in first.values()], limit, offset)

    @app.get(root + "/instances")
    @app.get(root + "/studies/{study}/instances")
    @app.get(root + "/studies/{study}/series/{series}/instances")
    def instances(
        study: str | None = None, series: str | None = None, limit: int = _PAGE, offset: int = 0
    ) -> Response:
        return _page([kept.header for kept in archive.find(study, series)], limit, offset)

    @app.get(root + "/studies/{study}/metadata")
    @app.get(root + "/studies/{study}/series/{series}/metadata")
    @app.get(root + "/studies/{study}/series/{series}/instances/{uid}/metadata")
    def metadata(study: str, series: str | None = None, uid: str | None = None) -> Response:
        found = archive.find(study, series, uid)
        return _json([kept.header for kept in found]) if found else Response(status_code=404)

    @app.get(root + "/studies/{study}")
    @app.get(root + "/studies/{study}/series/{series}")
    @app.get(root + "/studies/{study}/series/{series}/instances/{uid}")
    def retrieve(request: Request, study: str, series: str | None = None, uid: str | None = None) -> Response:
        found = archive.find(study, series, uid)
        if not found:
            return Response(status_code=404)
        wanted = _wanted_syntax(request.headers.get("accept", ""))
        if wanted != "*" and any(kept.syntax != wanted for kept in found):
            return Response(status_code=406)
        boundary = secrets.token_hex(16)
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        return StreamingResponse(_multipart(found, boundary), headers={"Content-Type": kind})

    @app.delete(root + "/studies/{study}")
    def lose(study: str) -> Response:
        archive.lose(archive.find(study))
        return Response(status_code=204)

    return app


async def _store(archive: SandboxArchive, request: Request, study: str | None) -> Response:
    """Take a store request (PS3.18 §10.5). Starlette's `form()` gives nothing for multipart/related."""
    boundary = boundary_of(request.headers.get("content-type", ""))
    if boundary is None:
        return Response(status_code=415)
    stored: list[_Kept] = []
    failed: list[tuple[_Kept | None, int]] = []
    try:
        async for part in _arriving(archive, request.stream(), MultipartParser(boundary)):
            kept, reason = await asyncio.to_thread(archive.take, part, study)
            if kept is None or reason:
                failed.append((kept, reason))
            else:
                stored.append(kept)
    except Refused:
        return Response(status_code=400)
    answer = {
        "00081198": {"vr": "SQ", "Value": [_failure(kept, reason) for kept, reason in failed if kept]},
        "00081199": {"vr": "SQ", "Value": [_reference(kept) for kept in stored]},
    }
    if others := [_failure(None, reason) for kept, reason in failed if kept is None]:
        answer["0008119A"] = {"vr": "SQ", "Value": others}
    status = 200 if not failed else 202 if stored else 409
    return _json(answer, status)


async def _arriving(
    archive: SandboxArchive, body: AsyncIterator[bytes], parser: MultipartParser
) -> AsyncIterator[Path]:
    """Write each part of a body to a file as it arrives, and give it when it is complete."""
    path = archive.part_file()
    file = None
    try:
        async for chunk in body:
            for event in parser.feed(chunk):
                if isinstance(event, PartBegins):
                    path = archive.part_file()
                    file = path.open("xb")
                elif isinstance(event, PartData):
                    assert file is not None
                    file.write(event.data)
                else:
                    assert file is not None
                    file.close()
                    file = None
                    yield path
        if not parser.complete:
            raise Refused("bad-multipart", "the body ends before its last part does")
    finally:
        if file is not None:
            file.close()
            path.unlink()


def _multipart(found: Sequence[_Kept], boundary: str) -> Iterator[bytes]:
    for kept in found:
        head = f"--{boundary}\r\nContent-Type: application/dicom; transfer-syntax={kept.syntax}\r\n\r\n"
        yield head.encode("ascii")
        with kept.path.open("rb") as file:
            while piece := file.read(_CHUNK):
                yield piece
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode("ascii")


def _wanted_syntax(accept: str) -> str:
    _, found, rest = accept.replace(" ", "").partition("transfer-syntax=")
    return rest.split(";")[0].split(",")[0].strip('"') if found else "*"


def _reference(kept: _Kept) -> dict[str, Any]:
    return {
        "00081150": {"vr": "UI", "Value": [kept.sop_class]},
        "00081155": {"vr": "UI", "Value": [kept.uid]},
    }


def _failure(kept: _Kept | None, reason: int) -> dict[str, Any]:
    return {**(_reference(kept) if kept else {}), "00081197": {"vr": "US", "Value": [reason]}}


def _study_header(archive: SandboxArchive, kept: _Kept) -> dict[str, Any]:
    """Return what a search for studies shows (PS3.18 Table 10.6.3-3)."""
    shown = ("00080020", "00080030", "00080050", "00081030", "00100010", "00100020", "0020000D", "00200010")
    header = {tag: kept.header[tag] for tag in shown if tag in kept.header}
    header["00201208"] = {"vr": "IS", "Value": [len(archive.find(kept.study))]}
    return header


def _page(rows: list[dict[str, Any]], limit: int, offset: int) -> Response:
    first = max(0, offset)
    return _json(rows[first : first + max(0, min(limit, _PAGE))])


def _json(value: Any, status: int = 200) -> Response:
    return JSONResponse(value, status, media_type=_DICOM_JSON)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m node.sandbox_pacs", description=BANNER)
    parser.add_argument("--port", type=int, required=True, help="port on the loopback")
    parser.add_argument("--dir", type=Path, required=True, help="where images are kept, unsealed")
    given = parser.parse_args(arguments)
    sys.stderr.write(f"{BANNER} (http://127.0.0.1:{given.port}/dicom-web)\n")
    uvicorn.run(sandbox_app(given.dir), host="127.0.0.1", port=given.port, log_level="warning", ws="none")


if __name__ == "__main__":
    main()
