"""Kill the browser at random moments after a person pressed "Confirm", and see whether it keeps its word.

The word is what stood on the screen: "You can close the app." From then on the study must arrive, whole.
Before that nothing was promised; then it must arrive whole, or leave nothing behind.
"""

import contextlib
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Error, Page, expect
from support.folders import digests, write_study
from support.phone import Phone
from support.picking import arrived, confirm, connect, pick
from support.real_clinic import RealClinic

_LATEST_S = 2.5
_OCTETS = 1_500_000
_IMAGES = 6
PROMISE = "You can close the app."
FOLDERS = """navigator.storage.getDirectory()
    .then((root) => root.getDirectoryHandle("outbox", {create: true}))
    .then(async (outbox) => (await Array.fromAsync(outbox.keys())).length)"""


@dataclass
class Told:
    """What came of the rounds. `lost`: promised, and not there; `strays`: folders that belong to nothing."""

    promised: int = 0
    kept: int = 0
    lost: list[str] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    strays: int = 0


def kill_rounds(phone: Phone, clinic: RealClinic, folder: Path, *, rounds: int, seed: int) -> Told:
    """Confirm a study and kill the browser at a random moment, as often as `rounds` says."""
    dice, told = random.Random(seed), Told()
    page = phone.open()
    connect(page, f"{clinic.url}/#enrol={clinic.enrolment_code()}")
    clinic.slow_down()
    promised: list[dict[str, bytes]] = []
    for number in range(rounds):
        name = f"Killed^K{number}"
        files = write_study(folder / f"cd{number}", images=_IMAGES, octets=_OCTETS, name=name)
        pick(page, "folder", folder / f"cd{number}")
        confirm(page)
        moment = dice.uniform(0, _LATEST_S)
        was_promised = _promised_within(page, moment)
        phone.kill()
        told.moments.append(round(moment, 2))
        if was_promised:
            promised.append(files)
        page = phone.open()
        page.get_by_role("button", name="Upload Study").wait_for()
    clinic.undo()
    told.promised = len(promised)
    for files in promised:
        if digests(arrived(clinic, files)) == digests(files):
            told.kept += 1
        else:
            told.lost.append(next(iter(files)))
    # What is shown is what lies there: a folder without its study would hold a patient for ever.
    expect(page.get_by_text("On its way to the clinic computer…", exact=True)).to_have_count(0)
    shown = page.evaluate("indexedDB.databases().then((all) => all.length)") and _items(page)
    told.strays = max(0, page.evaluate(FOLDERS) - shown)
    phone.close()
    return told


def _promised_within(page: Page, seconds: float) -> bool:
    """Wait for a moment, and return whether the promise stood on the screen before it."""
    end = time.monotonic() + seconds
    with contextlib.suppress(Error):
        page.get_by_text(PROMISE).wait_for(timeout=max(1.0, seconds * 1000))
        time.sleep(max(0.0, end - time.monotonic()))
        return True
    return False


def _items(page: Page) -> int:
    """Return how many studies the app knows of."""
    return int(
        page.evaluate(
            """() => new Promise((resolve, reject) => {
                const opening = indexedDB.open("clinicmesh");
                opening.onerror = () => reject(opening.error);
                opening.onsuccess = () => {
                    const asked = opening.result.transaction("outbox").objectStore("outbox").count();
                    asked.onsuccess = () => { opening.result.close(); resolve(asked.result); };
                };
            })"""
        )
    )
