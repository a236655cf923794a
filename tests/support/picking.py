"""What a person does to hand in files with the app, and waiting for what comes of it."""

import time
from pathlib import Path

from playwright.sync_api import Page
from support.real_clinic import RealClinic


def connect(page: Page, address: str) -> None:
    """Open the app with a code in its address, and enrol."""
    page.goto(address)
    page.get_by_role("button", name="Connect").click()
    page.get_by_role("button", name="Upload Study").wait_for()
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")


def pick(page: Page, way: str, *paths: Path) -> None:
    """Press the button and give the files to the picker."""
    page.get_by_role("link", name="ClinicMesh").click()
    page.get_by_role("button", name="Upload Study").click()
    page.locator(f"[data-pick={way}]").set_input_files(list(paths) if way != "folder" else paths[0])


def confirm(page: Page) -> None:
    page.get_by_label("This is the right patient").check()
    page.get_by_role("button", name="Confirm").click()


def arrived(room: RealClinic, files: dict[str, bytes]) -> dict[str, bytes]:
    """Wait until the clinic keeps these images, and return them as it has them."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        held = {uid: data for uid, data in room.held().items() if uid in files}
        if len(held) == len(files):
            return held
        time.sleep(0.1)
    return {}
