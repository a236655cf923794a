"""Delivery goes on until the PACS has it: fairly, patiently, urgent ones first."""

from itertools import pairwise, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.facts import entry_of, node_of

from sync.forwarding import (
    TURN_MS,
    Deliverable,
    choose,
    delay_after,
    estimate_s,
    gives_way,
    stands_back,
)


def _study(name: str, **what: object) -> Deliverable:
    return Deliverable(
        **({"entry": entry_of(name), "destination": "pacs", "urgent": False, "waiting_since": 5} | what)
    )  # type: ignore[arg-type]


def test_urgent_goes_first_then_the_longest_waiting() -> None:
    """Nobody waits for ever because somebody came later."""
    old, new = _study("old", waiting_since=1), _study("new", waiting_since=9)
    urgent = _study("urgent", urgent=True, waiting_since=10)
    for order in permutations([old, new, urgent]):
        assert choose(order, now=20) == urgent
    assert choose([new, old], now=20) == old
    assert choose([], now=20) is None


def test_a_study_that_failed_holds_up_no_other() -> None:
    """One broken study must not stop a clinic."""
    failed = _study("failed", urgent=True, waiting_since=1, try_at=100)
    other = _study("other")

    assert choose([failed, other], now=99) == other
    assert choose([failed, other], now=100) == failed


def test_a_paused_destination_and_a_claimed_study_wait() -> None:
    """A PACS that refuses our password is not asked a thousand times; two nodes do not send one study."""
    paused = _study("paused", destination="down")
    claimed = _study("claimed", claimed_by_other=True)

    assert choose([paused, claimed], now=20, paused=frozenset({"down"})) is None
    assert choose([paused, claimed], now=20) == paused


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 9)), max_size=8), st.integers(0, 9)
)
def test_whatever_is_ready_is_chosen_some_time(studies: list[tuple[bool, int, int]], now: int) -> None:
    """If one may go, one goes; and the choice is the same in any order."""
    given_ = [_study(str(n), urgent=u, waiting_since=w, try_at=t) for n, (u, w, t) in enumerate(studies)]
    chosen = choose(given_, now=now)

    assert (chosen is None) == (not any(d.try_at <= now for d in given_))
    assert choose(reversed(given_), now=now) == chosen


def test_waiting_doubles_to_half_an_hour_and_never_gives_up() -> None:
    """A PACS that is down for a week must not be flooded, nor forgotten."""
    waits = [delay_after(n, jitter=0.999999) for n in range(1, 12)]

    assert 4_990 < waits[0] <= 5_000
    assert all(later >= earlier for earlier, later in pairwise(waits))
    assert waits[-1] <= 1_800_000
    assert 0 < delay_after(10**9, jitter=0.0) == 900_000
    assert delay_after(0, jitter=0.5) == 0


@pytest.mark.parametrize("failures", [0, 1, 50])
def test_what_the_pacs_asks_for_is_kept(failures: int) -> None:
    """Retry-After is an answer of the destination (RFC 9110 §10.2.3)."""
    assert delay_after(failures, jitter=0.0, retry_after_ms=7_200_000) == 7_200_000


def test_a_delivery_stands_back_for_an_urgent_study_at_once_and_for_equals_after_its_time() -> None:
    """A study of hours on a slow line holds up nobody; what waits, is paused or claimed is no reason."""
    current = _study("current")

    def asked(*others: Deliverable, lasted_ms: int = 0, paused: frozenset[str] = frozenset()) -> bool:
        return stands_back(current, [current, *others], lasted_ms=lasted_ms, now=50, paused=paused)

    urgent, equal = _study("urgent", urgent=True), _study("equal")
    assert asked(urgent)
    assert not asked(equal)
    assert asked(equal, lasted_ms=TURN_MS)
    assert not asked(lasted_ms=TURN_MS)
    assert not asked(_study("had more turns", turns=1), lasted_ms=TURN_MS)
    assert not asked(_study("later", urgent=True, try_at=51))
    assert not asked(urgent, paused=frozenset({"pacs"}))
    assert not asked(_study("claimed", urgent=True, claimed_by_other=True))


def test_fewer_turns_go_before_longer_waiting() -> None:
    """Who stood back once comes after those that had no turn yet."""
    first, second = _study("first", waiting_since=1, turns=1), _study("second", waiting_since=9)

    assert choose([first, second], now=20) == second


@given(st.integers(0, 9), st.integers(0, 9))
def test_of_two_that_claim_one_study_exactly_one_gives_way(mine: int, theirs: int) -> None:
    """Both decide it alone, from the same two claims."""
    one, two = node_of("one"), node_of("two")

    assert gives_way(me=one, proven=mine, other=two, other_proven=theirs) is not gives_way(
        me=two, proven=theirs, other=one, other_proven=mine
    )
    assert gives_way(me=one, proven=0, other=two, other_proven=1)


def test_arrivals_are_estimated_one_after_another_and_only_from_a_measured_rate() -> None:
    """A number that nobody measured is worse than none."""
    queue = [(entry_of("a"), 1000), (entry_of("b"), 3000)]

    assert estimate_s(queue, 100) == {entry_of("a"): 11, entry_of("b"): 41}
    assert estimate_s(queue, 0) == {}
