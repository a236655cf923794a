"""From handing in to kept: what a person sees, confirms and may take back."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.dicoms import PIXELS, header, part10, study_zip, zip_of
from support.intake import Bench, Phone, app_of, statement
from support.servers import serve
from support.slices import made_slice

from node.errors import NodeError, Refused, StoreDamaged, WorkerFailed
from node.intake.confirmation import Confirmation, ConfirmedStudy
from node.wrap.press import CannotWrap

OTHER_CLIENT = "6b0f9d2e-0000-4000-8000-000000000002"


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


def digest_of(tmp: Path, data: bytes) -> list[dict[str, Any]]:
    """Examine as the app does offline."""
    other = Bench(tmp)
    submission = other.hand_in(data)
    other.work()
    studies: list[dict[str, Any]] = statement(other.view(submission))["studies"]
    other.close()
    return studies


def test_a_study_goes_from_the_phone_to_the_queue(bench: Bench, phone: Phone) -> None:
    """The whole way: hand in, look, confirm, kept; then nothing of the upload is left."""
    data = zip_of({"a": made_slice(1, 1), "b": made_slice(1, 2), "c": made_slice(2, 1)})
    submission = phone.hand_in(data)
    received = phone.look(submission)
    bench.work()
    examined = phone.look(submission)
    body = statement(examined, destination="City")
    confirmed = phone.confirm(submission, body).json()
    woken = bench.woken
    bench.work()
    kept = phone.look(submission)

    assert (received["state"], received["bytes"], received["length"]) == ("received", len(data), len(data))
    assert (examined["state"], examined["problem"]) == ("examined", None)
    assert [s["instances"] for s in examined["examination"]["studies"]] == [2, 1]
    assert (confirmed["state"], woken) == ("confirmed", 2)
    assert (kept["state"], len(kept["entries"]), kept["examination"]) == ("kept", 2, None)
    assert bench.keeper.came() == [
        {"2.25.1.1.1": made_slice(1, 1), "2.25.1.1.2": made_slice(1, 2)},
        {"2.25.2.1.1": made_slice(2, 1)},
    ]
    assert bench.keeper.confirmed[0] == {
        "impression": "",
        "priority": "urgent",
        "destination": "City",
        "by": "phone",
        "author": "the phone",
        "at": bench.clock.now_ms(),
    }
    assert list(bench.spool.iterdir()) == []


def test_a_single_file_keeps_its_name_for_the_eyes_of_its_owner(bench: Bench, phone: Phone) -> None:
    """When it cannot be sent, the person must know which file it was."""
    submission = phone.hand_in(b"not an image", kind="file")
    bench.work()
    view = phone.look(submission)

    assert (view["state"], view["problem"]["code"]) == ("failed", "not-dicom")
    assert view["examination"]["skipped"][0]["name"] == "Doe.dcm"


def test_the_app_may_confirm_before_the_bytes_are_here(bench: Bench, phone: Phone, tmp_path: Path) -> None:
    """People walk away; the phone sends the rest when it can."""
    data = study_zip(1, 3)
    studies = digest_of(tmp_path / "other", data)
    submission, url = phone.begin(len(data))
    phone.send(url, data[:1000])
    early = phone.confirm(submission, {"studies": studies})
    bench.work()
    still = phone.look(submission)["state"]
    phone.send(url, data[1000:], 1000)
    bench.work()

    assert (early.status_code, early.json()["state"], still) == (200, "confirmed", "confirmed")
    assert phone.look(submission)["state"] == "kept"
    assert len(bench.keeper.kept[0]) == 3


def test_the_same_confirmation_again_changes_nothing_and_another_is_refused(
    bench: Bench, phone: Phone
) -> None:
    """The answer may be lost on the way; but nobody may change what was confirmed."""
    submission = phone.hand_in(study_zip())
    bench.work()
    body = statement(phone.look(submission), impression="Fracture?")
    first = phone.confirm(submission, body)
    again = phone.confirm(submission, body)
    other = phone.confirm(submission, body | {"impression": "something else"})
    bench.work()
    after = phone.confirm(submission, body)
    other_after = phone.confirm(submission, body | {"priority": "routine"})

    assert [a.status_code for a in (first, again, other, after, other_after)] == [200, 200, 409, 200, 409]
    assert other.json()["code"] == other_after.json()["code"] == "confirmation-differs"
    assert other.headers["content-type"] == "application/problem+json"
    assert (after.json()["state"], len(bench.keeper.kept)) == ("kept", 1)
    assert bench.keeper.confirmed[0]["impression"] == "Fracture?"


@pytest.mark.parametrize("examined_first", [True, False])
def test_nothing_is_sent_when_other_images_arrived_than_were_confirmed(
    bench: Bench, phone: Phone, tmp_path: Path, examined_first: bool
) -> None:
    """A card pulled out too early: a person decides whether the part is worth sending."""
    studies = digest_of(tmp_path / "other", study_zip(1, 5))
    if examined_first:
        submission = phone.hand_in(study_zip(1, 3))
        bench.work()
        phone.confirm(submission, {"studies": studies})
    else:
        data = study_zip(1, 3)
        submission, url = phone.begin(len(data))
        phone.confirm(submission, {"studies": studies})
        phone.send(url, data)
    bench.work()
    differs = phone.look(submission)
    sent = list(bench.keeper.kept)
    decided = phone.confirm(submission, statement(differs))
    bench.work()

    assert (differs["state"], differs["problem"]["code"]) == ("differs", "differs")
    assert "2 confirmed images are missing" in differs["problem"]["detail"]
    assert sent == []
    assert decided.status_code == 200
    assert phone.look(submission)["state"] == "kept"
    assert len(bench.keeper.kept[0]) == 3


def test_the_same_number_of_other_images_is_seen_too(bench: Bench, phone: Phone, tmp_path: Path) -> None:
    """Counting is not enough: the digest names the very bytes."""
    studies = digest_of(tmp_path / "other", study_zip(1, 2, name="Doe^John"))
    submission = phone.hand_in(study_zip(1, 2, name="Doe^Jane"))
    bench.work()
    answer = phone.confirm(submission, {"studies": studies})

    assert answer.json()["state"] == "differs"
    assert "other content" in answer.json()["problem"]["detail"]


def test_studies_that_are_not_named_are_left_out(bench: Bench, phone: Phone) -> None:
    """A disc with two patients: only the one who is here is sent."""
    submission = phone.hand_in(zip_of({"a": made_slice(1, 1), "b": made_slice(2, 1)}))
    bench.work()
    body = statement(phone.look(submission))
    body["studies"] = body["studies"][1:]
    phone.confirm(submission, body)
    bench.work()

    assert [list(kept) for kept in bench.keeper.kept] == [["2.25.2.1.1"]]
    assert list(bench.spool.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"no image", "not-dicom"),
        (part10(header() + PIXELS)[:-1], "truncated"),
        (part10(PIXELS), "no-uids"),
        (zip_of({}), "empty-archive"),
        (zip_of({"../a": b"x"}), "zip-climbs-out"),
        (b"", "empty-file"),
    ],
)
def test_what_cannot_be_sent_is_said_and_spoils_nothing_else(
    bench: Bench, phone: Phone, data: bytes, code: str
) -> None:
    """Bad input has a stable code; what was acknowledged before stays."""
    good = phone.hand_in(study_zip())
    if data:
        bad = phone.hand_in(data, client=OTHER_CLIENT)
    else:
        bad, _ = phone.begin(0, client=OTHER_CLIENT)
    bench.work()
    view = phone.look(bad)
    refused = phone.confirm(bad, {"studies": [{"study_uid": "1.2", "digest": "0" * 64, "instances": 1}]})
    phone.confirm(good, statement(phone.look(good)))
    bench.work()

    assert (view["state"], view["problem"]["code"]) == ("failed", code)
    assert (refused.status_code, refused.json()["code"]) == (409, "wrong-state")
    assert phone.look(good)["state"] == "kept"
    assert phone.http.delete(f"/submissions/{bad}").status_code == 204
    assert list(bench.spool.iterdir()) == []


def test_files_that_could_not_be_read_stay_until_someone_removes_them(bench: Bench, phone: Phone) -> None:
    """What the node does not understand is never dropped in silence."""
    submission = phone.hand_in(zip_of({"a": made_slice(1, 1), "b": made_slice(1, 2)[:-5]}))
    bench.work()
    phone.confirm(submission, statement(phone.look(submission)))
    bench.work()
    kept = phone.look(submission)
    left = len(list(bench.spool.iterdir()))
    removed = phone.http.delete(f"/submissions/{submission}")
    after = phone.look(submission)

    assert (kept["state"], kept["problem"]["code"], left) == ("kept", "quarantined-left", 1)
    assert kept["examination"]["quarantined"][0]["code"] == "truncated"
    assert removed.status_code == 204
    assert (after["state"], after["examination"], list(bench.spool.iterdir())) == ("kept", None, [])
    assert len(after["entries"]) == 1


def test_a_submission_can_be_taken_back_until_it_is_kept(bench: Bench, phone: Phone) -> None:
    """The wrong patient was chosen: nothing of it may stay or go on."""
    submission = phone.hand_in(study_zip())
    bench.work()
    body = statement(phone.look(submission))
    phone.confirm(submission, body)
    taken_back = phone.http.delete(f"/submissions/{submission}")
    bench.work()
    view = phone.look(submission)
    again = phone.hand_in(study_zip(), client=OTHER_CLIENT)
    bench.work()
    phone.confirm(again, statement(phone.look(again)))
    bench.work()
    too_late = phone.http.delete(f"/submissions/{again}")

    assert taken_back.status_code == 204
    assert (view["state"], view["examination"], view["entries"]) == ("removed", None, [])
    assert (too_late.status_code, too_late.json()["code"]) == (409, "wrong-state")
    assert len(bench.keeper.kept) == 1
    assert phone.confirm(submission, body).status_code == 409


def test_taking_back_during_an_upload_ends_it(bench: Bench, phone: Phone) -> None:
    """The rest of the bytes must not bring it back."""
    data = study_zip()
    submission, url = phone.begin(len(data))
    phone.send(url, data[:1000])
    phone.http.delete(f"/submissions/{submission}")
    rest = phone.send(url, data[1000:], 1000)

    assert (rest.status_code, rest.json()["code"]) == (410, "gone")
    assert phone.http.head(url).status_code == 410
    assert (phone.look(submission)["state"], list(bench.spool.iterdir())) == ("removed", [])


def test_asking_twice_for_a_submission_gives_the_same_one(phone: Phone) -> None:
    """A lost answer must not make a second study; another device has its own."""
    other = Phone(phone.base, device="tablet")
    first, again = phone.submit().json(), phone.submit().json()
    others = other.submit().json()
    other_kind = phone.submit(kind="file")
    other.http.close()

    assert first == again
    assert first["id"] != others["id"]
    assert (other_kind.status_code, other_kind.json()["code"]) == (409, "submission-differs")


def test_nobody_sees_the_submissions_of_others(phone: Phone, bench: Bench) -> None:
    """Examinations are patient data: for the device that handed them in alone."""
    submission = phone.hand_in(study_zip())
    bench.work()
    body = statement(phone.look(submission))
    thief = Phone(phone.base, device="thief")

    answers = [
        thief.http.get(f"/submissions/{submission}"),
        thief.http.delete(f"/submissions/{submission}"),
        thief.confirm(submission, body),
        httpx.get(f"{phone.base}/api/v1/submissions/{submission}"),
    ]

    thief.http.close()
    assert [answer.status_code for answer in answers] == [404, 404, 404, 401]
    assert phone.look(submission)["state"] == "examined"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"studies": []}, 400),
        ({"studies": "twice"}, 400),
        ({"priority": "at once"}, 422),
        ({"unknown": 1}, 422),
        ({"impression": "x" * 20_001}, 422),
    ],
)
def test_a_malformed_confirmation_confirms_nothing(
    bench: Bench, phone: Phone, change: dict[str, Any], status: int
) -> None:
    """And the answer does not repeat what was sent."""
    submission = phone.hand_in(study_zip(name="Canary^Patient"))
    bench.work()
    body = statement(phone.look(submission)) | {"impression": "CANARY"} | change
    if body["studies"] == "twice":
        body["studies"] = statement(phone.look(submission))["studies"] * 2
    answer = phone.confirm(submission, body)

    assert answer.status_code == status
    assert "CANARY" not in answer.text
    assert phone.look(submission)["state"] == "examined"


def test_a_crash_between_two_studies_makes_no_second_entry(tmp_path: Path) -> None:
    """The note that a study is kept is written in the same transaction as its entry."""
    bench = Bench(tmp_path / "n")
    submission = bench.hand_in(zip_of({str(n): made_slice(n, 1) for n in (1, 2, 3)}))
    bench.work()
    confirmation = statement(bench.view(submission))
    confirm_on(bench, submission, confirmation)
    bench.keeper.fail_at = 2
    with pytest.raises(KeyError):
        bench.intake.keep_next()
    first = list(bench.keeper.kept)
    half = bench.view(submission)
    bench.close()
    again = Bench(tmp_path / "n")
    again.work()
    view = again.view(submission)
    again.close()

    assert ([list(kept) for kept in first], half["state"]) == ([["2.25.1.1.1"]], "confirmed")
    assert [list(kept) for kept in again.keeper.kept] == [["2.25.2.1.1"], ["2.25.3.1.1"]]
    assert (view["state"], len(view["entries"])) == ("kept", 3)
    assert view["entries"][0] == half["entries"][0]


def confirm_on(bench: Bench, submission: str, body: dict[str, Any]) -> None:
    studies = tuple(ConfirmedStudy(**study) for study in body["studies"])
    bench.intake.confirm("phone", submission, Confirmation(studies, body["impression"], body["priority"]))


def test_a_document_that_fails_after_a_study_is_kept_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another confirmation would name other studies in the places of those that are kept, and lose one."""
    bench = Bench(tmp_path / "n")
    submission = bench.hand_in(zip_of({"a": made_slice(1, 1), "b": made_slice(2, 1)}))
    bench.work()
    confirm_on(bench, submission, statement(bench.view(submission)))
    keep, calls = bench.intake._keep, []

    def failing(*told: Any, **more: Any) -> bytes:
        calls.append(told)
        if len(calls) == 2:
            raise CannotWrap("too-complex")
        return keep(*told, **more)

    monkeypatch.setattr(bench.intake, "_keep", failing)
    with pytest.raises(WorkerFailed):
        bench.intake.keep_next()
    half = bench.view(submission)
    bench.work()
    view = bench.view(submission)
    bench.close()

    assert (half["state"], half["problem"]["code"], len(half["entries"])) == ("confirmed", "too-complex", 1)
    assert (view["state"], view["problem"], len(view["entries"])) == ("kept", None, 2)
    assert [list(kept) for kept in bench.keeper.kept] == [["2.25.1.1.1"], ["2.25.2.1.1"]]


def test_a_document_that_keeps_failing_after_a_study_is_kept_ends_as_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was tried for ever, and nobody was told that a study stays behind."""
    bench = Bench(tmp_path / "n")
    submission = bench.hand_in(zip_of({"a": made_slice(1, 1), "b": made_slice(2, 1)}))
    bench.work()
    confirm_on(bench, submission, statement(bench.view(submission)))
    keep = bench.intake._keep

    def failing(study: Any, *told: Any, **more: Any) -> bytes:
        if study.study_uid == "2.25.2":
            raise CannotWrap("too-complex")
        return keep(study, *told, **more)

    monkeypatch.setattr(bench.intake, "_keep", failing)
    for _ in range(4):
        with pytest.raises(WorkerFailed):
            bench.intake.keep_next()
    worked = [bench.intake.keep_next() for _ in range(2)]
    view = bench.view(submission)
    with pytest.raises(Refused):
        confirm_on(bench, submission, statement(view, impression="another"))
    bench.intake.remove("phone", submission)
    opened = bench.intake._examination._last
    after = bench.view(submission)
    bench.close()

    assert (worked, opened) == ([True, False], None)
    assert (view["state"], view["problem"]["code"], len(view["entries"])) == ("failed", "partly-kept", 1)
    assert (after["state"], len(after["entries"])) == ("kept", 1)
    assert [list(kept) for kept in bench.keeper.kept] == [["2.25.1.1.1"]]


def test_a_submission_that_was_taken_back_while_it_is_kept_makes_no_entry(tmp_path: Path) -> None:
    """The person and the schedule may act in the same second; the person wins or is told no."""
    bench = Bench(tmp_path / "n")
    submission = bench.hand_in(study_zip())
    bench.work()
    confirm_on(bench, submission, statement(bench.view(submission)))
    keep = bench.intake._keep

    def keep_late(*args: Any, **kwargs: Any) -> bytes:
        bench.intake.remove("phone", submission)
        return keep(*args, **kwargs)

    bench.intake._keep = keep_late
    with pytest.raises(NodeError):
        bench.intake.keep_next()

    assert (bench.view(submission)["state"], bench.keeper.kept) == ("removed", [])
    bench.close()


def test_one_submission_that_cannot_be_kept_does_not_hold_up_the_others(tmp_path: Path) -> None:
    """The person sees that it waits; it is tried again."""
    bench = Bench(tmp_path / "n")
    ids = []
    for n in (1, 2):
        ids.append(bench.hand_in(study_zip(n), client=f"c{n}"))
        bench.clock.advance(1)
    bench.work()
    for submission in ids:
        confirm_on(bench, submission, statement(bench.view(submission)))
    keep = bench.intake._keep

    def refuse_the_first(study: Any, *args: Any, **kwargs: Any) -> bytes:
        if study.study_uid == "2.25.1":
            raise StoreDamaged("not today")
        return keep(study, *args, **kwargs)

    bench.intake._keep = refuse_the_first
    kept = bench.intake.keep_next()
    trouble = bench.view(ids[0])
    with pytest.raises(StoreDamaged):
        bench.intake.keep_next()
    bench.intake._keep = keep
    bench.work()

    assert kept is True
    assert (trouble["state"], trouble["problem"]["code"]) == ("confirmed", "store-damaged")
    views = [bench.view(submission) for submission in ids]
    assert [(view["state"], view["problem"]) for view in views] == [("kept", None)] * 2
    bench.close()


def test_while_the_node_is_locked_everything_waits_and_nothing_is_lost(tmp_path: Path) -> None:
    """Nobody knows the passphrase at night; in the morning all goes on."""
    bench = Bench(tmp_path / "n")
    first = bench.hand_in(study_zip(1), client="c1")
    bench.work()
    body = statement(bench.view(first))
    bench.keys.locked = True
    second = bench.hand_in(study_zip(2), client="c2")
    confirm_on(bench, first, body)
    bench.work()
    locked = [bench.view(first), bench.view(second)]
    bench.keys.locked = False
    bench.work()

    assert [view["state"] for view in locked] == ["confirmed", "received"]
    assert (locked[0]["examination"], locked[0]["problem"]["code"]) == (None, "keystore-locked")
    assert [bench.view(first)["state"], bench.view(second)["state"]] == ["kept", "examined"]
    bench.close()


def test_a_damaged_spool_file_says_that_it_must_be_sent_again(tmp_path: Path) -> None:
    """A bad disk must not look like a bad study."""
    bench = Bench(tmp_path / "n")
    submission = bench.hand_in(study_zip())
    (path,) = bench.spool.iterdir()
    data = bytearray(path.read_bytes())
    data[50] ^= 1
    path.write_bytes(data)
    bench.work()
    view = bench.view(submission)

    assert (view["state"], view["problem"]["code"]) == ("failed", "upload-damaged")
    bench.close()


def test_an_upload_that_is_damaged_while_studies_are_kept_can_be_cleared_away(tmp_path: Path) -> None:
    """What is on its way stays so; the rest must be sent again, and the person hears of it."""
    bench = Bench(tmp_path / "n")
    submission = bench.hand_in(zip_of({"a": made_slice(1, 1), "b": made_slice(2, 1, octets=3_000_000)}))
    bench.work()
    confirm_on(bench, submission, statement(bench.view(submission)))
    (path,) = bench.spool.iterdir()
    data = bytearray(path.read_bytes())
    data[1_500_000] ^= 1
    path.write_bytes(data)
    bench.work()
    view = bench.view(submission)
    bench.intake.remove("phone", submission)

    assert (view["state"], view["problem"]["code"], len(view["entries"])) == ("failed", "upload-damaged", 1)
    assert (bench.view(submission)["state"], list(bench.spool.iterdir())) == ("kept", [])
    bench.close()


def test_the_database_holds_nothing_of_the_patient(tmp_path: Path) -> None:
    """Names, UIDs, digests and the impression are sealed; after keeping they are gone."""
    bench = Bench(tmp_path / "n")
    submission = bench.hand_in(study_zip(7, name="Canary^Patient"))
    bench.work()
    body = statement(bench.view(submission)) | {"impression": "CANARY-IMPRESSION"}
    confirm_on(bench, submission, body)
    words = [b"Canary^Patient", b"CANARY-IMPRESSION", b"2.25.7", body["studies"][0]["digest"].encode()]

    def found() -> list[bytes]:
        files = [Path(root) / name for root, _, names in os.walk(tmp_path) for name in names]
        return [word for word in words for file in files if word in file.read_bytes()]

    before = found()
    bench.work()
    state = bench.view(submission)["state"]
    bench.database.checkpoint()
    bench.close()

    assert (before, found(), state) == ([], [], "kept")
