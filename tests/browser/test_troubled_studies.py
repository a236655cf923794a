"""What goes wrong on the way is explained, a person decides, and nothing else is affected."""

from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from playwright.sync_api import Page, expect
from support.folders import cut_off_inside, digests, write_study
from support.looks import AXE, faults, violations
from support.nodes import wait_until
from support.picking import arrived, confirm, pick
from support.real_clinic import RealClinic

pytestmark = pytest.mark.chromium

# How many studies lie in the browser's private files.
FOLDERS = """navigator.storage.getDirectory()
    .then((root) => root.getDirectoryHandle("outbox"))
    .then(async (outbox) => (await Array.fromAsync(outbox.keys())).length)
    .catch(() => 0)"""
# Ask for the screen to stay on as the app does, and remember what the browser gave.
AWAKE = """
    const real = navigator.wakeLock.request.bind(navigator.wakeLock);
    globalThis.given = [];
    navigator.wakeLock.request = async (kind) => {
        const lock = await real(kind);
        given.push(lock);
        return lock;
    };
"""


def _for_everybody(page: Page) -> list[str]:
    """Look at the screen in all languages and sizes, where the means are there."""
    return list(faults(page)) if AXE.is_file() else []


def _found_by_axe(page: Page) -> list[str]:
    """Return what axe finds now."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    return violations(page)


@pytest.fixture
def slowly(room: RealClinic) -> Iterator[None]:
    room.slow_down()
    yield
    room.undo()


def test_what_arrived_otherwise_is_confirmed_by_the_person(
    tab: Page, room: RealClinic, tmp_path: Path
) -> None:
    """The node finds an image that is cut off. The rest goes when a person has said so, and not before."""
    files = write_study(tmp_path / "cd", images=3, name="Doe^Dora")
    *good, broken = sorted((tmp_path / "cd").iterdir())
    cut_off_inside(broken)
    wanted = {uid: data for uid, data in files.items() if data in [path.read_bytes() for path in good]}
    tab.evaluate("localStorage.setItem('testers', 'yes')")
    tab.reload()

    pick(tab, "folder", tmp_path / "cd")
    confirm(tab)
    expect(tab.get_by_role("alert")).to_contain_text("This study needs you")
    expect(tab.get_by_text("It has read 2 of 3 images. Shall these go?")).to_be_visible()
    assert _for_everybody(tab) == []
    assert not set(files) & set(room.held())
    tab.get_by_role("button", name="Send what was read").click()

    assert digests(arrived(room, wanted)) == digests(wanted)
    expect(tab.get_by_text("Some files could not be used")).to_be_visible()
    assert _for_everybody(tab) == []
    tab.get_by_role("button", name="They are not needed").click()
    expect(tab.get_by_text("Some files could not be used")).to_have_count(0)


def test_two_patients_in_one_study_are_never_mixed(tab: Page, room: RealClinic, tmp_path: Path) -> None:
    """A device that was not reset gives two people one study: only the one that a person names goes."""
    files = write_study(tmp_path / "cd", images=4, name="Wanted^Wera")
    theirs = sorted((tmp_path / "cd").iterdir())[2:]
    other = {str(_renamed(path, "Other^Olga").SOPInstanceUID) for path in theirs}
    wanted = {uid: data for uid, data in files.items() if uid not in other}

    pick(tab, "folder", tmp_path / "cd")
    expect(tab.get_by_role("heading", name="Which patient?")).to_be_visible()
    tab.get_by_role("button", name="Wanted, Wera").click()
    expect(tab.get_by_text("2 images")).to_be_visible()
    confirm(tab)

    assert digests(arrived(room, wanted)) == digests(wanted)
    assert not other & set(room.held())


def _renamed(path: Path, name: str) -> pydicom.Dataset:
    data = pydicom.dcmread(path)
    data.PatientName = name
    data.save_as(path)
    return data


def test_patients_that_only_the_node_tells_apart_are_explained(
    tab: Page, room: RealClinic, tmp_path: Path
) -> None:
    """Names in another script than the file says: the app shows both with holes, the node reads them."""
    files = write_study(tmp_path / "cd", images=2, name="Xxxxxx^Max")
    for path, name in zip(sorted((tmp_path / "cd").iterdir()), (b"M\xfcller", b"M\xf6ller"), strict=True):
        data = pydicom.dcmread(path)
        data.SpecificCharacterSet = "ISO_IR 192"
        data.save_as(path)
        path.write_bytes(path.read_bytes().replace(b"Xxxxxx", name))

    pick(tab, "folder", tmp_path / "cd")
    confirm(tab)

    expect(tab.get_by_text("Its images name different patients.")).to_be_visible()
    expect(tab.get_by_text("The study is safe on this device.")).to_be_visible()
    assert not set(files) & set(room.held())


def test_a_medium_that_goes_away_in_the_middle_of_the_copy_is_explained(
    tab: Page, room: RealClinic, tmp_path: Path
) -> None:
    """A stick is pulled out half-way, or a permission taken back: that study is not there, others are."""
    write_study(tmp_path / "other", name="Before^Bea")
    tab.context.set_offline(True)
    pick(tab, "folder", tmp_path / "other")
    confirm(tab)
    expect(tab.get_by_text("You can close the app.")).to_be_visible()
    write_study(tmp_path / "cd", images=24, octets=8_000_000, name="Middle^Mia")
    pick(tab, "folder", tmp_path / "cd")
    tab.get_by_label("This is the right patient").check()
    tab.get_by_role("button", name="Confirm").click()
    expect(tab.get_by_role("heading", name="Saving on this device…")).to_be_visible()
    (tmp_path / "cd" / "IM0023").unlink()
    assert not AXE.is_file() or _found_by_axe(tab) == []

    expect(tab.get_by_role("alert")).to_contain_text("A file could no longer be read. Nothing was sent.")
    assert tab.evaluate(FOLDERS) == 1
    tab.get_by_role("link", name="ClinicMesh").click()
    expect(tab.get_by_role("link", name="Before, Bea")).to_be_visible()


def test_the_screen_stays_on_while_bytes_go(
    tab: Page, slowly: None, room: RealClinic, tmp_path: Path
) -> None:
    """A phone that sleeps sends nothing; one that has sent everything may sleep."""
    files = write_study(tmp_path / "cd", images=16, octets=4_000_000, name="Doe^Abe")
    tab.add_init_script(AWAKE)
    tab.evaluate("localStorage.setItem('testers', 'yes')")
    tab.reload()

    pick(tab, "folder", tmp_path / "cd")
    confirm(tab)
    expect(tab.get_by_role("progressbar", name="On its way to the clinic computer…")).to_be_visible()
    tab.wait_for_function("() => given.some((lock) => !lock.released)")
    assert _for_everybody(tab) == []
    room.undo()

    assert digests(arrived(room, files)) == digests(files)
    tab.wait_for_function("() => given.every((lock) => lock.released)")


def test_an_installed_app_asks_to_be_woken_now_and_then(enrolled: Page, tmp_path: Path) -> None:
    """Where the browser grants it, what waits goes even if the one-time wake-up was used up."""
    write_study(tmp_path / "cd", name="Woken^Wim")
    session = enrolled.context.new_cdp_session(enrolled)
    session.send(
        "Browser.setPermission",
        {
            "permission": {"name": "periodic-background-sync"},
            "setting": "granted",
            "origin": enrolled.evaluate("location.origin"),
        },
    )
    enrolled.context.set_offline(True)

    pick(enrolled, "folder", tmp_path / "cd")
    confirm(enrolled)
    expect(enrolled.get_by_text("You can close the app.")).to_be_visible()

    tags = "(kind) => navigator.serviceWorker.ready.then((one) => one[kind].getTags())"
    wait_until(lambda: enrolled.evaluate(tags, "periodicSync") == ["outbox"], 20, "the periodic wake-up")
    assert enrolled.evaluate(tags, "sync") == ["outbox"]
