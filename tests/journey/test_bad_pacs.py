"""A whole node against a PACS that lies, refuses and drops the line: no tombstone without proof."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.lying_pacs import Answer, Hangup, LyingPacs, as_json, honest, lying_pacs, response
from support.nodes import LocalNode, Refusal
from support.slices import made_slice

UIDS = [f"2.25.77.1.{number}" for number in range(1, 9)]
FILES = {f"IM{number}": made_slice(77, number, octets=20_000) for number in range(1, 9)}
KEPT = dict(zip(UIDS, FILES.values(), strict=True))


@pytest.fixture
def pacs() -> Iterator[LyingPacs]:
    with lying_pacs() as one:
        yield one


@pytest.fixture
def node(tmp_path: Path, pacs: LyingPacs) -> Iterator[LocalNode]:
    """A node that takes in and delivers by itself."""
    with LocalNode(tmp_path / "node") as one:
        one.init()
        one.start()
        one.add_pacs(pacs.url)
        yield one


def keeps_nothing(pacs: LyingPacs, parts: dict[str, bytes]) -> Answer:
    """Say that all is stored, and store nothing."""
    return Answer(200, as_json(response(list(parts))))


def refuses(*bad: str) -> Any:
    """Refuse some instances for good, keep the others, and say so with 202."""

    def answer(pacs: LyingPacs, parts: dict[str, bytes]) -> Answer:
        good = {uid: data for uid, data in parts.items() if uid not in bad}
        pacs.keep(good)
        failed = dict.fromkeys(set(parts) & set(bad), 0xA900)
        return Answer(202 if good else 409, as_json(response(list(good), failed)))

    return answer


def tombstones(node: LocalNode) -> int:
    return sum(state["evidence"] is not None for state in node.stories().values())


def wait_delivered(node: LocalNode, entry: str) -> Any:
    node.wait(lambda: node.state(entry) == "delivered", "to deliver")
    node.wait(lambda: not node.blobs(), "to erase")
    return node.story(entry)["evidence"]


def test_a_200_is_no_proof(node: LocalNode, pacs: LyingPacs) -> None:
    """An archive that says "stored" and keeps nothing must not make us erase the last copy."""
    seen: list[tuple[int, int]] = []

    def look(pacs: LyingPacs, parts: dict[str, bytes]) -> Answer:
        seen.append((tombstones(node), len(node.blobs())))
        return honest(pacs, parts)

    pacs.posts = [keeps_nothing, look]

    (entry,) = node.submit(FILES)

    assert wait_delivered(node, entry)["proven"] == 8
    assert seen == [(0, 2)]
    assert pacs.kept == KEPT


def test_what_is_kept_altered_is_no_proof(node: LocalNode, pacs: LyingPacs) -> None:
    """One flipped bit in the archive is another image."""
    pacs.given_back = lambda part10: part10[:-1] + bytes([part10[-1] ^ 1])

    (entry,) = node.submit(FILES)
    node.wait(lambda: node.state(entry) == "troubled", "to ask a person")

    assert node.story(entry)["trouble"]["code"] == "conflict"
    assert tombstones(node) == 0
    assert node.blobs()


def test_a_busy_pacs_and_a_broken_line_only_cost_time(node: LocalNode, pacs: LyingPacs) -> None:
    """503, a line that drops in mid-body, then peace: everything arrives once, whole."""
    pacs.posts = [Answer(503, b"", "text/plain", {"Retry-After": "1"}), Hangup(30_000)]

    (entry,) = node.submit(FILES)

    evidence = wait_delivered(node, entry)
    assert (evidence["proven"], evidence["level"]) == (8, "read-back")
    assert pacs.kept == KEPT
    (_, *whole) = pacs.bodies  # the first was answered with 503
    assert sorted(uid for body in whole for uid in body) == sorted(UIDS)


def test_one_refused_image_is_for_a_person_and_holds_up_no_other(node: LocalNode, pacs: LyingPacs) -> None:
    """Seven of eight arrive; the eighth waits, here, until somebody has healed the PACS."""
    pacs.posts = [refuses(UIDS[3])] * 20

    (entry,) = node.submit(FILES)
    node.wait(lambda: node.state(entry) == "troubled", "to ask a person")

    assert pacs.kept == {uid: data for uid, data in KEPT.items() if uid != UIDS[3]}
    assert node.story(entry)["trouble"] | {"since": 0} == {"code": "rejected", "instances": 1, "since": 0}
    assert tombstones(node) == 0
    assert node.blobs()
    (other,) = node.submit({"IM": made_slice(78, 1)})
    node.wait(lambda: node.state(other) == "delivered", "to deliver the study behind it")

    decide(node, entry, "retry")  # nothing has changed at the PACS
    sent = len(pacs.bodies)
    node.wait(lambda: len(pacs.bodies) > sent, "another attempt")
    node.wait(
        lambda: node.state(entry) == "troubled" and node.troubles() == [(entry, "rejected", 1)], "again"
    )

    pacs.posts.clear()
    decide(node, entry, "retry")
    assert wait_delivered(node, entry)["outcome"] == "delivered"
    assert pacs.kept | KEPT == pacs.kept


def test_a_person_may_leave_out_as_much_as_was_shown_and_no_more(
    node: LocalNode, pacs: LyingPacs, tmp_path: Path
) -> None:
    """The decision was about one image. Another PACS refuses three of them: that is asked anew."""
    pacs.posts = [refuses(UIDS[3])] * 9
    (entry,) = node.submit(FILES, destination="main")
    node.wait(lambda: node.troubles() == [(entry, "rejected", 1)], "to ask a person")
    with lying_pacs() as second:
        second.posts = [refuses(*UIDS[:3])] * 9
        node.add_pacs(second.url, "second")
        pacs.query_status = 503
        with pytest.raises(Refusal, match="folder-missing"):
            decide(node, entry, "leave-out")
        decide(node, entry, "leave-out", folder=str(tmp_path / "out"))
        decide(node, entry, "destination", destination="second")
        node.wait(lambda: node.troubles() == [(entry, "rejected", 3)], "to ask a person again")
        assert tombstones(node) == 0

        decide(node, entry, "leave-out", folder=str(tmp_path / "out"))

        evidence = wait_delivered(node, entry)
        assert evidence["outcome"] == "delivered-with-exceptions"
        assert (evidence["proven"], evidence["instances"]) == (5, 8)
        assert second.kept == {uid: KEPT[uid] for uid in UIDS[3:]}
        written = {path.read_bytes() for path in (tmp_path / "out").rglob("*.dcm")}
        assert written == {KEPT[uid] for uid in UIDS[:4]}
        receipt = node.get(f"/api/v1/studies/{entry}/receipt")
        assert {one["uid"] for one in receipt["left_out"]} == set(UIDS[:3])
        assert {one["uid"]: one["level"] for one in receipt["instances"]} == dict.fromkeys(
            UIDS[3:], "read-back"
        )


def test_a_retry_that_brings_nothing_waits_its_turn(node: LocalNode, pacs: LyingPacs) -> None:
    """A person's word lets it be tried once at once, not hammered at."""
    pacs.posts = [refuses(UIDS[3])]
    (entry,) = node.submit(FILES)
    node.wait(lambda: node.state(entry) == "troubled", "to ask a person")
    sent = len(pacs.bodies)
    pacs.posts = [keeps_nothing] * 50

    decide(node, entry, "retry")
    node.wait(lambda: len(pacs.bodies) > sent, "another attempt")
    node.submit({"IM": made_slice(79, 1)})
    node.wait(lambda: any("2.25.79.1.1" in body for body in pacs.bodies), "the turn of another study")

    assert len(pacs.bodies) < sent + 4


def test_what_was_proven_at_one_pacs_is_not_proven_at_another(node: LocalNode, pacs: LyingPacs) -> None:
    """A person sends the study elsewhere after half of it arrived: all of it must arrive there."""
    pacs.posts = [refuses(UIDS[3])] * 20
    (entry,) = node.submit(FILES, destination="main")
    node.wait(lambda: node.state(entry) == "troubled", "to ask a person")
    with lying_pacs() as second:
        node.add_pacs(second.url, "second")

        decide(node, entry, "destination", destination="second")

        assert wait_delivered(node, entry)["proven"] == 8
        assert second.kept == KEPT


def decide(node: LocalNode, entry: str, decision: str, **more: str) -> None:
    body = {"entry_id": entry, "decision": decision, "person": "Dr Test", **more}
    node.ask("POST", "/api/v1/admin/decisions", body)
