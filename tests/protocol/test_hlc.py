"""Timestamps of a node's own facts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.errors import BadValue
from sync.hlc import LIMIT, next_timestamp
from sync.ids import HlcMs

ANY_CLOCK = st.integers(min_value=-(2**63), max_value=2**63)


@given(clocks=st.lists(ANY_CLOCK, min_size=2, max_size=30))
def test_each_own_fact_is_newer_than_the_one_before_whatever_the_clock_does(clocks: list[int]) -> None:
    """A laptop whose battery died in 2001 must still be able to correct what it said in 2026."""
    newest: HlcMs | None = None
    for now in clocks:
        following = next_timestamp(now, newest)

        assert 0 < following < LIMIT
        assert newest is None or following > newest
        newest = following


def test_a_right_clock_is_told_as_it_is() -> None:
    """People read these times in the journey."""
    assert next_timestamp(1_790_000_000_000, HlcMs(1_700_000_000_000)) == 1_790_000_000_000


def test_the_last_timestamp_is_never_used_twice() -> None:
    """Two facts with one timestamp could not correct each other."""
    with pytest.raises(BadValue):
        next_timestamp(1, HlcMs(LIMIT - 1))
