"""Which entry a forwarder delivers next, and when it tries again.

No retry cap: an entry waits until a PACS has it or a person decides. Pure; times are milliseconds
of this node's own life, which go on across restarts and do not jump with the wall clock.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from sync.ids import EntryId

_FIRST_DELAY_MS = 5_000
_LONGEST_DELAY_MS = 30 * 60_000


class Setback(StrEnum):
    """Why a delivery did not get on; the destination's setbacks pause it, the study's only that study."""

    NO_NETWORK = "no-network"
    BUSY = "pacs-busy"
    CREDENTIALS = "credentials"
    STUDY = "study"


@dataclass(frozen=True, slots=True)
class Deliverable:
    """An entry that this node holds whole and may deliver."""

    entry: EntryId
    destination: str
    urgent: bool
    waiting_since: int
    try_at: int = 0
    claimed_by_other: bool = False


def choose(
    deliverable: Iterable[Deliverable], *, now: int, paused: frozenset[str] = frozenset()
) -> Deliverable | None:
    """Return the entry to deliver now, or None: urgent first, then the longest waiting.

    A study that failed waits its turn behind its `try_at` and never holds up another one.
    """
    ready = [
        d for d in deliverable
        if d.try_at <= now and d.destination not in paused and not d.claimed_by_other
    ]  # fmt: skip
    return min(ready, key=lambda d: (not d.urgent, d.waiting_since, d.entry), default=None)


def delay_after(failures: int, *, jitter: float, retry_after_ms: int = 0) -> int:
    """Return how long to wait after the n-th failure in a row, in milliseconds.

    Doubles from 5 s to 30 min; `jitter` in [0, 1) spreads it over the upper half; never less than
    what the destination asked for (RFC 9110 §10.2.3).
    """
    doubled = min(_FIRST_DELAY_MS * 2 ** min(failures - 1, 20), _LONGEST_DELAY_MS) if failures > 0 else 0
    return max(int(doubled * (0.5 + jitter / 2)), retry_after_ms)
