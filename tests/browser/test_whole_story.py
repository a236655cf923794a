"""The mission's success: from an offline clinic to a PACS that confirms, with nobody doing anything."""

from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from playwright.sync_api import Playwright, expect
from support import orthanc
from support.folders import digests, write_study
from support.nodes import LocalNode, wait_until
from support.phone import Phone
from support.phone_kills import kill_rounds
from support.picking import arrived, confirm, connect, pick
from support.real_clinic import RealClinic
from support.searching import Search
from support.servers import serve

from node.sandbox_pacs import sandbox_app

pytestmark = pytest.mark.chromium

IMPRESSION = "Haemoptysis and fever since Tuesday"


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[str]:
    """A real Orthanc where there is one, else the sandbox."""
    if orthanc.missing():
        with serve(sandbox_app(tmp_path / "pacs")) as url:
            yield f"{url}/dicom-web"
    else:
        with orthanc.running_orthanc(tmp_path / "orthanc") as running:
            yield running.dicomweb


def traces(folder: Path, marks: dict[str, bytes]) -> dict[str, list[str]]:
    """Return which marks are in which files under a folder, in either case and as UTF-16 too."""
    found: dict[str, list[str]] = {}
    for path in (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        data = path.read_bytes().lower()
        for name, mark in marks.items():
            wide = mark.decode("latin-1").encode("utf-16-le")
            if mark.lower() in data or wide.lower() in data:
                found.setdefault(name, []).append(str(path.relative_to(folder)))
    return found


def marks_of(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return what must be nowhere at the end: name, number, impression, UIDs, and pixels of each image."""
    marks = {"name": b"Veryrare", "id": b"ID-Veryrare", "impression": IMPRESSION.encode()}
    for number, (uid, data) in enumerate(files.items()):
        one = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data))
        marks[f"instance {number}"] = uid.encode()
        marks[f"study {number}"] = str(one.StudyInstanceUID).encode()
        marks[f"pixels {number}"] = one.PixelData[1000:1032]
    return marks


def test_nobody_has_to_do_anything(playwright: Playwright, chromium: str, pacs: str, tmp_path: Path) -> None:
    """Offline, choose, confirm, close the app; the node comes up and the study is sent with no page open;
    a courier drives; the PACS confirms; the app, opened again, says so, and the browser's files hold
    nothing of the patient."""
    files = write_study(tmp_path / "cd", images=3, octets=300_000, name="Veryrare^Vera")
    marks = marks_of(files)
    with (
        LocalNode(tmp_path / "cloud") as cloud,
        LocalNode(tmp_path / "clinic") as node,
        LocalNode(tmp_path / "courier") as courier,
    ):
        sheet = cloud.init()
        cloud.start()
        cloud.admit(node, "clinic")
        cloud.admit(courier, "courier")
        cloud.add_pacs(pacs)
        node.start()
        clinic = RealClinic(node, cloud, pacs, sheet.recovery_secret)
        phone = Phone(playwright, chromium, tmp_path / "profile", clinic.url)
        try:
            page = phone.open()
            connect(page, f"{clinic.url}/#enrol={clinic.enrolment_code()}")
            node.stop()
            phone.offline(True)
            page.reload()

            pick(page, "folder", tmp_path / "cd")
            page.get_by_label("Clinical impression").fill(IMPRESSION)
            confirm(page)
            expect(page.get_by_text("You can close the app.")).to_be_visible()
            planted = traces(phone.profile, marks)
            page.goto("about:blank")
            node.start()
            phone.offline(False)
            sent_with_no_page = arrived(clinic, files)
            phone.close()

            courier.start([node])
            wait_until(lambda: _copies(node) >= 2, 60, "the courier's copy")
            courier.stop()
            courier.start([cloud])
            wait_until(lambda: set(courier.states(courier.stories())) == {"delivered"}, 90, "the proof")
            courier.stop()
            courier.start([node])
            wait_until(lambda: set(node.states(node.stories())) == {"delivered"}, 60, "the tombstone")

            page = phone.open()
            expect(page.get_by_text("Confirmed by the hospital").first).to_be_visible()
            page.locator("a", has_text="Study ").first.click()
            expect(page.get_by_text("Nothing of the patient is left on this device.")).to_be_visible()
        finally:
            phone.close()

    assert digests(sent_with_no_page) == digests(files)
    assert set(planted) == set(marks), "the search must find what is there"
    assert traces(phone.profile, marks) == {}
    assert Search(marks.values()).in_folders(phone.profile) == {}  # recoded and packed, too


def _copies(node: LocalNode) -> int:
    return min((story["copies"] for story in node.stories().values()), default=0)


def test_a_browser_that_is_killed_keeps_its_promises(
    playwright: Playwright, chromium: str, clinic: RealClinic, tmp_path: Path
) -> None:
    """The battery runs out at some moment after "Confirm"; what the app had promised arrives all the same.

    `bench/app_kills.py` does it more often.
    """
    phone = Phone(playwright, chromium, tmp_path / "profile", clinic.url)

    told = kill_rounds(phone, clinic, tmp_path, rounds=3, seed=6)

    assert told.lost == [], told
    assert told.strays == 0, told
