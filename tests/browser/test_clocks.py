"""Phones whose clock is decades off: tokens go by the node's time, so nobody is locked out."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Page, Playwright, expect
from support.phone import Clinic, Phone
from support.slices import made_slice

pytestmark = pytest.mark.chromium


@pytest.mark.parametrize("year", [2001, 2046])
def test_a_phone_whose_clock_says_another_century_hands_in(
    playwright: Playwright, chromium: str, clinic: Clinic, tmp_path: Path, year: int
) -> None:
    """A phone that was dead for a week wakes up in 2001; its study arrives all the same."""
    file = tmp_path / "IM1"
    file.write_bytes(made_slice(year, 1))
    phone = Phone(
        playwright, chromium, tmp_path / "profile", clinic.url, clock=datetime(year, 2, 3, tzinfo=UTC)
    )
    page = phone.open(f"#enrol={clinic.enrolment_code()}")
    assert page.evaluate("new Date().getFullYear()") == year
    page.get_by_role("button", name="Connect").click()
    page.get_by_role("button", name="Upload Study").click()
    page.locator("[data-pick=files]").set_input_files(file)
    _confirm(page)

    expect(page.get_by_text("You can remove the CD.").first).to_be_visible(timeout=60_000)
    assert any(data == file.read_bytes() for data in clinic.held().values())
    phone.close()


def _confirm(page: Page) -> None:
    page.get_by_label("This is the right patient").check()
    page.get_by_role("button", name="Confirm").click()
