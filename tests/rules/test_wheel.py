"""The wheel that is installed at a clinic holds the node, the protocol and the app, and nothing else."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.source import ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a build needs of the checkout, with an app of one page."""
    checkout = tmp_path / "checkout"
    for folder in ("node", "sync"):
        shutil.copytree(ROOT / folder, checkout / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "hatch_build.py", ".gitignore"):
        shutil.copy(ROOT / name, checkout / name)
    (checkout / "pwa" / "dist" / "assets").mkdir(parents=True)
    (checkout / "pwa" / "dist" / "index.html").write_text("<title>the app</title>")
    (checkout / "pwa" / "dist" / "assets" / "app.js").write_text("0")
    (checkout / "tests").mkdir()
    (checkout / "tests" / "test_nothing.py").write_text("")
    return checkout


def test_the_wheel_carries_the_app(checkout: Path) -> None:
    """A laptop without internet and without Node.js serves the app to the phones around it."""
    built = build(checkout, "wheel")
    assert built.returncode == 0, built.stderr

    (wheel,) = (checkout / "dist").glob("clinicmesh-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"node/app/index.html", "node/app/assets/app.js", "node/errors.py", "sync/facts.py"} <= set(names)
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"node", "sync"}


def test_a_wheel_from_the_source_archive_carries_the_app_too(checkout: Path) -> None:
    """Whoever gets the sources needs no Node.js either."""
    built = build(checkout, "sdist")
    assert built.returncode == 0, built.stderr

    (archive,) = (checkout / "dist").glob("clinicmesh-*.tar.gz")
    unpacked = checkout.parent / "unpacked"
    shutil.unpack_archive(archive, unpacked, filter="data")
    (sources,) = unpacked.iterdir()
    assert (sources / "pwa" / "dist" / "index.html").is_file()
    assert build(sources, "wheel").returncode == 0


def test_no_wheel_is_built_without_the_app(checkout: Path) -> None:
    """A node whose page stays white would look broken to every clinician."""
    shutil.rmtree(checkout / "pwa")

    built = build(checkout, "wheel")

    assert built.returncode != 0
    assert "python3 run.py" in built.stderr
    assert not list((checkout / "dist").glob("*.whl"))


def build(checkout: Path, what: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", what, "-d", "dist"],
        cwd=checkout,
        check=False,
        capture_output=True,
        text=True,
    )
