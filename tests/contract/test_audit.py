"""The audit trail: who did what, in a file that cannot be changed unseen."""

import errno
import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.clock import FakeClock
from support.nodes import HandIn, LocalNode, wait_until
from support.slices import made_slice
from typer.testing import CliRunner

from node import audit
from node.audit import FILE_NAME, Trail
from node.cli.main import app

ENTRY = bytes(range(32))
CANARY = "CANARY^PATIENT"


def a_trail(folder: Path, clock: FakeClock | None = None) -> Trail:
    return Trail(folder, clock or FakeClock(), source="node:00112233")


def filled(folder: Path) -> Trail:
    trail = a_trail(folder)
    trail.record("submission-begun", "device:ab", entry=ENTRY)
    trail.record("submission-confirmed", "device:ab", entry=ENTRY)
    trail.record("study-announced", "node:00112233", entry=ENTRY)
    trail.record("erased", "node", entry=ENTRY)
    return trail


def test_each_line_says_who_did_what_in_the_words_of_the_standard(tmp_path: Path) -> None:
    """A hospital's log server takes it as it is (DICOM PS3.15 A.5)."""
    line = json.loads(next(filled(tmp_path).lines(after=3)))

    assert line == {
        "N": 4,
        "Prev": line["Prev"],
        "EventDateTime": "2027-01-15T08:00:00.000+00:00",
        "EventID": "110105",
        "EventName": "DICOM Study Deleted",
        "EventActionCode": "D",
        "EventOutcomeIndicator": 0,
        "What": "erased",
        "UserID": "node",
        "AuditSourceID": "node:00112233",
        "ParticipantObjectID": ENTRY.hex(),
    }


def _edit(lines: list[str]) -> None:
    lines[1] = lines[1].replace("device:ab", "device:cd")


def _remove(lines: list[str]) -> None:
    del lines[1]


def _swap(lines: list[str]) -> None:
    lines[1], lines[2] = lines[2], lines[1]


def _insert(lines: list[str]) -> None:
    lines.insert(1, lines[1])


@pytest.mark.parametrize("change", [_edit, _remove, _swap, _insert])
def test_a_change_in_the_middle_breaks_the_chain(tmp_path: Path, change: Callable[[list[str]], None]) -> None:
    """Whoever covers his tracks leaves one."""
    trail = filled(tmp_path)
    lines = (tmp_path / FILE_NAME).read_text().splitlines()

    assert trail.verify().intact
    change(lines)
    (tmp_path / FILE_NAME).write_text("\n".join(lines) + "\n")

    assert trail.verify().broken_at in (2, 3)


def test_a_trail_that_was_cut_or_written_anew_is_noticed_by_its_signed_head(tmp_path: Path) -> None:
    """The chain alone would not tell: the head is what others have."""
    trail = filled(tmp_path / "a")
    head = trail.head
    path = tmp_path / "a" / FILE_NAME
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    anew = a_trail(tmp_path / "b")
    for _ in range(5):
        anew.record("erased", "node", entry=ENTRY)

    assert trail.verify().intact
    cut = trail.verify({head.count: head.digest})
    assert (cut.intact, cut.missing) == (False, 2)
    assert anew.verify({head.count: head.digest}).broken_at == 4


def test_a_machine_that_gives_no_thread_costs_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a person did must not fail for it, and the next line makes both durable."""
    trail = filled(tmp_path)

    def none_left(timer: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        trail._later = None
        trail.record("erased", "node", entry=ENTRY)
    assert trail._later is None
    trail.record("erased", "node", entry=ENTRY)

    assert trail._later is not None
    assert (trail.head.count, trail.verify().intact) == (6, True)


def test_a_power_cut_in_a_line_costs_that_line_only(tmp_path: Path) -> None:
    """And the next line says so."""
    head = filled(tmp_path).head
    with (tmp_path / FILE_NAME).open("ab") as file:
        file.write(b'{"N":5,"Prev":')

    trail = a_trail(tmp_path)

    assert trail.head.count == head.count + 1
    assert trail.verify({head.count: head.digest}).intact
    assert json.loads(list(trail.lines())[-1])["What"] == "trail-cut"


def test_a_full_disk_stops_nothing_and_loses_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Erasing must go on when the disk is full; its line comes when there is room."""
    trail = filled(tmp_path)
    real = audit.files.write_all

    def no_room(descriptor: int, data: bytes) -> None:
        os.write(descriptor, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(audit.files, "write_all", no_room)
    trail.record("erased", "node", entry=ENTRY)
    trail.record("delivered", "node:1", entry=ENTRY)
    monkeypatch.setattr(audit.files, "write_all", real)
    trail.record("node-stopped", "node")

    assert trail.verify().intact
    assert [json.loads(line)["What"] for line in trail.lines(after=4)] == [
        "erased",
        "delivered",
        "node-stopped",
    ]


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How large the trail was each time that the disk was made to keep it."""
    sizes: list[int] = []
    real = audit.files.sync_file

    def sync_file(descriptor: int) -> None:
        real(descriptor)
        sizes.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(audit.files, "sync_file", sync_file)
    return sizes


def test_a_line_is_durable_at_once_if_a_person_is_told_that_it_was_done(
    tmp_path: Path, synced: list[int]
) -> None:
    """A power cut after the answer must not leave an act without its line."""
    trail = a_trail(tmp_path)
    trail.record("token-granted", "device:ab")
    for what in ("decided", "quarantine-read", "member-revoked"):
        trail.record(what, "operator", durably=True)
        assert synced[-1] == (tmp_path / FILE_NAME).stat().st_size


def test_every_other_line_is_durable_within_a_second(tmp_path: Path, synced: list[int]) -> None:
    """Also the last one of the day, after which nothing comes."""
    trail = a_trail(tmp_path)
    trail.record("token-granted", "device:ab")
    trail.record("token-granted", "device:cd")
    size = (tmp_path / FILE_NAME).stat().st_size
    assert synced[-1] < size

    wait_until(lambda: synced[-1] == size, 3, "the disk to keep the last line")


def test_the_line_stands_before_anybody_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes a file out, or is told that a device is in, is in the trail by then."""
    with LocalNode(tmp_path / "cloud") as node:
        node.init()
        node.start()
        real, may_write, kept = node.node.audit.record, threading.Event(), []

        def record(what: str, who: str, *, durably: bool = False, **more: Any) -> None:
            if what == "code-given":
                may_write.wait(10)
                kept.append(durably)
            real(what, who, durably=durably, **more)

        monkeypatch.setattr(node.node.audit, "record", record)
        answers: list[Any] = []
        asked = threading.Thread(
            target=lambda: answers.append(node.ask("POST", "/api/v1/admin/device-codes", {}))
        )
        asked.start()
        asked.join(0.5)
        assert asked.is_alive()
        may_write.set()
        asked.join(10)

    assert answers and kept == [True]


def test_what_is_more_than_a_word_is_not_written(tmp_path: Path) -> None:
    """A name that somebody typed into a field for something else stays out."""
    trail = a_trail(tmp_path)
    trail.record("decided", "node:1", detail={"person": f"{CANARY} <\n>"})

    assert CANARY not in (tmp_path / FILE_NAME).read_text()


def test_somebody_who_guesses_fills_no_disk(tmp_path: Path) -> None:
    """One line a minute for each sender, with the count of the others."""
    clock = FakeClock()
    trail = a_trail(tmp_path, clock)
    for _ in range(1000):
        trail.refused("address:192.0.2.1", "http-403")
    clock.advance(60_001)
    trail.refused("address:192.0.2.1", "http-403")

    lines = [json.loads(line) for line in trail.lines()]
    assert [line["Detail"] for line in lines] == [{"code": "http-403"}, {"code": "http-403", "more": 999}]


def test_the_story_of_a_study_can_be_told_and_its_end_is_missed(tmp_path: Path) -> None:
    """Begun, confirmed, announced, and by whom; an older copy that was restored is noticed by its head."""
    with LocalNode(tmp_path / "cloud") as node:
        node.init()
        node.start()
        entries = HandIn(node, {"1.dcm": made_slice(7, 1, name=CANARY)}).until_kept()
        with node.api() as client:
            text = client.get("/api/v1/admin/audit").text
            client.get("/api/v1/studies", headers={"Authorization": "Bearer wrong"})
        node.stop()
        older = (node.home.audit / FILE_NAME).read_bytes()
        whats = [json.loads(line)["What"] for line in text.splitlines()]
        story = [json.loads(line) for line in text.splitlines() if entries[0] in line]
        assert [what for what in whats if what.startswith("submission")] == [
            "submission-begun",
            "submission-seen",
            "submission-confirmed",
        ]
        assert [line["What"] for line in story] == ["study-announced"]
        assert "CANARY" not in older.decode()
        assert "access-refused" in older.decode()

        node.start()
        node.stop()  # signs a later head
        node.start()
        with node.api() as client:
            assert client.get("/api/v1/admin/audit/verify").json()["intact"]
        node.stop()
        (node.home.audit / FILE_NAME).write_bytes(older)
        node.start()
        with node.api() as client:
            found = _verify(client)
        assert not found["intact"]


def _rewritten(text: str) -> str:
    """Return a trail that its owner has made up anew from line 2 on, with a chain that is right."""
    lines, prev = [], "0" * 64
    for line in text.splitlines():
        said = json.loads(line) | {"Prev": prev}
        if said["N"] == 2:
            said["UserID"] = "device:somebody-else"
        lines.append(json.dumps(said, separators=(",", ":")))
        prev = hashlib.sha256(lines[-1].encode()).hexdigest()
    return "\n".join(lines) + "\n"


def _audit(node: LocalNode, *words: str) -> tuple[int, Any]:
    done = CliRunner().invoke(app, ["audit", *words, "--data", str(node.folder), "--json"])
    return done.exit_code, json.loads(done.output)


def test_a_trail_that_its_owner_wrote_anew_is_found_out_by_another_node(tmp_path: Path) -> None:
    """Also when he signs what he wrote: the others have noted each head that he signed before."""
    with LocalNode(tmp_path / "cloud") as cloud, LocalNode(tmp_path / "clinic") as clinic:
        cloud.init()
        cloud.start()
        cloud.admit(clinic, "clinic")
        clinic.start([cloud])
        for _ in range(3):
            clinic.ask("POST", "/api/v1/admin/device-codes", {})
        clinic.service._sign_head(now=True)
        signed, source = clinic.node.audit.due, clinic.node.audit.source
        cloud.wait(
            lambda: signed in audit.heard_of(cloud.node.audit.lines(), source),
            "the head to come and be noted",
        )
        genuine = tmp_path / "genuine.jsonl"
        _audit(clinic, "export", "--to", str(genuine))

        code, said = _audit(cloud, "verify", "--of", str(genuine))
        assert (code, said["intact"], said["heads"] > 0) == (0, True, True)
        text = genuine.read_text()
        forged, cut = tmp_path / "forged.jsonl", tmp_path / "cut.jsonl"
        forged.write_text(_rewritten(text))
        cut.write_text("".join(text.splitlines(keepends=True)[:2]))
        assert audit.verify(iter(forged.read_bytes().splitlines()), {}).intact
        assert _audit(cloud, "verify", "--of", str(forged))[0] == 1
        assert _audit(cloud, "verify", "--of", str(cut))[1]["missing"] > 0
        forged.write_text("nothing\n")
        assert (
            CliRunner()
            .invoke(app, ["audit", "verify", "--of", str(forged), "--data", str(cloud.folder)])
            .exit_code
            == 1
        )


def test_heads_that_are_heard_make_no_other_head_due(tmp_path: Path) -> None:
    """Else two nodes that rest would sign for each other every hour for ever."""
    trail = filled(tmp_path)
    due = trail.due
    trail.record("head-heard", "node:44556677", detail={"lines": 7, "head": "ab" * 32})

    assert (trail.head.count, trail.due) == (5, due)
    assert a_trail(tmp_path).due == due == 4
    assert audit.heard_of(trail.lines(), "node:44556677") == {7: bytes.fromhex("ab" * 32)}


def _verify(client: httpx.Client) -> dict[str, object]:
    said: dict[str, object] = client.get("/api/v1/admin/audit/verify").json()
    return said
