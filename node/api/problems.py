"""Problems: how errors leave the HTTP APIs (RFC 9457), and the headers that every answer carries.

The one table from stable codes to HTTP statuses is here. A problem's detail is a sentence for
people; it never repeats what the sender sent, and an unexpected error says nothing but its code.
Called by whoever builds an application: `install(app)`.
"""

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from node.errors import NodeError, Refused, WrongOffset
from sync.errors import PeerError, SyncError

log = logging.getLogger("node.api")

# Stable code → HTTP status. Codes that are not here: 400 for Refused and PeerError, else 500.
STATUS: dict[str, int] = {
    "bad-request": 422,
    "token-missing": 401,
    "token-expired": 401,
    "token-invalid": 401,
    "scope-missing": 403,
    "not-a-member": 403,
    "may-not-admit": 403,
    "roles-too-wide": 403,
    "may-not-revoke": 403,
    "may-not-decide": 403,
    "may-not-withdraw": 403,
    "may-not-recall": 403,
    "may-not-carry": 403,
    "may-not-enrol": 403,
    "passphrase-wrong": 403,
    "not-found": 404,
    "blob-missing": 404,
    "submission-unknown": 404,
    "upload-unknown": 404,
    "not-quarantined": 404,
    "not-sendable": 422,
    "study-unknown": 404,
    "node-unknown": 404,
    "stick-unknown": 404,
    "device-unknown": 404,
    "no-receipt": 404,
    "method-not-allowed": 405,
    "confirmation-differs": 409,
    "destination-unknown": 422,
    "document-study-unknown": 422,
    "patient-missing": 422,
    "patient-fixed": 422,
    "upload-differs": 409,
    "wrong-offset": 409,
    "submission-differs": 409,
    "wrong-state": 409,
    "not-wanted": 409,
    "node-ambiguous": 409,
    "stick-ambiguous": 409,
    "device-ambiguous": 409,
    "said-more": 409,
    "not-its-fact": 409,
    "nothing-to-decide": 409,
    "not-held-here": 409,
    "not-delivered": 409,
    "taken-over": 409,
    "gone": 410,
    "tus-version": 412,
    "too-large": 413,
    "wrong-media-type": 415,
    "range-not-satisfiable": 416,
    "host-unknown": 421,
    "keystore-locked": 423,
    "upload-busy": 423,
    "code-wrong": 403,
    "too-many-tries": 429,
    "checksum-mismatch": 460,
    "not-ready": 503,
    "node-not-running": 503,
    "device-quota": 507,
    "node-quota": 507,
    "disk-full": 507,
}

_CODE_OF_STATUS = {404: "not-found", 405: "method-not-allowed", 413: "too-large", 415: "wrong-media-type"}
_TITLES = {460: "Checksum Mismatch"}  # tus 1.0 has a status that HTTP's registry does not know
_RETRY_AFTER_S = "30"

_CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "worker-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "object-src 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types clinicmesh",
    )
)
# No Strict-Transport-Security: browsers apply it to every port of a name, and "localhost" would
# lose the plain HTTP port that the laptop's own browser uses.
_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), geolocation=(), microphone=()"),
    (b"cache-control", b"no-store"),
)


def status_of(error: NodeError | SyncError) -> int:
    """Return the HTTP status that says what `error` says."""
    return STATUS.get(error.code, 400 if isinstance(error, Refused | PeerError) else 500)


def problem(
    code: str,
    detail: str,
    *,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> Response:
    """Make the answer for an error.

    Args:
        code: the stable code.
        detail: a sentence for people, without patient data.
        status: the HTTP status; the table's when it is not given, else 400.
        headers: more headers.
        more: more members of the problem.
    """
    status = STATUS.get(code, 400) if status is None else status
    body = {"type": "about:blank", "title": _title(status), "status": status, "code": code, "detail": detail}
    return JSONResponse(
        {**body, **(more or {})},
        status_code=status,
        media_type="application/problem+json",
        headers={"Cache-Control": "no-store", **_challenge(code, status), **(headers or {})},
    )


def problem_of(error: NodeError | SyncError) -> Response:
    """Make the answer for an error that was raised on purpose."""
    status = status_of(error)
    retry = isinstance(error, NodeError) and error.retry
    headers = {"Retry-After": _RETRY_AFTER_S} if retry else {}
    more = {"offset": error.offset} if isinstance(error, WrongOffset) else {}
    return problem(error.code, str(error) or _first_line(error), status=status, headers=headers, more=more)


def install(
    app: FastAPI,
    *,
    connect: str = "",
    browsers: bool = True,
    refused: Callable[[Scope, str], None] = lambda _scope, _code: None,
) -> None:
    """Make `app` answer every error as a problem, and put the security headers on every answer.

    Args:
        app: the application.
        connect: more sources that its pages may call, for the policy's `connect-src`.
        browsers: they read the answers; to programs the headers would be 600 octets in vain.
        refused: called with the scope of each request that was wrong, and the code of its answer.
    """

    async def on_known(request: Request, error: Exception) -> Response:
        known = cast("NodeError | SyncError", error)
        if status_of(known) >= 500:
            log.warning("request refused code=%s", known.code)
        else:
            refused(request.scope, known.code)
        return problem_of(known)

    app.add_exception_handler(NodeError, on_known)
    app.add_exception_handler(SyncError, on_known)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    # The last one added is the outermost.
    app.add_middleware(_Guard)
    if browsers:
        app.add_middleware(SecurityHeaders, connect=connect)


class SecurityHeaders:
    """ASGI middleware: give each answer the headers that it does not set itself."""

    def __init__(self, app: ASGIApp, *, connect: str = "") -> None:
        self._app = app
        policy = _CONTENT_SECURITY_POLICY.replace(
            "connect-src 'self'", f"connect-src 'self' {connect}".rstrip()
        )
        self._headers = ((b"content-security-policy", policy.encode()), *_SECURITY_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and complete the headers of its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = list(message.get("headers", ()))
                names = {name.lower() for name, _ in present}
                missing = [pair for pair in self._headers if pair[0] not in names]
                message = {**message, "headers": [*present, *missing]}
            await send(message)

        await self._app(scope, receive, send_with_headers)


class _Guard:
    """ASGI middleware: turn what nobody expected into a 500 that says nothing.

    Starlette's own handler for Exception raises it again, and uvicorn would then print a traceback
    with whatever values the exception quotes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def note_start(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, note_start)
        except Exception as error:
            log.error("request failed error=%s", type(error).__name__)
            if not started:
                answer = problem("internal-error", "The node failed; its log says where.", status=500)
                await answer(scope, receive, send)
            # An answer that has begun is broken off: uvicorn closes the connection when the
            # application returns early, so the client sees that the body is not complete.


async def _on_invalid(request: Request, error: Exception) -> Response:
    """Name the fields that are wrong. FastAPI's own handler repeats what the sender sent."""
    fields = sorted({_field(item) for item in cast("RequestValidationError", error).errors()})
    return problem("bad-request", f"Missing or malformed: {', '.join(fields)}.")


async def _on_http(request: Request, error: Exception) -> Response:
    status = cast("HTTPException", error).status_code
    headers = cast("HTTPException", error).headers
    code = _CODE_OF_STATUS.get(status, f"http-{status}")
    return problem(code, f"{_title(status)}.", status=status, headers=headers)


def _field(item: Mapping[str, Any]) -> str:
    """Name a field, unless its name is the sender's own invention."""
    where = item.get("loc", ())
    if len(where) < 2 or not isinstance(where[1], str) or item.get("type") == "extra_forbidden":
        return str(where[0]) if where else "request"
    return where[1]


def _challenge(code: str, status: int) -> dict[str, str]:
    """Return the challenge that RFC 6750 §3 wants beside a refused token."""
    if code == "token-missing":
        return {"WWW-Authenticate": "Bearer"}
    if status == HTTPStatus.UNAUTHORIZED:
        return {"WWW-Authenticate": 'Bearer error="invalid_token"'}
    if code == "scope-missing":
        return {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}
    return {}


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return _TITLES.get(status, "Error")


def _first_line(error: Exception) -> str:
    return (type(error).__doc__ or "").partition("\n")[0]
