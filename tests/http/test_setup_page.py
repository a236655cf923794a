"""The set-up page for phones, the name that all nodes share, and who else may call the API."""

import os
import plistlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.clock import FakeClock
from support.nodes import LocalNode, free_port, wait_until
from zeroconf import AddressResolverIPv4, IPVersion, Zeroconf

from node import webcert
from node.api import setup
from node.mesh.discovery import Discovery, WebHost
from sync.ids import MeshId

LANGUAGES = setup.LANGUAGES


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    with LocalNode(tmp_path_factory.mktemp("setup") / "clinic", setup_port=0) as node:
        node.init()
        node.start()
        yield node


@pytest.fixture(scope="module")
def page(clinic: LocalNode) -> httpx.URL:
    """The address of the open set-up page."""
    said = clinic.ask("POST", "/api/v1/admin/setup-page")
    port = httpx.URL(said["pages"][0]).port
    return httpx.URL(f"http://127.0.0.1:{port}/")


def test_the_page_hands_out_the_root_in_both_forms(clinic: LocalNode, page: httpx.URL) -> None:
    """An iPhone takes a profile, everything else a certificate; both are the mesh's own root."""
    root = clinic.node.membership.genesis.web_root

    certificate = httpx.get(page.join("root.crt"))
    assert certificate.content == root
    assert certificate.headers["content-type"] == "application/x-x509-ca-cert"
    profile = httpx.get(page.join("root.mobileconfig"))
    assert profile.headers["content-type"] == "application/x-apple-aspen-config"
    payload = plistlib.loads(profile.content)["PayloadContent"][0]
    assert (payload["PayloadType"], payload["PayloadContent"]) == ("com.apple.security.root", root)
    assert setup.mobileconfig("Test", root) == profile.content


@pytest.mark.parametrize(
    ("ask", "language"),
    [("", "en"), ("fr-FR,fr;q=0.9,en;q=0.8", "fr"), ("de, en;q=0.5", "en"), ("x" * 300, "en")],
)
def test_the_page_speaks_the_phones_language_and_shows_what_to_compare(
    clinic: LocalNode, page: httpx.URL, ask: str, language: str
) -> None:
    """The same numbers stand on the laptop's screen."""
    answer = httpx.get(page, headers={"Accept-Language": ask})
    said = clinic.ask("POST", "/api/v1/admin/setup-page")

    assert f'<html lang="{language}"' in answer.text
    assert setup.texts(language)["title"] in answer.text
    assert said["fingerprint"] == webcert.fingerprint(clinic.node.membership.genesis.web_root)
    assert said["fingerprint"].replace(":", " ") in answer.text
    assert said["app"] == f"https://test.local:{clinic.people_port}"
    assert "script-src" not in answer.headers["content-security-policy"]
    assert "<script" not in answer.text
    for path in (part.split('"')[0] for part in answer.text.split('src="')[1:]):
        picture = httpx.get(page.join(path))
        assert picture.headers["content-type"] == "image/svg+xml"
        assert picture.text.startswith("<svg")


def test_each_language_says_the_same_things() -> None:
    """A sentence that is missing in one would be an empty place on the page."""
    english, *others = (setup.texts(language) for language in LANGUAGES)

    for other in others:
        assert other.keys() == english.keys()
        assert [len(other[key]) for key in ("iphone", "android")] == [3, 2]
        assert all(other[key] for key in english)


def test_the_page_is_closed_until_somebody_opens_it_and_closes_again(tmp_path: Path) -> None:
    """Plain HTTP is open only while a phone is being added."""
    port = free_port()
    with LocalNode(tmp_path / "clinic", setup_port=port) as node:
        node.init()
        node.start()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/")
        for _ in range(2):
            node.ask("POST", "/api/v1/admin/setup-page")
        assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 200
        assert httpx.get(f"http://127.0.0.1:{port}/api/v1/studies").status_code == 404
        node.service._door.close_setup()

        def closed() -> bool:
            try:
                return httpx.get(f"http://127.0.0.1:{port}/", timeout=1).status_code == 0
            except httpx.TransportError:
                return True

        wait_until(closed, 20, "the port is closed")
        node.ask("POST", "/api/v1/admin/setup-page")
        assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 200


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://test.local:8443", True),
        ("https://ward-3.test.local:8443", True),
        ("https://test.local", True),
        ("http://test.local:8443", False),
        ("https://test.local.example.com", False),
        ("https://eviltest.local", False),
        ("https://a.b.test.local", False),
        ("https://www.example.com", False),
        ("null", False),
    ],
)
def test_only_pages_of_the_meshs_names_may_call_the_api(
    clinic: LocalNode, origin: str, allowed: bool
) -> None:
    """A page from elsewhere that a clinician has open reads nothing, not even with a token."""
    wanted = {"Origin": origin, "Access-Control-Request-Method": "PATCH"}
    asked = {"Access-Control-Request-Headers": "authorization,upload-offset,tus-resumable,upload-checksum"}
    with clinic.api() as client:
        preflight = client.options("/api/v1/uploads/00", headers=wanted | asked)
        answer = client.get("/healthz", headers={"Origin": origin})

    given = origin if allowed else None
    assert preflight.headers.get("access-control-allow-origin") == given
    assert answer.headers.get("access-control-allow-origin") == given
    assert answer.headers.get("access-control-allow-credentials") is None
    assert (
        "connect-src 'self' https://test.local:* https://*.test.local:*;"
        in (answer.headers["content-security-policy"])
    )


def _discovery(address: str) -> Discovery:
    found = Discovery(
        MeshId(bytes(32)),
        bind=address,
        public=False,
        found=lambda _: None,
        moved=lambda: None,
        wake=lambda: None,
        random=os.urandom,
        clock=FakeClock(),
    )
    found.announce(8444, [WebHost("bo.local", 8443), WebHost(f"ward-{address[-1]}.bo.local", 8443)])
    return found


def test_several_nodes_answer_for_the_name_that_they_share() -> None:
    """A phone gets one that is near; when that one leaves, another is found under the same name."""
    ward, lab = _discovery("127.0.0.1"), _discovery("127.0.0.2")
    ward.look()
    lab.look()

    def addresses(name: str) -> set[str]:
        with Zeroconf(interfaces=["127.0.0.1", "127.0.0.2"]) as phone:
            resolver = AddressResolverIPv4(f"{name}.")
            resolver.request(phone, 3000)
            return {str(one) for one in resolver.ip_addresses_by_version(IPVersion.V4Only)}

    try:
        assert addresses("bo.local") & {"127.0.0.1", "127.0.0.2"}
        assert addresses("ward-1.bo.local") == {"127.0.0.1"}
        assert addresses("ward-2.bo.local") == {"127.0.0.2"}
        ward.close()
        wait_until(lambda: addresses("bo.local") == {"127.0.0.2"}, 20, "the other one answers")
    finally:
        ward.close()
        lab.close()
