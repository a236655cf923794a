"""Bad lines, and another node than the one that a study began with: nobody has to do anything."""

from pathlib import Path

import pytest
from playwright.sync_api import Playwright, expect
from support.folders import digests, write_study
from support.nodes import LocalNode, wait_until
from support.phone import Phone
from support.picking import arrived, confirm, connect, pick
from support.proxy import Line, Proxy, proxied
from support.real_clinic import RealClinic

pytestmark = pytest.mark.chromium


def test_a_line_that_is_slow_and_cut_brings_it_all(
    playwright: Playwright, chromium: str, clinic: RealClinic, tmp_path: Path
) -> None:
    """2 Mbit/s, a fifth of a second there and back, and every other second the line is cut."""
    files = write_study(tmp_path / "cd", images=3, octets=260_000, name="Slow^Sam")
    with proxied(f"127.0.0.1:{clinic.node.local_port}") as proxy:
        phone = Phone(playwright, chromium, tmp_path / "profile", _address(proxy))
        page = phone.open()
        connect(page, f"{_address(proxy)}/#enrol={clinic.enrolment_code()}")
        proxy.line = Line(rate=250_000, rtt_s=0.2, cut_every_s=2.0)
        pick(page, "folder", tmp_path / "cd")
        confirm(page)
        expect(page.get_by_text("You can close the app.")).to_be_visible()
        held = arrived(clinic, files)
        proxy.line = Line()
        phone.close()

    assert digests(held) == digests(files)


def _address(proxy: Proxy) -> str:
    return f"http://localhost:{proxy.address.rsplit(':', 1)[1]}"


def test_a_study_that_began_with_one_node_goes_on_with_another(
    playwright: Playwright, chromium: str, tmp_path: Path
) -> None:
    """One name for all nodes of a mesh; the laptop in the room is another one the next day."""
    files = write_study(tmp_path / "cd", images=8, octets=1_500_000, name="Moved^Mo")
    with LocalNode(tmp_path / "first") as first, LocalNode(tmp_path / "second") as second:
        sheet = first.init()
        first.start()
        first.admit(second, "clinic")
        second.start([first])
        clinic = RealClinic(first, first, "", sheet.recovery_secret)
        with proxied(f"127.0.0.1:{first.local_port}") as proxy:
            phone = Phone(playwright, chromium, tmp_path / "profile", _address(proxy))
            page = phone.open()
            connect(page, f"{_address(proxy)}/#enrol={clinic.enrolment_code()}")
            # The second node must have heard of the device before the first one is away.
            wait_until(lambda: _devices(second) == 1, 30, "the device's fact")
            proxy.line = Line(rate=1_500_000)
            pick(page, "folder", tmp_path / "cd")
            confirm(page)
            expect(page.get_by_text("On its way to the clinic computer…", exact=True)).to_be_visible()
            wait_until(lambda: proxy.octets[0] > 2_000_000, 30, "some of the study")
            first.stop()
        with proxied(f"127.0.0.1:{second.local_port}", listen=proxy.address):
            held = arrived(RealClinic(second, second, "", sheet.recovery_secret), files)
            expect(page.get_by_text("You can remove the CD.")).to_be_visible()
            phone.close()

    assert digests(held) == digests(files)


def _devices(node: LocalNode) -> int:
    return len(node.get("/api/v1/admin/devices")["devices"])
