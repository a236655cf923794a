"""Events: what changed, as server-sent events, so that the app need not ask again and again.

An event names what to read again and holds nothing else. Read with fetch, since EventSource sends no token.
A stream ends with the token that opened it: when it expires, and soon after its device was revoked.
"""

import asyncio
import json
import queue
from collections.abc import AsyncIterator, Callable

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from node.api.auth import Caller
from node.signals import Signals

_TOPICS = frozenset({"studies", "submissions", "status"})
_POLL_S = 0.25
_BEAT_S = 15.0
_ASK_S = 2.0  # how long a stream may outlive its token

Require = Callable[[str], Callable[..., Caller]]


def router(signals: Signals, require: Require, still: Callable[[Request, str], bool]) -> APIRouter:
    """Return the route.

    Args:
        signals: what changes.
        require: gives the dependency that asks for a scope.
        still: says whether a request that was let in would be now.
    """
    routes = APIRouter(prefix="/api/v1", tags=["studies"], dependencies=[Depends(require("status"))])

    @routes.get("/events")
    async def events(request: Request) -> StreamingResponse:
        """Stream `event: <topic>` with `data: {"id": …}`; a comment every 15 s keeps the line open."""
        return StreamingResponse(
            _stream(signals, request, lambda: still(request, "status")),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store"},
        )

    return routes


async def _stream(signals: Signals, request: Request, may_read: Callable[[], bool]) -> AsyncIterator[str]:
    with signals.stream() as waiting:
        yield ": hello\n\n"
        loop = asyncio.get_running_loop()
        told = asked = loop.time()
        while not await request.is_disconnected():
            now = loop.time()
            if now - asked >= _ASK_S:
                asked = now
                if not await run_in_threadpool(may_read):  # it waits for who writes facts
                    return
            try:
                topic, name = waiting.get_nowait()
            except queue.Empty:
                await asyncio.sleep(_POLL_S)
                if now - told >= _BEAT_S:
                    told = now
                    yield ": still here\n\n"
                continue
            if topic in _TOPICS:
                told = now
                yield f"event: {topic}\ndata: {json.dumps({'id': name})}\n\n"
