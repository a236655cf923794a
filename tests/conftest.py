"""For all tests: what a test needs of the system, and a quiet environment."""

import os
import shutil

import pytest
from support import orthanc
from support.programs import of_the_system

_CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")


def pytest_configure(config: pytest.Config) -> None:
    """Forget the settings of the person who runs the tests: they must not change the outcome."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_AtOnce(config))
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


class _AtOnce:
    """Tells what failed, or is tried again, as soon as it is known: a run may be cut off before its end."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Print one line for a test, and what its assertion says."""
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.outcome not in ("failed", "rerun") or terminal is None:
            return
        told = [line.strip() for line in report.longreprtext.splitlines() if line.startswith("E ")]
        terminal.write_line(f"\n{report.outcome} in {report.when}: {report.nodeid}: {' '.join(told)[:300]}")


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
