"""Every screen: for people who cannot see it, with large letters, in each language, on a small phone.

One walk through the app; at each stop all of it is checked.
"""

from pathlib import Path

import pytest
from playwright.sync_api import Page
from support.looks import AXE, PLAIN, SMALL, faults, violations
from support.phone import Phone
from support.real_clinic import RealClinic
from support.tour import tour

pytestmark = pytest.mark.chromium


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

    assert len(stops) >= 15
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
