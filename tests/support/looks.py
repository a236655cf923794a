"""What a screen must be for everybody: axe, thumbs, small displays, large letters, languages, dark."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

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


_CODE = re.compile(r"[0-9A-Z]{3}-[0-9A-Z]{3}")  # of a study, as people call it


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
                if not text.startswith(OWN) and not _CODE.fullmatch(text):
                    yield f"never translated: {text!r}"
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")  # colours must not be half-way
    for found in violations(page):
        yield f"dark: {found}"
    page.emulate_media(color_scheme="light", reduced_motion="no-preference")
