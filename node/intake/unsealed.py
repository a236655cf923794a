"""Examinations, opened. Called by the flow of submissions.

Who waits asks for the same one again and again, and that of thousands of slices takes long to read; so the
one that was opened last stays in memory until it is forgotten.
"""

import threading
from collections.abc import Callable

from node.intake.examination import Examination, from_json


class Unsealed:
    """Opens examinations. `unseal` returns what a box holds. Safe to call from many threads."""

    def __init__(self, unseal: Callable[[bytes], bytes]) -> None:
        self._unseal = unseal
        self._lock = threading.Lock()
        self._last: tuple[bytes, Examination] | None = None

    def __call__(self, box: bytes) -> Examination:
        """Return the examination in a box.

        Raises:
            Locked: the passphrase is needed.
        """
        data = self._unseal(box)  # first: a locked node shows nothing
        with self._lock:
            if self._last is None or self._last[0] != box:
                self._last = box, from_json(data)
            return self._last[1]

    def forget(self) -> None:
        """Forget what was opened last."""
        with self._lock:
            self._last = None
