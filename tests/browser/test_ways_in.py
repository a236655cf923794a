"""What a person may pick, good and bad: each of it is taken in whole, or explained."""

import secrets
import shutil
import zipfile
from pathlib import Path

import pydicom
import pytest
from playwright.sync_api import Page, expect
from pydicom.data import get_charset_files
from support.dicoms import dicomdir
from support.folders import digests, write_study
from support.picking import arrived, confirm, pick
from support.real_clinic import RealClinic
from support.tour import locked_zip, photo

pytestmark = pytest.mark.chromium


def test_a_zip_is_read_on_the_device(tab: Page, room: RealClinic, tmp_path: Path) -> None:
    """Of two patients in one ZIP only the one who was confirmed leaves the device."""
    wanted = write_study(tmp_path / "a", name="Wanted^Anna", octets=90_000)
    other = write_study(tmp_path / "b", name="Other^Ben")
    with zipfile.ZipFile(tmp_path / "both.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((*(tmp_path / "a").iterdir(), *(tmp_path / "b").iterdir())):
            archive.write(path, f"{path.parent.name}/{path.name}")
        archive.writestr("readme.txt", "nothing here")
    before = set(room.held())

    pick(tab, "files", tmp_path / "both.zip")
    tab.get_by_role("button", name="Wanted, Anna").click()
    expect(tab.get_by_text("1 file is left out")).to_be_visible()
    confirm(tab)

    assert digests(arrived(room, wanted)) == digests(wanted)
    assert not set(other) & (set(room.held()) - before)


def test_a_zip_with_a_password_is_told(tab: Page, tmp_path: Path) -> None:
    pick(tab, "files", locked_zip(tmp_path / "locked.zip"))

    expect(tab.get_by_role("alert")).to_contain_text("It has a password.")


def test_what_the_disc_lists_and_lacks_is_said_before_it_is_sent(tab: Page, tmp_path: Path) -> None:
    """A scratched CD: 5 images listed, 4 there. Nobody counts them by hand."""
    files = write_study(tmp_path / "cd", images=5, name="Listed^Lea")
    (tmp_path / "cd" / "DICOMDIR").write_bytes(dicomdir(list(files)))
    (tmp_path / "cd" / "IM0004").unlink()

    pick(tab, "folder", tmp_path / "cd")

    expect(tab.get_by_text("1 image of the CD is missing")).to_be_visible()


def test_what_is_there_twice_is_sent_once(tab: Page, room: RealClinic, tmp_path: Path) -> None:
    files = write_study(tmp_path / "cd", octets=50_000, name="Twice^Tom")
    shutil.copytree(tmp_path / "cd", tmp_path / "cd" / "again")

    pick(tab, "folder", tmp_path / "cd")
    expect(tab.get_by_text("3 files are there twice and are sent once")).to_be_visible()
    confirm(tab)
    tab.get_by_text("You can close the app.").wait_for()
    size = tab.evaluate(
        """async () => {
            const root = await (await navigator.storage.getDirectory()).getDirectoryHandle("outbox");
            let size = 0;
            for await (const own of root.values())
                for await (const file of own.values())
                    if (file.name === "bytes") size += (await file.getFile()).size;
            return size;
        }"""
    )

    assert size < 2 * sum(map(len, files.values()))
    assert digests(arrived(room, files)) == digests(files)


def test_names_are_read_as_the_node_reads_them(tab: Page, tmp_path: Path) -> None:
    """A person compares the name on the screen; it must be the one in the file, in every script."""
    folder = tmp_path / "names"
    folder.mkdir()
    expected = set()
    for number, source in enumerate(sorted(get_charset_files("chr*.dcm"))):
        data = pydicom.dcmread(source)
        if "PatientName" not in data or "StudyInstanceUID" not in data:
            continue
        data.PatientID = f"P{number}"
        data.save_as(folder / f"F{number}")
        expected.add(str(data.PatientName.components[0].split("^")[0]).strip())

    pick(tab, "folder", folder)
    tab.get_by_role("heading", name="Which patient?").wait_for()
    shown = "\n".join(tab.locator("main li").all_inner_texts())

    assert len(expected) >= 8
    assert [name for name in expected if name and name not in shown] == []


def test_a_file_that_goes_away_is_explained(tab: Page, tmp_path: Path) -> None:
    """The CD was taken out between the choice and the confirmation: nothing is saved, and that is said."""
    write_study(tmp_path / "cd", name="Gone^Gus")
    pick(tab, "folder", tmp_path / "cd")
    tab.get_by_label("This is the right patient").wait_for()
    for path in (tmp_path / "cd").iterdir():
        path.unlink()

    confirm(tab)

    expect(tab.get_by_role("alert")).to_contain_text("could no longer be read")


def test_eight_gigabytes_are_told_to_be_too_much(tab: Page, tmp_path: Path) -> None:
    """The files are mostly holes; the app reads their heads, shows their size, and finds no room."""
    files = write_study(tmp_path / "cd", images=4, name="Huge^Hugo")
    for path in sorted((tmp_path / "cd").iterdir())[: len(files)]:
        data = pydicom.dcmread(path)
        data.Rows, data.Columns, data.NumberOfFrames = 32768, 32768, 1
        del data.PixelData
        data.save_as(path)
        _end_in_a_hole(path, 2 << 30)
    session = tab.context.new_cdp_session(tab)
    origin = tab.evaluate("location.origin")
    session.send("Storage.overrideQuotaForOrigin", {"origin": origin, "quotaSize": 20_000_000})

    pick(tab, "folder", tmp_path / "cd")
    expect(tab.get_by_text("8.6 GB")).to_be_visible()
    confirm(tab)

    expect(tab.get_by_role("alert")).to_contain_text("There is not enough room on this device")


def _end_in_a_hole(path: Path, octets: int) -> None:
    """Append pixel data of so many octets, without writing them."""
    with path.open("ab") as file:
        file.write(b"\xe0\x7f\x10\x00OW\0\0" + octets.to_bytes(4, "little"))
        file.truncate(file.tell() + octets)


def test_an_image_that_is_cut_off_is_left_out_before_the_confirmation(tab: Page, tmp_path: Path) -> None:
    """A copy that was interrupted: the node would refuse it, so nobody is asked to confirm it."""
    write_study(tmp_path / "cd", images=3, octets=60_000, name="Cut^Carl")
    cut = tmp_path / "cd" / "IM0002"
    cut.write_bytes(cut.read_bytes()[:-9000])

    pick(tab, "folder", tmp_path / "cd")

    expect(tab.get_by_text("1 file is left out")).to_be_visible()
    expect(tab.get_by_text("2 images")).to_be_visible()


def test_what_another_app_shares_is_looked_at(tab: Page) -> None:
    """A share comes as a form to the service worker; no server ever sees it."""
    name = f"scan-{secrets.token_hex(4)}.jpg"
    tab.reload()
    tab.evaluate(
        """([name, bytes]) => {
            const form = document.createElement("form");
            Object.assign(form, {method: "POST", action: "/share", enctype: "multipart/form-data"});
            const files = new DataTransfer();
            files.items.add(new File([new Uint8Array(bytes)], name));
            const input = Object.assign(document.createElement("input"), {type: "file", name: "files"});
            input.files = files.files;
            form.append(input);
            document.body.append(form);
            form.submit();
        }""",
        [name, list(photo(64, 48))],
    )

    expect(tab.get_by_role("heading", name="Of which patient is this?")).to_be_visible()
    expect(tab.get_by_text(name)).to_be_visible()


def test_a_browser_that_sends_nothing_when_closed_says_so(tab: Page, tmp_path: Path) -> None:
    """As on iPhones and in Firefox: no background sync, so the app must be opened again."""
    write_study(tmp_path / "cd", name="Later^Lou")
    tab.add_init_script("delete globalThis.SyncManager")
    tab.reload()
    tab.context.set_offline(True)
    pick(tab, "folder", tmp_path / "cd")
    confirm(tab)

    expect(tab.get_by_text("Open the app again near the clinic computer")).to_be_visible()


def test_a_picture_of_the_wrong_kind_does_not_stop_the_others(tab: Page, tmp_path: Path) -> None:
    """Unreadable and foreign files are named, and the images are not affected."""
    write_study(tmp_path / "cd", images=2, name="Mixed^Mia")
    (tmp_path / "cd" / "empty").write_bytes(b"")
    (tmp_path / "cd" / "letter.doc").write_bytes(b"\xd0\xcf\x11\xe0 words")
    (tmp_path / "cd" / "broken").write_bytes(bytes(128) + b"DICM" + b"\xff" * 500)

    pick(tab, "folder", tmp_path / "cd")
    tab.get_by_text("3 files are left out").click()

    expect(tab.get_by_text("Damaged or incomplete")).to_be_visible()
    expect(tab.get_by_role("button", name="Confirm")).to_be_visible()
