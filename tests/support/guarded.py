"""A token service and a guard before any ASGI application, as OAuth 2 has them (RFC 6749 §4.4, RFC 6750)."""

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs


class Guarded:
    """Lets in whoever shows the newest token; each token opens `uses` requests, then it is worth nothing.

    Attributes:
        fetched: how many tokens were given out.
        refused: how many requests were answered with 401.
        status: what the token service answers.
        life_s: what it says that its tokens live; None to say nothing.
        basic: clients may show themselves in the header; else only in the form.
    """

    client_id = "relay"
    client_secret = "s3cret:with=signs"

    def __init__(self, app: Any, *, uses: int = 1_000_000) -> None:
        self._app = app
        self._left = 0
        self.uses = uses
        self.fetched = 0
        self.refused = 0
        self.status = 200
        self.life_s: int | None = 3600
        self.basic = True
        self.headers: list[dict[str, str]] = []

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]
    ) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        fields = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        if scope["path"] == "/token":
            await self._give(fields, await _body(receive), send)
            return
        self.headers.append(fields)
        if fields.get("authorization") != f"Bearer token-{self.fetched}" or self._left < 1:
            self.refused += 1
            await _body(receive)
            await _answer(send, 401, b"{}")
            return
        self._left -= 1
        await self._app(scope, receive, send)

    async def _give(self, fields: dict[str, str], body: bytes, send: Callable[..., Any]) -> None:
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        pair = b64encode(f"{self.client_id}:{self.client_secret}".encode()).decode()
        known = (form.get("client_id"), form.get("client_secret")) == (self.client_id, self.client_secret)
        known = known or (self.basic and fields.get("authorization") == f"Basic {pair}")
        if form.get("grant_type") != "client_credentials" or not known:
            await _answer(send, 401, b'{"error": "invalid_client"}')
            return
        if self.status == 200:
            self.fetched += 1
            self._left = self.uses
        said: dict[str, Any] = {"access_token": f"token-{self.fetched}", "token_type": "Bearer"}
        if self.life_s is not None:
            said["expires_in"] = self.life_s
        await _answer(send, self.status, json.dumps(said).encode())


async def _body(receive: Callable[..., Any]) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def _answer(send: Callable[..., Any], status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
