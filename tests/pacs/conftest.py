"""Fixtures of the PACS tests: each kind of destination before each kind of PACS that this machine can run."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fake_pacs import FakePacs
from support.kinds import Kind
from support.orthanc import RunningOrthanc, missing, running_orthanc
from support.receivers import running_receiver, running_storescp
from support.servers import serve

from node.deliver.association import COMMIT, FIND, GET
from node.deliver.destination import Destination
from node.deliver.dicomweb import DicomWebDestination
from node.deliver.dimse import DimseDestination
from node.deliver.orthanc import OrthancDestination
from node.sandbox_pacs import sandbox_app
from sync.evidence import Evidence


@pytest.fixture(autouse=True)
def _hushed_libraries() -> Iterator[None]:
    """As `node.logs` does: they write whole URLs, with UIDs in them, at INFO."""
    names = ("httpx", "dicomweb_client", "urllib3", "pynetdicom")
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningOrthanc]:
    if reason := missing():
        pytest.skip(reason)
    options = {"DicomServerEnabled": True, "DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True}
    with running_orthanc(tmp_path_factory.mktemp("orthanc"), options) as orthanc:
        yield orthanc


@pytest.fixture(scope="session")
def orthanc_url(orthanc: RunningOrthanc) -> str:
    return orthanc.dicomweb


@pytest.fixture(scope="session")
def sandbox_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(sandbox_app(Path(tmp_path_factory.mktemp("sandbox")))) as url:
        yield f"{url}/dicom-web"


@pytest.fixture(params=["sandbox", pytest.param("orthanc", marks=pytest.mark.orthanc)])
def pacs_url(request: pytest.FixtureRequest) -> str:
    """The base URL of each DICOMweb service that the contract holds for."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture(scope="session")
def fake() -> Kind:
    shared = FakePacs()
    return Kind(lambda: shared)


@pytest.fixture(scope="session")
def sandbox(sandbox_url: str) -> Kind:
    return Kind(lambda: DicomWebDestination(sandbox_url, idle_s=30))


@pytest.fixture(scope="session")
def orthanc_dicomweb(orthanc: RunningOrthanc) -> Kind:
    return Kind(lambda: DicomWebDestination(orthanc.dicomweb, idle_s=30))


@pytest.fixture(scope="session")
def orthanc_rest(orthanc: RunningOrthanc) -> Kind:
    return Kind(
        lambda: OrthancDestination(orthanc.url, idle_s=30),
        levels=(Evidence.LISTED, Evidence.CHECKSUM, Evidence.READ_BACK),
        checks_study=False,
    )


@pytest.fixture(scope="session")
def orthanc_dimse(orthanc: RunningOrthanc) -> Kind:
    return Kind(
        lambda: DimseDestination(f"dicom://ORTHANC@127.0.0.1:{orthanc.dimse}", idle_s=30, commit_s=1),
        levels=(Evidence.LISTED, Evidence.READ_BACK),
        checks_study=False,
    )


@pytest.fixture(scope="session")
def storescp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kind]:
    with running_storescp(tmp_path_factory.mktemp("storescp")) as url:
        yield Kind(
            lambda: DimseDestination(url, idle_s=30),
            strongest=Evidence.ANSWERED,
            levels=(Evidence.ANSWERED,),
            checks_study=False,
        )


@pytest.fixture(scope="session")
def receiver() -> Iterator[Kind]:
    with running_receiver(FIND, GET, COMMIT) as running:
        yield Kind(
            lambda: DimseDestination(running.url, idle_s=30, commit_s=20),
            strongest=Evidence.COMMITTED,
            levels=(Evidence.LISTED, Evidence.READ_BACK, Evidence.COMMITTED),
            checks_study=False,
        )


KINDS = [
    "fake",
    "sandbox",
    pytest.param("orthanc_dicomweb", marks=pytest.mark.orthanc),
    pytest.param("orthanc_rest", marks=pytest.mark.orthanc),
    pytest.param("orthanc_dimse", marks=pytest.mark.orthanc),
    pytest.param("storescp", marks=pytest.mark.needs("storescp")),
    "receiver",
]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind of destination before each PACS."""
    found: Kind = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def pacs(kind: Kind) -> Iterator[Destination]:
    destination = kind.make()
    yield destination
    destination.close()
