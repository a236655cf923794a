"""Tokens that end: fetched when needed, renewed by our clock and by the destination's."""

import itertools
import ssl
from collections.abc import Iterator

import pytest
from support.guarded import Guarded
from support.nodes import LocalNode
from support.outgoing import outcomes, outgoing, verdict
from support.servers import serve
from support.slices import made_slice

from node.deliver.access import ClientCredentials, TokenService, http_client, tls_context
from node.deliver.destination import Auth
from node.deliver.dicomweb import DicomWebDestination
from node.deliver.stow import Limits
from node.errors import BadSettings, DestinationBusy, DestinationLocked, DestinationUnreachable
from node.sandbox_pacs import sandbox_app
from sync.bodies import Ending
from sync.evidence import Outcome

STUDIES = itertools.count(8_100_001)


@pytest.fixture
def guarded(tmp_path) -> Iterator[tuple[Guarded, str]]:
    guard = Guarded(sandbox_app(tmp_path))
    with serve(guard) as url:
        yield guard, url


@pytest.fixture
def tokens(guarded) -> Iterator[ClientCredentials]:
    with http_client(idle_s=10) as client:
        yield credentials(guarded[1], client)


def credentials(url: str, client, now_s=lambda: 0.0, secret: str = Guarded.client_secret):
    service = TokenService(f"{url}/token", Guarded.client_id, secret, "dicom")
    return ClientCredentials(service, {"X-Clinic": "north"}, client, now_s)


def test_a_token_that_ends_in_mid_study_is_renewed_and_nothing_is_sent_twice(guarded, tokens) -> None:
    """The clinic's line takes hours for a study; tokens live for one."""
    guard, url = guarded
    guard.uses = 3
    study = next(STUDIES)
    instances = [outgoing(made_slice(study, n)) for n in range(20)]
    pacs = DicomWebDestination(f"{url}/dicom-web", tokens, limits=Limits(instances=2), idle_s=10)

    assert set(outcomes(pacs, instances)) == {Outcome.STORED}
    assert verdict(pacs, instances).ending is Ending.DELIVERED

    assert guard.refused > 2
    assert guard.fetched == guard.refused + 1
    assert {fields["x-clinic"] for fields in guard.headers} == {"north"}
    pacs.close()


def test_a_whole_delivery_outlives_its_tokens(guarded, tmp_path) -> None:
    """From the administrator's word to the tombstone: each token opens one request, and ends."""
    guard, url = guarded
    guard.uses = 1
    study = next(STUDIES)
    files = {f"IM{n}": made_slice(study, n) for n in range(1, 9)}
    login = {"client_id": guard.client_id, "client_secret": guard.client_secret, "token_url": f"{url}/token"}
    with LocalNode(tmp_path / "node") as node:
        node.init()
        node.start()
        node.ask("POST", "/api/v1/destinations", {"name": "main", "url": f"{url}/dicom-web", **login})
        (entry,) = node.submit(files)
        node.wait(lambda: node.state(entry) == "delivered", "to deliver", 60)

        evidence = node.story(entry)["evidence"]
        assert (evidence["level"], evidence["proven"]) == ("read-back", len(files))
        assert node.troubles() == []
    assert guard.fetched == guard.refused + 1
    sent = [fields for fields in guard.headers if "multipart" in fields.get("content-type", "")]
    assert len(sent) == 2  # the first was refused for its token
    assert guard.refused > 2


def test_a_token_serves_until_shortly_before_its_end(guarded) -> None:
    """Neither one token a request nor one that is dead on arrival."""
    guard, url = guarded
    now = [0.0]
    with http_client(idle_s=10) as client:
        access = credentials(url, client, lambda: now[0])
        assert access.as_headers() == access.as_headers()
        now[0] = 3539.0
        access.as_headers()
        assert guard.fetched == 1
        now[0] = 3541.0
        assert access.as_headers()["Authorization"] == "Bearer token-2"
        guard.life_s = 60
        access.renew({"Authorization": "Bearer token-2"})
        access.as_headers()
        now[0] += 29.0
        access.as_headers()
        assert guard.fetched == 3
        now[0] += 2.0
        access.as_headers()
        assert guard.fetched == 4


def test_a_service_that_takes_the_secret_only_in_the_form_is_spoken_to(guarded, tokens) -> None:
    """RFC 6749 allows both ways, and some know only one."""
    guarded[0].basic = False

    assert tokens.as_headers()["Authorization"] == "Bearer token-1"


@pytest.mark.parametrize("life_s", [None, 3600])
def test_a_wrong_secret_pauses_the_destination(guarded, life_s) -> None:
    """A person must renew it; the studies wait."""
    guard, url = guarded
    guard.life_s = life_s
    instance = outgoing(made_slice(next(STUDIES), 1))
    with http_client(idle_s=10) as client:
        pacs = DicomWebDestination(f"{url}/dicom-web", credentials(url, client, secret="wrong"), idle_s=10)
        with pytest.raises(DestinationLocked) as caught:
            pacs.store([instance])
        assert "wrong" not in str(caught.value)
        pacs.close()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_token_service_is_asked_later(guarded, tokens, status: int) -> None:
    guarded[0].status = status

    with pytest.raises(DestinationBusy):
        tokens.as_headers()


def test_a_token_service_out_of_reach_is_no_fault_of_the_credentials() -> None:
    with http_client(idle_s=2) as client:
        access = credentials("http://127.0.0.1:9", client)
        with pytest.raises(DestinationUnreachable):
            access.as_headers()


def test_a_token_that_is_refused_for_ever_is_not_asked_for_for_ever(guarded, tokens) -> None:
    """One more try for each request, then a person."""
    guard, url = guarded
    guard.uses = 0
    pacs = DicomWebDestination(f"{url}/dicom-web", tokens, idle_s=10)

    with pytest.raises(DestinationLocked):
        pacs.present("2.25.1")
    assert guard.refused == 2
    pacs.close()


def test_a_static_token_is_tried_once(guarded) -> None:
    guard, url = guarded
    pacs = DicomWebDestination(f"{url}/dicom-web", Auth(bearer="old"), idle_s=10)

    with pytest.raises(DestinationLocked):
        pacs.present("2.25.1")
    assert guard.refused == 1
    pacs.close()


@pytest.mark.parametrize(
    "given", [{"ca": "no certificate"}, {"certificate": "none", "key": "none"}, {"key": "none"}]
)
def test_certificates_that_cannot_be_read_are_told_at_once(given: dict[str, str]) -> None:
    with pytest.raises(BadSettings):
        tls_context(**given)


def test_our_own_trust_excludes_the_public_one() -> None:
    """A hospital that names its authority does not want a certificate from anybody else's."""
    assert tls_context().cert_store_stats()["x509_ca"] > 10
    assert tls_context().verify_mode is ssl.CERT_REQUIRED
