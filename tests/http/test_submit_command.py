"""`clinicmesh submit`: folders, ZIPs, scratched discs, and a node that is restarted in the middle."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from PIL import Image
from support.dicoms import dicomdir, jpeg, study_zip
from support.nodes import LocalNode
from support.slices import made_slice
from typer.testing import CliRunner

from node.cli.main import app
from node.cli.output import Output
from node.cli.packing import OneFile, Picked, StoredZip, Unreadable, pick
from node.cli.remote import running
from node.cli.submitting import hand_in

CHOICE = {"impression": "", "priority": "routine", "destination": None}


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    with LocalNode(tmp_path_factory.mktemp("submit") / "clinic") as node:
        node.init()
        node.start()
        yield node


def submit(clinic: LocalNode, *words: str, sure: str = "") -> Result:
    return CliRunner().invoke(
        app,
        ["submit", *words, "--data", str(clinic.folder)],
        input=sure,
        env={"COLUMNS": "200", "TERM": "dumb"},
    )


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def test_a_disc_is_told_before_it_is_confirmed(clinic: LocalNode, tmp_path: Path) -> None:
    """Who is it, is it whole, and what of it is not sent: all of it before the question."""
    listed = {f"DICOM\\I{n}": f"2.25.91.1.{n}" for n in range(1, 5)}
    disc = write(
        tmp_path / "disc",
        {
            "DICOMDIR": dicomdir(listed),
            **{f"DICOM/I{n}": made_slice(91, n) for n in (1, 2, 3)},
            "VIEWER.EXE": b"MZ" + bytes(99),
            "logo.jpg": jpeg(640, 480),
        },
    )
    said = submit(clinic, str(disc), sure="y\n")

    assert said.exit_code == 0, said.output
    told = " ".join(said.output.split())
    assert "The CD lists 4 images, 3 are here." in told
    assert "missing or cut off: DICOM/I4." in told
    assert "1 skipped: disc/VIEWER.EXE. This is a program" in told
    assert "Is this the right patient, and shall it be sent? [y/N]: y" in told
    assert (
        told.index("The CD lists") < told.index("Is this the right patient") < told.index("Safe on this node")
    )


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_no_is_an_answer(clinic: LocalNode, tmp_path: Path, answer: str) -> None:
    """The wrong patient is noticed here or never; nobody there to answer has not said yes."""

    def waiting() -> set[Path]:
        return {path for path in (clinic.folder / "spool").rglob("*") if path.is_file()}

    before, stories = waiting(), clinic.stories().keys()
    said = submit(clinic, str(write(tmp_path / "x", {"I1": made_slice(92, 1)})), sure=answer)

    assert said.exit_code == 1
    assert "Not sent. What was uploaded is erased" in said.output
    assert clinic.stories().keys() == stories
    assert waiting() == before


def test_a_study_of_two_patients_asks_whether_they_are_one(clinic: LocalNode, tmp_path: Path) -> None:
    """A burner that put two people under one number; `--yes` must not say that they are the same."""
    files = {"I1": made_slice(96, 1), "I2": made_slice(96, 2, name="Roe^Richard")}
    disc = write(tmp_path / "mixed", files)
    silent = submit(clinic, str(disc), "--yes")
    asked = submit(clinic, str(disc), sure="y\ny\n")

    told = " ".join(asked.output.split())
    assert (silent.exit_code, asked.exit_code) == (1, 0), silent.output + asked.output
    assert "mixed-patients" in silent.output or "different patients" in silent.output
    assert "Doe^Made (P96), Roe^Richard (P96)" in told and "Are all of one person?" in told


def test_files_folders_and_zips_go_together_and_again(clinic: LocalNode, tmp_path: Path) -> None:
    """What lies on three sticks is one patient's; and handed in again it is recognised."""
    one = write(tmp_path / "a" / "stick", {"I1": made_slice(93, 1)})
    two = write(tmp_path / "b" / "stick", {"I1": made_slice(93, 2)})
    (tmp_path / "mail.zip").write_bytes(study_zip(94, 2))
    words = [str(one), str(two), str(tmp_path / "mail.zip"), "--yes"]
    said = json.loads(submit(clinic, *words, "--json").stdout)
    again = submit(clinic, *words)

    assert (said["state"], len(said["studies"])) == ("kept", 2)
    assert "Handed in here before: 4 images." in " ".join(again.output.split())


def test_pictures_go_along_if_asked(clinic: LocalNode, tmp_path: Path) -> None:
    """The photo of the wound lies beside the X-ray on the stick."""
    picture = io.BytesIO()
    Image.effect_noise((640, 480), 60).save(picture, "JPEG")
    stick = write(tmp_path / "stick", {"I1": made_slice(98, 1), "wound.jpg": picture.getvalue()})
    left = submit(clinic, str(stick), "--yes")
    said = json.loads(submit(clinic, str(stick), "--yes", "--pictures", "photo", "--json").stdout)
    (entry,) = (study["entry_id"] for study in said["studies"])
    manifest = clinic.node.blobs.get(bytes.fromhex(entry))
    study = clinic.node.vault.open_study(manifest, clinic.node.keystore.seal_secret)
    alone = submit(clinic, str(stick / "wound.jpg"), "--yes", "--pictures", "photo")

    assert "JPEG: stick/wound.jpg" in left.output
    assert "Pictures and PDFs are left out" in left.output
    assert [one.sop_class for one in study.index.instances][1:] == ["1.2.840.10008.5.1.4.1.1.77.1.4"]
    assert (alone.exit_code, "document-study-unknown" in alone.output) == (1, True)


def test_names_cannot_move_the_terminal(clinic: LocalNode, tmp_path: Path) -> None:
    """A stick may hold names that are commands to a screen, or to the library that writes on it."""
    odd = write(tmp_path / "odd", {"I1": made_slice(95, 1, name="[/bold]Doe^Jane"), "[red]\x1b[2J.txt": b"x"})
    said = submit(clinic, str(odd), "--yes")

    assert said.exit_code == 0, said.output
    assert "[/bold]Doe^Jane" in said.output
    assert "[red]\N{REPLACEMENT CHARACTER}[2J.txt" in said.output
    assert "\x1b[2J" not in said.output


def test_what_a_scratched_disc_does_not_give_is_named_and_the_rest_is_sent(
    clinic: LocalNode, tmp_path: Path
) -> None:
    """One unreadable file of 282 must not keep the others, and must not be replaced by zeros."""
    disc = write(tmp_path / "disc", {f"I{n}": made_slice(96, n) for n in (1, 2, 3)})
    picked = pick([disc])
    (disc / "I2").unlink()
    out = Output(as_json=False)
    with out.console.capture() as captured, running(clinic.folder) as remote:
        kept = hand_in(remote, out, picked, CHOICE, ask=False)

    assert len(kept["entries"]) == 1
    assert "1 file cannot be read, left out: disc/I2." in " ".join(captured.get().split())


@pytest.mark.parametrize("single", [True, False])
def test_a_file_that_became_shorter_is_not_filled_up(tmp_path: Path, single: bool) -> None:
    """Zeros in the place of an image's lower half would look like an image."""
    path = write(tmp_path, {"I1": bytes(5000)}) / "I1"
    picked = Picked(path, "I1")
    with picked.opened() as one:
        stream: OneFile | StoredZip = one if single else StoredZip([picked])
        path.write_bytes(bytes(100))

        with pytest.raises(Unreadable):
            stream.read(10_000)


def test_paths_make_names_that_stay_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`submit ..` from inside of a folder is a natural thing to type."""
    write(tmp_path / "cd", {"DICOM/I1": b"1", "DICOM/I2": b"2"})
    (tmp_path / "cd" / "loop").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path / "cd" / "DICOM")

    assert [one.name for one in pick([Path("..")])] == ["cd/DICOM/I1", "cd/DICOM/I2"]
    assert [one.name for one in pick([Path("I1"), Path(), Path("../DICOM/I1")])] == ["I1", "DICOM/I2"]


def test_an_upload_goes_on_after_the_node_was_restarted(tmp_path: Path) -> None:
    """The power goes while a CD is read; what the node has counts, and its new token is taken."""
    data = study_zip(97, 40, octets=400_000)
    path = write(tmp_path / "in", {"study.zip": data}) / "study.zip"
    read: list[int] = []
    with LocalNode(tmp_path / "clinic") as node:
        node.init()
        node.start()

        class Restarting(OneFile):
            def read(self, size: int) -> bytes:
                read.append(self._at)
                if len(read) == 3:
                    node.stop()
                    node.start()
                return super().read(size)

        with running(node.folder) as remote, path.open("rb", buffering=0) as file:
            stream: Any = Restarting(Picked(path, "study.zip"), file)
            made = remote.submission("zip")
            sent: list[int] = []
            remote.upload(made["upload_url"], made["id"], stream, len(data), sent.append)
            view = remote.get(f"/api/v1/submissions/{made['id']}")

    assert view["bytes"] == view["length"] == sum(sent) == len(data)
    assert len(read) == len(set(read)) + 1  # one part was sent twice: the one that was cut off
