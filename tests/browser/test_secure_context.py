"""A phone with the mesh's root installed: a real secure context with no internet, and no other name is."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response
from playwright.sync_api import Error, Playwright, expect
from support.folders import digests, write_study
from support.nodes import LocalNode, wait_until
from support.phone import Phone
from support.picking import arrived, confirm, connect, pick
from support.proxy import Line, proxied
from support.real_clinic import RealClinic
from support.servers import serve

from node import webcert
from node.addresses import own_addresses
from node.api import webapp
from node.webcert import WebNames

pytestmark = [pytest.mark.chromium, pytest.mark.needs("certutil")]
PRIVATE = "192.168.77.1"  # reached by Chromium's own host table, so that the test needs no network


@dataclass
class Site:
    """A clinic, and what it takes to stand in for others."""

    clinic: LocalNode
    other: LocalNode
    url: str
    recovery_secret: bytes


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two nodes of one mesh behind one shared name; the first has a private address in its certificate."""
    folder = tmp_path_factory.mktemp("secure")
    with LocalNode(folder / "clinic") as clinic, LocalNode(folder / "ward") as ward:
        sheet = clinic.init()
        clinic.start()
        clinic.admit(ward, "clinic")
        clinic.stop()
        _name_address(clinic)
        clinic.start([ward])
        ward.start([clinic])
        yield Site(clinic, ward, f"https://test.local:{clinic.people_port}", sheet.recovery_secret)


def _name_address(node: LocalNode) -> None:
    """Give a node a leaf that names a private address as well, as one on a clinic's Wi-Fi has."""
    chain = [*node.home.membership().web_chain]
    keystore, membership = node.node.keystore, node.home.membership()
    assert keystore.web_issuer_key is not None
    names = webcert.names_for(
        membership.genesis.name, membership.label, [PRIVATE, *own_addresses()], shared=True
    )
    chain[0] = webcert.issue_web_leaf(
        keystore.web_issuer_key,
        chain[1],
        webcert.public_half(keystore.web_key),
        names,
        now_ms=node.node.clock.now_ms(),
    )
    node.home.keep_membership(replace(membership, web_chain=tuple(chain)))


def _phone(
    playwright: Playwright, chromium: str, folder: Path, url: str, *, root: bytes | None, rules: str = ""
) -> Phone:
    """Return a phone with this root among those that its user has installed; `rules` say where names are."""
    home = folder / "home"
    store = home / ".pki" / "nssdb"
    store.mkdir(parents=True)
    certutil = ["certutil", "-d", f"sql:{store}"]
    subprocess.run([*certutil, "-N", "--empty-password"], check=True, capture_output=True)
    if root is not None:
        (folder / "root.crt").write_bytes(root)
        adding = [*certutil, "-A", "-n", "clinic", "-t", "C,,", "-i", str(folder / "root.crt")]
        subprocess.run(adding, check=True, capture_output=True)
    rules += f"MAP *.local 127.0.0.1, MAP {PRIVATE} 127.0.0.1, MAP www.example.com 127.0.0.1"
    flags = [f"--host-resolver-rules={rules}"]
    return Phone(playwright, chromium, folder / "profile", url, flags=flags, home=home)


_REGISTERED = "navigator.serviceWorker.ready.then(() => isSecureContext && !!crypto.subtle)"


@pytest.mark.parametrize("host", ["test.local", "clinic.test.local", PRIVATE])
def test_the_app_works_offline_on_the_meshs_names_and_a_private_address(
    playwright: Playwright, chromium: str, site: Site, tmp_path: Path, host: str
) -> None:
    """The page opens without a warning, and its service worker keeps it for when there is no network."""
    root = site.clinic.node.membership.genesis.web_root
    port = site.clinic.people_port
    phone = _phone(playwright, chromium, tmp_path, f"https://{host}:{port}", root=root)
    page = phone.open()

    assert page.evaluate(_REGISTERED) is True
    phone.offline(True)
    page.reload()
    page.get_by_role("heading").first.wait_for()
    phone.close()


@pytest.mark.parametrize("root", ["none", "ours"])
def test_without_a_certificate_that_counts_there_is_no_app(
    playwright: Playwright, chromium: str, site: Site, tmp_path: Path, root: str
) -> None:
    """No root, no page; and the root vouches for no bank, even when its issuer was stolen."""
    membership = site.clinic.node.membership
    key = site.clinic.node.keystore
    assert key.web_issuer_key is not None
    leaf, issuer = membership.web_chain
    names = WebNames(("www.example.com",), ())
    if root == "ours":
        now = site.clinic.node.clock.now_ms()
        public = webcert.public_half(key.web_key)
        leaf = webcert.issue_web_leaf(key.web_issuer_key, issuer, public, names, now_ms=now)
    host = "www.example.com" if root == "ours" else "test.local"
    app = site.clinic.service.people_app()
    with serve(app, webcert.server_context(key.web_key, [leaf, issuer])) as url:
        port = url.rpartition(":")[2]
        installed = membership.genesis.web_root if root == "ours" else None
        phone = _phone(playwright, chromium, tmp_path, f"https://{host}:{port}", root=installed)
        with pytest.raises(Error, match=r"ERR_CERT_(INVALID|AUTHORITY_INVALID)"):
            phone.open()
        phone.close()


_REGISTER = """async () => {
  if (!('serviceWorker' in navigator)) return 'none here';
  try {
    await navigator.serviceWorker.register('/sw.js');
    return 'registered';
  } catch (error) {
    return error.name;
  }
}"""


@pytest.mark.parametrize(
    ("way", "told"),
    [
        ("this machine", (True, "registered")),
        ("plain HTTP", (False, "none here")),
        ("warning clicked away", (True, "SecurityError")),
    ],
)
def test_without_a_certificate_there_is_no_service_worker(
    playwright: Playwright, chromium: str, site: Site, tmp_path: Path, way: str, told: tuple[bool, str]
) -> None:
    """Not over HTTP on a private address, not where somebody waved the warning away; on the laptop itself."""
    membership, key = site.clinic.node.membership, site.clinic.node.keystore
    context = webcert.server_context(key.web_key, membership.web_chain)
    app = bare_page()
    with serve(app, None if way != "warning clicked away" else context) as url:
        port = url.rpartition(":")[2]
        host = "localhost" if way == "this machine" else PRIVATE
        address = f"{url.partition(':')[0]}://{host}:{port}"
        phone = _phone(playwright, chromium, tmp_path, address, root=None)
        if way == "warning clicked away":
            with pytest.raises(Error, match="ERR_CERT_AUTHORITY_INVALID"):
                phone.open()
            page = phone.page
            page.locator("#details-button").click()
            page.locator("#proceed-link").click()
            expect(page).to_have_title("clinic")
        else:
            page = phone.open()

        assert (page.evaluate("isSecureContext"), page.evaluate(_REGISTER)) == told
        phone.close()


def bare_page() -> FastAPI:
    """Return a page with the app's service worker and nothing that registers it."""
    folder = webapp.built_app()
    assert folder is not None
    app = FastAPI()

    @app.get("/")
    def page() -> HTMLResponse:
        return HTMLResponse("<!doctype html><title>clinic</title>")

    @app.get("/sw.js")
    def worker() -> Response:
        return Response((folder / "sw.js").read_bytes(), media_type="text/javascript")

    return app


def test_what_waits_on_a_phone_goes_to_whichever_node_answers_for_the_shared_name(
    playwright: Playwright, chromium: str, site: Site, tmp_path: Path
) -> None:
    """One origin for all nodes: its API is called under the chosen node's own name, and no other page may."""
    root = site.clinic.node.membership.genesis.web_root
    phone = _phone(playwright, chromium, tmp_path, site.url, root=root)
    page = phone.open()
    ward = f"https://ward.test.local:{site.other.people_port}"
    script = "url => fetch(url + '/healthz').then(r => r.json()).then(said => said.url)"

    assert page.evaluate(script, ward) == ward
    assert page.evaluate("fetch('/healthz').then(r => r.json()).then(s => s.url)") == (
        f"https://clinic.test.local:{site.clinic.people_port}"
    )
    with pytest.raises(Error, match="Failed to fetch"):
        page.evaluate(script, "https://www.example.com")
    phone.close()


def test_a_study_under_way_is_taken_by_another_node_that_answers_for_the_shared_name(
    playwright: Playwright, chromium: str, site: Site, tmp_path: Path
) -> None:
    """All of it goes under the chosen node's own name, and goes on by itself when that node is gone."""
    first, second, secret = site.clinic, site.other, site.recovery_secret
    files = write_study(tmp_path / "cd", images=6, octets=1_000_000, name="Moved^Mo")
    clinic = RealClinic(first, first, "", secret)
    with proxied(f"127.0.0.1:{first.people_port}") as own, proxied(f"127.0.0.1:{first.people_port}") as near:
        rules = f"MAP clinic.test.local {own.address}, "
        shared = f"https://test.local:{near.address.rpartition(':')[2]}"
        root = first.node.membership.genesis.web_root
        phone = _phone(playwright, chromium, tmp_path, shared, root=root, rules=rules)
        page = phone.open()
        connect(page, f"{shared}/#enrol={clinic.enrolment_code()}")
        wait_until(lambda: second.get("/api/v1/admin/devices")["devices"], 30, "the device's fact")
        served = near.octets[0]
        own.line = Line(rate=1_000_000)
        pick(page, "folder", tmp_path / "cd")
        confirm(page)
        expect(page.get_by_text("On its way to the clinic computer…", exact=True)).to_be_visible()
        wait_until(lambda: own.octets[0] > 1_500_000, 30, "some of the study")
        assert near.octets[0] - served < 100_000
        first.stop()
    with proxied(f"127.0.0.1:{second.people_port}", listen=near.address):
        held = arrived(RealClinic(second, second, "", secret), files)
        expect(page.get_by_text("On the clinic computer", exact=False).first).to_be_visible()
        phone.close()

    assert digests(held) == digests(files)
