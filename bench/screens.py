"""Take a picture of every screen of the app, as a phone and as a laptop show it, into docs/screens.

    .venv/bin/python bench/screens.py [--folder docs/screens] [--dark] [--locale fr|ar-XB]

Against a real clinic, with what pydicom brings as a CD. Look at every picture before it is committed.
"""

import argparse
import io
import sys
import tempfile
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from conftest import find_chromium  # noqa: E402
from PIL import Image  # noqa: E402
from playwright.sync_api import Page, sync_playwright  # noqa: E402
from support.phone import Phone  # noqa: E402
from support.real_clinic import real_clinic  # noqa: E402
from support.tour import detour, tour  # noqa: E402

SIZES = ((360, 740), (1280, 800))
COLOURS = 64  # enough for flat screens, and a quarter of the bytes


def take(page: Page, path: Path) -> None:
    """Write a picture of what the page shows."""
    shot = Image.open(io.BytesIO(page.screenshot(animations="disabled")))
    shot.convert("RGB").quantize(COLOURS).save(path, optimize=True)


def main() -> None:
    """Take them all."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", type=Path, default=ROOT / "docs" / "screens")
    options.add_argument("--dark", action="store_true")
    options.add_argument("--locale")
    said = options.parse_args()
    chromium = find_chromium()
    assert chromium is not None, "there is no Chromium here"
    said.folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as work,
        real_clinic(Path(work) / "mesh") as clinic,
        sync_playwright() as playwright,
    ):
        phone = Phone(playwright, chromium, Path(work) / "profile", clinic.url)
        page = phone.open(f"#enrol={clinic.enrolment_code()}")
        page.evaluate("localStorage.setItem('testers', 'yes')")
        page.reload()
        page.get_by_label("Code", exact=True).fill(clinic.enrolment_code())
        if said.dark:
            page.emulate_media(color_scheme="dark")
        walk = chain(tour(page, phone, clinic, Path(work)), detour(page, clinic, Path(work)))
        for name in walk:
            if said.locale:
                page.locator("footer select").select_option(said.locale)
            for width, height in SIZES:
                page.set_viewport_size({"width": width, "height": height})
                page.evaluate("scrollTo(0, 0)")
                if name == "archive":
                    page.locator("#archive").scroll_into_view_if_needed()
                take(page, said.folder / f"{name}-{width}.png")
            if said.locale:
                page.locator("footer select").select_option("en")
            print(name, flush=True)
        phone.close()


if __name__ == "__main__":
    main()
