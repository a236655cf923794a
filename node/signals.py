"""Signals inside one node: something happened that others may want to act on at once.

Jobs are woken by them instead of waiting for their schedule, and the app's event stream repeats them.
A signal carries a topic and an id, never data: who is told reads again.
"""

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)
_KEPT = 256


class Signals:
    """Tells listeners by topic. Safe to call from many threads; a listener must be quick."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wakers: dict[str, list[Callable[[], None]]] = {}
        self._streams: list[queue.Queue[tuple[str, str]]] = []

    def on(self, topic: str, wake: Callable[[], None]) -> None:
        """Have `wake` called whenever `topic` is told."""
        with self._lock:
            self._wakers.setdefault(topic, []).append(wake)

    def tell(self, topic: str, name: str = "") -> None:
        """Tell that something of this topic changed; `name` is an id in hex, or nothing."""
        with self._lock:
            wakers = list(self._wakers.get(topic, ()))
            streams = list(self._streams)
        for wake in wakers:
            wake()
        for stream in streams:
            try:
                stream.put_nowait((topic, name))
            except queue.Full:
                log.debug("an event stream is behind")

    @contextmanager
    def stream(self) -> Iterator["queue.Queue[tuple[str, str]]"]:
        """Give a queue of (topic, id) that fills while the block runs."""
        mine: queue.Queue[tuple[str, str]] = queue.Queue(_KEPT)
        with self._lock:
            self._streams.append(mine)
        try:
            yield mine
        finally:
            with self._lock:
                self._streams.remove(mine)
