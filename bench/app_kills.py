"""Kill the browser at random moments after "Confirm", and count the broken promises.

.venv/bin/python bench/app_kills.py [--rounds 10] [--seed 1]
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from conftest import find_chromium
from playwright.sync_api import sync_playwright
from support.phone import Phone
from support.phone_kills import kill_rounds
from support.real_clinic import real_clinic


def main() -> int:
    """Do it, say what came of it, and fail if a promise was broken."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--seed", type=int, default=1)
    said = options.parse_args()
    chromium = find_chromium()
    assert chromium is not None, "there is no Chromium here"
    with (
        tempfile.TemporaryDirectory() as work,
        real_clinic(Path(work) / "mesh") as clinic,
        sync_playwright() as playwright,
    ):
        phone = Phone(playwright, chromium, Path(work) / "profile", clinic.url)
        told = kill_rounds(phone, clinic, Path(work), rounds=said.rounds, seed=said.seed)
    print(f"killed after {told.moments} s")
    print(f"promised {told.promised}, arrived whole {told.kept}, lost {len(told.lost)}, strays {told.strays}")
    return 1 if told.lost or told.strays else 0


if __name__ == "__main__":
    sys.exit(main())
