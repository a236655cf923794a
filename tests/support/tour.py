"""A walk through every screen of the app, as a person with a CD, a photo and a locked ZIP would take it.

Used by the check of accessibility and by `bench/screens.py`: each stop is a name, and the page stands there.
"""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw
from playwright.sync_api import Page, expect
from pydicom.data import get_testdata_file
from support.camera import CAMERA
from support.folders import cut_off_inside, write_study
from support.nodes import wait_until
from support.phone import Clinic, Phone
from support.picking import confirm, pick
from support.real_clinic import RealClinic

CD = Path(str(get_testdata_file("dicomdirtests/DICOMDIR"))).parent
WRITTEN = "Doe, Archibald"


def photo(width: int = 480, height: int = 360) -> bytes:
    """Return a JPEG that looks a little like a film on a light box."""
    picture = Image.new("RGB", (width, height), (18, 22, 28))
    draw = ImageDraw.Draw(picture)
    for place in range(6):
        at = height * (place + 1) // 8
        draw.arc((width // 5, at - 30, width * 4 // 5, at + 60), 190, 350, fill=(190, 200, 210), width=9)
    draw.ellipse((width // 2 - 60, height // 2 - 20, width // 2 + 20, height // 2 + 90), fill=(120, 128, 140))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=80)
    return out.getvalue()


def locked_zip(path: Path) -> Path:
    """Write a ZIP that says it has a password."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("IM0001", b"sealed")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    return path


def tour(page: Page, phone: Phone, clinic: Clinic, folder: Path) -> Iterator[str]:
    """Walk, beginning on the first screen of a phone that was opened with a code in its address.

    `page` must stand as it did when the walk goes on.
    """
    page.get_by_role("button", name="Connect").wait_for()
    yield "connect"
    page.evaluate(CAMERA, [[0]])
    page.get_by_role("button", name="Scan the code with the camera").click()
    expect(page.locator("video")).to_be_visible()
    yield "scanner"
    page.get_by_role("button", name="Type the code instead").click()
    page.get_by_role("button", name="Connect").click()
    page.get_by_role("button", name="Upload Study").wait_for()
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    yield "home"
    page.get_by_role("button", name="Upload Study").click()
    expect(page.get_by_role("heading", name="Where is the study?")).to_be_visible()
    yield "choose"
    yield from _refused(page, folder)
    page.locator("[data-pick=folder]").set_input_files(CD)
    expect(page.get_by_role("button", name=WRITTEN)).to_be_visible()
    yield "patients"
    page.get_by_role("button", name=WRITTEN).click()
    expect(page.get_by_role("heading", name="Is this the right patient?")).to_be_visible()
    yield "confirm"
    phone.offline(True)
    page.get_by_label("This is the right patient").check()
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_text("You can close the app.")).to_be_visible()
    expect(page.get_by_text("The clinic computer is not in reach")).to_be_visible()
    yield "offline"
    page.goto(page.url.split("#")[0] + "#/help")
    expect(page.get_by_role("heading", name="What is safe now?")).to_be_visible()
    yield "help"
    page.get_by_role("link", name="Settings").click()
    expect(page.get_by_role("heading", name="Settings")).to_be_visible()
    yield "settings"
    phone.offline(False)
    page.get_by_role("button", name="Try now").click()
    page.get_by_role("link", name="Back").click()
    yield from _on_its_way(page, clinic, folder)


def _refused(page: Page, folder: Path) -> Iterator[str]:
    page.locator("[data-pick=files]").set_input_files(locked_zip(folder / "study.zip"))
    expect(page.get_by_text("It has a password.")).to_be_visible()
    yield "locked-zip"
    (folder / "film.jpg").write_bytes(photo())
    page.locator("[data-pick=photo]").set_input_files(folder / "film.jpg")
    expect(page.get_by_role("heading", name="Of which patient is this?")).to_be_visible()
    page.get_by_label("Family name").fill("Doe")
    yield "photo"
    page.get_by_role("link", name="Back").click()


def _on_its_way(page: Page, clinic: Clinic, folder: Path) -> Iterator[str]:
    page.get_by_role("link", name=WRITTEN).click()
    expect(page.get_by_text("You can remove the CD.")).to_be_visible()
    clinic.replicate()
    expect(page.get_by_text("At the hospital").first).to_be_visible()
    yield "on-its-way"
    clinic.deliver()
    expect(page.get_by_role("heading", name="Confirmed by the hospital")).to_be_visible()
    expect(page.get_by_text("Nothing of the patient is left on this device.")).to_be_visible()
    yield "confirmed"
    page.get_by_role("link", name="Back").click()
    expect(page.get_by_role("heading", name="Arrived")).to_be_visible()
    yield "home-with-studies"
    page.get_by_role("link", name="All arrived studies").click()
    expect(page.get_by_text("Codes and dates only.")).to_be_visible()
    yield "history"


def detour(page: Page, clinic: RealClinic, folder: Path) -> Iterator[str]:
    """Go on where few people come by: several archives, a slow line, a study that needs a person."""
    for name in ("city-hospital", "north-hospital"):
        clinic.cloud.add_pacs("http://127.0.0.1:9/dicom-web", name)
    clinic.replicate()
    wait_until(lambda: len(clinic.node.get("/api/v1/destinations")["destinations"]) > 2, 30, "the archives")
    write_study(folder / "slow", images=24, octets=4_000_000, name="Doe^Jane")
    pick(page, "folder", folder / "slow")
    page.get_by_label("Hospital archive").select_option("city-hospital")
    yield "archive"
    clinic.slow_down()
    confirm(page)
    expect(page.get_by_role("progressbar", name="Saving on this device…")).to_be_visible()
    yield "saving"
    expect(page.get_by_role("progressbar", name="On its way to the clinic computer…")).to_be_visible()
    yield "sending"
    clinic.undo()
    expect(page.get_by_text("You can remove the CD.")).to_be_visible()
    write_study(folder / "cut", images=3, name="Doe^Peter")
    cut_off_inside(folder / "cut" / "IM0002")
    pick(page, "folder", folder / "cut")
    confirm(page)
    expect(page.get_by_text("It has read 2 of 3 images.")).to_be_visible()
    yield "needs-you"
