"""One line in the log for what a peer sends that is wrong, and no more lines than a disk can bear.

What is refused in the ordinary course of things (a blob that has come by another line, one that is gone) is
no news. Lines hold a code and the peer's first digits, nothing that the peer said.
"""

import logging
import threading
from collections.abc import Mapping
from typing import Any

from node.clock import Clock
from node.mesh.peercert import peer_node_id
from sync.ids import short

log = logging.getLogger(__name__)
_ORDINARY = frozenset({"blob-missing", "not-wanted", "range-not-satisfiable", "wrong-offset"})
_A_MINUTE = 60
_MINUTE_MS = 60_000


class Refusals:
    """Writes the lines, at most 60 a minute; what was left out is counted in the next one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since_ms = clock.monotonic_ms()
        self._lines = self._left_out = 0

    def note(self, scope: Mapping[str, Any], code: str) -> None:
        """Note that a request was refused; `scope` is its ASGI scope."""
        if code in _ORDINARY:
            return
        with self._lock:
            now = self._clock.monotonic_ms()
            if now - self._since_ms >= _MINUTE_MS:
                self._since_ms, self._lines = now, 0
            self._lines += 1
            if self._lines > _A_MINUTE:
                self._left_out += 1
                return
            left_out, self._left_out = self._left_out, 0
        peer = peer_node_id(scope)
        who = "nobody" if peer is None else short(peer)
        log.warning("refused a peer's request code=%s peer=%s left_out=%d", code, who, left_out)
