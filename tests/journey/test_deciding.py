"""What people decide about a study: take it back, accept, recall; and what the node finds out by itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.lying_pacs import Answer, LyingPacs, as_json, honest, lying_pacs, response
from support.nodes import LocalNode, Refusal
from support.slices import made_slice

UIDS = [f"2.25.88.1.{number}" for number in range(1, 7)]
FILES = {f"IM{number}": made_slice(88, number, octets=20_000) for number in range(1, 7)}
KEPT = dict(zip(UIDS, FILES.values(), strict=True))
PERSON = {"person": "Dr Test", "reason": "wrong patient"}


@pytest.fixture
def pacs() -> Iterator[LyingPacs]:
    with lying_pacs() as one:
        yield one


@pytest.fixture
def node(tmp_path: Path, pacs: LyingPacs) -> Iterator[LocalNode]:
    """A node that takes in, delivers, holds for a while, and looks again after a moment."""
    with LocalNode(tmp_path / "node", hold_hours=1, second_look_hours=0.0003) as one:
        one.init()
        one.start()
        one.add_pacs(pacs.url)
        yield one


def keeps(*numbers: int) -> Any:
    """Keep some of a request, and refuse the others as if the disk were full."""

    def answer(pacs: LyingPacs, parts: dict[str, bytes]) -> Answer:
        good = {uid: data for number, (uid, data) in enumerate(parts.items()) if number in numbers}
        pacs.keep(good)
        failed = dict.fromkeys(set(parts) - set(good), 0xA700)
        return Answer(202, as_json(response(list(good), failed)))

    return answer


def test_a_study_is_taken_back_before_the_pacs_has_it(node: LocalNode, pacs: LyingPacs) -> None:
    """The wrong patient was confirmed, and nothing has left yet."""
    pacs.posts = [Answer(503)] * 50
    (entry,) = node.submit(FILES)

    node.ask("POST", f"/api/v1/studies/{entry}/withdraw", PERSON)

    node.wait(lambda: not pacs.kept and node.state(entry) == "withdrawn", "to be withdrawn")
    receipt = node.get(f"/api/v1/studies/{entry}/receipt")
    assert (receipt["person"], receipt["reason"]) == ("Dr Test", "wrong patient")
    with pytest.raises(Refusal, match="study-unknown"):
        node.ask("POST", f"/api/v1/studies/{entry}/withdraw", PERSON)


def test_what_had_arrived_is_told_when_a_study_is_taken_back(node: LocalNode, pacs: LyingPacs) -> None:
    """Two of six are in the PACS: somebody must ask the hospital to delete them."""
    pacs.posts = [keeps(1, 4)] * 50
    (entry,) = node.submit(FILES)
    node.wait(lambda: len(pacs.kept) == 2, "to send a part")
    node.wait(lambda: node.node.queue.get(bytes.fromhex(entry)).setback == "pacs-busy", "to be held up")

    node.ask("POST", f"/api/v1/studies/{entry}/withdraw", PERSON)

    node.wait(lambda: node.state(entry) == "partly-delivered", "to say how much had arrived")
    evidence = node.story(entry)["evidence"]
    assert (evidence["proven"], evidence["instances"]) == (2, 6)
    receipt = node.get(f"/api/v1/studies/{entry}/receipt")
    assert {one["uid"] for one in receipt["instances"]} == set(pacs.kept)


def test_a_delivery_beats_a_withdrawal(node: LocalNode, pacs: LyingPacs) -> None:
    """Taken back while the last image was on its way: the PACS has it all, and that is what is said."""
    withdrawn = []

    def late(pacs: LyingPacs, parts: dict[str, bytes]) -> Answer:
        node.ask("POST", f"/api/v1/studies/{entry}/withdraw", PERSON)
        withdrawn.append(True)
        return honest(pacs, parts)

    pacs.posts = [Answer(503)] * 50
    (entry,) = node.submit(FILES)
    pacs.posts = [late]
    node.ask("POST", "/api/v1/admin/decisions", {"entry_id": entry, "decision": "urgent", "person": "Dr T"})
    node.wait(lambda: node.state(entry) == "delivered", "to be delivered")

    assert withdrawn
    assert node.story(entry)["evidence"]["proven"] == 6


def test_what_the_pacs_loses_within_a_day_is_delivered_again_by_itself(
    node: LocalNode, pacs: LyingPacs
) -> None:
    """An archive is restored from last night's backup: two images are gone, and nobody notices but us."""
    (entry,) = node.submit(FILES)
    node.wait(lambda: node.state(entry) == "delivered", "to be delivered")
    for uid in UIDS[:2]:
        del pacs.kept[uid]

    node.wait(lambda: node.state(entry) == "recalled", "to be recalled")
    node.wait(lambda: pacs.kept == KEPT, "to be delivered again")
    (successor,) = set(node.stories()) - {entry}
    node.wait(lambda: node.state(successor) == "delivered", "to be proven again")

    assert sorted(pacs.bodies[-1]) == UIDS[:2]  # what was still there was not sent again
    assert node.get(f"/api/v1/studies/{entry}/receipt")["second_look"] == "recalled"


def test_a_person_recalls_what_the_pacs_does_not_have(node: LocalNode, pacs: LyingPacs) -> None:
    """The hospital deleted the study by mistake, a day later, and calls."""
    node.stop()
    node.settings["second_look_hours"] = 0
    node.write_settings()
    node.start()
    (entry,) = node.submit(FILES)
    node.wait(lambda: node.state(entry) == "delivered", "to be delivered")
    pacs.kept.clear()

    said = node.ask("POST", f"/api/v1/studies/{entry}/recall", PERSON)
    assert said["held_here"]

    node.wait(lambda: pacs.kept == KEPT, "to be delivered again")
    with pytest.raises(Refusal, match="not-delivered"):
        node.ask("POST", f"/api/v1/studies/{entry}/recall", PERSON)


def test_accepting_is_about_conflicts_and_leaves_the_original_in_the_receipt(
    node: LocalNode, pacs: LyingPacs
) -> None:
    """The radiographer corrected one image at the PACS: a person says that this one stands."""
    edited = KEPT[UIDS[0]][:-1] + bytes([KEPT[UIDS[0]][-1] ^ 1])
    pacs.kept = {UIDS[0]: edited}
    (entry,) = node.submit(FILES)
    node.wait(lambda: node.troubles() == [(entry, "conflict", 1)], "to ask a person")
    (told,) = node.get("/api/v1/troubles")["troubles"]
    assert told["reasons"] == [
        {
            "outcome": "conflict",
            "code": "other-content",
            "detail": "The PACS has another image under the same identifier.",
            "instances": [0],
        }
    ]

    body = {"entry_id": entry, "decision": "accept", "person": "Dr Test"}
    node.ask("POST", "/api/v1/admin/decisions", body)

    node.wait(lambda: node.state(entry) == "delivered", "to be delivered")
    assert node.story(entry)["evidence"]["outcome"] == "delivered-with-exceptions"
    assert pacs.kept[UIDS[0]] == edited
    receipt = node.get(f"/api/v1/studies/{entry}/receipt")
    assert [one["uid"] for one in receipt["left_out"]] == [UIDS[0]]


def test_what_keeps_a_study_and_when_it_arrives_is_told(node: LocalNode, pacs: LyingPacs) -> None:
    """Of a PACS that is busy that is said, and no arrival; of a line that was measured, when."""
    node.node.notes.set_numbers(uplink_bytes_per_s=1000)
    pacs.posts = [Answer(503)] * 50
    (entry,) = node.submit(FILES)
    node.wait(lambda: (node.story(entry)["delivery"] or {}).get("setback") == "pacs-busy", "to be held up")
    assert node.story(entry)["delivery"]["estimate_s"] is None
    assert node.get("/api/v1/status")["uplink"]["setbacks"] == {"pacs-busy": 1}

    node.node.queue.set_setback(bytes.fromhex(entry), failures=0, setback=None, try_at_ms=2**40)
    (told,) = node.get("/api/v1/studies")["studies"]
    # While a job notes its setback again, the number is asked for once more.
    node.wait(lambda: _estimate(node, entry) is not None, "to estimate the arrival")
    assert told["delivery"] is not None


def _estimate(node: LocalNode, entry: str) -> Any:
    node.node.queue.set_setback(bytes.fromhex(entry), failures=0, setback=None, try_at_ms=2**40)
    return node.story(entry)["delivery"]["estimate_s"]
