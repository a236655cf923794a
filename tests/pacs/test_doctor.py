"""The destination doctor before real PACS, and before what goes wrong with them."""

import datetime
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.guarded import Guarded
from support.lying_pacs import LyingPacs, lying_pacs
from support.nginx import Authority, running_nginx
from support.orthanc import RunningOrthanc
from support.receivers import running_receiver, running_storescp
from support.servers import serve

from node.deliver.association import COMMIT, FIND, GET
from node.deliver.build import connect
from node.deliver.credentials import Credentials
from node.deliver.doctor import Examination, examine
from node.deliver.doctor_write import probe
from node.sandbox_pacs import sandbox_app
from sync.evidence import Evidence

NOBODY = Credentials()


@pytest.fixture
def liar() -> Iterator[LyingPacs]:
    with lying_pacs() as one:
        yield one


def look(
    kind: str,
    url: str,
    credentials: Credentials = NOBODY,
    *,
    demanded: Evidence = Evidence.READ_BACK,
    now_s: float | None = None,
    **quirks: Any,
) -> Examination:
    now_ms = int((time.time() if now_s is None else now_s) * 1000)
    return examine(kind, url, credentials, quirks, demanded, now_ms=now_ms, idle_s=10)


def write(kind: str, url: str, credentials: Credentials = NOBODY) -> Examination:
    found = look(kind, url, credentials, demanded=Evidence.ANSWERED if kind == "dimse" else Evidence.LISTED)
    assert found.sound, found.findings
    pacs = connect(kind, url, credentials, {}, idle_s=30)
    probe(pacs, found)
    pacs.close()
    return found


def states(found: Examination) -> dict[str, str]:
    assert all(one.detail.endswith(".") for one in found.findings)
    assert all(
        one.advice.endswith((".", ")")) for one in found.findings if one.state in ("failed", "warning")
    )
    return {one.check: one.state for one in found.findings}


def failed(found: Examination) -> dict[str, str]:
    return {one.check: one.advice for one in found.findings if one.state == "failed"}


@pytest.mark.orthanc
def test_an_orthanc_is_found_sound_by_each_of_its_three_ways(orthanc: RunningOrthanc) -> None:
    for kind, url in (
        ("dicomweb", orthanc.dicomweb),
        ("orthanc", orthanc.url),
        ("dimse", f"dicom://ORTHANC@127.0.0.1:{orthanc.dimse}"),
    ):
        found = write(kind, url)
        assert set(states(found).values()) <= {"ok", "warning"}
        assert found.strongest is Evidence.READ_BACK
        assert states(found)["codings"] == states(found)["duplicates"] == states(found)["largest"] == "ok"
        assert states(found)["removed"] == ("ok" if kind == "orthanc" else "warning")
        assert found.learnt == {}


@pytest.mark.orthanc
def test_looking_writes_nothing(orthanc: RunningOrthanc) -> None:
    with httpx.Client(trust_env=False, base_url=orthanc.url) as client:
        before = client.get("/changes?last").json()["Last"]
        for kind, url in (("dicomweb", orthanc.dicomweb), ("orthanc", orthanc.url)):
            assert look(kind, url).sound
        assert client.get("/changes?last").json()["Last"] == before


@pytest.mark.needs("storescp")
def test_a_receiver_that_only_stores_is_told_what_it_cannot_prove(tmp_path: Path) -> None:
    with running_storescp(tmp_path) as url:
        found = look("dimse", url)
        assert failed(found).keys() == {"evidence"}
        assert "--evidence answered" in failed(found)["evidence"]
        assert look("dimse", url, demanded=Evidence.ANSWERED).sound


def test_titles_and_services_of_a_receiver() -> None:
    with running_receiver(FIND, GET, COMMIT, checks_titles=True) as receiver:
        assert failed(look("dimse", receiver.url)).keys() == {"credentials"}
        found = look("dimse", receiver.url, calling="KNOWN")
        assert found.sound
        assert states(found)["commitment"] == "ok"


@pytest.mark.orthanc
def test_another_root_is_found(orthanc: RunningOrthanc) -> None:
    """The most usual slip: the address of the archive, not of its DICOMweb service."""
    advice = failed(look("dicomweb", orthanc.url))
    assert "/dicom-web" in advice["root"]
    assert failed(look("orthanc", orthanc.dicomweb)).keys() == {"root"}


def test_what_is_nowhere_or_somewhere_else(tmp_path: Path, liar: LyingPacs) -> None:
    assert failed(look("dicomweb", "http://127.0.0.1:9")).keys() == {"reach"}
    assert failed(look("dicomweb", "http://no-such-name.invalid")).keys() == {"address"}
    assert failed(look("dicomweb", "http://169.254.169.254/")).keys() == {"address"}
    assert failed(look("dicomweb", liar.url.replace("http:", "https:"))).keys() == {"tls"}
    assert failed(
        look("dimse", liar.url.replace("http://", "dicom://A@").removesuffix("/dicom-web"))
    ).keys() == {"association"}


@pytest.mark.needs("nginx")
def test_tls_is_told_apart(tmp_path: Path) -> None:
    """Unknown authority, soon at an end, a certificate of ours that is wanted."""
    hospital = Authority()
    now = time.time()
    soon = datetime.datetime.fromtimestamp(now, datetime.UTC) + datetime.timedelta(days=9)
    with (
        serve(sandbox_app(tmp_path / "pacs")) as inside,
        running_nginx(tmp_path / "nginx", inside, server=hospital.issue("pacs", ends=soon)) as url,
    ):
        assert "--ca" in failed(look("dicomweb", f"{url}/dicom-web"))["tls"]
        assert states(look("dicomweb", f"{url}/dicom-web", ca=hospital.certificate))["tls"] == "warning"
    with (
        serve(sandbox_app(tmp_path / "pacs")) as inside,
        running_nginx(
            tmp_path / "mutual", inside, server=hospital.issue("pacs"), clients=hospital.certificate
        ) as url,
    ):
        assert not look("dicomweb", f"{url}/dicom-web", ca=hospital.certificate).sound
        certificate, key = hospital.issue("us")
        ours = Credentials(certificate=certificate, key=key)
        assert look("dicomweb", f"{url}/dicom-web", ours, ca=hospital.certificate).sound


def test_credentials_and_clocks(tmp_path: Path) -> None:
    guard = Guarded(sandbox_app(tmp_path))
    with serve(guard) as url:
        good = Credentials(
            token_url=f"{url}/token", client_id=guard.client_id, client_secret=guard.client_secret
        )
        assert look("dicomweb", f"{url}/dicom-web", good).sound
        late = look("dicomweb", f"{url}/dicom-web", good, now_s=time.time() - 7200)
        assert states(late)["clock"] == "warning"
        wrong = Credentials(token_url=f"{url}/token", client_id="us", client_secret="wrong")
        assert failed(look("dicomweb", f"{url}/dicom-web", wrong)).keys() == {"token"}
        assert failed(look("dicomweb", f"{url}/dicom-web")).keys() == {"credentials"}


def test_a_pacs_that_moved_elsewhere_is_not_followed(liar: LyingPacs) -> None:
    liar.query_status, liar.redirect_to = 302, "http://127.0.0.1:9/"
    assert failed(look("dicomweb", f"{liar.url}")).keys() <= {"root", "qido"}


@pytest.mark.orthanc
@pytest.mark.needs("nginx")
def test_a_small_body_limit_is_learnt(orthanc: RunningOrthanc, tmp_path: Path) -> None:
    with running_nginx(tmp_path / "nginx", orthanc.url, largest="2m") as url:
        found = write("dicomweb", f"{url}/dicom-web")

    assert states(found)["largest"] == "warning"
    assert found.learnt == {"largest": 1024 * 1024}


def test_what_a_pacs_changes_is_learnt(liar: LyingPacs) -> None:
    """It writes its own institution into each image, of the same length as ours: only that may differ."""
    liar.given_back = lambda part10: part10.replace(b"ClinicMesh test, delete", b"Changed by the hospital")
    pacs = connect("dicomweb", liar.url, Credentials(), {}, idle_s=10)
    found = Examination()
    probe(pacs, found)
    pacs.close()

    assert found.learnt["coerces"] == [0x00081030]
    again = connect("dicomweb", liar.url, Credentials(), {"coerces": [0x00081030]}, idle_s=10)
    second = Examination()
    probe(again, second)
    again.close()
    assert states(second)["proof"] == "ok"
