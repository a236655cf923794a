"""Delivery goes on until the PACS has it: fairly, patiently, urgent ones first."""

from itertools import pairwise, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.facts import entry_of

from sync.forwarding import Deliverable, choose, delay_after


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
