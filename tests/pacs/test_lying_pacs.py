"""Answers as real archives, proxies and bad lines give them: nothing is believed that was not shown."""

import hashlib
import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from io import BytesIO

import pydicom
import pytest
from support.lying_pacs import (
    Answer,
    Behaviour,
    Hangup,
    LyingPacs,
    as_json,
    as_xml,
    lying_pacs,
    response,
)
from support.outgoing import outcomes, outgoing, verdict
from support.slices import made_slice, written

from node.deliver.destination import Auth, Outgoing
from node.deliver.dicomweb import DicomWebDestination
from node.deliver.stow import Limits
from node.errors import BadSettings, DestinationBusy, DestinationLocked, DestinationUnreachable, StoreDamaged
from sync.bodies import Ending
from sync.evidence import Evidence, Outcome

FIRST, SECOND, THIRD = SLICES = [outgoing(made_slice(4711, n)) for n in (1, 2, 3)]
STORED = [Outcome.STORED] * 3


@pytest.fixture
def pacs() -> Iterator[LyingPacs]:
    with lying_pacs() as served:
        yield served


@pytest.fixture
def sender(pacs: LyingPacs) -> Iterator[DicomWebDestination]:
    destination = DicomWebDestination(pacs.url, idle_s=5)
    yield destination
    destination.close()


def keeps(*numbers: int, answer: Callable[[list[str]], Answer]) -> Behaviour:
    """Keep the parts with these places in the request, and answer to all of its UIDs."""

    def behave(pacs: LyingPacs, parts: dict[str, bytes]) -> Answer:
        uids = list(parts)
        pacs.keep({uids[n]: parts[uids[n]] for n in numbers if n < len(uids)})
        return answer(uids)

    return behave


def says(status: int, **named: object) -> Callable[[list[str]], Answer]:
    """Answer a status with a JSON response that names nobody."""
    return lambda uids: Answer(status, as_json(response(**named)))  # type: ignore[arg-type]


def test_an_honest_pacs_gets_the_bytes_and_proves_them(pacs, sender) -> None:
    """The measure for all that follows."""
    assert outcomes(sender, SLICES) == STORED
    assert verdict(sender, SLICES).ending is Ending.DELIVERED
    assert pacs.bodies == [[i.uid for i in SLICES]]


NOTHING_SHOWN = {
    "stored-said-nothing-kept": (keeps(answer=lambda u: Answer(200, as_json(response(u)))), STORED),
    "200-empty": (keeps(answer=lambda u: Answer(200)), [Outcome.UNKNOWN] * 3),
    "200-empty-object": (keeps(answer=lambda u: Answer(200, b"{}")), [Outcome.UNKNOWN] * 3),
    "204": (keeps(answer=lambda u: Answer(204)), [Outcome.UNKNOWN] * 3),
    "random-uids": (
        keeps(answer=lambda u: Answer(200, as_json(response(["1.2.3"], {"4.5.6": 272})))),
        [Outcome.UNKNOWN] * 3,
    ),
    "html-login-page": (
        keeps(answer=lambda u: Answer(200, b"<html><p>Sign in</html>", "text/html")),
        [Outcome.UNKNOWN] * 3,
    ),
    "text": (keeps(answer=lambda u: Answer(200, b"OK", "text/plain")), [Outcome.UNKNOWN] * 3),
    "bad-json": (keeps(answer=lambda u: Answer(200, b'{"00081199": ')), [Outcome.UNKNOWN] * 3),
    "entities": (
        keeps(
            answer=lambda u: Answer(
                200, b"<!DOCTYPE x [<!ENTITY a '2.25'>]>" + as_xml(u).split(b"?>")[1].replace(b"2.25", b"&a;")
            )
        ),
        [Outcome.UNKNOWN] * 3,
    ),
    "entities-in-utf-16": (
        keeps(
            answer=lambda u: Answer(
                200,
                ("<!DOCTYPE x [<!ENTITY a '2.25'>]>" + as_xml(u).decode().split("?>")[1]).encode("utf-16-le"),
            )
        ),
        [Outcome.UNKNOWN] * 3,
    ),
    "409-all-refused": (
        keeps(answer=lambda u: Answer(409, as_json(response([], dict.fromkeys(u, 0xA900))))),
        [Outcome.REJECTED] * 3,
    ),
    "409-full": (
        keeps(answer=lambda u: Answer(409, as_json(response([], dict.fromkeys(u, 0xA700))))),
        [Outcome.RETRY] * 3,
    ),
    "409-exists-azure": (
        keeps(answer=lambda u: Answer(409, as_json(response([], dict.fromkeys(u, 45070))))),
        [Outcome.UNKNOWN] * 3,
    ),
    "both-stored-and-failed": (
        keeps(answer=lambda u: Answer(202, as_json(response(u, dict.fromkeys(u, 272))))),
        [Outcome.UNKNOWN] * 3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NOTHING_SHOWN)
def test_an_answer_without_the_images_is_no_delivery(pacs, sender, case: str) -> None:
    """Each of these answers has passed for success in some router."""
    behaviour, expected = NOTHING_SHOWN[case]
    pacs.posts = [behaviour]

    assert outcomes(sender, SLICES) == expected
    judged = verdict(sender, SLICES)
    assert judged.ending is None
    assert len(judged.missing) == 3


PROVEN_ANYWAY = {
    "200-empty": lambda u: Answer(200),
    "204": lambda u: Answer(204),
    "html": lambda u: Answer(200, b"<html>", "text/html"),
    "409-exists": lambda u: Answer(409, as_json(response([], dict.fromkeys(u, 0x0111)))),
    "202-failed": lambda u: Answer(202, as_json(response([], dict.fromkeys(u, 272)))),
}


@pytest.mark.parametrize("case", PROVEN_ANYWAY)
def test_what_the_pacs_shows_counts_whatever_it_said(pacs, sender, case: str) -> None:
    """A lost or wrong answer must not keep a study from ending for ever."""
    pacs.posts = [keeps(0, 1, 2, answer=PROVEN_ANYWAY[case])]

    assert Outcome.STORED not in outcomes(sender, SLICES)
    assert verdict(sender, SLICES).ending is Ending.DELIVERED


def test_of_a_partial_answer_each_instance_has_its_own_outcome(pacs, sender) -> None:
    """202 means: read on."""
    pacs.posts = [
        keeps(0, answer=lambda u: Answer(202, as_json(response([u[0]], {u[1]: 0xC122, u[2]: 0xA701}))))
    ]

    results = sender.store(SLICES)

    assert [r.outcome for r in results] == [Outcome.STORED, Outcome.REJECTED, Outcome.RETRY]
    assert [r.code for r in results] == ["", "C122", "A701"]
    assert results[1].detail == "The PACS does not accept the way in which this image is coded."
    judged = verdict(sender, SLICES)
    assert [i.uid for i, _ in judged.proven] == [FIRST.uid]
    assert judged.ending is None


def test_a_400_with_names_is_read_and_the_unnamed_is_sent_alone(pacs, sender) -> None:
    """Orthanc answers 400 when one part is unreadable, and has stored the others."""
    pacs.posts = [
        keeps(0, 2, answer=lambda u: Answer(400, as_json(response([u[0], u[2]])))),
        keeps(answer=lambda u: Answer(400, as_json(response()))),
    ]

    results = sender.store(SLICES)

    assert [r.outcome for r in results] == [Outcome.STORED, Outcome.REJECTED, Outcome.STORED]
    assert pacs.bodies == [[i.uid for i in SLICES], [SECOND.uid]]
    assert results[1].code == "http-400"


@pytest.mark.parametrize("status", [400, 409, 415, 422, 500])
def test_one_bad_instance_does_not_hold_up_its_neighbours(pacs, sender, status: int) -> None:
    """An answer without names to a batch is asked again for each instance alone."""

    def spoiled(state: LyingPacs, parts: dict[str, bytes]) -> Answer:
        if SECOND.uid in parts:
            return Answer(status, b"error", "text/plain")
        state.keep(parts)
        return Answer(200, as_json(response(list(parts))))

    pacs.posts = [spoiled] * 4

    sent = outcomes(sender, SLICES)

    bad = Outcome.RETRY if status == 500 else Outcome.REJECTED
    assert sent == [Outcome.STORED, bad, Outcome.STORED]


def test_after_a_failed_batch_nothing_is_sent_twice_that_is_there(pacs, sender) -> None:
    """Some archives lose a file that they receive twice; so the PACS is asked first."""
    pacs.posts = [keeps(0, 1, answer=lambda u: Answer(500, b"oops", "text/plain"))]

    sent = outcomes(sender, SLICES)

    assert pacs.bodies == [[i.uid for i in SLICES], [THIRD.uid]]
    assert sent == [Outcome.RETRY, Outcome.RETRY, Outcome.STORED]
    assert verdict(sender, SLICES).may_end


def test_a_failure_without_a_name_is_found_by_sending_alone(pacs, sender) -> None:
    """Other Failures Sequence: the archive could not read whose it was."""
    pacs.posts = [
        keeps(0, 1, answer=lambda u: Answer(202, as_json(response(u[:2], others=[0xC000])))),
        keeps(answer=lambda u: Answer(409, as_json(response(others=[0xC499])))),
    ]

    results = sender.store(SLICES)

    assert [r.outcome for r in results] == [Outcome.STORED, Outcome.STORED, Outcome.REJECTED]
    assert results[2].code == "C499"


def test_a_warning_is_told_and_the_instance_is_there(pacs, sender) -> None:
    """The archive changed something; a person may want to know."""
    pacs.posts = [keeps(0, 1, 2, answer=lambda u: Answer(202, as_json(response(u, warnings={u[1]: 0xB000}))))]

    results = sender.store(SLICES)

    assert [r.outcome for r in results] == [Outcome.STORED, Outcome.STORED_WITH_WARNING, Outcome.STORED]
    assert results[1].code == "B000"


@pytest.mark.parametrize(
    "content_type", ["application/dicom+xml", "application/dicom+xml; charset=utf-8", "text/xml"]
)
def test_an_xml_answer_is_understood(pacs, sender, content_type: str) -> None:
    """Some answer in XML whatever is asked for."""
    pacs.posts = [keeps(0, 1, answer=lambda u: Answer(202, as_xml(u[:2], {u[2]: 0xA900}), content_type))]

    assert outcomes(sender, SLICES) == [Outcome.STORED, Outcome.STORED, Outcome.REJECTED]


@pytest.mark.parametrize(
    ("content_type", "wrap"),
    [
        ("application/dicom+json; charset=utf-8", lambda v: as_json(v)),
        ("application/json", lambda v: as_json([v])),
        ("text/html", lambda v: b"\xef\xbb\xbf \r\n" + as_json(v)),
    ],
)
def test_a_json_answer_is_understood_in_any_dress(pacs, sender, content_type, wrap) -> None:
    """Parameters, an array around it, a byte order mark, a wrong type."""
    pacs.posts = [keeps(0, 1, 2, answer=lambda u: Answer(200, wrap(response(u)), content_type))]

    assert outcomes(sender, SLICES) == STORED


@pytest.mark.parametrize("status", [408, 425, 429, 502, 503, 504, 507])
def test_a_busy_pacs_is_left_alone_for_as_long_as_it_asks(pacs, sender, status: int) -> None:
    """Not the study's fault: the destination waits."""
    pacs.posts = [Answer(status, b"later", "text/plain", {"Retry-After": "120"})]

    with pytest.raises(DestinationBusy) as busy:
        sender.store(SLICES)

    assert busy.value.retry_after_s == 120
    assert busy.value.retry
    assert not verdict(sender, SLICES).may_end


def test_after_503_the_second_attempt_carries_the_full_bytes(pacs, sender) -> None:
    """A client that re-posts a used-up stream sends nothing and hears 200: the worst loss there is."""
    pacs.posts = [Answer(503, b"", "text/plain", {"Retry-After": "0"})]
    large = [outgoing(made_slice(99, n, octets=1_500_000)) for n in (1, 2)]

    with pytest.raises(DestinationBusy):
        sender.store(large)
    sent = outcomes(sender, large)

    assert sent == [Outcome.STORED] * 2
    assert pacs.lengths[0] == pacs.lengths[1] > 3_000_000
    assert {hashlib.sha256(kept).digest() for kept in pacs.kept.values()} == {i.sha256 for i in large}
    assert verdict(sender, large).ending is Ending.DELIVERED


@pytest.mark.parametrize("status", [401, 403, 407])
def test_refused_credentials_pause_the_destination_not_the_study(pacs, sender, status: int) -> None:
    """A person must renew them; no study is to blame."""
    pacs.posts = [Answer(status, b"no", "text/plain")]

    with pytest.raises(DestinationLocked):
        sender.store(SLICES)

    pacs.query_status = status
    with pytest.raises(DestinationLocked):
        sender.present(FIRST.study_uid)


@pytest.mark.parametrize("status", [300, 404, 405, 501])
def test_an_address_without_a_service_is_a_matter_of_the_destination(pacs, sender, status: int) -> None:
    """No study is to blame, and none is marked as refused."""
    pacs.posts = [Answer(status, b"", "text/html")]

    with pytest.raises(DestinationUnreachable):
        sender.store(SLICES)

    assert len(pacs.bodies) == 1


@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_is_not_followed(pacs, sender, status: int) -> None:
    """A captive portal redirects everything; neither images nor UIDs nor credentials may follow it."""
    outcomes(sender, [FIRST])
    with lying_pacs() as portal:
        portal.kept = dict(pacs.kept)
        pacs.redirect_to = portal.url
        pacs.posts = [Answer(status)]
        with pytest.raises(DestinationUnreachable):
            sender.store([SECOND])
        pacs.read_status = status
        assert verdict(sender, [FIRST]).missing
        pacs.query_status = status
        with pytest.raises(DestinationUnreachable):
            sender.present(FIRST.study_uid)

        assert portal.asked == 0


@pytest.mark.parametrize("after", [0, 100, 3000])
def test_a_line_that_drops_while_sending_leaves_nothing_assumed(pacs, sender, after: int) -> None:
    """The next attempt asks first, then sends the rest with its full bytes."""
    pacs.posts = [Hangup(after)]
    large = [outgoing(made_slice(77, n, octets=400_000)) for n in range(3)]

    with pytest.raises(DestinationUnreachable):
        sender.store(large)
    assert not verdict(sender, large).may_end

    assert outcomes(sender, large) == STORED
    assert verdict(sender, large).may_end


def test_nobody_at_the_address_is_unreachable() -> None:
    """No network is the ordinary case."""
    with lying_pacs() as gone:
        url = gone.url
    sender = DicomWebDestination(url, idle_s=2)

    with pytest.raises(DestinationUnreachable):
        sender.store(SLICES)
    with pytest.raises(DestinationUnreachable):
        sender.prove(FIRST.study_uid, SLICES, Evidence.READ_BACK)
    sender.close()


def test_requests_that_are_too_large_are_halved_and_that_is_remembered(pacs) -> None:
    """Many a proxy takes 1 MB by default and tells nobody."""
    sender = DicomWebDestination(pacs.url, limits=Limits(instances=16), idle_s=5)
    instances = [outgoing(made_slice(55, n, octets=20_000)) for n in range(64)]
    pacs.largest = 130_000

    sent = outcomes(sender, instances)

    refused = [length for length in pacs.lengths if length > pacs.largest]
    assert set(sent) == {Outcome.STORED}
    # It tries 16 images, then 8, and once more when it has grown again; then it stays below.
    assert len(refused) <= 3 < len(pacs.lengths) - len(refused)
    assert max(pacs.lengths[-5:]) <= pacs.largest
    assert verdict(sender, instances).may_end
    sender.close()


def test_a_single_image_that_is_too_large_is_a_matter_for_a_person(pacs, sender) -> None:
    """No waiting makes it smaller."""
    pacs.largest = 10_000
    small, large = outgoing(made_slice(56, 1)), outgoing(made_slice(56, 2, octets=20_000))

    results = sender.store([small, large])

    assert [r.outcome for r in results] == [Outcome.STORED, Outcome.REJECTED]
    assert results[1].code == "http-413"


def _wrong_pixels(part10: bytes) -> bytes:
    return part10[:-1] + bytes([part10[-1] ^ 1])


def _other_patient(part10: bytes) -> bytes:
    return part10.replace(b"Doe^Made", b"Doe^Jane")


@pytest.mark.parametrize("changed", [_wrong_pixels, _other_patient])
def test_content_that_comes_back_changed_is_a_conflict(pacs, sender, changed) -> None:
    """One flipped bit, or another patient's name, and the last copy is not erased."""
    outcomes(sender, SLICES)
    pacs.given_back = changed

    judged = verdict(sender, SLICES)

    assert judged.ending is None
    assert len(judged.conflicts) == 3


def _new_meta(part10: bytes) -> bytes:
    """Rewrite preamble and group 0002 as dcm4chee and Azure do; the data set stays byte for byte."""
    meta_end = 144 + int.from_bytes(part10[140:144], "little")
    written_by_them = written(pydicom.dcmread(BytesIO(part10)))
    their_end = 144 + int.from_bytes(written_by_them[140:144], "little")
    return b"P" * 128 + written_by_them[128:their_end] + part10[meta_end:]


def _implicit(part10: bytes) -> bytes:
    data_set = pydicom.dcmread(BytesIO(part10))
    return written(data_set, pydicom.uid.ImplicitVRLittleEndian)


@pytest.mark.parametrize("rewritten", [_new_meta, _implicit])
def test_the_same_data_set_in_another_dress_is_proof(pacs, sender, rewritten) -> None:
    """Archives rewrite the file's head, or the coding of its elements; the image is the same."""
    parts = {i.uid: b"".join(i.open()) for i in SLICES}
    assert all(rewritten(part10) != part10 for part10 in parts.values())
    outcomes(sender, SLICES)
    pacs.given_back = rewritten

    assert verdict(sender, SLICES).ending is Ending.DELIVERED


def test_once_seen_to_rewrite_a_series_is_still_read_in_one_request(pacs, sender) -> None:
    """Asking for each slice of a large CT apart would take hours on a slow line."""
    pacs.given_back = _new_meta
    outcomes(sender, SLICES)
    assert verdict(sender, SLICES).may_end
    pacs.reads.clear()

    assert verdict(sender, SLICES).may_end
    assert len(pacs.reads) == 1


def test_attributes_that_a_destination_is_known_to_coerce_are_no_conflict(pacs) -> None:
    """Only those that are recorded for it."""
    pacs.given_back = _other_patient
    coercing = DicomWebDestination(pacs.url, idle_s=5, coerced=frozenset({0x00100010}))
    outcomes(coercing, SLICES)

    assert verdict(coercing, SLICES).may_end

    pacs.given_back = lambda part10: _wrong_pixels(_other_patient(part10))
    assert verdict(coercing, SLICES).conflicts
    coercing.close()


def test_a_read_back_that_is_cut_off_proves_only_what_came_whole(pacs, sender) -> None:
    """The first image came whole, the second did not."""
    outcomes(sender, SLICES)
    pacs.cut_answers = FIRST.size + 300

    proofs = sender.prove(FIRST.study_uid, SLICES, Evidence.READ_BACK)

    # Single answers fit; the series answer did not.
    assert proofs[FIRST.uid].level is Evidence.READ_BACK
    pacs.cut_answers = FIRST.size - 300
    with pytest.raises(DestinationUnreachable):
        sender.prove(FIRST.study_uid, SLICES, Evidence.READ_BACK)


@pytest.mark.parametrize("status", [404, 406, 410, 500])
def test_what_is_listed_but_not_given_back_is_not_proven(pacs, sender, status: int) -> None:
    """The index of the archive knows it, its disk has lost it."""
    outcomes(sender, SLICES)
    pacs.read_status = status

    judged = verdict(sender, SLICES)

    assert judged.ending is None
    assert len(judged.missing) == 3
    assert outcomes(sender, SLICES) == [Outcome.UNKNOWN] * 3
    assert len(pacs.bodies) == 1


@pytest.mark.parametrize("status", [500, 503])
def test_a_query_that_fails_is_not_an_empty_study(pacs, sender, status: int) -> None:
    """Else everything would be sent again whenever the index hiccups."""
    outcomes(sender, SLICES)
    pacs.query_status = status

    with pytest.raises((DestinationBusy, DestinationUnreachable)):
        sender.store(SLICES)

    assert len(pacs.bodies) == 1


@pytest.mark.parametrize("page", [1, 2, 100, -1])
def test_a_query_is_read_to_its_last_page(pacs, sender, page: int) -> None:
    """Archives cap pages as they like, and some ignore the offset."""
    outcomes(sender, SLICES)
    pacs.page = page

    assert sender.present(FIRST.study_uid) == {i.uid for i in SLICES}


def test_a_slow_pacs_is_waited_for_as_long_as_it_goes_on(pacs) -> None:
    """The limit is on standing still, not on the whole exchange."""
    patient = DicomWebDestination(pacs.url, idle_s=0.5)
    outcomes(patient, SLICES)
    pacs.delay_s = 0.08

    assert verdict(patient, SLICES).may_end
    patient.close()


def test_a_pacs_that_stands_still_is_given_up(pacs) -> None:
    """One archive that hangs must not hang the forwarder."""
    released = threading.Event()

    def stuck(state: LyingPacs, parts: dict[str, bytes]) -> Answer:
        released.wait(10)
        return Answer(200)

    pacs.posts = [stuck]
    sender = DicomWebDestination(pacs.url, idle_s=0.3)

    with pytest.raises(DestinationUnreachable):
        sender.store(SLICES)

    released.set()
    sender.close()


def test_credentials_and_lengths_are_sent_and_encodings_are_named(pacs) -> None:
    """What archives insist on: an exact length, no chunks, an Accept, a boundary nobody can guess."""
    sender = DicomWebDestination(pacs.url, Auth(user="clinic", password="pä55", headers={"X-Site": "7"}))
    outcomes(sender, [FIRST])
    outcomes(sender, [SECOND])
    sender.close()

    one, two = pacs.headers
    assert one["Authorization"] == "Basic Y2xpbmljOnDDpDU1"
    assert one["X-Site"] == "7"
    assert one["Accept"] == "application/dicom+json"
    assert one["Transfer-Encoding"] is None
    assert one["Content-Type"].startswith('multipart/related; type="application/dicom"; boundary=')
    assert one["Content-Type"] != two["Content-Type"]
    assert Auth(bearer="token").as_headers() == {"Authorization": "Bearer token"}
    assert "pä55" not in repr(Auth(user="clinic", password="pä55"))


@pytest.mark.parametrize("length", [0, 100, FIRST.size + 1])
def test_an_instance_that_reads_back_short_here_is_not_sent_as_whole(pacs, sender, length: int) -> None:
    """A damaged store of ours must not become a damaged image there."""
    damaged = Outgoing(
        FIRST.study_uid, FIRST.uid, FIRST.sop_class, FIRST.syntax, FIRST.size, FIRST.sha256,
        lambda: iter([bytes(length)]),
    )  # fmt: skip

    with pytest.raises(StoreDamaged):
        sender.store([damaged])

    assert pacs.kept == {}


@pytest.mark.parametrize("url", ["", "pacs", "ftp://pacs/dicom", "http://"])
def test_an_impossible_url_is_told_at_once(url: str) -> None:
    """And not at the first study."""
    with pytest.raises(BadSettings):
        DicomWebDestination(url)


def test_nothing_of_the_patient_reaches_logs_or_errors(pacs, sender, caplog, recwarn) -> None:
    """URLs to the PACS hold UIDs, since DICOMweb wants them there; they must stay there."""
    caplog.set_level(logging.DEBUG, logger="node")
    told = []
    for behaviour in (Hangup(10), Answer(503), Answer(401), Answer(404), Answer(302)):
        pacs.posts = [behaviour]
        with pytest.raises(Exception) as error:
            sender.store(SLICES)
        told += traceback.format_exception(error.value)
    pacs.posts = [keeps(0, answer=lambda u: Answer(202, as_json(response(u[:1], {u[-1] + "0": 0xA900}))))]
    told += map(repr, sender.store(SLICES))
    pacs.given_back = _wrong_pixels
    told += map(repr, sender.prove(FIRST.study_uid, SLICES, Evidence.READ_BACK).values())
    pacs.cut_answers = 100
    with pytest.raises(DestinationUnreachable) as cut:
        sender.prove(FIRST.study_uid, SLICES, Evidence.READ_BACK)
    told += [*traceback.format_exception(cut.value), caplog.text, *map(str, recwarn), repr(SLICES)]

    text = "".join(told)
    assert caplog.records
    assert "2.25.4711" not in text
    assert "Doe" not in text
