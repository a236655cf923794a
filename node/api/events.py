"""Events: what changed, as server-sent events, so that the app need not ask again and again.

An event names what to read again and holds nothing else. Read with fetch, since EventSource sends no token.
"""

import asyncio
import json
import queue
from collections.abc import AsyncIterator, Callable

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse

from node.api.auth import Caller
from node.signals import Signals

_TOPICS = frozenset({"studies", "submissions", "status"})
_POLL_S = 0.25
_BEAT_S = 15.0

Require = Callable[[str], Callable[..., Caller]]


def router(signals: Signals, require: Require) -> APIRouter:
    """Return the route; `require` gives the dependency that asks for a scope."""
    routes = APIRouter(prefix="/api/v1", tags=["studies"], dependencies=[Depends(require("status"))])

    @routes.get("/events")
    async def events(request: Request) -> StreamingResponse:
        """Stream `event: <topic>` with `data: {"id": …}`; a comment every 15 s keeps the line open."""
        return StreamingResponse(
            _stream(signals, request), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    return routes


async def _stream(signals: Signals, request: Request) -> AsyncIterator[str]:
    with signals.stream() as waiting:
        yield ": hello\n\n"
        silent = 0.0
        while not await request.is_disconnected():
            try:
                topic, name = waiting.get_nowait()
            except queue.Empty:
                await asyncio.sleep(_POLL_S)
                silent += _POLL_S
                if silent >= _BEAT_S:
                    silent = 0.0
                    yield ": still here\n\n"
                continue
            if topic in _TOPICS:
                silent = 0.0
                yield f"event: {topic}\ndata: {json.dumps({'id': name})}\n\n"
