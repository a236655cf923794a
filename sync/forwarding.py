"""Which entry a forwarder delivers next, and when it tries again.

No retry cap: an entry waits until a PACS has it or a person decides. Pure; times are milliseconds
of this node's own life, which go on across restarts and do not jump with the wall clock.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from sync.ids import EntryId, NodeId

_FIRST_DELAY_MS = 5_000
_LONGEST_DELAY_MS = 30 * 60_000
TURN_MS = 10 * 60_000


class Setback(StrEnum):
    """Why a delivery did not get on; the destination's setbacks pause it, the study's only that study."""

    NO_NETWORK = "no-network"
    BUSY = "pacs-busy"
    CREDENTIALS = "credentials"
    STUDY = "study"


@dataclass(frozen=True, slots=True)
class Deliverable:
    """An entry that this node holds whole and may deliver.

    `turns`: how often it stood back already, after its time, for others that waited.
    """

    entry: EntryId
    destination: str
    urgent: bool
    waiting_since: int
    try_at: int = 0
    claimed_by_other: bool = False
    turns: int = 0


def choose(
    deliverable: Iterable[Deliverable], *, now: int, paused: frozenset[str] = frozenset()
) -> Deliverable | None:
    """Return the entry to deliver now, or None: urgent first, then fewest turns, then longest waiting.

    A study that failed waits its turn behind its `try_at` and never holds up another one.
    """
    ready = [
        d for d in deliverable
        if d.try_at <= now and d.destination not in paused and not d.claimed_by_other
    ]  # fmt: skip
    return min(ready, key=_turn, default=None)


def _turn(one: Deliverable) -> tuple[bool, int, int, EntryId]:
    return (not one.urgent, one.turns, one.waiting_since, one.entry)


def stands_back(
    current: Deliverable, others: Iterable[Deliverable], *, lasted_ms: int, now: int, paused: frozenset[str]
) -> bool:
    """Say whether the delivery of an entry makes room for another one, between two chunks.

    For an urgent one at once; for its equals when it has had its time, so that a study of hours on a slow
    line does not hold up the small ones behind it. What is proven of it stays proven.
    """
    rest = [d for d in others if d.entry != current.entry]
    if not current.urgent and choose((d for d in rest if d.urgent), now=now, paused=paused) is not None:
        return True
    equals = (d for d in rest if d.urgent is current.urgent and d.turns <= current.turns)
    return lasted_ms >= TURN_MS and choose(equals, now=now, paused=paused) is not None


def gives_way(*, me: NodeId, proven: int, other: NodeId, other_proven: int) -> bool:
    """Say whether this node leaves an entry that two forwarders claim at once to the other.

    Whoever has proven more goes on; of equals the one with the lower id. Both decide the same.
    """
    return (other_proven, me) > (proven, other)


def estimate_s(waiting: Iterable[tuple[EntryId, int]], bytes_per_s: float) -> dict[EntryId, int]:
    """Return in how many seconds each entry is delivered at this rate, one after another in this order.

    Args:
        waiting: entries with their octets still to send, in the order in which they go.
        bytes_per_s: the rate that was measured; nothing is estimated without one.
    """
    if bytes_per_s <= 0:
        return {}
    estimates: dict[EntryId, int] = {}
    octets = 0
    for entry, left in waiting:
        octets += left
        estimates[entry] = int(octets / bytes_per_s) + 1
    return estimates


def delay_after(failures: int, *, jitter: float, retry_after_ms: int = 0) -> int:
    """Return how long to wait after the n-th failure in a row, in milliseconds.

    Doubles from 5 s to 30 min; `jitter` in [0, 1) spreads it over the upper half; never less than
    what the destination asked for (RFC 9110 §10.2.3).
    """
    doubled = min(_FIRST_DELAY_MS * 2 ** min(failures - 1, 20), _LONGEST_DELAY_MS) if failures > 0 else 0
    return max(int(doubled * (0.5 + jitter / 2)), retry_after_ms)
