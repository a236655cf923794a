"""Who looks after a clinic or the delivery: letting a phone in by its camera, deciding, taking back."""

from pathlib import Path

import pydicom
import pytest
import segno
from playwright.sync_api import Page, Playwright, expect
from support.camera import CAMERA
from support.folders import digests, write_study
from support.looks import AXE, faults
from support.nodes import wait_until
from support.phone import Phone
from support.picking import arrived, confirm, connect, pick
from support.real_clinic import RealClinic

pytestmark = pytest.mark.chromium


def test_a_code_is_read_by_the_camera(phone: Phone, clinic: RealClinic) -> None:
    """The terminal of the clinic's laptop shows it; nobody types twelve signs on a phone."""
    code = segno.make_qr(clinic.enrolment_code(), error="m")
    page = phone.open()
    page.evaluate(CAMERA, [list(map(int, row)) for row in code.matrix_iter(border=6)])

    page.get_by_role("button", name="Scan the code with the camera").click()
    expect(page.get_by_label("Code", exact=True)).not_to_have_value("")
    page.get_by_role("button", name="Connect").click()

    expect(page.get_by_role("button", name="Upload Study")).to_be_visible()


def handed_in(page: Page, folder: Path) -> None:
    pick(page, "folder", folder)
    confirm(page)
    expect(page.get_by_text("You can remove the CD.")).to_be_visible()


def test_a_lead_takes_back_what_is_on_its_way(phone: Phone, clinic: RealClinic, tmp_path: Path) -> None:
    """The wrong patient was confirmed, and nobody noticed until the study was kept."""
    write_study(tmp_path / "cd", name="Wrong^Will")
    page = phone.open()
    connect(page, f"{clinic.url}/#enrol={clinic.enrolment_code('lead')}")
    handed_in(page, tmp_path / "cd")

    page.get_by_role("button", name="Take it back").click()
    page.get_by_label("Who decides").fill("Dr Lead")
    page.get_by_role("dialog").get_by_role("button", name="Take it back").click()

    expect(page.get_by_role("heading", name="Taken back")).to_be_visible()
    states = {story["state"] for story in clinic.node.get("/api/v1/studies")["studies"]}
    assert states == {"withdrawn"}


def test_an_administrator_decides_in_plain_words(
    playwright: Playwright, chromium: str, clinic: RealClinic, tmp_path: Path
) -> None:
    """The PACS has another image under the same number: a person compares, and says which one stands."""
    files = write_study(tmp_path / "cd", images=2, name="Clash^Clara")
    phone = Phone(playwright, chromium, tmp_path / "profile", clinic.url)
    page = phone.open()
    connect(page, f"{clinic.url}/#enrol={clinic.enrolment_code()}")
    handed_in(page, tmp_path / "cd")
    assert digests(arrived(clinic, files)) == digests(files)
    phone.close()
    clinic.plant(_other(tmp_path / "cd" / "IM0000"))
    clinic.start_delivery()
    cloud = clinic.cloud
    wait_until(lambda: cloud.get("/api/v1/troubles")["troubles"], 60, "the conflict")
    code = cloud.ask("POST", "/api/v1/admin/device-codes", {"role": "admin"})["code"]
    office = Phone(playwright, chromium, tmp_path / "office", f"http://localhost:{cloud.local_port}")
    page = office.open()
    page.evaluate("localStorage.setItem('testers', 'yes')")
    connect(page, f"http://localhost:{cloud.local_port}/#enrol={code}")
    page.reload()

    page.get_by_role("link", name="1 study waits for a decision").click()
    expect(page.get_by_text("another image under the same number")).to_be_visible()
    if AXE.is_file():
        assert list(faults(page)) == []
    page.get_by_text("The archive is right").click()
    page.get_by_label("Who decides").fill("Dr Admin")
    page.get_by_role("button", name="Sign the decision").click()

    expect(page.get_by_text("Signed. The study goes on by itself.")).to_be_visible()
    expect(page.get_by_text("No study waits for a decision.")).to_be_visible(timeout=60_000)
    wait_until(lambda: set(cloud.states(cloud.stories())) == {"delivered"}, 60, "the rest at the PACS")
    office.close()


def _other(path: Path) -> bytes:
    """Return the image with other pixels under the same numbers."""
    one = pydicom.dcmread(path)
    one.PixelData = bytes(len(one.PixelData))
    out = pydicom.filebase.DicomBytesIO()
    one.save_as(out)
    return bytes(out.getvalue())


def test_a_person_says_which_archive_it_goes_to(phone: Phone, clinic: RealClinic, tmp_path: Path) -> None:
    """With one PACS nobody is asked. With two, nothing goes to one that nobody named, and no rule."""
    for number in range(3):
        write_study(tmp_path / f"cd{number}", name=f"Where^Wim{number}")
    page = phone.open()
    connect(page, f"{clinic.url}/#enrol={clinic.enrolment_code()}")
    archive = page.get_by_label("Hospital archive")

    _archives(clinic, "north")
    pick(page, "folder", tmp_path / "cd0")
    page.get_by_label("This is the right patient").wait_for()
    expect(archive).to_have_count(0)
    _archives(clinic, "north", "east")
    pick(page, "folder", tmp_path / "cd1")
    expect(archive).to_be_visible()
    confirm(page)
    expect(page.get_by_role("alert")).to_contain_text("Say first to which hospital archive it goes.")
    archive.select_option("east")
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_text("Hospital archive: east")).to_be_visible()
    expect(page.get_by_text("You can remove the CD.")).to_be_visible()
    phone.offline(True)
    page.reload()
    pick(page, "folder", tmp_path / "cd2")

    expect(archive).to_have_value("east")
    assert [one["destination"] for one in clinic.node.get("/api/v1/studies")["studies"]] == ["east"]


def _archives(clinic: RealClinic, *names: str) -> None:
    """Tell the mesh of PACS, and wait until the clinic has heard of them."""
    for name in names:
        clinic.cloud.add_pacs(f"http://127.0.0.1:9/{name}", name)
    clinic.replicate()
    heard = clinic.node.get
    wait_until(lambda: len(heard("/api/v1/destinations")["destinations"]) == len(names), 30, "the archives")
