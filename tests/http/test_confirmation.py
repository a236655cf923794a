"""What a confirmation may say of documents, patients and destinations, and what is asked back."""

import hashlib
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from support.dicoms import study_zip, zip_of
from support.intake import CLIENT, Bench, Phone, app_of, statement
from support.pictures import PDF, as_held, coded, motif
from support.servers import serve
from support.slices import made_slice

from node.intake.confirmation import Confirmation, ConfirmedStudy, Given, from_json, to_json

PICTURE = {"sha256": "ab" * 32, "kind": "photo"}
JANE = {"name": "Doe^Jane", "id": "7", "birth_date": "19800131", "sex": "F"}


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


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"documents": [PICTURE], "documents_study": "2.25.9"}, "document-study-unknown"),
        ({"documents": [PICTURE]}, "patient-missing"),
        ({"documents": [PICTURE], "patient": JANE}, "patient-missing"),
        ({"documents": [PICTURE], "patient": {"name": ""}, "study_date": "20260102"}, "patient-missing"),
        ({"documents": [PICTURE], "patient": {"name": " ^ "}, "study_date": "20260102"}, "patient-missing"),
        ({"patient": JANE}, "patient-fixed"),
        ({"documents": [PICTURE, PICTURE], "documents_study": "2.25.1"}, "nothing-confirmed"),
        ({"documents": [{"sha256": "ab", "kind": "photo"}], "documents_study": "2.25.1"}, "bad-request"),
        ({"documents": [PICTURE], "patient": JANE, "study_date": "20260231"}, "bad-request"),
        (
            {"documents": [PICTURE], "patient": JANE | {"name": "a\\b"}, "study_date": "20260102"},
            "bad-request",
        ),
    ],
)
def test_what_cannot_be_meant_is_said_before_anything_is_taken(
    bench: Bench, phone: Phone, more: dict[str, Any], code: str
) -> None:
    """A patient who is typed over, or missing, must not slip through."""
    submission = phone.hand_in(study_zip())
    bench.work()
    answer = phone.confirm(submission, statement(phone.look(submission), **more))

    assert (answer.status_code // 100, answer.json()["code"]) == (4, code)
    assert phone.look(submission)["state"] == "examined"


def test_a_document_that_did_not_arrive_stops_and_asks(bench: Bench, phone: Phone) -> None:
    """The person believes that it is on its way."""
    submission = phone.hand_in(study_zip())
    bench.work()
    body = statement(phone.look(submission), documents=[PICTURE], documents_study="2.25.1")
    view = phone.confirm(submission, body).json()

    assert (view["state"], view["problem"]["code"]) == ("differs", "differs")
    assert "1 confirmed documents did not arrive" in view["problem"]["detail"]


def test_a_confirmation_without_documents_is_kept_as_it_always_was() -> None:
    """One that was given before an update, and again after it, is the same one."""
    plain = Confirmation((ConfirmedStudy("2.25.1", "ab", 2),), impression="x")
    told = to_json(plain, "phone")

    assert told == (
        b'{"by": "phone", "destination": null, "impression": "x", "priority": "routine", '
        b'"studies": [{"digest": "ab", "instances": 2, "study_uid": "2.25.1"}]}'
    )
    assert from_json(told) == Given(plain, "phone")


def kept(bench: Bench) -> list[list[pydicom.Dataset]]:
    """Return what was kept, by study."""
    return [[pydicom.dcmread(io.BytesIO(data)) for data in one.values()] for one in bench.keeper.kept]


def test_the_impression_joins_its_study(bench: Bench, phone: Phone) -> None:
    """As a document of the same patient and study, by who confirmed, and never as a report."""
    submission = phone.hand_in(study_zip(1, 2, name="Doe^Jane"))
    bench.work()
    phone.confirm(submission, statement(phone.look(submission), impression="Fracture? \u0643\u0633\u0631"))
    bench.work()
    (study,) = kept(bench)
    pdf = study[-1]

    assert phone.look(submission)["state"] == "kept"
    assert [one.Modality for one in study] == ["CT", "CT", "DOC"]
    assert (pdf.StudyInstanceUID, str(pdf.PatientName), pdf.PatientID) == ("2.25.1", "Doe^Jane", "P1")
    assert (pdf.DocumentTitle, pdf.VerificationFlag) == ("Referring clinician's impression", "UNVERIFIED")
    assert bench.keeper.confirmed[0]["author"] == "the phone"
    assert bench.keeper.came() == [{f"2.25.1.1.{n}": made_slice(1, n, name="Doe^Jane") for n in (1, 2)}]


def test_an_impression_is_not_written_into_the_studies_of_two_patients(bench: Bench, phone: Phone) -> None:
    """One of them would carry the other's diagnosis."""
    submission = phone.hand_in(zip_of({"a": made_slice(1, 1), "b": made_slice(2, 1)}))
    bench.work()
    view = phone.confirm(submission, statement(phone.look(submission), impression="Cancer")).json()
    again = statement(phone.look(submission), impression="Cancer")
    again["studies"] = again["studies"][:1]
    phone.confirm(submission, again)
    bench.work()

    assert (view["state"], view["problem"]["code"]) == ("differs", "several-patients")
    assert phone.look(submission)["state"] == "kept" and len(bench.keeper.kept) == 1


def test_a_study_whose_images_name_two_patients_stops_and_asks(bench: Bench, phone: Phone) -> None:
    """An export gone wrong would put one person's image into the other's record."""
    files = {"a": made_slice(1, 1), "b": made_slice(1, 2, name="Roe^Richard"), "c": made_slice(2, 1)}
    submission = phone.hand_in(zip_of(files))
    bench.work()
    (mixed, clean) = phone.look(submission)["examination"]["studies"]
    first = phone.confirm(submission, statement(phone.look(submission))).json()
    bench.work()
    kept_before = len(bench.keeper.kept)
    body = statement(phone.look(submission), impression="Fracture?")
    body["studies"] = [{**body["studies"][0], "patients": 2}]
    seen = phone.confirm(submission, body).json()
    bench.work()

    assert [one["name"] for one in mixed["other_patients"]] == ["Roe^Richard"]
    assert clean["other_patients"] == []
    assert (first["state"], first["problem"]["code"], kept_before) == ("differs", "mixed-patients", 0)
    assert seen["state"] == "confirmed"
    assert (phone.look(submission)["state"], len(bench.keeper.kept)) == ("kept", 1)


@pytest.mark.parametrize("name", ["doe^made", "Doe^Made^^", "Doe^Made=ドウ", ""])
def test_the_same_patient_spelled_otherwise_is_one(bench: Bench, phone: Phone, name: str) -> None:
    """Workstations write names in their own way; nobody is asked for that."""
    submission = phone.hand_in(zip_of({"a": made_slice(1, 1), "b": made_slice(1, 2, name=name)}))
    bench.work()
    phone.confirm(submission, statement(phone.look(submission)))
    bench.work()

    assert phone.look(submission)["state"] == "kept"


def test_documents_join_the_study_that_a_person_chose(bench: Bench, phone: Phone) -> None:
    """A photo of the hand, a photographed film and a letter, in series of their own, after the images."""
    hand, film, letter = as_held(6), coded(motif()), PDF
    submission = phone.hand_in(
        zip_of({"1": made_slice(1, 1), "hand.jpg": hand, "film.jpg": film, "letter.pdf": letter})
    )
    bench.work()
    view = phone.look(submission)
    shown = {one["name"]: one for one in view["examination"]["documents"]}
    chosen = [
        {"sha256": shown["hand.jpg"]["sha256"], "kind": "photo"},
        {"sha256": shown["film.jpg"]["sha256"], "kind": "film"},
        {"sha256": shown["letter.pdf"]["sha256"], "kind": "pdf"},
    ]
    phone.confirm(submission, statement(view, documents=chosen, documents_study="2.25.1", body_part="HAND"))
    bench.work()
    (study,) = kept(bench)
    _, photo, shot, pdf = study

    assert {name: one["kind"] for name, one in shown.items()} == {
        "hand.jpg": "jpeg",
        "film.jpg": "jpeg",
        "letter.pdf": "pdf",
    }
    assert {(one.StudyInstanceUID, str(one.PatientName), one.PatientID) for one in study} == {
        (study[0].StudyInstanceUID, str(study[0].PatientName), study[0].PatientID)
    }
    assert [one.SeriesNumber for one in (photo, shot, pdf)] == [901, 902, 905]
    assert [one.get("BodyPartExamined") for one in (photo, shot)] == ["HAND", "HAND"]
    assert len({one.SeriesInstanceUID for one in study}) == 4
    assert list(bench.spool.iterdir()) == []


def test_documents_alone_make_a_study_of_the_typed_patient(bench: Bench, phone: Phone) -> None:
    """The same photos and the same patient make the same study, on whichever laptop."""
    data = zip_of({"a.jpg": as_held(1), "b.png": coded(motif(), "PNG")})
    made_of = []
    for client in (CLIENT, "6b0f9d2e-0000-4000-8000-000000000003"):
        submission = phone.hand_in(data, client=client)
        bench.work()
        view = phone.look(submission)
        chosen = [{"sha256": one["sha256"], "kind": "photo"} for one in view["examination"]["documents"]]
        body = {
            "documents": chosen,
            "patient": {"name": "Doe^J\u00e4ne", "birth_date": "19800131", "sex": "F"},
            "study_date": "20260102",
        }
        answer = phone.confirm(submission, body)
        bench.work()
        assert view["state"] == "examined" and view["examination"]["studies"] == []
        assert (answer.json()["state"], phone.look(submission)["state"]) == ("confirmed", "kept")
        made_of.append(bench.keeper.kept[-1])
    first = kept(bench)[0]

    assert made_of[0] == made_of[1]
    assert [one.InstanceNumber for one in first] == [1, 2]
    assert {str(one.PatientName) for one in first} == {"Doe^J\u00e4ne"}
    assert len({one.StudyInstanceUID for one in first}) == len({one.PatientID for one in first}) == 1
    assert first[0].PatientID.startswith("CM-") and first[0].IssuerOfPatientID == "ClinicMesh"


def test_a_picture_that_cannot_be_decoded_is_told_before_it_is_confirmed(bench: Bench, phone: Phone) -> None:
    """Its structure is whole, and its content is not."""
    broken = bytearray(coded(motif((400, 300)), "PNG"))
    data = broken.index(b"IDAT") + 4
    size = int.from_bytes(broken[data - 8 : data - 4], "big")
    broken[data + 10 : data + size] = bytes(size - 10)
    broken[data + size : data + size + 4] = zlib.crc32(broken[data - 4 : data + size]).to_bytes(4, "big")
    submission = phone.hand_in(zip_of({"1": made_slice(1, 1), "x.png": bytes(broken)}))
    bench.work()
    examination = phone.look(submission)["examination"]

    assert examination["documents"] == []
    (refused,) = examination["quarantined"]
    assert (refused["name"], refused["code"]) == ("x.png", "picture-damaged")


def test_a_destination_must_be_one_that_the_mesh_knows(bench: Bench, phone: Phone) -> None:
    """A study for a PACS that does not exist would wait for ever."""
    submission = phone.hand_in(study_zip())
    bench.work()
    body = statement(phone.look(submission))
    answer = phone.confirm(submission, body | {"destination": "Citty"})
    right = phone.confirm(submission, body | {"destination": "City"})

    assert (answer.status_code, answer.json()["code"]) == (422, "destination-unknown")
    assert (right.status_code, right.json()["state"]) == (200, "confirmed")


def test_a_confirmation_with_documents_may_come_first_and_twice(bench: Bench, phone: Phone) -> None:
    """Phones confirm offline; the answer may be lost."""
    photo = as_held(3)
    data = zip_of({"1": made_slice(1, 1), "p.jpg": photo})
    line = f"2.25.1.1.1 {hashlib.sha256(made_slice(1, 1)).hexdigest()}\n"
    digest = hashlib.sha256(line.encode()).hexdigest()
    submission, url = phone.begin(len(data))
    body = {
        "studies": [{"study_uid": "2.25.1", "digest": digest, "instances": 1}],
        "documents": [{"sha256": hashlib.sha256(photo).hexdigest(), "kind": "photo"}],
        "documents_study": "2.25.1",
        "impression": "x",
        "author": "Dr. A",
    }
    early = phone.confirm(submission, body)
    again = phone.confirm(submission, body)
    other = phone.confirm(submission, body | {"author": "Dr. B"})
    phone.send(url, data)
    bench.work()

    assert [one.status_code for one in (early, again, other)] == [200, 200, 409]
    assert phone.look(submission)["state"] == "kept"
    assert [one.Modality for one in kept(bench)[0]][1:] == ["XC", "DOC"]
    assert bench.keeper.confirmed[0]["author"] == "Dr. A"
