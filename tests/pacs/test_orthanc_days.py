"""Bad days of a real Orthanc: edited images, a wrong study, a disk that is full or broken, a kill, a backup.

The forward job is the real one, on a clock that the test moves.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.forwarders import DAY_MS, Forwarding, two_forwarders
from support.orthanc import RunningOrthanc, free_port, missing, on_another_disk, running_orthanc
from support.slices import made_slice

from node.deliver.destination import Destination, Outgoing, Result
from node.deliver.dicomweb import DicomWebDestination
from sync.bodies import DestinationBody

pytestmark = [
    pytest.mark.orthanc,
    pytest.mark.skipif(missing() is not None, reason=missing() or "Orthanc is there"),
]


def forwarder(folder: Path, url: str, make: Any = None) -> Forwarding:
    mesh, members = two_forwarders()
    return Forwarding(folder / "node", mesh, members[:1], url, **({"make": make} if make else {}))


def files(study: int, count: int, octets: int = 20_000) -> list[bytes]:
    return [made_slice(study, n, octets=octets) for n in range(1, count + 1)]


def listed(orthanc: RunningOrthanc, study: int) -> set[str]:
    """Return the SOP Instance UIDs that Orthanc has of a study, asked by its own REST API."""
    query = {"Level": "Instance", "Query": {"StudyInstanceUID": f"2.25.{study}"}, "Expand": True}
    found = httpx.post(f"{orthanc.url}/tools/find", json=query, trust_env=False).json()
    return {one["MainDicomTags"]["SOPInstanceUID"] for one in found}


def put(orthanc: RunningOrthanc, part10: bytes) -> None:
    httpx.post(f"{orthanc.url}/instances", content=part10, trust_env=False).raise_for_status()


def test_an_edited_duplicate_and_another_study(tmp_path: Path) -> None:
    """Orthanc says 200 and keeps the old object: a person decides, and both are kept until then."""
    with running_orthanc(tmp_path / "orthanc") as orthanc:
        node = forwarder(tmp_path, orthanc.dicomweb)
        edited = made_slice(501, 1, octets=20_000, name="Doe^Other")
        put(orthanc, edited)
        entry = node.keep(files(501, 3))
        node.run()
        assert node.troubles(entry) == [("conflict", 1)]
        assert listed(orthanc, 501) == {f"2.25.501.1.{n}" for n in (1, 2, 3)}
        node.decide(entry, "accept", instances=[0])
        node.run()
        assert node.view(entry).ending.outcome == "delivered-with-exceptions"  # type: ignore[union-attr]

        # Instances of two studies in one request: Orthanc answers 409 to the one that does not belong.
        mixed = node.keep([made_slice(502, 1), made_slice(503, 1)])
        node.run()
        assert node.troubles(mixed) == [("rejected", 1)]
        assert node.queue.proofs(mixed)[0].evidence == "read-back"
        assert node.view(mixed).tombstone is None
        node.close()


@pytest.mark.parametrize("disk", ["full", "read-only"])
def test_a_disk_that_takes_nothing_costs_nothing_but_time(tmp_path: Path, disk: str) -> None:
    """Of a full or broken disk at the hospital nothing is lost: it is sent when there is another one."""
    storage, port = tmp_path / "orthanc" / "storage", free_port()
    storage.mkdir(parents=True)
    mounts = {
        "full": f"mount -t tmpfs -o size=64k tmpfs {storage}",
        "read-only": f"mount --bind {storage} {storage} && mount -o remount,ro,bind {storage}",
    }
    wrapper = on_another_disk(mounts[disk])
    if wrapper is None:
        pytest.skip("this machine gives no mount namespace")
    with running_orthanc(tmp_path / "orthanc", port=port, wrapper=wrapper) as orthanc:
        node = forwarder(tmp_path, orthanc.dicomweb)
        entry = node.keep(files(504, 8, octets=30_000))
        node.run(rounds=4, between_ms=2 * 3_600_000)

        assert node.view(entry).tombstone is None
        there = listed(orthanc, 504)
        assert len(there) < 8
    shutil.rmtree(tmp_path / "orthanc")
    with running_orthanc(tmp_path / "orthanc", port=port) as orthanc:
        node.until_ended(entry)
        assert node.state(entry) == "delivered"
        assert len(listed(orthanc, 504)) == 8
    node.close()


class Killing(DicomWebDestination):
    """Kills the PACS in mid-study, once."""

    kill: Callable[[], None] | None = None

    def store(self, instances: Sequence[Outgoing]) -> list[Result]:
        results = super().store(instances)
        if Killing.kill is not None:
            Killing.kill()
            Killing.kill = None
        return results


def make_killing(body: DestinationBody, secret: bytes | None) -> Destination:
    return Killing(body.url, idle_s=5)


def test_a_pacs_that_is_killed_in_mid_study_gets_each_image_once(tmp_path: Path) -> None:
    """Sent and not yet proven when it died: it is asked again, and what survived is not sent again."""
    port = free_port()
    with running_orthanc(tmp_path / "orthanc", port=port) as orthanc:
        node = forwarder(tmp_path, orthanc.dicomweb, make_killing)
        entry = node.keep(files(505, 110, octets=4_000))
        Killing.kill = orthanc.process.kill
        node.run()
        assert node.setback(entry) == "no-network"
        assert node.view(entry).tombstone is None
    with running_orthanc(tmp_path / "orthanc", port=port) as orthanc:
        node.until_ended(entry)
        assert node.state(entry) == "delivered"
        assert len(listed(orthanc, 505)) == 110
    node.close()


def test_a_pacs_restored_from_an_older_backup_is_given_the_study_again(tmp_path: Path) -> None:
    """The second look finds what the backup did not have; the clinic still holds it."""
    port, folder = free_port(), tmp_path / "orthanc"
    with running_orthanc(folder, port=port) as orthanc:
        node = forwarder(tmp_path, orthanc.dicomweb)
        node.until_ended(node.keep(files(506, 2)))
    shutil.copytree(folder, tmp_path / "backup")
    with running_orthanc(folder, port=port):
        entry = node.keep(files(507, 3))
        node.until_ended(entry)
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "backup", folder)

    with running_orthanc(folder, port=port) as orthanc:
        assert listed(orthanc, 507) == set()
        node.clock.advance(DAY_MS)
        node.run(rounds=4, between_ms=3_600_000)

        assert node.state(entry) == "recalled"
        assert listed(orthanc, 507) == {f"2.25.507.1.{n}" for n in (1, 2, 3)}
        assert len(listed(orthanc, 506)) == 2
        states = sorted(view.state.value for view in node.holdings.views())
        assert states == ["delivered", "delivered", "recalled"]
    node.close()
