"""How fast the app's first screens are there on a small phone: Lighthouse's performance, mobile preset.

    .venv/bin/python bench/first_screen.py [--rounds 5]

A slow phone is simulated (four times slower) on a slow line (150 ms, 1.6 Mbit/s). A real node in a process of
its own serves the built app: to a browser that has never seen it, then to an enrolled one with studies on its
first screen. The first run installs Lighthouse below `bench/lighthouse`, by npm.
"""

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from conftest import find_chromium  # noqa: E402
from playwright.sync_api import expect, sync_playwright  # noqa: E402
from support.folders import write_study  # noqa: E402
from support.nodes import RealNode, wait_until  # noqa: E402
from support.phone import Phone  # noqa: E402
from support.picking import confirm, connect, pick  # noqa: E402
from support.ports import free_port  # noqa: E402

TOOL = HERE / "lighthouse"
METRICS = {
    "first-contentful-paint": "FCP ms",
    "largest-contentful-paint": "LCP ms",
    "total-blocking-time": "TBT ms",
    "cumulative-layout-shift": "CLS",
}


def measure(chromium: str, url: str, profile: Path, *, reset: bool) -> dict[str, float]:
    """Open the address in a browser of its own, and return the score and what it is made of."""
    port = free_port()
    browser = subprocess.Popen(
        [
            *(chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--enable-automation"),
            *(f"--remote-debugging-port={port}", f"--user-data-dir={profile}", "about:blank"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: _listens(port), 30, "the browser")
        done = subprocess.run(
            [
                *(str(TOOL / "node_modules" / ".bin" / "lighthouse"), url, f"--port={port}"),
                *("--only-categories=performance", "--output=json", "--output-path=stdout", "--quiet"),
                *(() if reset else ("--disable-storage-reset",)),
            ],
            check=True,
            stdout=subprocess.PIPE,
        )
    finally:
        browser.terminate()
        browser.wait()
    told: dict[str, Any] = json.loads(done.stdout)
    score = told["categories"]["performance"]["score"]
    assert score is not None, told["runtimeError"]
    found = {"score": score * 100}
    return found | {name: float(told["audits"][audit]["numericValue"]) for audit, name in METRICS.items()}


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def enrol(chromium: str, node: RealNode, url: str, folder: Path) -> Path:
    """Return the profile of a browser that has handed three studies in."""
    with sync_playwright() as playwright:
        phone = Phone(playwright, chromium, folder / "used", url)
        page = phone.open()
        code = node.ask("POST", "/api/v1/admin/device-codes", {"role": "clinician"})["code"]
        connect(page, f"{url}/#enrol={code}")
        for number in range(3):
            write_study(folder / f"cd{number}", name=f"First^Fay{number}")
            pick(page, "folder", folder / f"cd{number}")
            confirm(page)
            expect(page.get_by_text("You can remove the CD.")).to_be_visible()
        phone.close()
    return folder / "used"


def main() -> None:
    """Do it, and say the numbers."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    rounds = options.parse_args().rounds
    chromium = find_chromium()
    assert chromium is not None, "there is no Chromium here"
    if not (TOOL / "node_modules").is_dir():
        subprocess.run(["npm", "ci"], cwd=TOOL, check=True, capture_output=True)
    with tempfile.TemporaryDirectory() as work, RealNode(Path(work) / "clinic") as node:
        node.init()
        node.start()
        url = f"http://localhost:{node.local_port}"
        used = enrol(chromium, node, url, Path(work))
        for what, profile in (("first visit", None), ("enrolled, three studies", used)):
            found = [
                measure(
                    chromium,
                    url,
                    profile or Path(work) / f"new{number}",
                    reset=profile is None,
                )
                for number in range(rounds)
            ]
            middle = {name: statistics.median(one[name] for one in found) for name in found[0]}
            scores = sorted(one["score"] for one in found)
            print(f"{what}: " + ", ".join(f"{name} {value:.3g}" for name, value in middle.items()))
            print(f"  scores of {rounds}: {', '.join(f'{score:.0f}' for score in scores)}")
    print(f"load of the machine at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
