"""Replicate: meet every peer whose address is known, at once when something is new.

An address that does not answer costs one short attempt each time; nobody is given up.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from node.clock import Clock
from node.errors import NodeError
from node.jobs.sweep import LAST_MIXED
from node.mesh.client import PeerClient
from node.mesh.exchange import Exchange
from node.mesh.meeting import Meeting, meet
from node.store.notes import Notes
from sync.errors import SyncError

log = logging.getLogger(__name__)
_AT_ONCE = 8


class Replicator:
    """Meets peers. One meeting with an address at a time; `dial` opens the line to one."""

    def __init__(
        self, exchange: Exchange, notes: Notes, clock: Clock, dial: Callable[[str], PeerClient]
    ) -> None:
        self._exchange = exchange
        self._notes = notes
        self._clock = clock
        self._dial = dial
        self._lock = threading.Lock()
        self._failing: set[str] = set()

    def meet_all(self) -> list[Meeting]:
        """Meet every known peer once; return the meetings that went through."""
        addresses = [peer.address for peer in self._notes.peers()]
        if not addresses:
            return []
        with ThreadPoolExecutor(min(_AT_ONCE, len(addresses)), thread_name_prefix="meet") as pool:
            meetings = list(pool.map(self.meet_quietly, addresses))
        return [meeting for meeting in meetings if meeting is not None]

    def meet_quietly(self, address: str) -> Meeting | None:
        """Meet one peer; an unreachable one is logged when it becomes so, and None is returned."""
        try:
            meeting = self.meet_one(address)
        except (NodeError, SyncError) as error:
            with self._lock:
                new = address not in self._failing
                self._failing.add(address)
            if new:
                log.info("peer not met code=%s", error.code)
            return None
        with self._lock:
            self._failing.discard(address)
        return meeting if meeting.done else None

    def meet_one(self, address: str) -> Meeting:
        """Meet one peer.

        Raises:
            PeerUnreachable, PeerRefused: see `node.mesh.meeting.meet`.
        """
        with self._dial(address) as client:
            meeting = meet(client, self._exchange)
        if meeting.done:
            now = self._clock.carried_ms()
            self._notes.note_met(address, meeting.peer, at_ms=now)
            self._notes.set_numbers(**{LAST_MIXED: now})
        return meeting
