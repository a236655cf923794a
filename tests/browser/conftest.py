"""The app in Chromium, against a real clinic, cloud node and PACS.

A `Clinic` is what a test may do with the world behind the app; the app itself is used as a person would.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Playwright, sync_playwright
from support.phone import Clinic, Phone
from support.real_clinic import real_clinic

DIST = Path(__file__).parents[2] / "pwa" / "dist"


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    """A running node that serves the built app."""
    if not (DIST / "index.html").is_file():
        pytest.skip("THE APP IS NOT BUILT: run `npm ci && npm run build` in pwa")
    with real_clinic(tmp_path / "mesh") as running:
        yield running


@pytest.fixture(scope="module")  # its event loop runs in this thread as long as it lives
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture
def phone(playwright: Playwright, chromium: str, clinic: Clinic, tmp_path: Path) -> Iterator[Phone]:
    """A phone that has never seen the clinic."""
    own = Phone(playwright, chromium, tmp_path / "profile", clinic.url)
    yield own
    own.close()


@pytest.fixture
def enrolled(phone: Phone, clinic: Clinic) -> Page:
    """The app's first screen on an enrolled phone, ready for use without a network."""
    page = phone.open(f"#enrol={clinic.enrolment_code()}")
    page.get_by_role("button", name="Connect").click()
    page.get_by_role("button", name="Upload Study").wait_for()
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    return page
