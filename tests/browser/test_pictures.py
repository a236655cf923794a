"""Photos and papers: nothing in them says of whom they are, so a person does."""

from pathlib import Path

import pydicom
import pytest
from playwright.sync_api import Page, expect
from pydicom.filebase import DicomBytesIO
from support.folders import digests, write_study
from support.picking import arrived, confirm, pick
from support.real_clinic import RealClinic
from support.tour import photo

pytestmark = pytest.mark.chromium


def test_a_photo_asks_of_whom_it_is(tab: Page, room: RealClinic, tmp_path: Path) -> None:
    """Nothing in a photo says so; what was typed stands in what the hospital gets."""
    (tmp_path / "photo.jpg").write_bytes(photo())
    before = set(room.held())

    pick(tab, "photo", tmp_path / "photo.jpg")
    confirm(tab)
    expect(tab.get_by_text("Type the name.")).to_be_visible()
    tab.get_by_label("Family name").fill("Photo")
    tab.get_by_label("Given names").fill("Paula")
    tab.get_by_label("Date of birth").fill("1980-02-03")
    tab.get_by_label("What it shows").select_option("film")
    tab.get_by_role("button", name="Confirm").click()
    expect(tab.get_by_text("You can remove the CD.")).to_be_visible()

    made = [pydicom.dcmread(DicomBytesIO(data)) for uid, data in room.held().items() if uid not in before]
    assert [(str(one.PatientName), one.PatientBirthDate) for one in made] == [("Photo^Paula", "19800203")]
    assert tab.get_by_role("heading", name="Photo, Paula").is_visible()


def test_a_paper_goes_along_with_the_images(tab: Page, room: RealClinic, tmp_path: Path) -> None:
    """A photo beside the images joins their study when a person says so, and only then."""
    files = write_study(tmp_path / "cd", name="Along^Ada")
    (tmp_path / "cd" / "request.jpg").write_bytes(photo())
    before = set(room.held())

    pick(tab, "folder", tmp_path / "cd")
    tab.get_by_text("1 photo or paper can go along").click()
    tab.get_by_label("request.jpg").check()
    confirm(tab)

    assert digests(arrived(room, files)) == digests(files)
    more = set(room.held()) - before - set(files)
    made = [pydicom.dcmread(DicomBytesIO(room.held()[uid])) for uid in more]
    assert [str(one.PatientName) for one in made] == ["Along^Ada"]
