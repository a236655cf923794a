"""Time on this node: the wall, as far as it can be believed, and a count that never runs backwards.

Laptops wake up in 1970 or 2040. What people see and what tokens carry is `now_ms`, kept above the
build date and the last time that was stored. Ages, leases and holds count on `carried_ms`: how long
this node has been running in total, carried over restarts by whoever stores it now and then. Time
while the node is off or asleep does not count, so a hold can only become longer.
"""

import time
from typing import Protocol

BUILD_MS = 1_793_404_800_000  # 2026-10-31 UTC: no node of this version runs earlier than this
_WITHIN_MS = 60_000  # a clock that is set right by seconds has not fallen back


class Clock(Protocol):
    """What tells a node the time; tests bring their own."""

    def now_ms(self) -> int:
        """Return the wall time, milliseconds since 1970 UTC."""
        ...

    def monotonic_ms(self) -> int:
        """Return milliseconds since some moment of this process; never runs backwards."""
        ...

    def carried_ms(self) -> int:
        """Return for how many milliseconds this node has been running, all its runs together."""
        ...

    @property
    def fell_back(self) -> bool:
        """Whether the machine's clock says an earlier time than one that is known to have been."""
        ...


class SystemClock:
    """The machine's clock.

    Args:
        floor_ms: the last wall time that was stored; the time is never earlier.
        carried_ms: what `carried_ms` gave when it was last stored.
    """

    def __init__(self, *, floor_ms: int = 0, carried_ms: int = 0) -> None:
        self._floor_ms = max(floor_ms, BUILD_MS)
        self._carried_ms = carried_ms
        self._start_ms = self.monotonic_ms()

    def now_ms(self) -> int:
        """Return the wall time, or the floor and what has passed since the start if that is later."""
        passed = self.monotonic_ms() - self._start_ms
        return max(time.time_ns() // 1_000_000, self._floor_ms + passed)

    @property
    def fell_back(self) -> bool:
        """Whether the machine's clock says an earlier time than one that this node has seen."""
        passed = self.monotonic_ms() - self._start_ms
        return time.time_ns() // 1_000_000 < self._floor_ms + passed - _WITHIN_MS

    def monotonic_ms(self) -> int:
        """Return milliseconds of the machine's monotonic clock."""
        return time.monotonic_ns() // 1_000_000

    def carried_ms(self) -> int:
        """Return the time of all runs together, in milliseconds."""
        return self._carried_ms + self.monotonic_ms() - self._start_ms
