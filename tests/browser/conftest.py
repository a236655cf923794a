"""The app in Chromium, against a node: which one is a parameter, the tests are the same.

A `Clinic` is what a test may do with the world behind the app; the app itself is used as a person would.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Playwright, sync_playwright
from support.fake_node import FakeNode
from support.phone import Clinic, Phone
from support.real_clinic import real_clinic
from support.servers import serve

DIST = Path(__file__).parents[2] / "pwa" / "dist"


class FakeClinic:
    """The stand-in node."""

    def __init__(self, node: FakeNode, url: str) -> None:
        self.node = node
        self.url = url

    def enrolment_code(self) -> str:
        self.node.codes.add("TEST-CODE-0001")
        return "TEST-CODE-0001"

    def held(self) -> dict[str, bytes]:
        return self.node.held()

    def replicate(self) -> None:
        self.node.advance("carried", copies=2)

    def deliver(self) -> None:
        self.node.advance("cloud")
        self.node.advance("pacs")

    def erase(self) -> None:
        self.node.advance("erased")

    def slow_down(self) -> None:
        self.node.delay_s = 0.4


@contextlib.contextmanager
def _fake_clinic(_folder: Path) -> Iterator[Clinic]:
    node = FakeNode(DIST)
    with serve(node.app) as url:
        yield FakeClinic(node, url)


BACKENDS: dict[str, Callable[[Path], contextlib.AbstractContextManager[Clinic]]] = {
    "fake": _fake_clinic,
    "real": real_clinic,
}


@pytest.fixture(params=sorted(BACKENDS))
def clinic(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Clinic]:
    """A running node that serves the built app."""
    if not (DIST / "index.html").is_file():
        pytest.skip("THE APP IS NOT BUILT: run `npm ci && npm run build` in pwa")
    with BACKENDS[request.param](tmp_path / "mesh") as running:
        yield running


@pytest.fixture(scope="session")
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
