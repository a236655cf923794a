"""Replicate: meet every peer whose address is known, at once when something is new here or there.

What is new here wakes `meet_all`. What is new at a peer that does not dial this node itself is waited for
over a line to it (`GET /news`). An address that does not answer costs one short attempt each time; what a
person typed is never given up, what was found is forgotten after a while.

Where octets cost money, at either end, nobody waits for news, and after a meeting that moved nothing the
next one comes a quarter of an hour later, or when something is new here. Ways to what was found on the
local network cost nothing.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from node.clock import Clock
from node.errors import NodeError, PeerRefused, PeerUnreachable
from node.jobs.sweep import LAST_MIXED
from node.mesh.client import PeerClient
from node.mesh.exchange import Exchange
from node.mesh.meeting import meet
from node.mesh.moving import Meeting
from node.mesh.passing import Passing
from node.store.notes import KnownPeer, Notes
from sync.errors import SyncError
from sync.ids import NodeId

log = logging.getLogger(__name__)
_AT_ONCE = 16
_STRANGERS = 8  # at once, where nobody was ever met: none of them keeps known nodes waiting
_WATCHED = 32
_MOST_FOUND = 64
_VAIN_TRIES = 3  # of a found address at which nobody was ever met
_KEPT_MS = 14 * 24 * 3_600_000  # life clock
_BREATH_S = 0.2
_SHORT_MS = 5_000
_JOIN_S = 10.0
_IDLE_MS = 45_000  # a line that is idle for longer is opened anew


@dataclass(frozen=True, slots=True)
class _Failure:
    """How often an address failed in a row, and when it did last (monotonic)."""

    count: int
    at_ms: int


@dataclass(slots=True)
class _UnderWay:
    """A meeting that goes on. `again`: one more is wanted after it; `peer`: whom a long one is held with;
    `known`: whom the last one at this address was held with; `local`: it was found on the local network."""

    again: bool = False
    peer: NodeId | None = None
    known: NodeId | None = None
    local: bool = False
    passing: Passing = field(default_factory=Passing)


class Replicator:
    """Meets peers, each in a thread of its own, and a peer that has several addresses at one of them.

    Args:
        exchange, notes, clock: the node's.
        dial: opens the line to an address.
        every_s: how often `meet_all` is called by the clock.
        metered: this node's way to what was not found on the local network is paid by the byte.
        metered_every_s: how long a peer on such a way rests after a meeting that moved nothing.
    """

    def __init__(
        self,
        exchange: Exchange,
        notes: Notes,
        clock: Clock,
        dial: Callable[[str], PeerClient],
        *,
        every_s: float,
        metered: bool = False,
        metered_every_s: float = 900.0,
    ) -> None:
        self._exchange = exchange
        self._notes = notes
        self._clock = clock
        self._dial = dial
        self._every_ms = int(every_s * 1000)
        self._metered = metered
        self._rest_ms = int(metered_every_s * 1000)
        self._metered_peers: set[NodeId] = set()  # that said so when they were met last
        self._quiet: dict[NodeId, tuple[bytes, int]] = {}  # this node's fingerprints, and when
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="meet")
        self._strangers = ThreadPoolExecutor(_STRANGERS, thread_name_prefix="meet")
        self._under_way: dict[NodeId | str, _UnderWay] = {}
        self._failures: dict[str, _Failure] = {}
        self._dialled: dict[NodeId, int] = {}
        self._watched: dict[NodeId, threading.Thread] = {}
        self._lines: set[PeerClient] = set()
        self._kept: dict[str, tuple[PeerClient, int]] = {}  # by address, with when it was used last

    # -- what wakes it --------------------------------------------------------------------------

    def meet_all(self) -> None:
        """Begin to meet every known peer; one that is being met is met once more after that."""
        places = self._places()
        resting = self._resting()
        for key in places:
            if key not in resting:
                self._want(key)

    def wake(self) -> None:
        """Let no peer rest: something is new, or a person asks for it."""
        self._quiet.clear()

    def found(self, address: str) -> bool:
        """Take note that a node of the mesh may listen there; say whether it is worth a try now."""
        with self._lock:
            failing = self._failures.pop(address, None) is not None
        nearer = not failing and self._rests_at(address)
        return self._notes.add_found(address, most=_MOST_FOUND) or failing or nearer

    def _rests_at(self, found: str) -> bool:
        """Say whether a node that rests can be met for nothing, and let it rest no more."""
        nodes = [peer.node for peer in self._notes.peers() if peer.address == found and not peer.typed]
        return any(node is not None and self._quiet.pop(node, None) is not None for node in nodes)

    def dialled_by(self, peer: NodeId) -> None:
        """Take note that a peer has dialled this node: it will again when it has something new."""
        self._dialled[peer] = self._clock.monotonic_ms()

    def stop(self) -> None:
        """Cut all lines, and return when no meeting goes on."""
        with self._lock:
            self._stopped.set()
            lines, watchers = list(self._lines), list(self._watched.values())
        for line in lines:
            line.cut()
        for pool in (self._pool, self._strangers):
            pool.shutdown(wait=True, cancel_futures=True)
        for watcher in watchers:
            watcher.join(_JOIN_S)
        for client, _ in self._kept.values():
            client.close()

    # -- meeting --------------------------------------------------------------------------------

    def meet_one(self, address: str, under: _UnderWay | None = None) -> Meeting:
        """Meet one peer.

        Raises:
            PeerUnreachable, PeerRefused: see `node.mesh.meeting.meet`.
        """
        under = under or _UnderWay()
        place = next((peer for peer in self._notes.peers() if peer.address == address), None)
        under.known = None if place is None else place.node
        under.local = place is not None and not place.typed
        meeting = self._meet_again(address, under)
        if meeting is None:
            with self._line(address) as client:
                meeting = self._hold(client, address, under)
                self._keep(address, client)
        if meeting.done:
            now = self._clock.carried_ms()
            self._notes.note_met(address, meeting.peer, at_ms=now)
            self._notes.set_numbers(**{LAST_MIXED: now})
            if meeting.metered:
                self._metered_peers.add(meeting.peer)
            else:
                self._metered_peers.discard(meeting.peer)
            if self._costs(meeting.peer, under):
                self._note_quiet(meeting)
            else:
                self._quiet.pop(meeting.peer, None)
                self._watch(address, meeting.peer)
        return meeting

    def _hold(self, client: PeerClient, address: str, under: _UnderWay) -> Meeting:
        """Hold a meeting; of one that takes long the peer's news are waited for meanwhile."""

        def long(peer: NodeId) -> None:
            under.peer = peer
            self._notes.note_met(address, peer, at_ms=self._clock.carried_ms())
            if not self._costs(peer, under):
                self._watch(address, peer)

        return meet(client, self._exchange, under.passing, long, under.known)

    def _costs(self, peer: NodeId, under: _UnderWay) -> bool:
        """Say whether octets over this way cost money, at this node or the peer."""
        return not under.local and (self._metered or peer in self._metered_peers)

    def _note_quiet(self, meeting: Meeting) -> None:
        """Note that a meeting moved nothing: the next one would not either, as long as nothing is new."""
        if meeting.moved or meeting.left:
            self._quiet.pop(meeting.peer, None)
        else:
            self._quiet[meeting.peer] = meeting.said, self._clock.monotonic_ms()

    def _resting(self) -> frozenset[NodeId | str]:
        """Return the peers on metered ways to which there is nothing to say, and that had nothing lately."""
        if not self._quiet:
            return frozenset()
        now, mine = self._clock.monotonic_ms(), self._exchange.hello().fingerprints
        return frozenset(
            peer
            for peer, (told, at) in list(self._quiet.items())
            if told == mine and now - at < self._rest_ms
        )

    def _meet_again(self, address: str, under: _UnderWay) -> Meeting | None:
        """Meet over the line of the meeting before, which saves a handshake; None if there is none any more.

        A laptop that was carried elsewhere has a dead line and does not know: little patience with the hello.
        """
        with self._lock:
            client, at = self._kept.pop(address, (None, 0))
        if client is None:
            return None
        try:
            if self._clock.monotonic_ms() - at <= _IDLE_MS:
                meeting = self._hold(client, address, under)
                self._keep(address, client)
                client = None
                return meeting
        except PeerUnreachable:
            if self._stopped.is_set():
                raise
        finally:
            if client is not None:
                self._let_go(client)
        return None

    def _keep(self, address: str, client: PeerClient) -> None:
        with self._lock:
            before = self._kept.pop(address, None)
            self._kept[address] = client, self._clock.monotonic_ms()
        if before is not None:
            self._let_go(before[0])

    def _let_go(self, client: PeerClient) -> None:
        with self._lock:
            self._lines.discard(client)
        client.close()

    def _places(self) -> dict[NodeId | str, list[KnownPeer]]:
        """Return each known node with its addresses, the last met first; unknown ones by their address.

        Where octets cost money those on the local network come before all others. Found addresses that failed
        are left out until the next round of the clock.
        """
        soon = self._clock.monotonic_ms() - self._every_ms * 4 // 5
        places: dict[NodeId | str, list[KnownPeer]] = {}
        for peer in self._notes.peers():
            failure = self._failures.get(peer.address)
            if peer.typed or failure is None or failure.at_ms <= soon:
                places.setdefault(peer.node or peer.address, []).append(peer)
        for key, peers in places.items():
            if self._metered or key in self._metered_peers:
                peers.sort(key=lambda peer: peer.typed)
        return places

    def _want(self, key: NodeId | str, *, news: bool = False) -> None:
        """Meet a node, or once more after the meeting that goes on; `news`: something is new there."""
        with self._lock:
            if self._stopped.is_set():
                return
            known = [one for at, one in self._under_way.items() if key in (at, one.peer)]
            for under in known:
                under.again = True
                under.passing.note_new(there=news)
            if not known:
                self._under_way[key] = _UnderWay()
                pool = self._strangers if isinstance(key, str) else self._pool
                pool.submit(self._meet, key).add_done_callback(_log_error)

    def _meet(self, key: NodeId | str) -> None:
        """Meet a node at the first of its addresses where it answers, again as long as it is wanted."""
        again = True
        try:
            while again:
                for peer in self._addresses(key):
                    meeting = self._meet_quietly(peer, self._under_way[key])
                    if meeting is not None and peer.node in (None, meeting.peer):
                        break
                with self._lock:
                    under = self._under_way[key]
                    again = under.again and not self._stopped.is_set()
                    under.again = False
                    if not again:
                        del self._under_way[key]
        except BaseException:
            with self._lock:
                self._under_way.pop(key, None)
            raise

    def _addresses(self, key: NodeId | str) -> list[KnownPeer]:
        """Return where to meet; an address that has become a known node's stands for all of that node's."""
        places = self._places()
        if key in places:
            return places[key]
        return next((peers for peers in places.values() if key in [peer.address for peer in peers]), [])

    def _meet_quietly(self, peer: KnownPeer, under: _UnderWay | None = None) -> Meeting | None:
        """Meet at one address; None if that failed, which is logged when it begins to."""
        if self._stopped.is_set():
            return None
        try:
            meeting = self.meet_one(peer.address, under)
        except (NodeError, SyncError) as error:
            if not self._stopped.is_set():
                self._note_failure(peer, error)
            return None
        with self._lock:
            self._failures.pop(peer.address, None)
        return meeting if meeting.done else None

    def _note_failure(self, peer: KnownPeer, error: NodeError | SyncError) -> None:
        with self._lock:
            before = self._failures.get(peer.address)
            count = 1 if before is None else before.count + 1
            self._failures[peer.address] = _Failure(count, self._clock.monotonic_ms())
        if count == 1:
            log.info("peer not met code=%s", error.code)
        own = isinstance(error, PeerRefused) and error.peer_code == "own-address"
        if peer.met_ms is None:
            gone = count >= _VAIN_TRIES
        else:
            gone = self._clock.carried_ms() - peer.met_ms > _KEPT_MS
        if (own or gone) and self._notes.forget_found(peer.address):
            with self._lock:
                self._failures.pop(peer.address, None)

    @contextmanager
    def _line(self, address: str) -> Iterator[PeerClient]:
        """Give a line to an address, which `stop` cuts; it is closed after use unless it is kept."""
        client = self._dial(address)
        with self._lock:
            self._lines.add(client)
            if self._stopped.is_set():
                client.cut()
        try:
            yield client
        finally:
            with self._lock:
                kept = any(client is one for one, _ in self._kept.values())
            if not kept:
                self._let_go(client)

    # -- news of peers --------------------------------------------------------------------------

    def _dials_us(self, peer: NodeId) -> bool:
        at = self._dialled.get(peer)
        return at is not None and self._clock.monotonic_ms() - at < 2 * self._every_ms + 10_000

    def _watch(self, address: str, peer: NodeId) -> None:
        """Wait for a peer's news from now on, unless it brings them itself."""
        if self._dials_us(peer):
            return
        with self._lock:
            if self._stopped.is_set() or peer in self._watched or len(self._watched) >= _WATCHED:
                return
            watcher = threading.Thread(
                target=self._await_news, args=(address, peer), name="news", daemon=True
            )
            self._watched[peer] = watcher
            watcher.start()

    def _await_news(self, address: str, peer: NodeId) -> None:
        """Meet a peer whenever its facts have changed and are not this node's; ends when the line does.

        The next meeting begins it anew.
        """
        try:
            with self._line(address) as client:
                told: bytes | None = None
                while not self._stopped.wait(_BREATH_S) and self._is_at(address, peer):
                    asked_ms = self._clock.monotonic_ms()
                    news = client.news(told)
                    if self._dials_us(peer):
                        return
                    if news is not None:
                        if news.node != peer:
                            return
                        told = news.fingerprints
                        if told != self._exchange.hello().fingerprints:
                            self._want(peer, news=True)
                    elif self._clock.monotonic_ms() - asked_ms < _SHORT_MS:
                        return  # it answers at once that there is nothing: it is stopping
        except (NodeError, SyncError) as error:
            log.debug("no news code=%s", error.code)
        finally:
            with self._lock:
                self._watched.pop(peer, None)

    def _is_at(self, address: str, peer: NodeId) -> bool:
        return any(known.address == address and known.node == peer for known in self._notes.peers())


def _log_error(done: "Future[None]") -> None:
    """Log what nobody foresaw; the schedule tries again."""
    error = None if done.cancelled() else done.exception()
    if error is not None:
        log.error("meeting failed", exc_info=error)
