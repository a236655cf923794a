"""The hybrid logical clock: which timestamp a node's next fact gets.

Timestamps order facts for reconciliation and decide which of two facts of one author is the newer,
nothing else. So a node looks at its own newest fact only: a leap of another node's clock is not adopted.
"""

from sync.errors import BadValue
from sync.ids import HlcMs

LIMIT = 2**53  # timestamps are below, so that every JSON and JavaScript reader has them exactly
_ROOM = 2**32  # a clock gone mad leaves this many timestamps for the facts after


def next_timestamp(now_ms: int, newest_own: HlcMs | None) -> HlcMs:
    """Return the timestamp of the next fact: the time, or just after the newest fact of one's own.

    Args:
        now_ms: the wall clock, milliseconds since 1970; may be wrong by any amount.
        newest_own: the greatest timestamp of all facts of this author ever seen; None if there are none.

    Raises:
        BadValue: the author has used up its last timestamp and needs a new key.
    """
    time = min(max(now_ms, 1), LIMIT - _ROOM)
    if newest_own is not None and newest_own >= time:
        time = newest_own + 1
    if time >= LIMIT:
        raise BadValue("no timestamp is left for this author")
    return HlcMs(time)
