"""Who is at the other end: the client's certificate, for the application behind uvicorn.

uvicorn (0.54) keeps the TLS connection to itself. These protocol classes add the `tls` extension of the
ASGI specification (version 0.2) to each request's scope, by its field names, so that a uvicorn that brings
it needs no change here but their removal. `uvicorn.Config(http=protocol_class())`.
"""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from node.mesh import tls
from sync.ids import NodeId

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError:  # httptools is compiled; where it is missing, h11 does
    HttpToolsProtocol = None  # type: ignore[assignment, misc]

_TLS_1_3 = 0x0304


def peer_node_id(scope: Mapping[str, Any]) -> NodeId | None:
    """Return whose certificate the client of this request has shown; None if it has shown none.

    The TLS layer has checked that it chains to the mesh and that the client has its key. What that
    node may do, facts say.
    """
    extension = (scope.get("extensions") or {}).get("tls") or {}
    chain = extension.get("client_cert_chain") or []
    return tls.node_id_of(ssl.PEM_cert_to_DER_cert(chain[0])) if chain else None


def protocol_class() -> type[asyncio.Protocol]:
    """Return the HTTP protocol class for the mesh port."""
    return H11WithPeer if HttpToolsProtocol is None else HttpToolsWithPeer


class H11WithPeer(H11Protocol):
    """uvicorn's protocol on h11, with the `tls` extension."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Put the extension before the application of this connection."""
        super().connection_made(transport)
        self.app = _with_extension(self.app, transport)


if HttpToolsProtocol is not None:

    class HttpToolsWithPeer(HttpToolsProtocol):
        """uvicorn's protocol on httptools, with the `tls` extension."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            """Put the extension before the application of this connection."""
            super().connection_made(transport)
            self.app = _with_extension(self.app, transport)


def _with_extension(app: Any, transport: asyncio.Transport) -> Any:
    """Return `app` with the `tls` extension in its scopes; `app` itself without TLS, as specified."""
    connection = transport.get_extra_info("ssl_object")
    if connection is None:
        return app
    certificate = connection.getpeercert(binary_form=True)
    extension = {
        "server_cert": None,
        "client_cert_chain": [ssl.DER_cert_to_PEM_cert(certificate)] if certificate else [],
        "client_cert_name": tls.subject_of(certificate) if certificate else None,
        "client_cert_error": None,
        "tls_version": _TLS_1_3,
        "cipher_suite": None,
    }

    async def with_extension(scope: Any, receive: Any, send: Any) -> None:
        extensions = {**(scope.get("extensions") or {}), "tls": extension}
        await app({**scope, "extensions": extensions}, receive, send)

    return with_extension
