"""For all tests: what a test needs of the system, and a quiet environment."""

import os
import shutil

import pytest
from support import orthanc
from support.programs import of_the_system

_CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")


def pytest_configure() -> None:
    """Forget the settings of the person who runs the tests: they must not change the outcome."""
    for name in [name for name in os.environ if name.startswith("CLINICMESH_")]:
        del os.environ[name]
    os.environ["CLINICMESH_UNPROTECTED"] = "1"  # they start by themselves


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what cannot run here, and say which program is missing (`-ra` lists it at the end)."""
    for item in items:
        missing = [
            program for mark in item.iter_markers("needs") for program in mark.args if not _on_path(program)
        ]
        if item.get_closest_marker("orthanc") and (reason := orthanc.missing()):
            missing.append(reason)
        if item.get_closest_marker("chromium") and find_chromium() is None:
            missing.append("chromium")
        if missing:
            item.add_marker(pytest.mark.skip(reason=f"missing here: {', '.join(missing)}"))


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium, for tests that are marked with `chromium`."""
    found = find_chromium()
    assert found is not None, "mark the test with pytest.mark.chromium"
    return found


def find_chromium() -> str | None:
    """Return the path of a Chromium: CHROMIUM_PATH if set, else what PATH offers."""
    told = os.environ.get("CHROMIUM_PATH")
    return told or next(filter(None, map(shutil.which, _CHROMIUMS)), None)


def _on_path(program: str) -> bool:
    return bool(of_the_system(program) or shutil.which(program, path="/usr/sbin:/sbin"))
