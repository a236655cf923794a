"""The node's clock."""

import time

import pytest
from support.clock import FakeClock

from node.clock import BUILD_MS, Clock, SystemClock


@pytest.mark.parametrize("clock", [SystemClock(), FakeClock()])
def test_both_clocks_are_clocks(clock: Clock) -> None:
    """The fake must not promise less than the machine's."""
    assert clock.now_ms() >= BUILD_MS
    assert clock.monotonic_ms() <= clock.monotonic_ms()
    assert clock.carried_ms() >= 0


def test_a_machine_that_woke_up_in_1970_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty battery must not date a study to before the clinic was built, nor stop time."""
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    passed = iter([1_000, 1_000, 61_000])
    monkeypatch.setattr(time, "monotonic_ns", lambda: next(passed) * 1_000_000)
    clock = SystemClock(floor_ms=BUILD_MS + 5)

    assert clock.now_ms() == BUILD_MS + 5
    assert clock.now_ms() == BUILD_MS + 60_005


def test_time_that_was_lived_is_carried_over_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hold of 72 hours must end on a laptop that is switched off each evening."""
    passed = iter([7_000, 9_000])
    monkeypatch.setattr(time, "monotonic_ns", lambda: next(passed) * 1_000_000)
    clock = SystemClock(carried_ms=100_000)

    assert clock.carried_ms() == 102_000
