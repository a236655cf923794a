"""The audit trail over the people's API: what people did is recorded, and it can be read.

`Audited` stands around the whole application, so that no route can be forgotten: `ACTS` names what each
one that changes something is called in the trail, and a test walks over all routes. What a fact says as well
(a decision, an enrolled device) is recorded again from the fact, with its entry, by `node.jobs.auditing`.
"""

import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from node.api.auth import Caller
from node.audit import Trail
from node.parts import Node
from sync.bodies import Audit
from sync.ids import short

Require = Callable[[str], Callable[..., Caller]]

# (method, path) → what it is called in the trail; "" for what is not recorded.
ACTS: dict[tuple[str, str], str] = {
    ("POST", "/oauth/token"): "token-granted",
    ("POST", "/api/v1/devices"): "device-enrolled",
    ("POST", "/api/v1/submissions"): "submission-begun",
    ("GET", "/api/v1/submissions/{submission_id}"): "submission-seen",
    ("POST", "/api/v1/submissions/{submission_id}/confirm"): "submission-confirmed",
    ("DELETE", "/api/v1/submissions/{submission_id}"): "submission-removed",
    ("POST", "/api/v1/uploads"): "upload-begun",
    ("POST", "/api/v1/uploads/{upload_id}"): "",  # as PATCH, for clients that cannot send that
    ("PATCH", "/api/v1/uploads/{upload_id}"): "",  # the octets of one upload come in thousands of parts
    ("DELETE", "/api/v1/uploads/{upload_id}"): "upload-removed",
    ("GET", "/api/v1/admin/quarantine/{submission_id}/{number}"): "quarantine-read",
    ("POST", "/api/v1/admin/quarantine/{submission_id}/{number}/send"): "quarantine-sent",
    ("DELETE", "/api/v1/admin/quarantine/{submission_id}/{number}"): "quarantine-removed",
    ("POST", "/api/v1/destinations"): "destination-set",
    ("DELETE", "/api/v1/destinations/{name}"): "destination-set",
    ("POST", "/api/v1/destinations/{name}/test"): "destination-tested",
    ("POST", "/api/v1/admin/device-codes"): "code-given",
    ("DELETE", "/api/v1/admin/devices/{device_id}"): "device-revoked",
    ("POST", "/api/v1/admin/unlock"): "keystore-unlocked",
    ("POST", "/api/v1/admin/setup-page"): "",  # hands out what is public
    ("POST", "/api/v1/admin/invitations"): "code-given",
    ("POST", "/api/v1/admin/invitation-files"): "code-given",
    ("POST", "/api/v1/admin/admissions"): "member-admitted",
    ("POST", "/api/v1/admin/revocations"): "member-revoked",
    ("POST", "/api/v1/admin/revocations/signed"): "member-revoked",
    ("POST", "/api/v1/admin/peers"): "peers-set",
    ("DELETE", "/api/v1/admin/peers/{address}"): "peers-set",
    ("POST", "/api/v1/admin/meet"): "",  # changes nothing
    ("POST", "/api/v1/admin/decisions"): "decided",
    ("POST", "/api/v1/studies/{entry_id}/withdraw"): "withdrawn",
    ("POST", "/api/v1/studies/{entry_id}/recall"): "recalled",
    ("GET", "/api/v1/studies/{entry_id}/receipt"): "receipt-read",
    ("POST", "/api/v1/admin/salvage"): "imported",
    ("POST", "/api/v1/admin/stick/export"): "exported",
    ("POST", "/api/v1/admin/stick/import"): "imported",
    ("POST", "/api/v1/admin/stick/forget"): "decided",
    ("GET", "/api/v1/admin/audit"): "audit-read",
    ("GET", "/api/v1/admin/audit/verify"): "",  # reads no line to anybody
}
_CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_SEEN = "submission-seen"
_FREQUENT = frozenset({"token-granted", "submission-begun", "upload-begun"})
_LINES = 100_000


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path)))


_PATTERNS = {key: _pattern(key[1]) for key in ACTS}


def act_of(method: str, path: str) -> tuple[str | None, bytes | None]:
    """Return what a request is called in the trail (None: it has no name), and the id that it is about."""
    for (its_method, _), pattern in _PATTERNS.items():
        if its_method == method and (match := pattern.fullmatch(path)):
            return ACTS[(its_method, _)], _id_in(match.groupdict().values())
    return None, None


def _id_in(values: Any) -> bytes | None:
    for value in values:
        try:
            return bytes.fromhex(value)
        except ValueError:
            continue
    return None


class Audited:
    """ASGI middleware: record what was asked for, by whom, and whether it was refused.

    The line stands before the first octet of the answer leaves; durably, but for acts that come by the dozen
    and end in another one, which are durable within a second. So nobody is told that something was done, or
    given what he asked for, and the trail does not know.
    """

    def __init__(self, app: ASGIApp, *, trail: Trail) -> None:
        self._app = app
        self._trail = trail
        self._seen: set[tuple[str, bytes]] = set()  # who looks at a submission asks again every second

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and note the status of its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        noted = False

        async def note(status: int) -> None:
            nonlocal noted
            noted = True
            what, about = act_of(scope["method"], scope["path"])
            if what or status in (401, 403, 429):
                caller = scope.get("state", {}).get("caller")
                await run_in_threadpool(self._note, scope, caller, what or "administered", about, status)

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start" and not noted:
                await note(int(message["status"]))
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            if not noted:
                await note(500)

    def _note(self, scope: Scope, caller: Caller | None, what: str, about: bytes | None, status: int) -> None:
        who = _who(scope, caller)
        if status in (401, 403, 429) or (caller is None and 400 <= status < 500):
            self._trail.refused(who, f"http-{status}")
        elif what == _SEEN:
            if status == 200 and about is not None and (who, about) not in self._seen:
                if len(self._seen) > _LINES:
                    self._seen.clear()
                self._seen.add((who, about))
                self._trail.record(what, who, entry=about)
        else:
            outcome = 0 if status < 400 else 4 if status < 500 else 8
            self._trail.record(
                what, who, entry=about, outcome=outcome, durably=not outcome and what not in _FREQUENT
            )


def _who(scope: Scope, caller: Caller | None) -> str:
    """Name the caller; of one that was not let in, the address."""
    if caller is None:
        client = scope.get("client")
        return f"address:{client[0]}" if client else "address:unknown"
    return caller.device_id if caller.device_id == "operator" else f"device:{caller.device_id}"


def router(node: Node, require: Require) -> APIRouter:
    """Return the routes; `require` gives the dependency that asks for a scope."""
    routes = APIRouter(prefix="/api/v1/admin/audit", tags=["admin"], dependencies=[Depends(require("admin"))])

    @routes.get("", response_class=StreamingResponse)
    def read(
        after: Annotated[int, Query(ge=0, description="Leave out so many lines.")] = 0,
    ) -> StreamingResponse:
        """Return the trail as it was written: one JSON object a line, named after DICOM PS3.15 A.5."""

        def lines() -> Iterator[str]:
            for line in node.audit.lines(after=after):
                yield line + "\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    @routes.get("/verify")
    def check() -> dict[str, Any]:
        """Hold the trail against its chain and against the heads that this node signed."""
        heads = node.facts.ask(lambda ledger: ledger.audit_heads())
        own = heads.get(node.facts.node_id)
        signed = {own.body.count: own.body.head} if own and isinstance(own.body, Audit) else {}
        found = node.audit.verify({count: head for count, head in signed.items() if count})
        return {
            "intact": found.intact,
            "lines": found.lines,
            "head": found.head.hex(),
            "broken_at": found.broken_at,
            "missing": found.missing,
            "signed": max(signed, default=0),
            "others": [
                {"node": short(author), "lines": fact.body.count, "head": fact.body.head.hex()}
                for author, fact in sorted(heads.items())
                if author != node.facts.node_id and isinstance(fact.body, Audit)
            ],
        }

    return routes
