"""Studies that travel on a USB stick: out, in, and the receipts home."""

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.archives import by_uid, read_back, real_cd
from support.nodes import LocalNode, Refusal
from support.slices import made_slice
from support.traces import found_in, markers
from typer.testing import CliRunner

from node.cli.main import app
from node.cli.output import many

CD = real_cd()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[LocalNode, LocalNode]]:
    """A clinic and a cloud node that never meet on a network."""
    with LocalNode(tmp_path / "cloud") as cloud, LocalNode(tmp_path / "clinic") as clinic:
        cloud.init()
        cloud.start()
        cloud.admit(clinic, "clinic")
        clinic.start()
        yield clinic, cloud


def export(node: LocalNode, stick: Path) -> dict[str, int]:
    return dict(node.ask("POST", "/api/v1/admin/stick/export", {"folder": str(stick), "name": "blue"}))


def take_in(node: LocalNode, stick: Path) -> dict[str, int]:
    return dict(node.ask("POST", "/api/v1/admin/stick/import", {"folder": str(stick)}))


def test_a_study_goes_to_the_pacs_by_stick_and_the_proof_comes_home(
    two: tuple[LocalNode, LocalNode], tmp_path: Path, sandbox: str
) -> None:
    """A clinic that no courier visits: the stick in somebody's pocket is enough, in both directions."""
    clinic, cloud = two
    cloud.add_pacs(sandbox)
    stick = tmp_path / "stick"
    stick.mkdir()
    entries = clinic.submit(CD)

    written = export(clinic, stick)
    read = take_in(cloud, stick)

    assert (written["aboard"], written["due"]) == (len(entries), len(entries))
    assert read["entries"] == len(entries)
    assert found_in((path for path in stick.rglob("*") if path.is_file()), markers(CD.values(), "")) == []
    cloud.wait(lambda: all(cloud.state(entry) == "delivered" for entry in entries), "the PACS's proof", 60)
    assert read_back(sandbox, CD.values()) == by_uid(CD.values())

    emptied = export(cloud, stick)
    home = take_in(clinic, stick)

    assert emptied["removed"] == len(entries)
    assert list(stick.rglob("READY/*")) == []
    assert home["facts"] > 0
    clinic.wait(lambda: clinic.blobs() == [], "the clinic to erase")


def test_a_stick_pulled_out_at_any_moment_harms_nothing(
    two: tuple[LocalNode, LocalNode], tmp_path: Path
) -> None:
    """Whatever part of an export reached the stick, an import takes whole studies or none."""
    clinic, cloud = two
    whole = tmp_path / "whole"
    whole.mkdir()
    entries = clinic.submit(CD)
    export(clinic, whole)
    in_order = sorted(
        (path for path in whole.rglob("*") if path.is_file()), key=lambda p: p.stat().st_mtime_ns
    )

    for cut in range(3, len(in_order), 4):
        part = tmp_path / f"cut{cut}"
        for path in in_order[:cut]:
            copy = part / path.relative_to(whole)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
        torn = part / in_order[cut].relative_to(whole)
        torn.parent.mkdir(parents=True, exist_ok=True)
        torn.write_bytes(in_order[cut].read_bytes()[:-7])
        said = take_in(cloud, part)
        assert said["damaged"] == 0 or torn.parent.name != "READY"

    assert take_in(cloud, whole)["damaged"] == 0
    assert all("cloud" in cloud.story(entry)["holders"] for entry in entries)


def test_a_stick_that_is_gone_in_the_middle_is_told_and_nothing_is_written_where_it_was(
    two: tuple[LocalNode, LocalNode], tmp_path: Path
) -> None:
    """The folder that it was mounted on stays, on the machine's own disk. "Aboard" must not mean that one."""
    clinic, cloud = two
    stick, pocket = tmp_path / "stick", tmp_path / "pocket"
    stick.mkdir()
    pocket.mkdir()
    entries = clinic.submit({f"{n}/I1": made_slice(300 + n, 1) for n in range(60)})

    def pull_out() -> None:
        while not list(stick.rglob("READY/" + "?" * 64)):
            time.sleep(0.001)
        (stick / "CLINICMESH").rename(pocket / "CLINICMESH")

    hand = threading.Thread(target=pull_out)
    hand.start()
    with pytest.raises(Refusal, match="stick-gone"):
        export(clinic, stick)
    hand.join()

    assert list(stick.iterdir()) == []
    assert 0 < take_in(cloud, pocket)["entries"] < len(entries)
    assert export(clinic, pocket)["aboard"] == len(entries)
    assert take_in(cloud, pocket)["damaged"] == 0
    assert all("cloud" in cloud.story(entry)["holders"] for entry in entries)


def test_a_damaged_blob_on_a_stick_is_noticed_and_comes_again(
    two: tuple[LocalNode, LocalNode], tmp_path: Path
) -> None:
    """Cheap sticks lie. What does not hash to its name is not taken in, and the clinic still has it."""
    clinic, cloud = two
    stick = tmp_path / "stick"
    stick.mkdir()
    entries = clinic.submit(CD)
    export(clinic, stick)
    blobs = [path for path in stick.rglob("BLOBS/*/*") if path.name.lower() not in entries]
    blobs[0].write_bytes(b"\0" + blobs[0].read_bytes()[1:])

    damaged = take_in(cloud, stick)
    blobs[0].unlink()
    export(clinic, stick)
    repaired = take_in(cloud, stick)

    assert (damaged["damaged"], damaged["entries"]) == (1, len(entries) - 1)
    assert repaired["entries"] == 1


def test_whoever_plugs_it_in_is_told_what_was_not_taken_and_why(
    two: tuple[LocalNode, LocalNode], tmp_path: Path, sandbox: str
) -> None:
    """ "0 studies taken in" makes people think that the stick is empty, and wipe it."""
    clinic, cloud = two
    stick = tmp_path / "stick"
    stick.mkdir()
    entries = clinic.submit(CD)
    export(clinic, stick)
    with LocalNode(tmp_path / "full", reserve_gb=1_000_000) as full:
        cloud.admit(full, "courier")
        full.start()
        said = take_in(full, stick)
        told = CliRunner().invoke(app, ["stick", "import", str(stick), "--data", str(full.folder)]).stdout
    assert (said["entries"], said["known"], said["refused"]) == (0, 0, len(entries))
    assert f"Not taken in: {many(len(entries), 'study')}" in " ".join(told.split())

    old = tmp_path / "old"
    shutil.copytree(stick, old)
    take_in(cloud, stick)
    assert take_in(cloud, stick)["known"] == len(entries)
    cloud.add_pacs(sandbox)
    cloud.wait(lambda: all(cloud.state(entry) == "delivered" for entry in entries), "the PACS's proof", 60)
    late = take_in(cloud, old)
    assert (late["ended"], late["refused"]) == (len(entries), 0)


def test_a_folder_that_is_no_stick_of_this_mesh_is_refused(
    two: tuple[LocalNode, LocalNode], tmp_path: Path
) -> None:
    """The wrong folder was named: say so, and change nothing."""
    clinic, _ = two
    with pytest.raises(Refusal, match="no-such-stick"):
        take_in(clinic, tmp_path)
    with pytest.raises(Refusal, match="no-such-folder"):
        export(clinic, tmp_path / "nowhere")


def missing(node: LocalNode, entries: list[str]) -> set[str]:
    """Return who is not known to have erased some of these studies."""
    return {who for entry in entries for who in node.story(entry)["erased"]["missing"]}


def test_sticks_under_way_are_known_by_name_and_count_until_they_are_empty(
    two: tuple[LocalNode, LocalNode], tmp_path: Path, sandbox: str
) -> None:
    """Somebody has a stick in a drawer. Everybody can see what is on it, and that it is not erased yet."""
    clinic, cloud = two
    cloud.add_pacs(sandbox)
    stick = tmp_path / "stick"
    stick.mkdir()
    entries = clinic.submit(CD)
    export(clinic, stick)
    (one,) = clinic.get("/api/v1/admin/stick/list")["sticks"]
    assert (one["name"], one["seen_by"], one["on_their_way"], one["to_erase"]) == (
        "blue",
        "clinic",
        len(entries),
        0,
    )

    cloud.ask("POST", "/api/v1/admin/peers", {"address": clinic.mesh_address})
    cloud.wait(lambda: all(cloud.state(entry) == "delivered" for entry in entries), "the PACS's proof", 60)
    clinic.wait(
        lambda: all(clinic.story(e)["erased"]["missing"] == ["stick blue"] for e in entries), "the rest", 60
    )
    (one,) = clinic.get("/api/v1/admin/stick/list")["sticks"]
    assert (one["on_their_way"], one["to_erase"]) == (0, len(entries))

    take_in(cloud, stick)

    assert list(stick.rglob("READY/*")) == list(stick.rglob("BLOBS/*/*")) == []
    clinic.wait(
        lambda: all(clinic.story(e)["erased"]["missing"] == [] for e in entries),
        "to hear that it is empty",
        60,
    )
    assert clinic.story(entries[0])["erased"] == {"n": 3, "of": 3, "missing": []}


def test_a_stick_that_is_lost_is_given_up_and_one_that_is_half_written_leaves_no_stray(
    two: tuple[LocalNode, LocalNode], tmp_path: Path
) -> None:
    """What was written of a study whose marker never came goes with the next export."""
    clinic, _ = two
    stick = tmp_path / "stick"
    stick.mkdir()
    export(clinic, stick)
    stray = next(stick.rglob("BLOBS")) / "AB" / ("AB" * 32)
    stray.parent.mkdir()
    stray.write_bytes(b"half of something")
    export(clinic, stick)
    assert not stray.exists()

    with pytest.raises(Refusal, match="stick-unknown"):
        clinic.ask("POST", "/api/v1/admin/stick/forget", {"name": "red"})
    clinic.ask("POST", "/api/v1/admin/stick/forget", {"name": "blue"})

    (one,) = clinic.get("/api/v1/admin/stick/list")["sticks"]
    assert one["given_up"]
    export(clinic, stick)
    (one,) = clinic.get("/api/v1/admin/stick/list")["sticks"]
    assert not one["given_up"], "it turned up"
