"""Every screen: for people who cannot see it, with large letters, in each language, on a small phone.

One walk through the app; at each stop all of it is checked.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page
from support.phone import Phone
from support.real_clinic import RealClinic
from support.tour import tour

pytestmark = pytest.mark.chromium

AXE = Path(__file__).parents[2] / "pwa" / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
LANGUAGES = ("fr", "ar-XB", "en")
# What can be pressed, smaller than a thumb needs. A field that a label holds is as large as the label.
SMALL = """() => [...document.querySelectorAll("a, button, select, input, summary, textarea")]
    .map((one) => one.closest("label") ?? one)
    .filter((one) => one.checkVisibility() && !one.closest(".sr-only") && !one.matches(".sr-only"))
    .map((one) => [one.outerHTML.slice(0, 90), one.getBoundingClientRect()])
    .filter(([, box]) => box.width > 0 && (box.height < 48 || box.width < 48))
    .map(([html, box]) => `${Math.round(box.width)}x${Math.round(box.height)} ${html}`)"""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
PLAIN = """() => [...document.querySelectorAll("main h1, main h2, main button, main label, main dt")]
    .map((one) => one.innerText.trim())
    .filter((text) => /[a-z]{3}/i.test(text) && !/[\\u27e6\\u27e7]/.test(text))"""
# What stands on the screens and is no text of the app: names and what the CD says.
OWN = ("Doe", "Citizen", "film.jpg")


def violations(page: Page) -> list[str]:
    """Return what axe finds, as "rule: element"."""
    found: dict[str, Any] = page.evaluate(
        "(tags) => axe.run(document, {runOnly: {type: 'tag', values: tags}, resultTypes: ['violations']})",
        RULES,
    )
    return [f"{one['id']}: {node['html'][:120]}" for one in found["violations"] for node in one["nodes"]]


def faults(page: Page) -> Iterator[str]:
    """Look at the screen as it stands, and in its other languages and sizes."""
    if not page.evaluate("'axe' in globalThis"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    for language in LANGUAGES:
        page.locator("footer select").select_option(language)
        page.wait_for_function("(tag) => document.documentElement.lang === tag", arg=language)
        for found in violations(page):
            yield f"{language}: {found}"
        page.set_viewport_size({"width": 320, "height": 640})
        if page.evaluate(OVERFLOW) > 0:
            yield f"{language}: wider than 320 pixels"
        for small in page.evaluate(SMALL):
            yield f"{language}: {small}"
        page.evaluate("document.documentElement.style.fontSize = '200%'")
        page.set_viewport_size({"width": 640, "height": 800})
        if page.evaluate(OVERFLOW) > 0:
            yield f"{language}: wider than the display at 200 % text"
        page.evaluate("document.documentElement.style.fontSize = ''")
        page.set_viewport_size({"width": 360, "height": 740})
        if language == "ar-XB":
            assert page.evaluate("document.documentElement.dir") == "rtl"
            for text in page.evaluate(PLAIN):
                if not text.startswith(OWN):
                    yield f"never translated: {text!r}"
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")  # colours must not be half-way
    for found in violations(page):
        yield f"dark: {found}"
    page.emulate_media(color_scheme="light", reduced_motion="no-preference")


def _plant_and_find(page: Page) -> None:
    """Show that the checks find something: a small button without a name, and a text in no language."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    page.evaluate(
        """() => {
            const planted = document.createElement("button");
            planted.id = "planted";
            planted.style.cssText = "width: 20px; height: 20px; min-height: 0";
            const text = Object.assign(document.createElement("h2"), {textContent: "never translated"});
            text.id = "planted-text";
            document.querySelector("main").append(planted, text);
        }"""
    )
    assert any(one.startswith("button-name") for one in violations(page))
    assert any("planted" in one for one in page.evaluate(SMALL))
    assert "never translated" in page.evaluate(PLAIN)
    page.evaluate("for (const id of ['planted', 'planted-text']) document.getElementById(id).remove()")


def test_every_screen_is_for_everybody(phone: Phone, clinic: RealClinic, tmp_path: Path) -> None:
    """WCAG 2.2 AA by axe, 48 pixels for each target, 320 pixels wide, 200 % text, dark, three languages."""
    if not AXE.is_file():
        pytest.skip("missing here: pwa/node_modules")
    page = phone.open(f"#enrol={clinic.enrolment_code()}")
    page.evaluate("localStorage.setItem('testers', 'yes')")
    page.reload()
    page.get_by_label("Code", exact=True).fill(clinic.enrolment_code())
    found: list[str] = []
    stops = []
    _plant_and_find(page)

    for name in tour(page, phone, clinic, tmp_path):
        stops.append(name)
        found += [f"{name}: {fault}" for fault in faults(page)]

    assert len(stops) >= 14
    assert found == [], "\n".join(found)
    # A script, style or connection that the content security policy forbids would have been told there.
    assert [said for said in phone.problems if "net::ERR_INTERNET_DISCONNECTED" not in said] == []


def test_the_app_can_be_installed(phone: Phone, clinic: RealClinic) -> None:
    """Chromium itself says what hinders it."""
    page = phone.open(f"#enrol={clinic.enrolment_code()}")
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    session = page.context.new_cdp_session(page)

    errors = session.send("Page.getInstallabilityErrors")["installabilityErrors"]
    manifest = session.send("Page.getAppManifest")

    # A window in private mode cannot install anything; that is no fault of the app.
    assert [one["errorId"] for one in errors if one["errorId"] != "in-incognito"] == []
    assert manifest["errors"] == []
    assert "share_target" in manifest["data"]
