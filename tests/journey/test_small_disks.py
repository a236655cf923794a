"""Small and full disks of real nodes: what a courier gives up, for what, and how a full disk still erases."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from support.killing import noisy_study
from support.nodes import LocalNode, RealNode, wait_until

KB = 1_000
QUOTA_GB = 0.004  # 4 MB


def stream_on(node: LocalNode) -> int:
    """Return how many octets of studies lie on a node's disk."""
    total = 0
    for path in node.blobs():
        with suppress(FileNotFoundError):  # it was erased just now
            total += path.stat().st_size
    return total


def holders(node: LocalNode | RealNode, entry: str) -> list[str]:
    """Return who holds a study besides its clinic, as a node has heard; nobody, if it heard of no study."""
    return list(node.stories().get(entry, {"holders": []})["holders"])


@pytest.fixture
def clinic_and_cloud(tmp_path: Path) -> Iterator[tuple[LocalNode, LocalNode, ExitStack]]:
    with ExitStack() as stack:
        cloud = stack.enter_context(LocalNode(tmp_path / "cloud"))
        clinic = stack.enter_context(LocalNode(tmp_path / "clinic"))
        cloud.init()
        cloud.start()
        cloud.admit(clinic, "clinic")
        clinic.start()
        yield clinic, cloud, stack


def couriers(names: str, cloud: LocalNode, stack: ExitStack, **settings: float) -> list[LocalNode]:
    """Return couriers that belong to the mesh and are not started yet."""
    made = [stack.enter_context(LocalNode(cloud.folder.parent / name, **settings)) for name in names.split()]
    for courier in made:
        cloud.admit(courier, "courier")
    return made


def test_the_fifth_copy_is_silent_and_gives_way_to_a_study_that_only_its_clinic_has(
    clinic_and_cloud: tuple[LocalNode, LocalNode, ExitStack],
) -> None:
    """Spare copies use what is free and are in nobody's way."""
    clinic, cloud, stack = clinic_and_cloud
    three = couriers("c1 c2 c3", cloud, stack)
    (small,) = couriers("small", cloud, stack, quota_gb=QUOTA_GB)
    cloud.stop()
    (first,) = clinic.submit(noisy_study(1, 2, 1000 * KB))
    for courier in three:
        courier.start([clinic])
    clinic.wait(lambda: clinic.story(first)["copies"] == 4, "four copies", 60)

    small.start([clinic])
    small.wait(lambda: small.get("/api/v1/status")["held"] == 1, "to hold a spare copy", 60)
    assert "small" not in holders(small, first)
    for courier in three:
        courier.stop()
    (second,) = clinic.submit(noisy_study(2, 2, 1800 * KB))

    small.wait(lambda: "small" in holders(small, second), "to carry the second study", 60)
    assert clinic.story(first)["copies"] == 4
    assert stream_on(small) < 1.5 * clinic.story(second)["bytes"], "the spare copy is gone"


def test_a_courier_gives_up_at_the_cloud_what_has_arrived_there_and_at_no_other_place(
    clinic_and_cloud: tuple[LocalNode, LocalNode, ExitStack],
) -> None:
    """The PACS is down for days. The courier must not stay full of what the cloud node has already."""
    clinic, cloud, stack = clinic_and_cloud
    (courier,) = couriers("courier", cloud, stack, quota_gb=QUOTA_GB)
    (first,) = clinic.submit(noisy_study(1, 2, 1600 * KB))
    courier.start([clinic])
    courier.wait(lambda: "courier" in holders(courier, first), "to carry the first", 60)
    (second,) = clinic.submit(noisy_study(2, 2, 1600 * KB))
    courier.wait(lambda: second in courier.stories(), "to hear of the second")
    courier.ask("POST", "/api/v1/admin/meet")
    assert courier.get("/api/v1/status")["held"] == 1
    assert "courier" in holders(courier, first)

    courier.travel([cloud])
    courier.wait(lambda: "cloud" in holders(courier, first), "to hand the first over", 60)
    courier.wait(lambda: "courier" not in holders(courier, first), "to give it up", 60)
    courier.wait(lambda: stream_on(courier) == 0, "nothing of it is left")
    cloud.wait(lambda: cloud.story(first)["copies"] == 2, "to hear that it was given up")
    courier.travel([clinic])

    courier.wait(lambda: "courier" in holders(courier, second), "to carry the second", 60)
    clinic.wait(lambda: clinic.states([first, second]) == {"at-forwarder", "carried"}, "to hear of both")


@contextmanager
def small_volume(folder: Path, megabytes: int) -> Iterator[Path]:
    """Give a file system of its own, which can be filled to the last octet without harm to the machine."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", str(folder)],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("this machine lets nobody mount a file system here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Fill a volume until not an octet is left."""
    with (folder / "somebody's film").open("ab", buffering=0) as file:
        for piece in (1024 * 1024, 4096, 1):
            try:
                while True:
                    file.write(bytes(piece))
            except OSError:
                continue
    assert shutil.disk_usage(folder).free == 0


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a file system: needs root")
def test_a_really_full_disk_hears_that_a_study_was_delivered_and_erases_it(
    tmp_path: Path, sandbox: str
) -> None:
    """Somebody's film fills the laptop. It must start, learn the tombstone, and give the room back."""
    with ExitStack() as stack:
        volume = stack.enter_context(small_volume(tmp_path / "volume", 64))
        cloud = stack.enter_context(LocalNode(tmp_path / "cloud"))
        clinic = stack.enter_context(LocalNode(tmp_path / "clinic"))
        courier = stack.enter_context(RealNode(volume / "courier"))
        cloud.init()
        cloud.start()
        cloud.admit(clinic, "clinic")
        cloud.admit(courier, "courier")
        clinic.start([cloud])
        courier.start([clinic])
        entries = clinic.submit(noisy_study(1, 4, 1000 * KB))
        courier.wait(lambda: courier.get("/api/v1/status")["held"] == 1, "to carry the study", 60)
        courier.wait(courier.home.ballast.exists, "to take its ballast aboard", 60)
        courier.kill()
        cloud.add_pacs(sandbox)
        clinic.wait(lambda: clinic.states(entries) == {"delivered"}, "the PACS's proof", 60)
        fill(volume)

        courier.start([clinic])

        wait_until(lambda: courier.blobs() == [], 90, "the courier to erase on its full disk")
        courier.wait(lambda: courier.states(entries) == {"delivered"}, "to tell so")
        assert not courier.home.ballast.exists()
        (volume / "somebody's film").unlink()
        courier.wait(courier.home.ballast.exists, "to take its ballast aboard again", 60)
        clinic.wait(
            lambda: "courier" not in clinic.story(entries[0])["erased"]["missing"], "the courier's report", 60
        )
