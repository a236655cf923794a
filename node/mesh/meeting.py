"""One meeting of two nodes, from the side that opened it (DESIGN §7, docs/protocol.md §5).

Hello, permanent facts, live facts, blobs both ways, and facts again for what the blobs changed. What is
offered with the hello is decided before the line is dialled, and given while facts are compared. A meeting
may be cut at any moment: what arrived stays, what did not comes next time. What to move, and in which order,
says `sync.plan`.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from node.errors import PeerRefused, PeerUnreachable
from node.mesh import wire
from node.mesh.client import PeerClient
from node.mesh.exchange import Access, Exchange
from node.mesh.moving import Meeting, Mover
from node.mesh.offering import Pairs, offer_for, pairs_here
from node.mesh.passing import Passing
from node.store.queue import QueueEntry
from sync.entries import EntryView
from sync.facts import FactClass
from sync.ids import EntryId, FactId, NodeId, short
from sync.plan import passes
from sync.reconcile import Reconciler

log = logging.getLogger(__name__)
_MAX_ROUNDS = 400
_BEGIN_S = 2.0  # that comparing facts waits for the first blob to take the connection that is open
_TRIES = 3  # that an urgent study is let pass in one meeting
_NAMES = {FactClass.PERMANENT: "permanent", FactClass.LIVE: "live"}


def meet(
    client: PeerClient,
    exchange: Exchange,
    passing: Passing | None = None,
    long: Callable[[NodeId], None] = lambda _: None,
    known: NodeId | None = None,
) -> Meeting:
    """Hold one meeting over a line.

    Args:
        passing: is told what is new while the meeting goes on.
        long: called, from another thread, with whom it is held if it takes longer than a moment.
        known: who was met there last, and may be offered something with the hello.

    Raises:
        PeerUnreachable: nobody answers, or the line was cut; what had arrived stays.
        PeerRefused: the peer answered with an error.
    """
    meeting = _Meet(client, exchange, passing or Passing(), long, known).hold()
    log.info(
        "meeting held peer=%s facts=%d blobs=%d bytes=%d refused=%d",
        short(meeting.peer),
        meeting.facts_in + meeting.facts_out,
        meeting.blobs_in + meeting.blobs_out,
        meeting.bytes_in + meeting.bytes_out,
        meeting.refused,
    )
    return meeting


class _Meet:
    """The steps of one meeting."""

    def __init__(
        self,
        client: PeerClient,
        exchange: Exchange,
        passing: Passing,
        long: Callable[[NodeId], None],
        known: NodeId | None,
    ) -> None:
        self._client = client
        self._exchange = exchange
        self._holdings = exchange.holdings
        self._passing = passing
        self._long = long
        self._known = known
        self._tried: Counter[EntryId] = Counter()

    def hold(self) -> Meeting:
        offer = None if self._known is None else offer_for(self._exchange, self._known)
        mine = self._exchange.hello()
        theirs, lacks = self._say_hello(mine, offer)
        self._peer = theirs.node
        self._meeting = Meeting(theirs.node, wire.METERED in theirs.caps, said=mine.fingerprints)
        if self._peer == self._exchange.node_id:
            raise PeerRefused("this address is this node's own", "own-address")
        try:
            with self._giving(lacks):
                self._mix(mine, theirs)
            if self._exchange.access_of(self._peer) is Access.ALL and self._move_blobs():
                self._mix_again()
        except PeerRefused as error:
            if error.peer_code != "not-a-member":
                raise
            log.warning("not trusted by peer=%s", short(self._peer))
            return self._meeting
        self._meeting.done = True
        return self._meeting

    def _say_hello(
        self, mine: wire.Hello, offer: wire.Offer | None
    ) -> tuple[wire.Hello, Mapping[EntryId, wire.Lack]]:
        """Say hello, with an offer if there is one and the peer can take it; return what it lacks of that."""
        if offer is not None and self._known is not None:
            try:
                theirs, lacks = self._client.offer(self._known, mine, offer)
                has = frozenset(entry for entry, lack in lacks.items() if not lack.manifest)
                self._exchange.manifests_at[self._known] = has
                return theirs, lacks
            except PeerRefused as error:
                log.debug("no offer taken code=%s", error.peer_code)
                if error.peer_code == "not-found":
                    self._exchange.offerless.add(self._known)
            except PeerUnreachable:
                if self._client.is_stuck:
                    self._exchange.stuck.add(self._known)
                raise
        theirs = self._client.hello(mine)
        self._exchange.stuck.discard(theirs.node)
        if wire.OFFER in theirs.caps:
            self._exchange.offerless.discard(theirs.node)  # it is a newer version by now
        return theirs, {}

    @contextmanager
    def _giving(self, lacks: Mapping[EntryId, wire.Lack]) -> Iterator[None]:
        """Give what was offered and is lacking while the block runs, and wait until that is done."""
        if not lacks:
            yield
            return
        urgent = [entry for entry in lacks if self._holdings.view(entry).urgent]
        self._tried.update(dict.fromkeys(urgent, _TRIES))  # they go already
        mover = Mover(self._client, self._exchange, self._meeting, self._passing)
        with (
            self._passing.looking(self._look, lambda: self._long(self._peer)),
            ThreadPoolExecutor(1, thread_name_prefix="offered") as beside,
        ):
            given = beside.submit(mover.give, lacks)
            given.add_done_callback(lambda _: mover.begun.set())
            mover.begun.wait(_BEGIN_S)
            yield
            given.result()

    # -- facts ----------------------------------------------------------------------------------

    def _mix(self, mine: wire.Hello, theirs: wire.Hello) -> None:
        """Make both sets of facts equal: the permanent ones first, applied, then the live ones."""
        changed = mine.permanent != theirs.permanent
        if changed:
            self._reconcile(FactClass.PERMANENT)
        if self._exchange.access_of(self._peer) is Access.ALL and (changed or mine.live != theirs.live):
            self._reconcile(FactClass.LIVE)

    def _mix_again(self) -> None:
        mine = self._exchange.hello()
        self._mix(mine, self._client.hello(mine, within=True))

    def _reconcile(self, fact_class: FactClass) -> None:
        reconciler = Reconciler(self._exchange.snapshot(fact_class), wire.FRAME_LIMIT)
        message: bytes | None = reconciler.initiate()
        token: str | None = None
        have: list[bytes] = []
        need: list[bytes] = []
        for _ in range(_MAX_ROUNDS):
            if message is None:
                break
            token, answer = self._client.reconcile(_NAMES[fact_class], message, token)
            message = reconciler.reconcile(answer)
            have += reconciler.have
            need += reconciler.need
        self._fetch_facts(need)
        self._send_facts(have)

    def _fetch_facts(self, need: list[bytes]) -> None:
        waiting = need
        while waiting:
            batch = waiting[: wire.MAX_IDS]
            raws = self._client.get_facts(batch)
            if not raws:
                return  # the rest is not for this node, or gone by now
            taken = self._exchange.take_facts(raws)
            self._meeting.count(facts_in=taken.admitted, refused=len(taken.refused))
            waiting = waiting[len(raws) :] if len(raws) < len(batch) else waiting[len(batch) :]

    def _send_facts(self, have: list[bytes]) -> None:
        raws = self._holdings.facts.raw_of([FactId(one) for one in have])
        for batch in _batches(raws):
            refused = self._client.send_facts(batch)
            self._meeting.count(facts_out=len(batch) - refused, refused=refused)

    # -- blobs ----------------------------------------------------------------------------------

    def _move_blobs(self) -> bool:
        """Fetch what this node wants and give what the peer wants; say whether anything moved."""
        mover = Mover(self._client, self._exchange, self._meeting, self._passing)
        space = self._exchange.space
        if space.too_much() or space.overfull():
            mover.ask_what_it_holds()
            space.clear()
            space.relieve()
        pairs = pairs_here(self._exchange)
        urgent = [(held, view) for held, view in pairs if view.urgent]
        if urgent:
            self._first(urgent)
        with self._passing.looking(self._look, lambda: self._long(self._peer)):
            mover.move([(held, view) for held, view in pairs if not view.urgent])
        return self._meeting.blobs_in + self._meeting.blobs_out > 0

    def _first(self, urgent: Pairs) -> None:
        """Move what is urgent, and let nothing else move meanwhile."""
        self._tried.update(held.entry for held, _ in urgent)
        with self._passing.first():
            Mover(self._client, self._exchange, self._meeting).move(urgent)

    def _look(self, there: bool) -> bool:
        """Let what has become urgent, here or at the peer, go before what is under way; say if it did."""
        if not (there or self._new_and_urgent()):
            return False
        self._mix_again()
        urgent = self._new_and_urgent()
        if urgent:
            self._first(urgent)
            self._mix_again()
        return bool(urgent)

    def _new_and_urgent(self) -> Pairs:
        roles = self._exchange.roles_of(self._peer)
        return [
            (held, view)
            for held, view in pairs_here(self._exchange)
            if self._tried[held.entry] < _TRIES
            and passes(view, whole=held.complete, peer=self._peer, roles=roles)
            and self._can_move(held, view)
        ]

    def _can_move(self, held: QueueEntry, view: EntryView) -> bool:
        """Say whether whoever lacks an entry takes it, as far as is known: for nothing else all waits."""
        if held.complete:
            return held.entry not in self._exchange.declined.get(self._peer, ())
        size = view.announced.size if view.announced else 0
        missing = max(size - self._holdings.octets_here(held.entry), 0)
        return self._exchange.space.could_take(held, view, missing)


def _batches(raws: Iterable[bytes]) -> Iterable[list[bytes]]:
    """Cut facts into requests."""
    batch: list[bytes] = []
    size = 0
    for raw in raws:
        if batch and (size + len(raw) > wire.FACTS_BATCH_BYTES or len(batch) >= wire.MAX_IDS):
            yield batch
            batch, size = [], 0
        batch.append(raw)
        size += len(raw)
    if batch:
        yield batch
