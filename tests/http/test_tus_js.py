"""tus-js-client, which the authors of the protocol keep, against our server."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.dicoms import study_zip
from support.intake import Bench, Phone, app_of
from support.servers import serve
from support.source import ROOT

PROGRAM = ROOT / "tests" / "support" / "tus_client.mjs"
PACKAGES = ROOT / "pwa" / "package.json"
pytestmark = pytest.mark.needs("node")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "node")
    yield bench
    bench.close()


@pytest.fixture
def phone(bench: Bench) -> Iterator[Phone]:
    with serve(app_of(bench.intake)) as base:
        phone = Phone(base)
        yield phone
        phone.http.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "study.zip"
    file.write_bytes(study_zip(slices=12, octets=60_000))
    return file


def run(phone: Phone, file: Path, **more: Any) -> tuple[str, Any]:
    """Let the client upload a file; return the submission and what it tells."""
    submission = phone.submit().json()["id"]
    asked = {
        "modules": str(PACKAGES),
        "endpoint": f"{phone.base}/api/v1/uploads",
        "token": "phone",
        "file": str(file),
        "submission": submission,
        "chunk": 100_000,
        "withCreation": False,
        "overridePatch": False,
        **more,
    }
    node = shutil.which("node")
    assert node is not None
    done = subprocess.run(
        [node, str(PROGRAM), json.dumps(asked)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return submission, json.loads(done.stdout)


@pytest.mark.parametrize(
    "more",
    [{}, {"withCreation": True}, {"overridePatch": True}, {"chunk": 1 << 30}],
    ids=["parts", "first-bytes-with-creation", "post-for-patch", "in-one"],
)
def test_the_reference_client_uploads_in_every_way_that_it_knows(
    bench: Bench, phone: Phone, file: Path, more: dict[str, Any]
) -> None:
    """Each part is acknowledged at its exact end, and the study is found in it."""
    submission, told = run(phone, file, **more)
    bench.work()
    view = phone.look(submission)

    assert told["steps"] == sorted(set(told["steps"])) and told["steps"][-1] == file.stat().st_size
    assert (view["bytes"], view["length"], view["state"]) == (file.stat().st_size,) * 2 + ("examined",)
    assert view["examination"]["studies"][0]["instances"] == 12


def test_it_breaks_off_and_goes_on_where_it_was(bench: Bench, phone: Phone, file: Path) -> None:
    """With another connection, asking by HEAD for the offset."""
    submission, told = run(phone, file, breakOffAt=300_000)
    bench.work()

    assert told["steps"][:3] == [100_000, 200_000, 300_000]
    assert told["steps"][-1] == file.stat().st_size
    assert phone.look(submission)["examination"]["studies"][0]["instances"] == 12


def test_it_ends_an_upload(bench: Bench, phone: Phone, file: Path) -> None:
    """Termination: nothing of it is left, and asking again says so."""
    _, told = run(phone, file, breakOffAt=200_000, terminate=True)

    assert phone.http.head(told["url"]).status_code in (404, 410)
    assert list(bench.spool.iterdir()) == []
