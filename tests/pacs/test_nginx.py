"""A real Orthanc behind a real nginx, as hospitals have it: small bodies, Basic auth, mutual TLS."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.nginx import Authority, running_nginx
from support.orthanc import RunningOrthanc
from support.outgoing import outcomes, outgoing, verdict
from support.slices import made_slice

from node.deliver.build import connect
from node.deliver.credentials import Credentials
from node.deliver.destination import Probed
from node.errors import BadSettings, DestinationLocked, DestinationUnreachable
from sync.bodies import Ending
from sync.evidence import Outcome

pytestmark = [pytest.mark.needs("nginx"), pytest.mark.orthanc]
STUDIES = itertools.count(8_500_001)
NOBODY = Credentials()


@pytest.fixture
def opened() -> Iterator[Any]:
    made: list[Probed] = []

    def connected(kind: str, url: str, credentials: Credentials = NOBODY, **quirks: Any) -> Probed:
        made.append(connect(kind, url, credentials, quirks, idle_s=30))
        return made[-1]

    yield connected
    for one in made:
        one.close()


def delivered(pacs: Probed, count: int = 12, octets: int = 40_000) -> bool:
    study = next(STUDIES)
    instances = [outgoing(made_slice(study, n, octets=octets)) for n in range(count)]
    assert set(outcomes(pacs, instances)) == {Outcome.STORED}
    return verdict(pacs, instances).ending is Ending.DELIVERED


def test_a_body_limit_of_one_megabyte_is_found_out_and_kept_to(
    orthanc: RunningOrthanc, opened: Any, tmp_path: Path
) -> None:
    """nginx's default: batches shrink until they go through, and the one image that is too large is named."""
    with running_nginx(tmp_path / "nginx", orthanc.url, largest="1m") as url:
        pacs = opened("dicomweb", f"{url}/dicom-web")
        assert delivered(pacs, octets=300_000)

        study = next(STUDIES)
        small, large = (outgoing(made_slice(study, n, octets=o)) for n, o in ((1, 5000), (2, 1_500_000)))
        results = pacs.store([large, small])
        assert [r.outcome for r in results] == [Outcome.REJECTED, Outcome.STORED]
        assert results[0].code == "http-413"
        assert "larger" in results[0].detail


@pytest.mark.parametrize(("kind", "path"), [("dicomweb", "/dicom-web"), ("orthanc", "")])
def test_basic_auth_lets_us_in_and_a_wrong_password_pauses(
    orthanc: RunningOrthanc, opened: Any, tmp_path: Path, kind: str, path: str
) -> None:
    with running_nginx(tmp_path / "nginx", orthanc.url, password="swordfish") as url:
        assert delivered(opened(kind, url + path, Credentials(user="relay", password="swordfish")))
        with pytest.raises(DestinationLocked):
            opened(kind, url + path, Credentials(user="relay", password="wrong")).present("2.25.1")
        with pytest.raises(DestinationLocked):
            opened(kind, url + path).present("2.25.1")


@pytest.mark.parametrize("rsa_key", [False, True])
@pytest.mark.parametrize(("kind", "path"), [("dicomweb", "/dicom-web"), ("orthanc", "")])
def test_mutual_tls_with_a_hospitals_own_authority(
    orthanc: RunningOrthanc, opened: Any, tmp_path: Path, kind: str, path: str, rsa_key: bool
) -> None:
    """Queries, sending and reading back show the certificate; nobody else's authority is trusted."""
    hospital, stranger = Authority(), Authority("Somebody")
    certificate, key = hospital.issue("clinicmesh", rsa_key=rsa_key)
    ours = Credentials(certificate=certificate, key=key)
    with running_nginx(
        tmp_path / "nginx", orthanc.url, server=hospital.issue("pacs"), clients=hospital.certificate
    ) as url:
        assert delivered(opened(kind, url + path, ours, ca=hospital.certificate))

        with pytest.raises((DestinationUnreachable, DestinationLocked)):
            opened(kind, url + path, ca=hospital.certificate).present("2.25.1")
        for ca in ({"ca": stranger.certificate}, {}):
            with pytest.raises(DestinationUnreachable):
                opened(kind, url + path, ours, **ca).present("2.25.1")
    assert [p.name for p in Path(tmp_path).rglob("*") if "identity" in p.name] == []


def test_a_key_of_another_certificate_is_refused_before_anything_is_sent() -> None:
    authority = Authority()
    (certificate, _), (_, key) = authority.issue("one"), authority.issue("two")

    with pytest.raises(BadSettings):
        connect("dicomweb", "https://127.0.0.1:9", Credentials(certificate=certificate, key=key), {})
