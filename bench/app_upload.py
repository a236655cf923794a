"""Hand in a large study with the app on loopback: how fast it goes, and how much memory its page takes.

.venv/bin/python bench/app_upload.py [--megabytes 1024]

Debian's Chromium, a real node, random pixels (nothing can be made smaller). Memory is the largest resident
size (VmRSS, looked at ten times a second) of any renderer, from the choice of the folder to the last piece.
The rate is that of the transfer alone, by the app's own progress; the copy on the device is written before.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from conftest import find_chromium
from playwright.sync_api import sync_playwright
from support.folders import write_study
from support.phone import Phone
from support.picking import confirm, connect, pick
from support.real_clinic import real_clinic

IMAGE = 4 * 1024 * 1024
LISTEN = """() => {
    globalThis.seen = [];
    new BroadcastChannel("clinicmesh").onmessage = ({data}) => {
        if (data.type === "progress") seen.push([performance.now(), data.sent, data.total]);
    };
}"""
DONE = "() => seen.length > 0 && seen.at(-1)[1] === seen.at(-1)[2]"


class Watch:
    """The largest resident size of any renderer below this process, in octets."""

    def __init__(self) -> None:
        self.largest = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.1):
            for process in _descendants(os.getpid()):
                with contextlib.suppress(OSError):
                    folder = Path(f"/proc/{process}")
                    if b"--type=renderer" in (folder / "cmdline").read_bytes():
                        pages = int((folder / "statm").read_text().split()[1])
                        self.largest = max(self.largest, pages * os.sysconf("SC_PAGE_SIZE"))


def _descendants(root: int) -> set[int]:
    """Return the processes below one."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found = {root}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def main() -> None:
    """Do it, and say the numbers."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--megabytes", type=int, default=1024)
    images = options.parse_args().megabytes // 4
    chromium = find_chromium()
    assert chromium is not None, "there is no Chromium here"
    with (
        tempfile.TemporaryDirectory() as work,
        real_clinic(Path(work) / "mesh") as clinic,
        sync_playwright() as playwright,
    ):
        write_study(Path(work) / "cd", images=images, octets=IMAGE, name="Large^Lena")
        phone = Phone(playwright, chromium, Path(work) / "profile", clinic.url)
        page = phone.open()
        connect(page, f"{clinic.url}/#enrol={clinic.enrolment_code()}")
        page.evaluate(LISTEN)
        with Watch() as watch:
            page.set_default_timeout(300_000)
            pick(page, "folder", Path(work) / "cd")
            confirm(page)
            began = time.monotonic()
            page.wait_for_function(DONE, timeout=600_000)
            whole = time.monotonic() - began
        seen = page.evaluate("seen")
        phone.close()
    seconds, octets = (seen[-1][0] - seen[0][0]) / 1000, seen[-1][1] - seen[0][1]
    print(f"{octets / 1e6:.0f} MB in {seconds:.1f} s: {octets / 1e6 / seconds:.0f} MB/s")
    print(f"with the copy on the device: {whole:.1f} s after Confirm")
    print(f"largest renderer: {watch.largest / 1e6:.0f} MB resident")
    print(f"load of the machine at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
