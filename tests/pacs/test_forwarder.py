"""The forward job, hours and days in a moment: patience, turns, claims, forced changes, second looks."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.forwarders import DAY_MS, Forwarding, two_forwarders
from support.lying_pacs import Answer, Behaviour, Hangup, LyingPacs, as_json, honest, lying_pacs, response
from support.slices import made_slice

from node.config import Settings
from node.estimates import EXPANSION, RATE
from node.jobs.forward import Forwarder
from node.jobs.sweep import sweep
from node.store.queue import QueueEntry
from sync.bodies import Tombstone
from sync.ids import EntryId

STUDY = [made_slice(91, n) for n in range(1, 5)]
UIDS = [f"2.25.91.1.{n}" for n in range(1, 5)]
HOUR_MS = 3_600_000


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of a hundred, so that a few hundred small images make several."""
    monkeypatch.setattr("node.jobs.pieces._CHUNK_INSTANCES", 100)


@pytest.fixture
def pacs() -> Iterator[LyingPacs]:
    with lying_pacs() as served:
        yield served


@pytest.fixture
def node(tmp_path: Path, pacs: LyingPacs) -> Iterator[Forwarding]:
    one = Forwarding(tmp_path, *two_forwarders(), pacs.url)
    yield one
    one.close()


@pytest.fixture
def pair(tmp_path: Path, pacs: LyingPacs) -> Iterator[tuple[Forwarding, Forwarding]]:
    """Two forwarders of one mesh, with stores of their own."""
    mesh, members = two_forwarders()
    nodes = [Forwarding(tmp_path, mesh, members, pacs.url, name=name) for name in ("admin", "other")]
    nodes[1].hear(nodes[0])
    yield nodes[0], nodes[1]
    for one in nodes:
        one.close()


def files(study: int, count: int, octets: int = 2048) -> list[bytes]:
    return [made_slice(study, n, octets=octets) for n in range(1, count + 1)]


def test_without_a_destination_nothing_is_opened_and_nothing_is_missed(
    tmp_path: Path, pacs: LyingPacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node without a PACS opened each study every five seconds, and read the whole queue each time."""
    mesh, members = two_forwarders()
    other = Forwarding(tmp_path / "other", mesh, members, pacs.url, name="other")
    entry = other.keep(STUDY, destination="")
    opened: list[EntryId] = []
    whole = Forwarder._open

    def counting(self: Forwarder, held: QueueEntry, *more: Any) -> Any:
        opened.append(held.entry)
        return whole(self, held, *more)

    monkeypatch.setattr(Forwarder, "_open", counting)
    other.run(rounds=5, between_ms=60_000)
    before = list(opened)
    admin = Forwarding(tmp_path / "admin", mesh, members, pacs.url)
    other.hear(admin)
    other.until_ended(entry)
    for one in (other, admin):
        one.close()

    assert (before, set(opened)) == ([], {entry})


# -- patience -------------------------------------------------------------------------------------


def test_nothing_is_given_up_in_a_month_of_bad_days(node: Forwarding, pacs: LyingPacs) -> None:
    """Other routers stop after an hour. There is no cap on tries, and the tries do not hammer."""
    entry = node.keep(STUDY)
    pacs.posts = [Answer(503)] * 10_000
    node.run(rounds=40, between_ms=18 * HOUR_MS)

    assert node.setback(entry) == "pacs-busy"
    assert node.view(entry).tombstone is None
    assert len(pacs.bodies) == 40

    pacs.posts.clear()
    node.until_ended(entry)
    assert node.state(entry) == "delivered"


def test_retry_after_is_kept(node: Forwarding, pacs: LyingPacs) -> None:
    """An archive that asks for two hours is left alone for two hours."""
    entry = node.keep(STUDY)
    pacs.posts = [Answer(429, b"", "text/plain", {"Retry-After": "7200"})]
    node.run(rounds=8, between_ms=14 * 60_000)
    assert len(pacs.bodies) == 1

    node.run(rounds=2, between_ms=14 * 60_000)
    assert node.state(entry) == "delivered"


@pytest.mark.parametrize(
    ("answer", "setback"),
    [
        (Answer(503), "pacs-busy"),
        (Answer(401), "credentials"),
        (Hangup(10), "no-network"),
        (Answer(200), "study"),  # it says nothing, and keeps nothing
        (lambda p, parts: Answer(409, as_json(response([], dict.fromkeys(parts, 0xA700)))), "pacs-busy"),
        (lambda p, parts: Answer(409, as_json(response([], dict.fromkeys(parts, 0xA900)))), "study"),
    ],
)
def test_each_setback_is_told_from_the_others(
    node: Forwarding, pacs: LyingPacs, answer: Behaviour, setback: str
) -> None:
    """Whom to call: the network's people, the PACS's, whoever knows the password, or a radiographer."""
    entry = node.keep(STUDY)
    pacs.posts = [answer]

    node.run()

    assert node.setback(entry) == setback
    assert node.view(entry).tombstone is None


def test_refused_credentials_rest_the_destination_and_no_study_is_blamed(
    node: Forwarding, pacs: LyingPacs
) -> None:
    """Twenty studies do not try a wrong password twenty times; that locks accounts."""
    entries = [node.keep(files(100 + n, 1)) for n in range(5)]
    pacs.posts = [Answer(401)] * 3
    node.run(rounds=3, between_ms=60_000)

    assert len(pacs.bodies) == 1
    assert [node.troubles(entry) for entry in entries] == [[]] * 5

    for entry in entries:
        node.until_ended(entry)


def test_a_bad_study_never_holds_up_the_next(node: Forwarding, pacs: LyingPacs) -> None:
    """Its images fail each time; the others go on in the same run."""
    bad, good = node.keep(files(101, 2)), node.keep(files(102, 2))

    def spoiled(state: LyingPacs, parts: dict[str, bytes]) -> Answer:
        if any(uid.startswith("2.25.101.") for uid in parts):
            return Answer(500, b"<html>oops</html>", "text/html")
        return honest(state, parts)

    pacs.posts = [spoiled] * 50
    node.run()

    assert node.state(good) == "delivered"
    assert node.view(bad).tombstone is None
    assert node.setback(bad) == "study"


def test_an_urgent_study_goes_before_the_rest_of_a_large_one(node: Forwarding, pacs: LyingPacs) -> None:
    """A trauma arrives while 220 slices are on their way: it waits for one chunk, not for all."""
    large = node.keep(files(103, 220))
    urgent: list[EntryId] = []

    def arrives(state: LyingPacs, parts: dict[str, bytes]) -> Answer:
        if not urgent:
            urgent.append(node.keep(files(104, 1), urgent=True))
        return honest(state, parts)

    pacs.posts = [arrives] * 1000
    node.run()

    sent = [uid for body in pacs.bodies for uid in body]
    assert sent.index("2.25.104.1.1") == 100
    assert len(sent) == len(set(sent)) == 221
    assert {node.state(large), node.state(urgent[0])} == {"delivered"}


def test_a_study_of_hours_lets_a_small_one_pass(node: Forwarding, pacs: LyingPacs) -> None:
    """On a slow line the queue behind a CT would stand for a day."""
    large, small = node.keep(files(105, 220)), node.keep(files(106, 1))

    def slow(state: LyingPacs, parts: dict[str, bytes]) -> Answer:
        node.clock.advance(2 * 60_000)
        return honest(state, parts)

    pacs.posts = [slow] * 1000
    node.run()

    sent = [uid for body in pacs.bodies for uid in body]
    assert sent.index("2.25.106.1.1") == 100
    assert len(sent) == len(set(sent))
    assert {node.state(large), node.state(small)} == {"delivered"}


def test_nothing_that_is_proven_is_sent_again_after_a_power_cut(node: Forwarding, pacs: LyingPacs) -> None:
    """Cut in the third chunk of three: the first two are done, for ever."""
    entry = node.keep(files(107, 220))

    def cut(state: LyingPacs, parts: dict[str, bytes]) -> Answer:
        if len(state.kept) >= 200:
            raise ConnectionResetError
        return honest(state, parts)

    pacs.posts = [cut] * 50
    node.run()
    proven, reads = set(pacs.kept), len(pacs.reads)
    assert len(proven) == 200

    node.restart()
    pacs.posts.clear()
    node.until_ended(entry)

    sent = [uid for body in pacs.bodies for uid in body]
    assert [uid for uid in proven if sent.count(uid) > 1] == []
    assert len(pacs.reads) - reads < 60  # and what was read back is not read again
    assert len(pacs.kept) == 220


def test_a_limit_that_was_learnt_outlives_a_restart(node: Forwarding, pacs: LyingPacs) -> None:
    """A proxy that takes 100 kB: after a restart no request is too large once more."""
    pacs.largest = 100_000
    node.until_ended(node.keep(files(108, 12, octets=20_000)))
    assert max(pacs.lengths) > pacs.largest
    node.restart()
    pacs.lengths.clear()

    node.until_ended(node.keep(files(109, 12, octets=20_000)))

    assert max(pacs.lengths) <= pacs.largest


def test_an_image_that_is_too_large_is_not_sent_over_and_over(node: Forwarding, pacs: LyingPacs) -> None:
    """On a line that is paid by the byte, a 200 MB image that is refused each hour costs a fortune."""
    pacs.largest = 10_000
    entry = node.keep([made_slice(110, 1), made_slice(110, 2, octets=20_000)])
    node.run(rounds=10, between_ms=2 * HOUR_MS)
    assert node.troubles(entry) == [("rejected", 1)]
    assert sum(length > 10_000 for length in pacs.lengths) <= 2  # with its neighbour, then alone

    pacs.largest = None
    node.decide(entry, "retry")
    node.run()
    assert node.state(entry) == "delivered"


# -- two forwarders -------------------------------------------------------------------------------


def test_two_forwarders_that_see_each_other_send_a_study_once(
    pair: tuple[Forwarding, Forwarding], pacs: LyingPacs
) -> None:
    """Both have it whole; who claims it first, delivers it. The other waits, then hears that it is done."""
    one, two = pair
    entry = one.keep(files(120, 3))
    two.hear(one)

    def both(state: LyingPacs, parts: dict[str, bytes]) -> Answer:
        if not state.kept:
            two.hear(one)
            assert two.run() == 0
        return honest(state, parts)

    pacs.posts = [both]
    assert one.run() == 1
    two.hear(one)
    assert two.run() == 0

    assert len(pacs.bodies) == 1
    assert two.state(entry) == "delivered"


def test_two_forwarders_that_do_not_see_each_other_do_no_harm(
    pair: tuple[Forwarding, Forwarding], pacs: LyingPacs
) -> None:
    """A village without a link, and a laptop in town: the PACS keeps one copy, and both tell the truth."""
    one, two = pair
    entry = one.keep(files(121, 3))
    two.hear(one)

    assert one.run() == 1
    assert two.run() == 1

    assert len(pacs.bodies) == 1  # the second asked first, and sent nothing
    one.hear(two)
    two.hear(one)
    assert {one.state(entry), two.state(entry)} == {"delivered"}
    assert one.view(entry).tombstone == two.view(entry).tombstone
    assert len(pacs.kept) == 3


def test_two_forwarders_at_the_very_same_time_lose_nothing(
    pair: tuple[Forwarding, Forwarding], pacs: LyingPacs
) -> None:
    """Neither sees the other, and the second begins while the first one's request is under way."""
    one, two = pair
    entry = one.keep(files(122, 3))
    two.hear(one)

    def meanwhile(state: LyingPacs, parts: dict[str, bytes]) -> Answer:
        assert two.run() == 1
        return honest(state, parts)

    pacs.posts = [meanwhile]
    assert one.run() == 1

    one.hear(two)
    assert one.state(entry) == "delivered"
    assert len(pacs.kept) == 3


def test_a_forwarder_that_died_with_a_claim_is_replaced(
    pair: tuple[Forwarding, Forwarding], pacs: LyingPacs
) -> None:
    """Its laptop was stolen on the way; ten minutes later the other one goes on."""
    one, two = pair
    entry = one.keep(files(123, 3))
    one.forwarder._claims.take(entry, 3)
    two.hear(one)

    assert two.run(rounds=3, between_ms=60_000) == 0
    two.clock.advance(10 * 60_000)
    two.until_ended(entry, hours=2)
    assert two.state(entry) == "delivered"


# -- afterwards -----------------------------------------------------------------------------------


def test_the_pacs_is_looked_at_once_more_after_a_day(node: Forwarding, pacs: LyingPacs) -> None:
    """And once is enough."""
    entry = node.keep(STUDY)
    node.until_ended(entry)
    asked = pacs.asked
    node.run(rounds=20, between_ms=HOUR_MS)
    assert pacs.asked == asked

    node.run(rounds=48, between_ms=HOUR_MS)
    assert pacs.asked == asked + 2  # a query and its empty second page
    look = node.queue.receipts.look(entry)
    assert look is not None and look.result == "there"


def test_an_index_that_hiccups_recalls_nothing(node: Forwarding, pacs: LyingPacs) -> None:
    """What is missing at one look and there an hour later was never lost."""
    entry = node.keep(STUDY)
    node.until_ended(entry)
    kept, pacs.kept = pacs.kept, {}
    node.run(rounds=2, between_ms=DAY_MS)
    pacs.kept = kept
    look = node.queue.receipts.look(entry)
    assert look is not None and look.missed == 4

    node.run(rounds=3, between_ms=HOUR_MS)

    look = node.queue.receipts.look(entry)
    assert look is not None and look.result == "there"
    assert node.state(entry) == "delivered"


def test_a_pacs_that_cannot_be_asked_is_asked_until_it_answers(node: Forwarding, pacs: LyingPacs) -> None:
    """No network on the second day is not a loss."""
    entry = node.keep(STUDY)
    node.until_ended(entry)
    pacs.query_status = 503
    node.run(rounds=40, between_ms=2 * HOUR_MS)
    assert node.state(entry) == "delivered"

    pacs.query_status = 200
    del pacs.kept[UIDS[0]]
    node.run(rounds=6, between_ms=2 * HOUR_MS)
    assert node.state(entry) == "recalled"
    node.run(rounds=2, between_ms=HOUR_MS)
    assert set(pacs.kept) == set(UIDS)


# -- the way to the PACS --------------------------------------------------------------------------


def test_a_way_that_is_paid_by_the_byte_carries_urgent_studies_and_the_budget(
    tmp_path: Path, pacs: LyingPacs
) -> None:
    """Routine studies wait for the next day once the day's budget is used; urgent ones go."""
    one = Forwarding(tmp_path, *two_forwarders(), pacs.url, metered=True, metered_mb_per_day=0.03)
    first, second = (one.keep(files(130 + n, 2, octets=20_000)) for n in range(2))
    urgent = one.keep(files(133, 2, octets=20_000), urgent=True)
    one.run(rounds=3, between_ms=60_000)

    states = {one.state(entry) for entry in (first, second)}
    assert one.state(urgent) == "delivered"
    assert "delivered" not in states
    one.clock.advance(DAY_MS)
    one.run()
    one.clock.advance(DAY_MS)
    one.run()
    assert {one.state(first), one.state(second)} == {"delivered"}
    one.close()


def test_what_was_proven_and_is_gone_before_the_end_is_sent_again(node: Forwarding, pacs: LyingPacs) -> None:
    """Seen with a real archive whose full disk was replaced in mid-study: the early images were lost."""

    def fills_up(state: LyingPacs, parts: dict[str, bytes]) -> Answer:
        first, *rest = parts
        state.keep({first: parts[first]})
        return Answer(202, as_json(response([first], dict.fromkeys(rest, 0xA700))))

    pacs.posts = [fills_up]
    entry = node.keep(STUDY)
    node.run()
    assert node.queue.proofs(entry)[0].evidence == "read-back"
    pacs.kept.clear()

    node.until_ended(entry)

    assert node.state(entry) == "delivered"
    assert pacs.kept == dict(zip(UIDS, STUDY, strict=True))


def test_what_leaves_is_held_back_to_the_limit_and_measured(tmp_path: Path, pacs: LyingPacs) -> None:
    """A clinic's line is for its people, too: 200 kB at 800 kbit/s take two seconds, not less."""
    one = Forwarding(tmp_path, *two_forwarders(), pacs.url, uplink_kbit_s=800)
    started = time.monotonic()
    entry = one.keep(files(140, 10, octets=20_000))
    one.run()
    lasted = time.monotonic() - started

    assert one.state(entry) == "delivered"
    assert lasted > 1.9
    assert 0 < one.notes.number(RATE) <= 110_000
    assert one.notes.number(EXPANSION) >= 90
    one.close()


# -- withdrawn meanwhile --------------------------------------------------------------------------


def withdraw(node: Forwarding, entry: EntryId) -> None:
    """Take a study back, as the node that took it in does."""
    view = node.view(entry)
    assert view.study is not None and view.announced is not None
    body = Tombstone("withdrawn", "main", "", 0, 0, None, 1, view.announced.origin, view.study.raw)
    node.facts.issue(body, entry)


def sends_two(pacs: LyingPacs, parts: dict[str, bytes]) -> Answer:
    first, second, *rest = parts
    pacs.keep({first: parts[first], second: parts[second]})
    return Answer(202, as_json(response([first, second], dict.fromkeys(rest, 0xA700))))


def test_a_withdrawn_study_is_kept_until_the_pacs_was_asked_how_much_of_it_came(
    node: Forwarding, pacs: LyingPacs
) -> None:
    """The answer was lost with the line: two images are there, and nobody knew."""

    def lost(state: LyingPacs, parts: dict[str, bytes]) -> Answer:
        sends_two(state, parts)
        raise ConnectionResetError

    pacs.posts = [lost]
    entry = node.keep(STUDY)
    node.run()
    withdraw(node, entry)
    pacs.query_status = 503
    node.run(rounds=3, between_ms=HOUR_MS)
    assert sweep(node.holdings, node.notes, Settings(hold_hours=0, reserve_gb=0), node.clock) == 0

    pacs.query_status = 200
    node.run()
    ending = node.view(entry).ending
    assert ending is not None
    assert (ending.outcome, ending.proven, ending.instances) == ("partly-delivered", 2, 4)
    assert sweep(node.holdings, node.notes, Settings(hold_hours=0, reserve_gb=0), node.clock) == 1


def test_a_pacs_that_never_answers_keeps_no_withdrawn_study_for_ever(
    node: Forwarding, pacs: LyingPacs
) -> None:
    """After three days what is known is said, and the study is erased here, too."""
    pacs.posts = [sends_two]
    entry = node.keep(STUDY)
    node.run()
    withdraw(node, entry)
    pacs.query_status = 503
    node.run(rounds=2, between_ms=HOUR_MS)
    assert node.state(entry) == "withdrawn"

    node.run(rounds=2, between_ms=4 * DAY_MS)
    assert node.state(entry) == "partly-delivered"
    assert sweep(node.holdings, node.notes, Settings(hold_hours=0, reserve_gb=0), node.clock) == 1


def test_of_a_withdrawn_study_of_which_nothing_came_nothing_is_said(
    node: Forwarding, pacs: LyingPacs
) -> None:
    """It was sent, and the PACS has none of it: withdrawn is the whole truth."""
    pacs.posts = [Hangup(500)]
    entry = node.keep(STUDY)
    node.run()
    withdraw(node, entry)
    node.run()

    assert node.state(entry) == "withdrawn"
    assert node.queue.proofs(entry) == {}
    assert sweep(node.holdings, node.notes, Settings(hold_hours=0, reserve_gb=0), node.clock) == 1
