"""What a confirmation may say of documents, patients and destinations, and what is asked back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.dicoms import study_zip
from support.intake import Bench, Phone, app_of, statement
from support.servers import serve

from node.intake.confirmation import Confirmation, ConfirmedStudy, from_json, to_json

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
    assert from_json(told) == (plain, "phone")
