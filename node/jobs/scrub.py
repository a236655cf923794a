"""Scrub: read what is kept again and compare hashes, one entry at a time, so that bit rot is found early."""

import logging

from node.metrics import Metrics
from node.store.holdings import Holdings
from sync.ids import EntryId, short

log = logging.getLogger(__name__)


class Scrubber:
    """Goes round all entries of which anything is here; `scrub_next` takes the next one."""

    def __init__(self, holdings: Holdings, metrics: Metrics) -> None:
        self._holdings = holdings
        self._metrics = metrics
        self._last = EntryId(b"")

    def scrub_next(self) -> bool:
        """Verify one entry; say whether it was sound. Custody of a damaged one is taken back."""
        here = sorted(one.entry for one in self._holdings.queue.all() if not one.erasing)
        if not here:
            return True
        self._last = next((entry for entry in here if entry > self._last), here[0])
        sound = self._holdings.verify(self._last)
        self._metrics.scrubbed(sound=sound)
        if not sound:
            log.warning("damage found entry=%s", short(self._last))
        return sound
