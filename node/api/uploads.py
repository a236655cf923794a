"""Uploads by tus 1.0 (https://tus.io/protocols/resumable-upload, version 1.0.0).

Core and the extensions creation, creation-with-upload, checksum, termination and expiration. A request is
authorised before the first octet of its body is read. Bodies are read in pieces of at most 1 MiB while the
piece before is sealed and written in a worker thread, so memory stays flat and a slow body blocks nobody.
A new request for an upload ends the one that holds it: phones come back on another network long before
the node notices that the old connection is dead.
"""

import asyncio
import base64
import binascii
import hashlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from node.api.auth import Caller
from node.api.problems import problem_of
from node.api.tusterms import (
    BODY_TYPE,
    CHECKSUMS,
    EXTENSIONS,
    IDLE_S,
    METADATA_LIMIT,
    OF_PATCH,
    VERSION,
    told_headers,
    told_limits,
)
from node.errors import NodeError, Refused, WrongOffset
from node.intake.submissions import Intake
from node.intake.uploads import Part, Uploads
from node.store.intake import Upload
from sync.errors import SyncError

_PIECE_BYTES = 1 << 20
_COMMIT_BYTES = 32 << 20  # a body without an end is made durable as it comes
_PIECES_AHEAD = 2
_STALE_S = 30.0


Require = Callable[[str], Callable[..., Caller]]
"""Gives, for a scope, the dependency that authorises a request."""


class _TusRoute(APIRoute):
    """Puts the protocol's version on every answer, problems included."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def with_version(request: Request) -> Response:
            try:
                answer = await handle(request)
            except (NodeError, SyncError) as error:
                answer = problem_of(error)
                if isinstance(error, WrongOffset):
                    answer.headers["Upload-Offset"] = str(error.offset)
                    del answer.headers["Retry-After"]
            answer.headers["Tus-Resumable"] = VERSION
            answer.headers["Cache-Control"] = "no-store"
            return answer

        return with_version


def router(intake: Intake, require: Require) -> APIRouter:
    """Return the routes of `/api/v1/uploads`.

    Args:
        intake: takes the bytes.
        require: authorises; scope `upload`.
    """
    routes = APIRouter(prefix="/api/v1/uploads", route_class=_TusRoute, tags=["uploads"])
    authorised = Depends(require("upload"))
    uploads = intake.uploads
    desk = _Desk()

    def expires(upload: Upload) -> dict[str, str]:
        if upload.finished:
            return {}
        return {"Upload-Expires": formatdate(uploads.expires_ms(upload) / 1000, usegmt=True)}

    @routes.options("", status_code=204)
    @routes.options("/{upload_id}", status_code=204)
    async def abilities(upload_id: str = "") -> Response:
        """Say what this server can do."""
        return Response(
            status_code=204,
            headers={
                "Tus-Version": VERSION,
                "Tus-Extension": EXTENSIONS,
                "Tus-Max-Size": str(uploads.limits.max_bytes),
                "Tus-Checksum-Algorithm": CHECKSUMS,
            },
        )

    @routes.post("", status_code=201, openapi_extra=told_limits(uploads.limits))
    async def create(request: Request, caller: Caller = authorised) -> Response:
        """Make the upload of a submission, and take its first bytes if they come along.

        Headers: Upload-Length, Upload-Metadata with `submission`; asked again it answers the same upload.
        """
        _check_version(request)
        length = _whole_number(request, "Upload-Length")
        metadata = request.headers.get("Upload-Metadata", "")
        upload = await run_in_threadpool(
            uploads.create,
            caller.device_id,
            _submission_of(metadata),
            length=length,
            metadata=metadata.encode("latin-1"),
        )
        if _body_type(request) == BODY_TYPE and upload.offset == 0 and not upload.finished:
            _check_room(request, upload)
            upload = await _take_body(request, uploads, desk, caller, upload.id, offset=0)
        where = f"{request.url.scheme}://{request.url.netloc}{request.url.path.rstrip('/')}/{upload.id}"
        headers = {"Location": where, "Upload-Offset": str(upload.offset), **expires(upload)}
        return Response(status_code=201, headers=headers)

    @routes.head("/{upload_id}")
    async def offset_of(request: Request, upload_id: str, caller: Caller = authorised) -> Response:
        """Say how much of an upload is durable; ends a request that still holds it."""
        _check_version(request)
        await run_in_threadpool(uploads.get, caller.device_id, upload_id)
        async with desk.turn(upload_id):
            upload = await run_in_threadpool(uploads.get, caller.device_id, upload_id)
        headers = {"Upload-Offset": str(upload.offset), "Upload-Length": str(upload.length)}
        metadata = await run_in_threadpool(uploads.metadata, upload)
        if metadata:
            headers["Upload-Metadata"] = metadata.decode("latin-1")
        return Response(status_code=200, headers={**headers, **expires(upload)})

    @routes.patch("/{upload_id}", status_code=204, openapi_extra=told_headers(*OF_PATCH))
    async def append(request: Request, upload_id: str, caller: Caller = authorised) -> Response:
        """Take bytes at the offset where the upload ends."""
        _check_version(request)
        if _body_type(request) != BODY_TYPE:
            raise Refused("wrong-media-type", f"The body must be {BODY_TYPE}.")
        offset = _whole_number(request, "Upload-Offset")
        _checksum_of(request)
        upload = await run_in_threadpool(uploads.get, caller.device_id, upload_id)
        _check_room(request, upload, offset)
        upload = await _take_body(request, uploads, desk, caller, upload_id, offset=offset)
        return Response(status_code=204, headers={"Upload-Offset": str(upload.offset), **expires(upload)})

    @routes.delete("/{upload_id}", status_code=204)
    async def terminate(request: Request, upload_id: str, caller: Caller = authorised) -> Response:
        """Forget an unfinished upload and erase its bytes."""
        _check_version(request)
        await run_in_threadpool(uploads.get, caller.device_id, upload_id)
        async with desk.turn(upload_id):
            await run_in_threadpool(uploads.terminate, caller.device_id, upload_id)
        return Response(status_code=204)

    @routes.post("/{upload_id}", include_in_schema=False)
    async def overridden(request: Request, upload_id: str, caller: Caller = authorised) -> Response:
        """Serve clients that cannot say PATCH or DELETE (X-HTTP-Method-Override)."""
        acts: dict[str, Callable[..., Awaitable[Response]]] = {"PATCH": append, "DELETE": terminate}
        act = acts.get(request.headers.get("X-HTTP-Method-Override", "").upper())
        if act is None:
            raise Refused("method-not-allowed", "POST makes uploads; use PATCH to send bytes.")
        return await act(request, upload_id, caller)

    return routes


# -- headers ------------------------------------------------------------------------------------


def _check_version(request: Request) -> None:
    if request.headers.get("Tus-Resumable") != VERSION:
        raise Refused("tus-version", f"This server speaks tus {VERSION}; send Tus-Resumable: {VERSION}.")


def _whole_number(request: Request, header: str) -> int:
    text = request.headers.get(header, "")
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Refused("header-wrong", f"The header {header} must be a whole number.")
    return int(text)


def _body_type(request: Request) -> str:
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _submission_of(metadata: str) -> str:
    """Return the submission that the metadata name (tus: `key base64, key base64`)."""
    if len(metadata) > METADATA_LIMIT:
        raise Refused("header-wrong", "The header Upload-Metadata is too long.")
    for pair in metadata.split(","):
        key, _, value = pair.strip().partition(" ")
        if key == "submission":
            with suppress(ValueError):
                return base64.b64decode(value.strip(), validate=True).decode("ascii")
    raise Refused("submission-missing", "Upload-Metadata must name the submission that the bytes belong to.")


def _checksum_of(request: Request) -> tuple[Any, bytes] | None:
    """Return the hash to fill and the digest that it must give."""
    text = request.headers.get("Upload-Checksum")
    if text is None:
        return None
    name, _, value = text.partition(" ")
    try:
        wanted = base64.b64decode(value.strip(), validate=True)
    except (binascii.Error, ValueError):
        wanted = b""
    if name not in CHECKSUMS.split(",") or not wanted:
        raise Refused("header-wrong", f"The header Upload-Checksum must be one of {CHECKSUMS} and base64.")
    return hashlib.new(name, usedforsecurity=False), wanted


def _check_room(request: Request, upload: Upload, offset: int = 0) -> None:
    """Refuse a body that says itself that it is too long, before it is read."""
    if offset != upload.offset:
        return  # said more precisely once the upload is ours
    announced = request.headers.get("Content-Length", "")
    if announced.isascii() and announced.isdigit() and offset + int(announced) > upload.length:
        raise Refused("too-large", "More bytes came than were announced.")


# -- bodies -------------------------------------------------------------------------------------


async def _take_body(
    request: Request, uploads: Uploads, desk: "_Desk", caller: Caller, upload_id: str, *, offset: int
) -> Upload:
    """Write a request's body at `offset` and return the upload, durable as far as it says."""
    checksum = _checksum_of(request)
    async with desk.turn(upload_id) as turn:
        part = await run_in_threadpool(_begun, uploads, caller.device_id, upload_id, offset)
        if isinstance(part, Upload):
            return part
        body = _Body(request)
        turn.body = body
        if turn.ended:
            body.stop()
        try:
            return await _write(body, part, checksum)
        finally:
            await body.close()
            if not part.closed:
                await run_in_threadpool(part.close)


def _begun(uploads: Uploads, device: str, upload_id: str, offset: int) -> Part | Upload:
    """Begin to write, or return the upload that is finished already."""
    upload = uploads.get(device, upload_id)
    return upload if upload.finished and offset == upload.offset else uploads.begin(upload, offset)


async def _write(body: "_Body", part: Part, checksum: tuple[Any, bytes] | None) -> Upload:
    """Write what comes. Without a checksum all that came counts; with one, all or nothing."""
    hashed = None if checksum is None else checksum[0]
    try:
        while piece := await body.piece():
            await run_in_threadpool(_write_piece, part, piece, hashed, commit=checksum is None)
        if checksum is not None and checksum[0].digest() != checksum[1]:
            raise Refused("checksum-mismatch", "The bytes were altered on their way. Send them again.")
        return await run_in_threadpool(_finished, part)
    except BaseException as error:
        keep = checksum is None and isinstance(error, ClientDisconnect | _TakenOver | TimeoutError)
        if keep:
            with suppress(NodeError):
                await run_in_threadpool(_write_rest, part, await body.rest())
        else:
            await run_in_threadpool(part.discard)
        if isinstance(error, ClientDisconnect | TimeoutError):
            raise Refused("broken-off", "The body broke off. Ask for the offset and go on there.") from None
        if isinstance(error, _TakenOver):
            raise Refused("taken-over", "Another request goes on with this upload.") from None
        raise


def _write_piece(part: Part, piece: bytes, hashed: Any, *, commit: bool) -> None:
    if hashed is not None:
        hashed.update(piece)
    part.write(piece)
    if commit and part.offset - part.upload.offset >= _COMMIT_BYTES:
        part.commit()


def _finished(part: Part) -> Upload:
    upload = part.commit()
    part.close()
    return upload


def _write_rest(part: Part, pieces: list[bytes]) -> None:
    for piece in pieces:
        part.write(piece)
    part.commit()


class _TakenOver(Exception):
    """Another request came for the same upload."""


class _Body:
    """A request's body in pieces of at most 1 MiB, read ahead in a task so that it can be stopped."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(_PIECES_AHEAD)
        self._collected: list[bytes] = []
        self._size = 0
        self._failed: BaseException | None = None
        self._stopped = False
        self._task = asyncio.create_task(self._read())

    async def piece(self) -> bytes:
        """Return the next piece, nothing at the end.

        Raises:
            ClientDisconnect: the sender went away.
            _TakenOver: another request wants the upload.
            TimeoutError: nothing came for a minute.
        """
        if self._stopped:
            raise _TakenOver
        got = await asyncio.wait_for(self._pieces.get(), IDLE_S)
        if got is None:
            if self._stopped:
                raise _TakenOver
            if self._failed is not None:
                raise self._failed
            return b""
        return got

    async def rest(self) -> list[bytes]:
        """Stop reading, and return what came and was not taken yet."""
        await self.close()
        pieces = []
        while not self._pieces.empty():
            pieces.append(self._pieces.get_nowait() or b"")
        while self._size:
            pieces.append(self._take(min(self._size, _PIECE_BYTES)))
        return pieces

    def stop(self) -> None:
        """Let `piece` raise `_TakenOver`; from any thread."""
        with suppress(RuntimeError):  # its loop is closed: nobody reads any more
            self._loop.call_soon_threadsafe(self._stop)

    async def close(self) -> None:
        """Stop reading."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    def _stop(self) -> None:
        self._stopped = True
        self._task.cancel()
        with suppress(asyncio.QueueFull):  # then `piece` will be called again, and looks
            self._pieces.put_nowait(None)

    async def _read(self) -> None:
        """Collect what comes, in chunks of the network, into pieces; each octet is copied once."""
        try:
            async for chunk in self._request.stream():
                self._collected.append(chunk)
                self._size += len(chunk)
                while self._size >= _PIECE_BYTES:
                    await self._pieces.put(self._take(_PIECE_BYTES))
            if self._size:
                await self._pieces.put(self._take(self._size))
        except ClientDisconnect as gone:
            self._failed = gone
        await self._pieces.put(None)

    def _take(self, size: int) -> bytes:
        """Return the next octets of those that were collected, so many of them."""
        over = self._size - size
        chunks, self._collected = self._collected, []
        if over:
            last = chunks[-1]
            chunks[-1] = last[:-over]
            self._collected.append(last[-over:])
        self._size = over
        return b"".join(chunks)


@dataclass(slots=True)
class _Turn:
    """One request's hold on an upload."""

    over: "Future[None]"
    body: _Body | None = None
    ended: bool = False

    def end(self) -> None:
        """Ask the holder to come to an end."""
        self.ended = True
        if self.body is not None:
            self.body.stop()


class _Desk:
    """One request at a time for each upload; a new one ends the one before. Across threads and loops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: dict[str, _Turn] = {}

    @asynccontextmanager
    async def turn(self, upload_id: str) -> AsyncIterator[_Turn]:
        """Hold an upload until the block ends."""
        mine = _Turn(Future())
        while True:
            with self._lock:
                other = self._turns.get(upload_id)
                if other is None:
                    self._turns[upload_id] = mine
                    break
            other.end()
            try:
                await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(other.over)), _STALE_S)
            except TimeoutError:
                raise Refused("upload-busy", "The disk is slow. Try again in a while.") from None
        try:
            yield mine
        finally:
            with self._lock:
                del self._turns[upload_id]
            mine.over.set_result(None)
