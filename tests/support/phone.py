"""A phone with a browser, and the clinic around it, as tests of the app see them."""

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from playwright.sync_api import BrowserContext, Error, Page, Playwright, expect

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WAIT_MS = 20_000
expect.set_options(timeout=WAIT_MS)


class Clinic(Protocol):
    """A node of a clinic, and what happens to what it keeps."""

    url: str

    def enrolment_code(self, role: str = "clinician") -> str:
        """Return a code that enrols one device."""
        ...

    def held(self) -> dict[str, bytes]:
        """Return the original file of every instance that was kept, by its SOP Instance UID."""
        ...

    def replicate(self) -> None:
        """Let another computer take a copy of everything."""
        ...

    def deliver(self) -> None:
        """Let everything reach the PACS and be confirmed there."""
        ...

    def erase(self) -> None:
        """Let every node erase what was delivered."""
        ...

    def slow_down(self) -> None:
        """Make each piece of an upload take long enough to look at."""
        ...


class Phone:
    """A browser with a profile on disk, that can be closed, killed and opened again."""

    def __init__(
        self,
        playwright: Playwright,
        chromium: str,
        profile: Path,
        url: str,
        *,
        flags: Sequence[str] = (),
        home: Path | None = None,
        clock: datetime | None = None,
    ) -> None:
        self._playwright = playwright
        self._chromium = chromium
        self.profile = profile
        self._url = url
        self._flags = [*FLAGS, *flags]
        self._home = home
        self._clock = clock
        self._context: BrowserContext | None = None
        self.problems: list[str] = []

    def open(self, address: str = "", flags: Sequence[str] = ()) -> Page:
        """Start the browser with its profile, and the app in it."""
        self._context = self._playwright.chromium.launch_persistent_context(
            self.profile,
            executable_path=self._chromium,
            args=self._flags,
            env={**os.environ, "HOME": str(self._home)} if self._home else None,
            viewport={"width": 360, "height": 740},
            locale="en-GB",
        )
        self._context.set_default_timeout(WAIT_MS)
        if self._clock is not None:
            self._context.clock.set_system_time(self._clock)
        page = self._context.pages[0] if self._context.pages else self._context.new_page()
        page.on("pageerror", lambda error: self.problems.append(error.message))
        page.on("console", lambda said: self.problems.append(said.text) if said.type == "error" else None)
        page.goto(self._url + "/" + address)
        return page

    @property
    def page(self) -> Page:
        """The page that is open, also if it is the browser's own warning."""
        assert self._context is not None
        return self._context.pages[0]

    def offline(self, off: bool) -> None:
        assert self._context is not None
        self._context.set_offline(off)

    def limit_storage(self, page: Page, size: int) -> None:
        """Let the origin of the page have `size` bytes and no more."""
        assert self._context is not None
        session = self._context.new_cdp_session(page)
        origin = page.evaluate("location.origin")
        session.send("Storage.overrideQuotaForOrigin", {"origin": origin, "quotaSize": size})

    def kill(self) -> None:
        """End the browser as a power cut does; the profile stays as it is on the disk."""
        ours = self._processes()
        for process in ours:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while self._processes() and time.monotonic() < deadline:
            time.sleep(0.05)
        if self._context is not None:
            with contextlib.suppress(Error):
                self._context.close()
            self._context = None

    def _processes(self) -> list[int]:
        """Return the browser's processes: those that were started with this profile, the first one first."""
        mark = f"--user-data-dir={self.profile}".encode()
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError):
                    words = (folder / "cmdline").read_bytes().split(b"\0")
                    if mark in words:
                        found.append(int(folder.name))
        return sorted(found)

    def close(self) -> None:
        """Close the browser; the profile stays."""
        if self._context is not None:
            self._context.close()
            self._context = None
