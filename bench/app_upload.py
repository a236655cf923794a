"""Hand in a large study with the app on loopback: how fast it goes, and how much memory its page takes.

    .venv/bin/python bench/app_upload.py [--megabytes 1024] [--image-mb 4]

Debian's Chromium, a real node, random pixels (nothing can be made smaller). Memory is the largest resident
size (VmRSS, looked at ten times a second) of any renderer, and of the process that speaks to the network, in
each stretch: at rest, while the files are read, copied, sent.
The rate is that of the transfer alone, by the app's own progress; the copy on the device is written before.
CPU is that of the browser's processes and of the node's, while the pieces are sent.
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
from support.nodes import RealNode
from support.phone import Phone
from support.picking import confirm, connect, pick

MB = 1024 * 1024
KINDS = {b"--type=renderer": "renderer", b"--utility-sub-type=network.mojom.NetworkService": "network"}
LISTEN = """() => {
    globalThis.seen = [];
    new BroadcastChannel("clinicmesh").onmessage = ({data}) => {
        if (data.type === "progress") seen.push([performance.now(), data.sent, data.total]);
    };
}"""
DONE = "() => seen.length > 0 && seen.at(-1)[1] === seen.at(-1)[2]"


class Watch:
    """The largest resident size of any renderer below this process, in octets, in each stretch of time."""

    def __init__(self) -> None:
        self.stretch = "at rest"
        self.largest: dict[tuple[str, str], int] = {}
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
                    line = (folder / "cmdline").read_bytes()  # with spaces, where a zygote wrote it
                    for kind in (KINDS[word] for word in KINDS if word in line):
                        pages = int((folder / "statm").read_text().split()[1])
                        key = (self.stretch, kind)
                        size = pages * os.sysconf("SC_PAGE_SIZE")
                        self.largest[key] = max(self.largest.get(key, 0), size)


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


def _cpu_s(node: int) -> tuple[float, float]:
    """Return the CPU seconds of the browser's processes and of the node's, so far."""
    browser = 0.0
    for process in _descendants(os.getpid()):
        with contextlib.suppress(OSError):
            if b"chrom" in Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")[0]:
                browser += _cpu_of(process)
    return browser, _cpu_of(node)


def _cpu_of(process: int) -> float:
    words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Do it, and say the numbers."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--megabytes", type=int, default=1024)
    options.add_argument("--image-mb", type=int, default=4)
    said = options.parse_args()
    chromium = find_chromium()
    assert chromium is not None, "there is no Chromium here"
    with (
        tempfile.TemporaryDirectory() as work,
        RealNode(Path(work) / "clinic") as node,
        sync_playwright() as playwright,
    ):
        node.init()
        node.start()
        url = f"http://localhost:{node.local_port}"
        images = said.megabytes // said.image_mb
        write_study(Path(work) / "cd", images=images, octets=said.image_mb * MB, name="Large^Lena")
        phone = Phone(playwright, chromium, Path(work) / "profile", url)
        page = phone.open()
        code = node.ask("POST", "/api/v1/admin/device-codes", {"role": "clinician"})["code"]
        connect(page, f"{url}/#enrol={code}")
        page.evaluate(LISTEN)
        with Watch() as watch:
            page.set_default_timeout(300_000)
            time.sleep(0.5)
            watch.stretch = "reading"
            pick(page, "folder", Path(work) / "cd")
            page.get_by_label("This is the right patient").wait_for()
            watch.stretch = "copying"
            confirm(page)
            began = time.monotonic()
            page.wait_for_function("() => seen.length > 0", timeout=600_000)
            watch.stretch = "sending"
            before = _cpu_s(node.pid)
            page.wait_for_function(DONE, timeout=600_000)
            spent = [after - was for was, after in zip(before, _cpu_s(node.pid), strict=True)]
            whole = time.monotonic() - began
        seen = page.evaluate("seen")
        phone.close()
    seconds, octets = (seen[-1][0] - seen[0][0]) / 1000, seen[-1][1] - seen[0][1]
    print(f"{octets / 1e6:.0f} MB in {seconds:.1f} s: {octets / 1e6 / seconds:.0f} MB/s")
    print("CPU ms per MB: browser {:.1f}, node {:.1f}".format(*(s / octets * 1e9 for s in spent)))
    print(f"with the copy on the device: {whole:.1f} s after Confirm")
    for (stretch, kind), size in watch.largest.items():
        print(f"{stretch}: {kind} {size / 1e6:.0f} MB resident")
    print(f"load of the machine at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
