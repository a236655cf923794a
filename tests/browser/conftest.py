"""The app in Chromium, against a real clinic, cloud node and PACS.

A `Clinic` is what a test may do with the world behind the app; the app itself is used as a person would.
`phone` is a browser with a profile of its own and a clinic of its own; `tab` shares one browser and one
clinic with the other tests of its file, which is quicker.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Playwright, sync_playwright
from support.phone import FLAGS, WAIT_MS, Clinic, Phone
from support.picking import connect
from support.real_clinic import RealClinic, real_clinic

DIST = Path(__file__).parents[2] / "pwa" / "dist"


def _need_the_app() -> None:
    if not (DIST / "index.html").is_file():
        pytest.skip("THE APP IS NOT BUILT: run `npm ci && npm run build` in pwa")


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[RealClinic]:
    """A running node that serves the built app."""
    _need_the_app()
    with real_clinic(tmp_path / "mesh") as running:
        yield running


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealClinic]:
    """A clinic that all tests of a file share."""
    _need_the_app()
    with real_clinic(tmp_path_factory.mktemp("room")) as running:
        yield running


@pytest.fixture(scope="module")  # its event loop runs in this thread as long as it lives
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def window(playwright: Playwright, chromium: str) -> Iterator[Browser]:
    """A browser that all tests of a file share."""
    browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
    yield browser
    browser.close()


@pytest.fixture
def tab(window: Browser, room: RealClinic) -> Iterator[Page]:
    """The app's first screen on a device that was just enrolled, with storage of its own."""
    context = window.new_context(viewport={"width": 360, "height": 740}, locale="en-GB")
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    connect(page, f"{room.url}/#enrol={room.enrolment_code()}")
    yield page
    context.close()


@pytest.fixture
def phone(playwright: Playwright, chromium: str, clinic: Clinic, tmp_path: Path) -> Iterator[Phone]:
    """A phone that has never seen the clinic."""
    own = Phone(playwright, chromium, tmp_path / "profile", clinic.url)
    yield own
    own.close()


@pytest.fixture
def enrolled(phone: Phone, clinic: Clinic) -> Page:
    """The app's first screen on an enrolled phone, ready for use without a network."""
    page = phone.open()
    connect(page, f"{clinic.url}/#enrol={clinic.enrolment_code()}")
    return page
