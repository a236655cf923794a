"""A new version of the app: it never takes a choice away, and reads what the old one stored."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from support.folders import digests, write_study
from support.phone import Phone
from support.picking import arrived, confirm, connect, pick
from support.real_clinic import RealClinic

from node.api import webapp

pytestmark = pytest.mark.chromium


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that the clinic serves, to be changed; must come before the clinic."""
    built = webapp.built_app()
    if built is None:
        pytest.skip("THE APP IS NOT BUILT")
    folder = tmp_path / "app"
    shutil.copytree(built, folder)
    monkeypatch.setattr(webapp, "built_app", lambda: folder)
    yield folder


# How often this page was loaded, and asking for a new version as a visit does.
MARK = "globalThis.loadedOnce = true"
LOOK = "navigator.serviceWorker.getRegistration().then((one) => one.update()).then(() => true)"
# The first version wrote no `leftover`, and its device knew no mesh.
OLDER = """() => new Promise((resolve, reject) => {
    const opening = indexedDB.open("clinicmesh");
    opening.onerror = () => reject(opening.error);
    opening.onsuccess = () => {
        const change = opening.result.transaction(["outbox", "device"], "readwrite");
        const outbox = change.objectStore("outbox");
        outbox.getAll().onsuccess = ({target}) => {
            for (const {leftover, ...item} of target.result) outbox.put(item);
        };
        const devices = change.objectStore("device");
        devices.get("this").onsuccess = ({target}) => {
            const {mesh, ...device} = target.result;
            devices.put(device, "this");
        };
        change.oncomplete = () => { opening.result.close(); resolve(true); };
        change.onerror = () => reject(change.error);
    };
})"""


def test_a_new_version_waits_until_nothing_is_being_chosen(
    served: Path, clinic: RealClinic, phone: Phone, tmp_path: Path
) -> None:
    """Two windows; in one a person is in the middle of a choice while the other takes the new version."""
    write_study(tmp_path / "cd", name="Middle^Max")
    page = phone.open()
    connect(page, f"{clinic.url}/#enrol={clinic.enrolment_code()}")
    page.reload()
    pick(page, "folder", tmp_path / "cd")
    page.get_by_label("Clinical impression").fill("half a sentence")
    page.evaluate(MARK)
    other = page.context.new_page()
    other.goto(clinic.url)
    other.get_by_role("button", name="Upload Study").wait_for()

    with (served / "sw.js").open("a") as file:
        file.write("\n// another version\n")
    other.evaluate(LOOK)
    other.get_by_role("button", name="Use it now").click()
    expect(other.get_by_role("button", name="Use it now")).to_have_count(0)

    assert page.evaluate("globalThis.loadedOnce") is True
    expect(page.get_by_label("Clinical impression")).to_have_value("half a sentence")
    page.get_by_role("link", name="ClinicMesh").click()
    page.get_by_role("button", name="Upload Study").click()  # lets go of the choice
    page.wait_for_function("globalThis.loadedOnce === undefined")


def test_what_an_older_version_stored_goes_on(clinic: RealClinic, phone: Phone, tmp_path: Path) -> None:
    """The study was saved with the version of last month, and is sent by this one."""
    files = write_study(tmp_path / "cd", name="Older^Olga")
    page = phone.open()
    connect(page, f"{clinic.url}/#enrol={clinic.enrolment_code()}")
    phone.offline(True)
    pick(page, "folder", tmp_path / "cd")
    confirm(page)
    page.get_by_text("You can close the app.").wait_for()
    assert _rewritten(page)
    phone.close()

    page = phone.open()

    assert digests(arrived(clinic, files)) == digests(files)
    expect(page.get_by_text("It is on the clinic computer.")).to_be_visible()


def _rewritten(page: Page) -> bool:
    return bool(page.evaluate(OLDER))
