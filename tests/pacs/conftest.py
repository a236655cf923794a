"""Fixtures of the PACS tests: a real Orthanc where it is installed, the sandbox everywhere."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.orthanc import missing, running_orthanc
from support.servers import serve

from node.deliver.dicomweb import DicomWebDestination
from node.sandbox_pacs import sandbox_app


@pytest.fixture(autouse=True)
def _hushed_libraries() -> Iterator[None]:
    """As `node.logs` does: both write whole URLs, with UIDs in them, at INFO."""
    loggers = [logging.getLogger(name) for name in ("httpx", "dicomweb_client", "urllib3")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="session")
def orthanc_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if reason := missing():
        pytest.skip(reason)
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as orthanc:
        yield orthanc.dicomweb


@pytest.fixture(scope="session")
def sandbox_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(sandbox_app(Path(tmp_path_factory.mktemp("sandbox")))) as url:
        yield f"{url}/dicom-web"


@pytest.fixture(params=["sandbox", pytest.param("orthanc", marks=pytest.mark.orthanc)])
def pacs_url(request: pytest.FixtureRequest) -> str:
    """The base URL of each PACS that the contract holds for."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def pacs(pacs_url: str) -> Iterator[DicomWebDestination]:
    destination = DicomWebDestination(pacs_url, idle_s=30)
    yield destination
    destination.close()
