"""Lines to destinations: kept open, rested when they trouble, and what was learnt of each remembered.

Called by `node.jobs.forward` and `node.jobs.second_look`.
"""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

from node.clock import Clock
from node.deliver.destination import Destination, Learning
from node.errors import DestinationBusy, DestinationLocked, DestinationUnreachable
from node.store.notes import Notes
from sync import cbor
from sync.bodies import DestinationBody
from sync.errors import BadCbor
from sync.forwarding import Setback, delay_after

log = logging.getLogger(__name__)
_LOCKED_PAUSE_MS = 15 * 60_000
_FULL_PAUSE_S = 5 * 60.0
_LEARNT = "learnt:"

MakeDestination = Callable[[DestinationBody, bytes | None], Destination]
# What may be wrong with a destination, and not with a study.
TROUBLES = (DestinationUnreachable, DestinationBusy, DestinationLocked)
Trouble = DestinationUnreachable | DestinationBusy | DestinationLocked


@dataclass(slots=True)
class _Pause:
    """Why a destination rests."""

    failures: int
    until_ms: int


class Lines:
    """The destinations that were opened. `make` builds one from its fact and this node's secret."""

    def __init__(self, make: MakeDestination, notes: Notes, clock: Clock) -> None:
        self._make = make
        self._notes = notes
        self._clock = clock
        self._open: dict[str, tuple[DestinationBody, Destination]] = {}
        self._pauses: dict[str, _Pause] = {}

    def open(self, name: str, body: DestinationBody, secret: bytes | None) -> Destination:
        """Return the line to a destination, kept open: it remembers what the PACS can take at once."""
        known = self._open.get(name)
        if known is not None and known[0] == body:
            return known[1]
        if known is not None:
            known[1].close()
        made = self._make(body, secret)
        if isinstance(made, Learning):
            made.take_up(self.learnt(name, body))
        self._open[name] = (body, made)
        return made

    def close(self) -> None:
        """Close all lines."""
        for _, destination in self._open.values():
            destination.close()
        self._open.clear()

    # -- resting --------------------------------------------------------------------------------

    def resting(self) -> frozenset[str]:
        """Return the destinations that are left alone now."""
        now = self._clock.carried_ms()
        return frozenset(name for name, pause in self._pauses.items() if pause.until_ms > now)

    def rest(self, name: str, error: Trouble) -> Setback:
        """Leave a destination alone for a while; return whose fault that is."""
        before = self._pauses.get(name)
        failures = 1 if before is None else before.failures + 1
        if isinstance(error, DestinationLocked):
            setback, delay = Setback.CREDENTIALS, _LOCKED_PAUSE_MS
        elif isinstance(error, DestinationBusy):
            asked = int((error.retry_after_s or 0) * 1000)
            setback = Setback.BUSY
            delay = delay_after(failures, jitter=random.random(), retry_after_ms=asked)
        else:
            setback, delay = Setback.NO_NETWORK, delay_after(failures, jitter=random.random())
        self._pauses[name] = _Pause(failures, self._clock.carried_ms() + delay)
        log.info("destination rests code=%s seconds=%d", error.code, delay // 1000)
        return setback

    def rest_full(self, name: str) -> Setback:
        """Leave a destination alone that says that it is full: minutes, not seconds."""
        log.warning("destination full")
        return self.rest(name, DestinationBusy(_FULL_PAUSE_S))

    def went_well(self, name: str) -> None:
        """Forget what went wrong before."""
        self._pauses.pop(name, None)

    # -- learning -------------------------------------------------------------------------------

    def learnt(self, name: str, body: DestinationBody) -> dict[str, int]:
        """Return what is remembered of the destination that answers under this name and address."""
        try:
            said = cbor.decode(self._notes.value(_LEARNT + _place(name, body)) or b"\xa0")
        except BadCbor:
            said = {}
        # What `pacs test --write` found out stands in the fact; what was seen here is newer.
        known = {**body.quirks, **(said if isinstance(said, dict) else {})}
        return {str(k): v for k, v in known.items() if type(v) is int}

    def keep_learnt(self, name: str, body: DestinationBody, **more: int) -> None:
        """Remember what a destination has found out by itself, and more; 0 forgets a name."""
        known = self._open.get(name)
        before = self.learnt(name, body)
        now = before | more
        if known is not None and known[0] == body and isinstance(known[1], Learning):
            now |= known[1].learnt()
        now = {key: value for key, value in now.items() if value}
        if now != before:
            self._notes.set_value(_LEARNT + _place(name, body), cbor.encode(now))


def _place(name: str, body: DestinationBody) -> str:
    return f"{name} {body.url}"
