"""Fixtures of the journeys: a PACS of each kind, and a mesh of three nodes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.forkserver import ForkServer
from support.nodes import RealNode, fork_server
from support.orthanc import running_orthanc
from support.servers import serve

from node.sandbox_pacs import sandbox_app


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[str]:
    """The DICOMweb root of a sandbox PACS."""
    with serve(sandbox_app(tmp_path / "sandbox")) as url:
        yield f"{url}/dicom-web"


@pytest.fixture(params=["sandbox", pytest.param("orthanc", marks=pytest.mark.orthanc)])
def pacs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The DICOMweb root of an empty PACS of each kind."""
    if request.param == "sandbox":
        yield str(request.getfixturevalue("sandbox"))
        return
    with running_orthanc(tmp_path / "orthanc") as orthanc:
        yield orthanc.dicomweb


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer]:
    """Starts processes cheaply."""
    with fork_server() as server:
        yield server


@pytest.fixture
def three(tmp_path: Path, forks: ForkServer) -> Iterator[tuple[RealNode, RealNode, RealNode]]:
    """Clinic, courier and cloud, not made yet; their processes do not outlive the test."""
    with (
        RealNode(tmp_path / "clinic", forks=forks) as clinic,
        RealNode(tmp_path / "courier", forks=forks) as courier,
        RealNode(tmp_path / "cloud", forks=forks) as cloud,
    ):
        yield clinic, courier, cloud
