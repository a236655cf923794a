"""Uplink: how fast bytes leave for a PACS, how fast they may, and whether the link is paid by the byte.

Wraps instances on their way out. Called by `node.jobs.forward`; `uplink_kbit_s`, `metered` and
`metered_mb_per_day` in node.toml, all off by default.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from node.clock import Clock
from node.config import Settings
from node.deliver.destination import Outgoing
from node.estimates import EXPANSION, RATE
from node.store.notes import Notes

_DAY, _DAY_BYTES, _DAY_MS = "metered_day", "metered_bytes", 86_400_000
_CHUNK_S = 120  # so long does it take at most, at the measured rate, until something is proven
_FIRST_CHUNK, _SMALLEST_CHUNK, _LARGEST_CHUNK = 8 * 1024 * 1024, 512 * 1024, 128 * 1024 * 1024
_SHORTEST_S = 0.2  # what took less says little of a line


class Uplink:
    """Measures what is sent, and holds it back to what is allowed."""

    def __init__(self, settings: Settings, notes: Notes, clock: Clock) -> None:
        self._limit = settings.uplink_kbit_s * 125.0  # octets a second
        self._metered = settings.metered
        self._budget = int(settings.metered_mb_per_day * 1_000_000)
        self._notes = notes
        self._clock = clock
        self._closing = threading.Event()
        self._sent = 0
        self._free_at = 0.0

    def close(self) -> None:
        """Hold nothing back any more."""
        self._closing.set()

    def routine_may_go(self) -> bool:
        """Say whether studies that are not urgent may be sent now."""
        return not self._metered or self._of_today() < self._budget

    def chunk_bytes(self) -> int:
        """Return how much is sent before it is proven: two minutes' worth at the measured rate."""
        rate = self._notes.number(RATE)
        if not rate:
            return _FIRST_CHUNK
        return max(_SMALLEST_CHUNK, min(_LARGEST_CHUNK, rate * _CHUNK_S))

    def metered(self, one: Outgoing, went: Callable[[], None]) -> Outgoing:
        """Return an instance whose bytes are counted and held back; `went` hears of each piece."""

        def opened() -> Iterator[bytes]:
            for piece in one.open():
                self._hold_back(len(piece))
                yield piece
                self._sent += len(piece)
                went()

        return replace(one, open=opened)

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Learn from how long the block takes, which sends instances that are `metered`."""
        before, started = self._sent, time.monotonic()
        try:
            yield
        finally:
            octets, seconds = self._sent - before, time.monotonic() - started
            if octets and (seconds > _SHORTEST_S or octets > _FIRST_CHUNK // 2):
                self._learn(octets / max(seconds, 0.001))
            if octets and self._metered:
                self._notes.set_numbers(**{_DAY: self._today(), _DAY_BYTES: self._of_today() + octets})

    def learn_expansion(self, original: int, sealed: int) -> None:
        """Note how many octets of a study are sent for those that lie sealed here."""
        if sealed:
            before, now = self._notes.number(EXPANSION), 100 * original // sealed
            self._notes.set_numbers(**{EXPANSION: (before + now) // 2 if before else now})

    def _hold_back(self, octets: int) -> None:
        if not self._limit:
            return
        now = time.monotonic()
        self._free_at = max(self._free_at, now) + octets / self._limit
        self._closing.wait(self._free_at - now)

    def _learn(self, rate: float) -> None:
        before = self._notes.number(RATE)
        self._notes.set_numbers(**{RATE: max(1, int((before + rate) / 2 if before else rate))})

    def _today(self) -> int:
        return self._clock.carried_ms() // _DAY_MS

    def _of_today(self) -> int:
        return self._notes.number(_DAY_BYTES) if self._notes.number(_DAY) == self._today() else 0
