"""What could not be read: its bytes stay until an administrator takes them out, sends or removes them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.dicoms import element, header, part10, study_zip
from support.nodes import HandIn, LocalNode, Refusal
from support.slices import made_slice
from typer.testing import CliRunner

from node.cli.main import app
from node.intake.examination import Examination, from_json, to_json
from node.intake.quarantine import Quarantine
from node.store.intake import Submission

ADMIN = "/api/v1/admin/quarantine"
CUT = b"MZ\x90\0".ljust(128, b"\0") + made_slice(81, 2)[128:-10]
NAMELESS = part10(element(8, 0x60, "CS", b"CT") + element(0x7FE0, 0x10, "OW", bytes(300)))
OTHER = made_slice(81, 1, octets=999)
FILES = {"IM1": made_slice(81, 1), "IM2": CUT, "IM3": NAMELESS, "IM4": OTHER}


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    with LocalNode(tmp_path_factory.mktemp("quarantine") / "clinic") as node:
        node.init()
        node.start()
        yield node


@pytest.fixture
def held(clinic: LocalNode) -> Iterator[list[Any]]:
    """Hand in one sound image and three others, and return those."""
    before = clinic.get(ADMIN)["files"]
    clinic.submit(FILES)
    yield [one for one in clinic.get(ADMIN)["files"] if one not in before]
    for one in clinic.get(ADMIN)["files"]:
        clinic.ask("DELETE", path_of(one))


def path_of(one: Any) -> str:
    return f"{ADMIN}/{one['submission']}/{one['number']}"


def spooled(clinic: LocalNode) -> int:
    return sum(path.is_file() for path in clinic.home.spool.rglob("*"))


def test_what_could_not_be_read_is_listed_with_the_reason(held: list[Any]) -> None:
    """Nothing is dropped: whoever looks after the clinic sees what needs a decision."""
    told = [(one["name"], one["code"], one["bytes"], one["sendable"]) for one in held]

    assert told == [
        ("IM2", "truncated", len(CUT), True),
        ("IM3", "no-uids", len(NAMELESS), False),
        ("IM4", "same-uid-other-bytes", len(OTHER), True),
    ]
    assert all("bytes are kept" in one["reason"] or "Both are kept" in one["reason"] for one in held)


def test_the_bytes_can_be_taken_out_and_start_no_program(clinic: LocalNode, held: list[Any]) -> None:
    """A file that is an image for a PACS and a program for Windows must not be one on somebody's disk."""
    with clinic.api() as client:
        cut, nameless = (client.get(path_of(one)) for one in held[:2])

    assert cut.content == bytes(128) + CUT[128:]
    assert nameless.content == NAMELESS
    assert cut.headers["content-type"] == "application/octet-stream"
    assert cut.headers["content-disposition"].startswith("attachment")


def test_a_file_can_be_sent_as_it_is(clinic: LocalNode, held: list[Any]) -> None:
    """Half an image may be better than none; the PACS has the last word."""
    sent = clinic.ask("POST", f"{path_of(held[0])}/send", {"person": "Dr Grey"})
    manifest = clinic.node.blobs.get(bytes.fromhex(sent["entry_id"]))
    study = clinic.node.vault.open_study(manifest, clinic.node.keystore.seal_secret)

    assert [b"".join(study.read(one)) for one in study.index.instances] == [CUT]
    assert study.index.study_uid == "2.25.81"
    assert study.index.confirmed["by"] == "Dr Grey"
    assert clinic.state(sent["entry_id"]) != "unknown"
    assert [one["name"] for one in clinic.get(ADMIN)["files"]] == ["IM3", "IM4"]


def test_a_file_that_names_another_patient_is_sent_only_if_a_person_says_they_are_one(
    clinic: LocalNode,
) -> None:
    """The study of one patient must not take an image of another by the back door."""
    stranger = made_slice(82, 2, name="Roe^Other").replace(b"P82 ", b"P83 ")[:-10]
    before = clinic.get(ADMIN)["files"]
    clinic.submit({"IM1": made_slice(82, 1), "IM2": stranger, "IM3": made_slice(82, 3)[:-10]})
    odd, own = (one for one in clinic.get(ADMIN)["files"] if one not in before)

    assert (odd["other_patient"], own["other_patient"]) == (True, False)
    with pytest.raises(Refusal, match="mixed-patients"):
        clinic.ask("POST", f"{path_of(odd)}/send", {"person": "Dr Grey"})
    clinic.ask("POST", f"{path_of(own)}/send", {"person": "Dr Grey"})
    clinic.ask("POST", f"{path_of(odd)}/send", {"person": "Dr Grey", "same_person": True})
    assert [one for one in clinic.get(ADMIN)["files"] if one not in before] == []


def test_of_a_file_whose_patient_an_earlier_version_did_not_note_a_person_says_it(
    clinic: LocalNode, held: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waited since then; that nobody knows whom it names must not count as the same patient."""
    now = Quarantine._examination

    def earlier(self: Quarantine, submission: Submission) -> Examination:
        stored = json.loads(to_json(now(self, submission)))
        for one in stored["quarantined"]:
            del one["patient"]
        return from_json(json.dumps(stored).encode())

    monkeypatch.setattr(Quarantine, "_examination", earlier)
    told = [one["other_patient"] for one in clinic.get(ADMIN)["files"] if path_of(one) in map(path_of, held)]

    assert told == [True, False, True]
    with pytest.raises(Refusal, match="mixed-patients"):
        clinic.ask("POST", f"{path_of(held[0])}/send", {"person": "Dr Grey"})
    clinic.ask("POST", f"{path_of(held[0])}/send", {"person": "Dr Grey", "same_person": True})


def test_what_says_nothing_about_itself_cannot_be_sent(clinic: LocalNode, held: list[Any]) -> None:
    """No PACS could take it; the person hears that instead of a trouble later."""
    with pytest.raises(Refusal, match="not-sendable"):
        clinic.ask("POST", f"{path_of(held[1])}/send", {"person": "Dr Grey"})

    assert len(clinic.get(ADMIN)["files"]) == 3


def test_the_last_decision_erases_the_upload(clinic: LocalNode, held: list[Any]) -> None:
    """Patient data does not lie about once everybody knows what became of it."""
    before = spooled(clinic)
    for one in held[:2]:
        clinic.ask("DELETE", path_of(one))
    assert spooled(clinic) == before
    clinic.ask("POST", f"{path_of(held[2])}/send", {"person": "Dr Grey"})

    assert spooled(clinic) == before - 1
    assert clinic.get(ADMIN)["files"] == []
    for one in held:
        with pytest.raises(Refusal, match="not-quarantined"):
            clinic.ask("DELETE", path_of(one))


def test_nothing_is_decided_before_the_submission_is(clinic: LocalNode) -> None:
    """What a clinician has not confirmed yet is the clinician's."""
    said = HandIn(clinic, FILES).examined()
    one = {"submission": said["id"], "number": 0}
    with pytest.raises(Refusal, match="wrong-state"):
        clinic.ask("DELETE", path_of(one))

    with clinic.api() as client:
        assert client.get(path_of(one)).content == bytes(128) + CUT[128:]
        client.delete(f"/api/v1/submissions/{said['id']}").raise_for_status()


def test_a_file_by_itself_is_quarantined_too(clinic: LocalNode) -> None:
    """The photo of a torn-off disc is all that somebody has."""
    cut = part10(header(study=82) + element(0x7FE0, 0x10, "OW", bytes(300)))[:-1]
    said = HandIn(clinic, cut).examined()
    assert (said["state"], said["problem"]["code"]) == ("failed", "truncated")
    (one,) = [one for one in clinic.get(ADMIN)["files"] if one["submission"] == said["id"]]
    entry = clinic.ask("POST", f"{path_of(one)}/send", {"person": "Dr Grey"})["entry_id"]
    view = clinic.get(f"/api/v1/submissions/{said['id']}")

    assert (view["state"], view["entries"], view["examination"]) == ("kept", [entry], None)


def test_an_archive_that_cannot_be_opened_waits_as_a_whole(clinic: LocalNode) -> None:
    """A torn ZIP of the only copy may be saved by somebody with the right tools."""
    torn = study_zip(83, 3)[:-40]
    said = HandIn(clinic, torn).examined()
    assert (said["state"], said["problem"]["code"]) == ("failed", "zip-damaged")
    (one,) = [one for one in clinic.get(ADMIN)["files"] if one["submission"] == said["id"]]
    with clinic.api() as client:
        back = client.get(path_of(one)).content
    clinic.ask("DELETE", path_of(one))

    assert (one["code"], one["bytes"], one["sendable"], back) == ("zip-damaged", len(torn), False, torn)
    assert clinic.get(f"/api/v1/submissions/{said['id']}")["state"] == "removed"


def test_the_same_by_command(clinic: LocalNode, held: list[Any], tmp_path: Path) -> None:
    """Whoever looks after a clinic has a terminal, and often nothing else."""

    def run(*words: str) -> Any:
        done = CliRunner().invoke(app, ["quarantine", *words, "--data", str(clinic.folder), "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    names = [f"{one['submission'][:8]}/{one['number']}" for one in held]
    shown = CliRunner().invoke(app, ["quarantine", "list", "--data", str(clinic.folder)]).output
    assert all(name in shown for name in names)  # whole, on a narrow screen too
    assert run("list")["files"] == held
    assert run("export", names[1], str(tmp_path / "out"))["bytes"] == len(NAMELESS)
    assert (tmp_path / "out").read_bytes() == NAMELESS
    run("remove", names[1], "--yes")
    assert "entry_id" in run("send", names[0], "--person", "Dr Grey")
    assert [one["name"] for one in run("list")["files"]] == ["IM4"]
