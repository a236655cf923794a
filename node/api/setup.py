"""The set-up page for phones: plain HTTP, since a phone that has no root yet can be shown nothing else.

It hands out the mesh's web root as an iOS profile and as a certificate, with pictures, and shows the root's
fingerprint, which people compare with the one on the laptop's screen: whoever is on the network could answer
in this page's place. It is open only while somebody is adding a phone (`node.setup`). No scripts, nothing of
anyone.
"""

import html
import json
import plistlib
import uuid
from collections.abc import Callable
from importlib import resources
from string import Template
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Query
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel

from node import webcert
from node.api import origins, problems
from node.api.auth import Caller

Require = Callable[[str], Callable[..., Caller]]


class SetupPage(BaseModel):
    """Where the set-up page and the app are, and the root's fingerprint, to be compared with the page's."""

    pages: list[str]
    app: str
    fingerprint: str
    expires_in: int


_FILES = resources.files("node.api") / "setup_page"
LANGUAGES = ("en", "fr")
_STEPS = ("iphone", "android")
_CSP = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; frame-ancestors 'none'"
}


def router(open_setup: Callable[[], dict[str, Any]], require: Require) -> APIRouter:
    """Return the route that opens the page; `require` gives the dependency that asks for a scope."""
    routes = APIRouter(prefix="/api/v1/admin", tags=["admin"], dependencies=[Depends(require("enrol"))])

    @routes.post("/setup-page", status_code=201)
    def open_page() -> SetupPage:
        """Open the set-up page for phones for half an hour; say where it is, and what to compare."""
        return SetupPage.model_validate(open_setup())

    return routes


def texts(language: str) -> dict[str, Any]:
    """Return what the page says in a language."""
    said: dict[str, Any] = json.loads((_FILES / f"{language}.json").read_text(encoding="utf-8"))
    return said


def setup_app(mesh_name: str, root: bytes, app_url: str) -> FastAPI:
    """Return the application.

    Args:
        mesh_name: what people call the mesh.
        root: the mesh's web root, in DER.
        app_url: where the app is, once the root is installed.
    """
    app = FastAPI(title="ClinicMesh set-up", docs_url=None, redoc_url=None, openapi_url=None)
    problems.install(app)
    app.add_middleware(origins.KnownHosts)
    by_language = {language: texts(language) for language in LANGUAGES}
    template = Template((_FILES / "page.html").read_text(encoding="utf-8"))

    @app.get("/", response_class=HTMLResponse)
    def page(
        lang: Annotated[str, Query(max_length=8)] = "",
        accept_language: Annotated[str, Header(max_length=400)] = "",
    ) -> HTMLResponse:
        """Return the page in the language that is asked for."""
        language = lang if lang in LANGUAGES else _preferred(accept_language)
        said = by_language[language]
        plain = {key: html.escape(value) for key, value in said.items() if isinstance(value, str)}
        more = {
            "lang": language,
            "mesh": html.escape(mesh_name),
            "app": html.escape(app_url),
            "fingerprint": webcert.fingerprint(root).replace(":", " "),
            "languages": " ".join(
                f'<a href="?lang={one}">{by_language[one]["name"]}</a>' for one in LANGUAGES
            ),
            **{f"{kind}_pictures": _list(said[kind], kind, language) for kind in _STEPS},
        }
        return HTMLResponse(template.substitute(plain | more), headers=_CSP)

    @app.get("/style.css")
    def style() -> Response:
        return Response((_FILES / "style.css").read_bytes(), media_type="text/css")

    @app.get("/pictures/{language}/{kind}/{number}.svg")
    def picture(language: str, kind: str, number: int) -> Response:
        """Return a drawing of what the phone's settings look like at that step."""
        steps = by_language.get(language, by_language["en"]).get(kind, [])
        if kind not in _STEPS or not 0 <= number < len(steps):
            return Response(status_code=404)
        return Response(drawing(steps[number]), media_type="image/svg+xml")

    @app.get("/root.crt")
    def certificate() -> Response:
        """Return the root as Android, Windows and Linux take it."""
        return Response(root, media_type="application/x-x509-ca-cert", headers=_named("clinicmesh.crt"))

    @app.get("/root.mobileconfig")
    def profile() -> Response:
        """Return the root as iPhones and iPads take it."""
        return Response(
            mobileconfig(mesh_name, root),
            media_type="application/x-apple-aspen-config",
            headers=_named("clinicmesh.mobileconfig"),
        )

    return app


def mobileconfig(mesh_name: str, root: bytes) -> bytes:
    """Return an iOS configuration profile with the root; the same root gives the same profile."""
    identity = uuid.uuid5(uuid.NAMESPACE_OID, webcert.fingerprint(root))
    payload = {
        "PayloadType": "com.apple.security.root",
        "PayloadVersion": 1,
        "PayloadIdentifier": f"org.clinicmesh.root.{identity}",
        "PayloadUUID": str(uuid.uuid5(identity, "root")).upper(),
        "PayloadDisplayName": f"ClinicMesh {mesh_name}",
        "PayloadCertificateFileName": "clinicmesh.crt",
        "PayloadContent": root,
    }
    return plistlib.dumps(
        {
            "PayloadType": "Configuration",
            "PayloadVersion": 1,
            "PayloadIdentifier": f"org.clinicmesh.{identity}",
            "PayloadUUID": str(identity).upper(),
            "PayloadDisplayName": f"ClinicMesh {mesh_name}",
            "PayloadDescription": "Lets this device recognise the clinic's computers.",
            "PayloadRemovalDisallowed": False,
            "PayloadContent": [payload],
        }
    )


_FRAME = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200 250" font-family="sans-serif">'
    '<rect x="4" y="4" width="192" height="242" rx="22" fill="#f4f7f6" stroke="#8fa5a2" stroke-width="4"/>'
    '<rect x="80" y="14" width="40" height="6" rx="3" fill="#8fa5a2"/>'
    '<text x="100" y="56" font-size="19" font-weight="700" text-anchor="middle" fill="#14302e">{head}</text>'
    "{rows}</svg>"
)


def drawing(step: dict[str, Any]) -> str:
    """Return a phone's screen as SVG: a heading and rows, the one to tap marked."""
    rows = []
    for number, text in enumerate(step["rows"]):
        top = 78 + 52 * number
        marked = number == step["mark"]
        colour = "#0f5f5c" if marked else "#dfe7e5"
        ink = "#ffffff" if marked else "#4b615e"
        rows.append(f'<rect x="16" y="{top}" width="168" height="42" rx="9" fill="{colour}"/>')
        shown = html.escape(text)
        rows.append(f'<text x="26" y="{top + 27}" font-size="{_fitting(text)}" fill="{ink}">{shown}</text>')
        if marked and step.get("switch"):
            rows.append(f'<rect x="136" y="{top + 9}" width="40" height="24" rx="12" fill="#7fd6a3"/>')
            rows.append(f'<circle cx="164" cy="{top + 21}" r="10" fill="#ffffff"/>')
    return _FRAME.format(head=html.escape(step["head"]), rows="".join(rows))


def _fitting(text: str) -> int:
    return 15 if len(text) <= 18 else 12 if len(text) <= 24 else 10


def _list(steps: list[dict[str, Any]], kind: str, language: str) -> str:
    return "".join(
        f'<li><img src="pictures/{language}/{kind}/{number}.svg" alt="" width="200" height="250">'
        f"{html.escape(step['say'])}</li>"
        for number, step in enumerate(steps)
    )


def _preferred(accepted: str) -> str:
    """Return the first language of an Accept-Language header that the page has; English else."""
    for part in accepted.split(","):
        language = part.split(";")[0].strip().lower()[:2]
        if language in LANGUAGES:
            return language
    return LANGUAGES[0]


def _named(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}
