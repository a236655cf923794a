"""Origins: which pages may call this node's API. The app is served under a name that all nodes share.

`https://<mesh>.local` is any node that is near, and it is the app's one origin, so that what a phone has not
handed in yet can be taken by whichever node it meets. The API of a chosen node is called under that node's
own name (`https://<node>.<mesh>.local`, told by `/healthz`), so the browser must be allowed to: by the
content security policy of the page, and by CORS at the node. No other origin is.

Over plain HTTP nothing proves a name, so that any page can let its own name lead to this machine (DNS
rebinding) and is then of one origin with what answers there. `KnownHosts` answers to the names of this
machine only.
"""

import re
from collections.abc import Callable

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from node import webcert
from node.api.problems import problem

_HERE = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
_NEAR = re.compile(
    r"(localhost|[0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9a-f:.]+\]|[a-z0-9.-]+\.(local|home\.arpa))(:[0-9]{1,5})?",
    re.IGNORECASE,
)

_HEADERS = (
    *("Authorization", "Content-Type", "Last-Event-ID", "Tus-Resumable"),
    *("Upload-Checksum", "Upload-Length", "Upload-Metadata", "Upload-Offset"),
)
_SHOWN = (
    *("Location", "Retry-After", "Tus-Resumable", "Tus-Version", "Tus-Extension", "Tus-Max-Size"),
    *("Tus-Checksum-Algorithm", "Upload-Expires", "Upload-Length", "Upload-Offset"),
)


def connect_sources(mesh_name: str) -> str:
    """Return the sources of the policy's `connect-src` besides 'self'."""
    host = f"{webcert.host_label(mesh_name)}.local"
    return f"https://{host}:* https://*.{host}:*"


def own_url(mesh_name: str, node_label: str, port: int) -> str:
    """Return the address of one node's API under its own name."""
    return f"https://{webcert.host_label(node_label)}.{webcert.host_label(mesh_name)}.local:{port}"


def shared_url(mesh_name: str, port: int) -> str:
    """Return the app's address: any node of the mesh that is near."""
    return f"https://{webcert.host_label(mesh_name)}.local:{port}"


def allow(app: FastAPI, mesh_name: str) -> None:
    """Let pages of this mesh's names call `app`, and no others."""
    host = re.escape(f"{webcert.host_label(mesh_name)}.local")
    app.add_middleware(
        CORSMiddleware,
        allow_origin_regex=rf"https://([a-z0-9-]+\.)?{host}(:[0-9]{{1,5}})?",
        allow_methods=["GET", "HEAD", "POST", "PATCH", "DELETE"],
        allow_headers=_HEADERS,
        expose_headers=_SHOWN,
        max_age=600,
    )


class KnownHosts:
    """ASGI middleware: refuse what asks for another name than this machine's, where no certificate does.

    Args:
        app: the application.
        local_port: gives the port for this machine's own browser, where only its own names count. None: the
            application is for machines near by, which name this one by address or by a name of the local
            network.
    """

    def __init__(self, app: ASGIApp, *, local_port: Callable[[], int | None] | None = None) -> None:
        self._app = app
        self._local_port = local_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on if its Host is one of those."""
        if scope["type"] == "http" and scope["scheme"] == "http" and not self._known(scope):
            answer = problem("host-unknown", "This address is not one of this machine's.")
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _known(self, scope: Scope) -> bool:
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if self._local_port is None:
            return len(hosts) == 1 and _NEAR.fullmatch(hosts[0]) is not None
        server = scope.get("server")
        if server is None or server[1] != self._local_port():
            return True
        return len(hosts) == 1 and _HERE.fullmatch(hosts[0]) is not None
