"""Origins: which pages may call this node's API. The app is served under a name that all nodes share.

`https://<mesh>.local` is any node that is near, and it is the app's one origin, so that what a phone has not
handed in yet can be taken by whichever node it meets. The API of a chosen node is called under that node's
own name (`https://<node>.<mesh>.local`, told by `/healthz`), so the browser must be allowed to: by the
content security policy of the page, and by CORS at the node. No other origin is.
"""

import re

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from node import webcert

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
