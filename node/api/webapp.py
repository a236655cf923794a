"""The app's files: the built PWA, from the wheel or from the checkout, with the right caching.

Files whose names carry a hash may be kept for ever; the page, the manifest and the service worker are
asked for again each time, or an update would never arrive.
"""

import gzip
import mimetypes
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, PlainTextResponse, Response

import node
from node.errors import Refused

_FOR_EVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"
_PACKED = frozenset({".js", ".css", ".html", ".svg", ".webmanifest"})
"""What gzip makes a third of: on a clinic's Wi-Fi the first visit waits for it. Nothing secret is in it."""
_TYPES = {".webmanifest": "application/manifest+json", ".js": "text/javascript", ".svg": "image/svg+xml"}


def built_app() -> Path | None:
    """Return the folder of the built app, or None if there is none."""
    package = Path(node.__file__).parent
    for folder in (package / "app", package.parent / "pwa" / "dist"):
        if (folder / "index.html").is_file():
            return folder
    return None


def router() -> APIRouter:
    """Return the routes: every file of the app, and its page for every other path."""
    routes = APIRouter(include_in_schema=False)
    folder = built_app()
    if folder is None:

        @routes.get("/")
        def missing() -> PlainTextResponse:
            return PlainTextResponse(
                "ClinicMesh runs, but its app was not built. Run `python3 run.py` once.", status_code=503
            )

        return routes
    files = {
        path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()
    }

    @cache
    def packed(path: Path, changed_ns: int) -> bytes:
        return gzip.compress(path.read_bytes(), mtime=0)

    @routes.get("/{name:path}")
    def app_file(request: Request, name: str) -> Response:
        path = files.get(name)
        if path is None:
            if name.startswith(("api/", "oauth/", "mesh/", "assets/")):
                raise Refused("not-found", "There is nothing at this address.")
            name, path = "index.html", files["index.html"]
        kind = _TYPES.get(path.suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
        caching = _FOR_EVER if name.startswith("assets/") else _ASK_AGAIN
        headers = {"Cache-Control": caching, "Vary": "Accept-Encoding"}
        if path.suffix in _PACKED and "gzip" in request.headers.get("Accept-Encoding", ""):
            headers["Content-Encoding"] = "gzip"
            return Response(packed(path, path.stat().st_mtime_ns), media_type=kind, headers=headers)
        return FileResponse(path, media_type=kind, headers=headers)

    return routes
