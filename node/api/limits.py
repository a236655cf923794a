"""Limits on what a request may bring: JSON bodies are read whole, so they must be small.

Uploads stream and count for themselves; their paths are exempt. Called by whoever builds an application,
after `problems.install`.
"""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 1024 * 1024  # a confirmation of 5,000 studies has 0.9 MB


class BodyLimit:
    """ASGI middleware: break off a body that is too long, before it fills the memory.

    Args:
        app: the application.
        exempt: beginnings of paths that look after themselves.
        max_bytes: how many octets other bodies may have.
    """

    def __init__(
        self, app: ASGIApp, *, exempt: tuple[str, ...] = (), max_bytes: int = MAX_BODY_BYTES
    ) -> None:
        self._app = app
        self._exempt = exempt
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and count its body while it is read."""
        if scope["type"] != "http" or (self._exempt and scope["path"].startswith(self._exempt)):
            await self._app(scope, receive, send)
            return
        left = self._max_bytes

        async def receive_counted() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                # FastAPI turns any other error during the reading of a body into a 400.
                raise HTTPException(413)
            return message

        await self._app(scope, receive_counted, send)
