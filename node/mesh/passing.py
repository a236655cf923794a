"""Passing: what is urgent and comes up in the middle of a long meeting goes before what is under way.

The meeting looks round when it is told that something is new, here or at the peer. What it moves then
stops inside a blob, and goes on from there when the urgent studies are through.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from node.errors import NodeError
from sync.errors import SyncError

log = logging.getLogger(__name__)
_PATIENCE_S = 2.0  # a meeting that is shorter needs no look round
_BETWEEN_S = 1.0
_UNTOLD_S = 30.0  # then the peer is asked all the same; not every version tells its news
_SHARE = 20  # looking round in vain takes at most one part in so many of the time
_MOST_S = 60.0  # between two looks that failed


class Passing:
    """Who goes first in the meetings with one peer. Safe to use from many threads."""

    def __init__(self) -> None:
        self._new = threading.Event()
        self._there = False
        self._free = threading.Event()
        self._free.set()

    def note_new(self, *, there: bool) -> None:
        """Note that something is new: at the peer (`there`), or here."""
        self._there = self._there or there
        self._new.set()

    def must_wait(self) -> bool:
        """Say whether urgent studies are passing."""
        return not self._free.is_set()

    def wait(self) -> None:
        """Wait until the urgent studies are through."""
        self._free.wait()

    @contextmanager
    def first(self) -> Iterator[None]:
        """Let everything else wait while the block runs."""
        self._free.clear()
        try:
            yield
        finally:
            self._free.set()

    @contextmanager
    def looking(self, look: Callable[[bool], bool], long: Callable[[], None]) -> Iterator[None]:
        """Look round while the block runs.

        Args:
            look: called when something is new, with whether it may be at the peer; says whether anything
                passed. What it raises ends nothing: a busy line may have had no room for its questions.
            long: called once the block has taken longer than a moment.
        """
        ended = threading.Event()
        looker = threading.Thread(target=self._look, args=(ended, look, long), name="urgent", daemon=True)
        looker.start()
        try:
            yield
        finally:
            ended.set()
            self._new.set()
            looker.join()

    def _look(self, ended: threading.Event, look: Callable[[bool], bool], long: Callable[[], None]) -> None:
        if ended.wait(_PATIENCE_S):
            return
        long()
        failed_s = _BETWEEN_S
        while True:
            told = self._new.wait(_UNTOLD_S)
            if ended.is_set():
                return
            self._new.clear()
            there, self._there = self._there or not told, False
            began = time.monotonic()
            try:
                passed = look(there)
            except (NodeError, SyncError) as error:
                log.info("nothing urgent passed code=%s", error.code)
                self.note_new(there=there)
                failed_s = min(2 * failed_s, _MOST_S)
                ended.wait(failed_s)
                continue
            failed_s = _BETWEEN_S
            ended.wait(_BETWEEN_S if passed else max(_BETWEEN_S, _SHARE * (time.monotonic() - began)))
