"""The app's files, as the node hands them out."""

import gzip
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from support.servers import serve

from node.api import webapp

SCRIPT = b"const ClinicMesh = 'clinic';\n" * 400


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small app."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html>")
    (tmp_path / "assets" / "index-1.js").write_bytes(SCRIPT)
    (tmp_path / "icon.png").write_bytes(b"\x89PNG")
    monkeypatch.setattr(webapp, "built_app", lambda: tmp_path)
    return tmp_path


def test_a_script_travels_packed_and_is_the_same(folder: Path) -> None:
    """The first visit on a slow line waits for the script: a third of the octets, to whoever can unpack."""
    app = FastAPI()
    app.include_router(webapp.router())
    with serve(app) as url, httpx.Client(base_url=url) as client:
        with client.stream("GET", "/assets/index-1.js", headers={"Accept-Encoding": "gzip"}) as packed:
            octets = b"".join(packed.iter_raw())
        plain = client.get("/assets/index-1.js", headers={"Accept-Encoding": "identity"})
        picture = client.get("/icon.png", headers={"Accept-Encoding": "gzip"})
        (folder / "assets" / "index-1.js").write_bytes(b"changed")
        changed = client.get("/assets/index-1.js", headers={"Accept-Encoding": "gzip"})

    assert gzip.decompress(octets) == plain.content == SCRIPT
    assert packed.headers["Content-Length"] == str(len(octets)) and len(octets) < len(SCRIPT) / 3
    assert packed.headers["Content-Type"] == plain.headers["Content-Type"]
    assert packed.headers["Cache-Control"] == plain.headers["Cache-Control"]
    assert packed.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
    assert "Content-Encoding" not in plain.headers and "Content-Encoding" not in picture.headers
    assert changed.content == b"changed"
