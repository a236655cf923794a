"""The app as a clinician uses it, in a real browser."""

import hashlib
import time
from pathlib import Path

import pydicom
import pytest
from playwright.sync_api import Page, expect
from pydicom.data import get_testdata_file
from support.phone import Clinic, Phone

pytestmark = pytest.mark.chromium

CD = Path(str(get_testdata_file("dicomdirtests/DICOMDIR"))).parent
NAME, WRITTEN = "Doe^Archibald", "Doe, Archibald"
# How many studies lie in the browser's private files.
FOLDERS = """navigator.storage.getDirectory()
    .then((root) => root.getDirectoryHandle("outbox"))
    .then(async (outbox) => (await Array.fromAsync(outbox.keys())).length)"""


def instances_of(name: str) -> dict[str, bytes]:
    """Return the files on the CD that are of a patient, by SOP Instance UID."""
    found = {}
    for path in CD.rglob("*"):
        if path.is_file() and path.name != "DICOMDIR" and path.suffix == "":
            header = pydicom.dcmread(path, force=True, stop_before_pixels=True)
            if str(header.get("PatientName", "")) == name:
                found[str(header.SOPInstanceUID)] = path.read_bytes()
    return found


def confirm_study(page: Page, *, impression: str = "") -> None:
    """Pick the CD, choose the patient, and confirm."""
    page.get_by_role("button", name="Upload Study").click()
    page.locator("[data-pick=folder]").set_input_files(CD)
    page.get_by_role("button", name=WRITTEN).click()
    expect(page.get_by_role("heading", name="Is this the right patient?")).to_be_visible()
    if impression:
        page.get_by_label("Clinical impression").fill(impression)
    page.get_by_label("This is the right patient").check()
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_text("You can close the app.").first).to_be_visible()


def wait_for_held(clinic: Clinic, count: int) -> dict[str, bytes]:
    deadline = time.monotonic() + 30
    while len(clinic.held()) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    return clinic.held()


def test_a_study_goes_from_the_cd_to_the_hospital(clinic: Clinic, enrolled: Page, phone: Phone) -> None:
    """The whole story, with one decision of a person in it; what arrives is what lay on the CD."""
    original = instances_of(NAME)

    confirm_study(enrolled, impression="Cough for three weeks")
    held = wait_for_held(clinic, len(original))
    expect(enrolled.get_by_text("You can remove the CD.")).to_be_visible()
    clinic.replicate()
    clinic.deliver()
    expect(enrolled.get_by_role("heading", name="Confirmed by the hospital")).to_be_visible()
    expect(enrolled.get_by_text("Nothing of the patient is left on this device.")).to_be_visible()
    clinic.erase()

    assert {uid: held[uid] for uid in original} == original
    added = [pydicom.dcmread(_as_file(held[uid])) for uid in held.keys() - original.keys()]
    assert added and {one.DocumentTitle for one in added} == {"Referring clinician's impression"}
    expect(enrolled.locator("li", has_text="Erased everywhere on the way")).to_contain_text("done")
    assert phone.problems == []


def test_the_code_leaves_the_address_at_once(tab: Page) -> None:
    """Addresses are kept in histories, shared and synchronised."""
    assert "enrol=" not in tab.evaluate("location.href + JSON.stringify(history.state)")


def test_a_wrong_code_is_told_in_words(phone: Phone, clinic: Clinic) -> None:
    page = phone.open("#enrol=NOT-A-CODE")
    page.get_by_role("button", name="Connect").click()

    expect(page.get_by_role("alert")).to_contain_text("This code is not valid")


def test_nothing_goes_without_the_tick(tab: Page) -> None:
    """The wrong patient in the PACS is the worst that can happen here."""
    tab.get_by_role("button", name="Upload Study").click()
    tab.locator("[data-pick=folder]").set_input_files(CD)
    tab.get_by_role("button", name=WRITTEN).click()
    tab.get_by_role("button", name="Confirm").click()

    expect(tab.get_by_role("alert")).to_contain_text("Tick the box first")
    assert tab.evaluate(FOLDERS) == 0


def test_a_study_left_out_of_the_choice_is_not_sent(enrolled: Page, clinic: Clinic) -> None:
    """Patients are told apart, and of one patient only what was chosen goes."""
    enrolled.get_by_role("button", name="Upload Study").click()
    enrolled.locator("[data-pick=folder]").set_input_files(CD)
    enrolled.get_by_role("button", name=WRITTEN).click()
    boxes = enrolled.get_by_label("Send this study")
    for box in boxes.all()[1:]:
        box.uncheck()
    enrolled.get_by_label("This is the right patient").check()
    enrolled.get_by_role("button", name="Confirm").click()
    expect(enrolled.get_by_text("You can remove the CD.")).to_be_visible()

    studies = {str(pydicom.dcmread(_as_file(data)).StudyInstanceUID) for data in clinic.held().values()}
    assert len(studies) == 1


def _as_file(data: bytes) -> pydicom.filebase.DicomBytesIO:
    return pydicom.filebase.DicomBytesIO(data)


def test_a_folder_without_images_says_so(tab: Page, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "readme.txt").write_text("nothing here")

    tab.get_by_role("button", name="Upload Study").click()
    tab.locator("[data-pick=folder]").set_input_files(tmp_path / "letters")

    expect(tab.get_by_text("No images were found")).to_be_visible()


def test_a_study_taken_in_offline_goes_when_the_network_is_back(
    clinic: Clinic, enrolled: Page, phone: Phone
) -> None:
    """The clinic's Wi-Fi is off, the app is closed and the browser too: nothing is lost, nothing is asked."""
    original = instances_of(NAME)
    phone.offline(True)
    enrolled.reload()
    confirm_study(enrolled)
    assert clinic.held() == {}
    phone.close()

    page = phone.open()

    assert wait_for_held(clinic, len(original)) == original
    page.get_by_role("link", name=WRITTEN).click()
    expect(page.get_by_text("You can remove the CD.")).to_be_visible()


def test_a_reload_in_the_middle_goes_on_where_it_was(clinic: Clinic, enrolled: Page, tmp_path: Path) -> None:
    """Twelve megabytes in pieces; the page is reloaded while they are on their way."""
    folder = tmp_path / "CT"
    folder.mkdir()
    original = large_study(folder, images=12)
    clinic.slow_down()
    enrolled.get_by_role("button", name="Upload Study").click()
    enrolled.locator("[data-pick=folder]").set_input_files(folder)
    enrolled.get_by_label("This is the right patient").check()
    enrolled.get_by_role("button", name="Confirm").click()
    expect(enrolled.get_by_text("On its way to the clinic computer…", exact=True)).to_be_visible()

    enrolled.reload()

    expect(enrolled.get_by_text("You can remove the CD.")).to_be_visible()
    held = clinic.held()
    assert {uid: hashlib.sha256(data).digest() for uid, data in held.items()} == original


def large_study(folder: Path, *, images: int) -> dict[str, bytes]:
    """Write slices of a megabyte each; return their SHA-256 by SOP Instance UID."""
    digests = {}
    for number in range(images):
        slice_ = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
        slice_.SOPInstanceUID = f"2.25.{7_000_000 + number}"
        slice_.file_meta.MediaStorageSOPInstanceUID = slice_.SOPInstanceUID
        slice_.Rows, slice_.Columns = 1024, 512
        slice_.PixelData = bytes([number]) * (1024 * 512 * 2)
        path = folder / f"IM{number:04}"
        slice_.save_as(path)
        digests[str(slice_.SOPInstanceUID)] = hashlib.sha256(path.read_bytes()).digest()
    return digests


def test_the_app_speaks_french(tab: Page) -> None:
    tab.get_by_label("Language").select_option("fr")

    expect(tab.get_by_role("button", name="Envoyer un examen")).to_be_visible()
    assert tab.evaluate("document.documentElement.lang") == "fr"


def test_a_full_device_is_told_before_anything_is_promised(
    enrolled: Page, phone: Phone, tmp_path: Path
) -> None:
    """What does not fit is not saved: nobody may walk away from it."""
    folder = tmp_path / "CT"
    folder.mkdir()
    large_study(folder, images=4)
    enrolled.get_by_role("button", name="Upload Study").click()
    enrolled.locator("[data-pick=folder]").set_input_files(folder)
    enrolled.get_by_label("This is the right patient").check()
    phone.limit_storage(enrolled, 1_000_000)
    enrolled.get_by_role("button", name="Confirm").click()

    expect(enrolled.get_by_role("alert")).to_contain_text("There is not enough room on this device")
    assert enrolled.evaluate(FOLDERS) == 0


def test_a_study_that_is_taken_back_leaves_device_and_node(
    clinic: Clinic, enrolled: Page, phone: Phone
) -> None:
    """The wrong CD was in the drive; it was noticed before anything was sent."""
    phone.offline(True)
    confirm_study(enrolled)
    enrolled.get_by_role("button", name="Take it back").click()
    enrolled.get_by_role("dialog").get_by_role("button", name="Take it back").click()

    expect(enrolled.get_by_text("Nothing is waiting here.")).to_be_visible()
    assert enrolled.evaluate(FOLDERS) == 0
    assert clinic.held() == {}
