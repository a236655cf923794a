"""Storage commitment over DICOMweb (PS3.18 chapter 13), where a destination demands it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.forwarders import Forwarding, two_forwarders
from support.lying_pacs import Answer, LyingPacs, as_json, lying_pacs, response
from support.slices import made_slice

from node.deliver.commitment import transaction_uid

FILES = [made_slice(401, n) for n in (1, 2)]
UIDS = [f"2.25.401.1.{n}" for n in (1, 2)]
COMMITS = lambda pacs, uids: Answer(200, as_json(response(UIDS)))  # noqa: E731
PENDING = lambda pacs, uids: Answer(202, b"", headers={"Retry-After": "900"})  # noqa: E731
UNKNOWN = lambda pacs, uids: Answer(404)  # noqa: E731


@pytest.fixture
def pacs() -> Iterator[LyingPacs]:
    with lying_pacs() as served:
        yield served


@pytest.fixture
def node(tmp_path: Path, pacs: LyingPacs) -> Iterator[Forwarding]:
    mesh, members = two_forwarders()
    one = Forwarding(tmp_path, mesh, members[:1], pacs.url, evidence="committed")
    yield one
    one.close()


def test_what_the_pacs_takes_responsibility_for_is_committed(node: Forwarding, pacs: LyingPacs) -> None:
    """Read back first, then asked for; the tombstone says the stronger of both."""
    asked: list[list[str]] = []

    def commits(state: LyingPacs, uids: list[str]) -> Answer:
        asked.append(uids)
        return Answer(200, as_json(response(uids)))

    pacs.commits = [UNKNOWN, commits]
    entry = node.keep(FILES)
    node.run()

    assert node.state(entry) == "delivered"
    assert node.view(entry).ending.evidence == "committed"  # type: ignore[union-attr]
    assert asked == [UIDS]
    assert pacs.commit_asked == ["GET", "POST"]
    assert pacs.reads


def test_an_answer_that_comes_a_quarter_of_an_hour_later_is_found_again(
    node: Forwarding, pacs: LyingPacs
) -> None:
    """The transaction is the same after a restart, so nothing is asked for twice."""
    pacs.commits = [UNKNOWN, PENDING, PENDING, COMMITS]
    entry = node.keep(FILES)
    node.run()
    assert node.view(entry).tombstone is None
    node.restart()
    node.run(rounds=4, between_ms=16 * 60_000)

    assert node.state(entry) == "delivered"
    assert pacs.commit_asked == ["GET", "POST", "GET", "GET"]
    assert len(pacs.bodies) == 1  # and no image was sent again


def test_what_is_not_committed_does_not_end(node: Forwarding, pacs: LyingPacs) -> None:
    """One of two failed: it is asked for again, and the study waits."""
    failed = lambda pacs, uids: Answer(200, as_json(response(UIDS[:1], {UIDS[1]: 0x0112})))  # noqa: E731
    pacs.commits = [UNKNOWN, failed]
    entry = node.keep(FILES)
    node.run()
    assert node.view(entry).tombstone is None

    pacs.commits = [UNKNOWN, lambda pacs, uids: Answer(200, as_json(response(uids)))]
    node.run(rounds=2, between_ms=60_000)
    assert node.state(entry) == "delivered"


def test_a_pacs_that_offers_none_is_told_to_a_person(node: Forwarding, pacs: LyingPacs) -> None:
    """It was demanded and cannot be had: no tombstone of something weaker."""
    entry = node.keep(FILES)
    node.run()

    assert node.troubles(entry) == [("evidence-not-offered", 2)]
    assert node.view(entry).tombstone is None
    assert set(pacs.kept) == set(UIDS)


@pytest.mark.parametrize("answer", [Answer(200, b"{}"), Answer(200, b"<html>", "text/html"), Answer(503)])
def test_an_answer_that_names_nobody_commits_nothing(
    node: Forwarding, pacs: LyingPacs, answer: Answer
) -> None:
    """A 200 is not a commitment either."""
    give: Callable[[LyingPacs, list[str]], Answer] = lambda pacs, uids: answer  # noqa: E731
    pacs.commits = [UNKNOWN, give]
    entry = node.keep(FILES)
    node.run()

    assert node.view(entry).tombstone is None
    assert node.troubles(entry) == []


def test_a_transaction_is_named_by_what_is_asked_for() -> None:
    """In any order."""
    assert transaction_uid(UIDS) == transaction_uid(reversed(UIDS)) != transaction_uid(UIDS[:1])
    assert transaction_uid(UIDS).startswith("2.25.")
    assert len(transaction_uid(UIDS)) <= 64
