"""Moving blobs in a meeting, both ways, from the side that opened it (docs/protocol.md §5).

What to move, and in which order, says `sync.plan`. The order of the meeting says `node.mesh.meeting`.
"""

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

from node.errors import (
    BlobMissing,
    DiskFull,
    PeerRefused,
    PeerUnreachable,
    Refused,
    StoreDamaged,
    WrongOffset,
)
from node.mesh import wire
from node.mesh.client import PeerClient
from node.mesh.exchange import Exchange
from node.mesh.offering import Pairs, could_give, note_lost
from node.mesh.passing import Passing
from node.mesh.receiving import Receiving
from node.store.queue import QueueEntry
from sync.entries import EntryView
from sync.errors import BadBlob, BadManifest
from sync.ids import BlobId, EntryId, NodeId, short
from sync.plan import Wanted, blobs_to_move, fetchable, in_order
from sync.segments import SEGMENT_BYTES

log = logging.getLogger(__name__)
_AT_MOST = 64  # blobs given before asking again what the peer lacks
_FINAL = frozenset(  # refusals of a blob that would be the same in half a minute
    {
        "bad-blob",
        "bad-manifest",
        "blob-missing",
        "disk-full",
        "may-not-carry",
        "not-found",
        "not-wanted",
        "too-large",
    }
)
_TIMES = 3  # that one blob is given in one meeting to a peer that takes it and still lacks it


@dataclass(slots=True)
class Meeting:
    """What one meeting moved. `done`: it went through to the end, facts and blobs.

    `metered`: the peer says that its ways are paid by the byte. `said`: this node's fingerprints as it began.
    `left`: something that one of them wanted did not come, and may come in the next meeting.
    """

    peer: NodeId
    metered: bool = False
    facts_in: int = 0
    facts_out: int = 0
    blobs_in: int = 0
    blobs_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    refused: int = 0
    done: bool = False
    said: bytes = b""
    left: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def moved(self) -> bool:
        """Whether anything went either way, or was refused."""
        return any((self.facts_in, self.facts_out, self.blobs_in, self.blobs_out, self.refused))

    def count(self, **more: int) -> None:
        """Add to the counts."""
        with self.lock:
            for name, value in more.items():
                setattr(self, name, getattr(self, name) + value)


class Mover:
    """Moves studies over the line of a meeting.

    Args:
        client, exchange, meeting: the line, this end of it, and where to count.
        passing: what is moved waits while urgent studies pass; None: it is what passes.
    """

    def __init__(
        self, client: PeerClient, exchange: Exchange, meeting: Meeting, passing: Passing | None = None
    ) -> None:
        self._client = client
        self._exchange = exchange
        self._holdings = exchange.holdings
        self._meeting = meeting
        self._peer = meeting.peer
        self._passing = passing
        self._asked = False
        self.begun = threading.Event()  # a blob has been sent, or is about to be

    def move(self, pairs: Pairs) -> None:
        """Fetch what this node wants of these entries, and give what the peer wants."""
        with ThreadPoolExecutor(wire.IN_FLIGHT, thread_name_prefix="blobs") as pool:
            try:
                self._fetch_all(pool, pairs)
                self._give_all(pool, pairs)
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def give(self, lacks: Mapping[EntryId, wire.Lack]) -> None:
        """Give what the peer lacks of what it was offered."""
        with ThreadPoolExecutor(wire.IN_FLIGHT, thread_name_prefix="blobs") as pool, Lanes() as lanes:
            at_once = wire.BESIDE
            for entry, lack in lacks.items():
                announced = self._holdings.view(entry).announced
                small = announced is not None and announced.size <= SEGMENT_BYTES
                at_once -= 1 if small else wire.BESIDE
                give = self._give_offered if at_once >= 0 else self._give_late
                lanes.run(partial(give, pool, entry, lack), beside_others=small)

    def _give_offered(self, pool: ThreadPoolExecutor, entry: EntryId, lack: wire.Lack) -> None:
        give = self._give_entry if lack.manifest else self._share
        give(pool, entry, lack)

    def _give_late(self, pool: ThreadPoolExecutor, entry: EntryId, _: wire.Lack) -> None:
        """Give what had to wait its turn: by now the peer may have it, or want it no more."""
        self._wait()
        now = self._client.lack([entry]).get(entry)
        if now is not None:
            self._give_offered(pool, entry, now)

    def _must_wait(self) -> bool:
        return self._passing is not None and self._passing.must_wait()

    def _wait(self) -> None:
        if self._passing is not None:
            self._passing.wait()

    def _fetch_all(self, pool: ThreadPoolExecutor, pairs: Pairs) -> None:
        wanted = {}
        for held, view in pairs:
            if not held.complete and fetchable(view, peer=self._peer):
                size = view.announced.size if view.announced else 0
                missing = max(size - self._holdings.octets_here(held.entry), 0)
                wanted[held.entry] = (held, view, self._holdings.wanted(held, view, missing))
        with Lanes() as lanes:
            for want in in_order(one for _, _, one in wanted.values()):
                if self._takes(*wanted[want.entry]):
                    small = want.missing <= SEGMENT_BYTES
                    lanes.run(partial(self._fetch_entry, pool, want.entry), beside_others=small)

    def _takes(self, held: QueueEntry, view: EntryView, wanted: Wanted) -> bool:
        """Say whether there is room for an entry; copies that the peer has, too, may be given up for it."""
        space = self._exchange.space
        if space.takes(held, view, wanted.missing):
            return True
        return self.ask_what_it_holds() and space.takes(held, view, wanted.missing)

    def ask_what_it_holds(self) -> bool:
        """Ask the peer, once, what it holds now of what is whole here; say whether it told anything new."""
        if self._asked:
            return False
        self._asked = True
        entries = self._exchange.space.to_ask(self._peer)[: wire.MAX_IDS]
        held = self._client.holds(entries) if entries else []
        self._exchange.space.note_answers(self._peer, held)
        return bool(held)

    def _fetch_entry(self, pool: ThreadPoolExecutor, entry: EntryId) -> None:
        with self._exchange.arriving.fetching(self._peer, entry):
            self._fetch_blobs(pool, entry)

    def _fetch_blobs(self, pool: ThreadPoolExecutor, entry: EntryId) -> None:
        if not self._holdings.has_manifest(entry) and not self._fetch_blob(BlobId(entry), None):
            return
        sizes = dict(self._holdings.queue.blobs(entry))
        lacking = self._holdings.missing(entry)
        offsets = {blob: self._holdings.blobs.partial_size(blob) for blob, _ in lacking}
        for blob, size in lacking:
            if offsets[blob] >= size:  # a cut came just before it was made whole
                self._fetch_alone(blob, size)
        moves = blobs_to_move(lacking, offsets, start=self._exchange.node_id[0])
        for _ in pool.map(lambda move: self._fetch_blob(move[0], sizes[move[0]]), moves):
            pass
        self._holdings.check_complete(entry)

    def _fetch_blob(self, blob: BlobId, size: int | None) -> bool:
        """Fetch one blob from where it was cut; say whether it is whole here now."""
        whole = None
        while whole is None and not self._exchange.is_bad(self._peer, blob):
            self._wait()
            with self._exchange.arriving.from_peer(self._peer, blob) as alone:
                if not alone:
                    self._meeting.left = True
                    return False  # another meeting brings it
                if self._holdings.blobs.has(blob) and size is not None:
                    return True  # another meeting has brought it since
                whole = self._fetch_alone(blob, size)
        return bool(whole)

    def _fetch_alone(self, blob: BlobId, size: int | None) -> bool | None:
        """Fetch a blob; None if it gave way in the middle."""
        offset = self._holdings.blobs.partial_size(blob)
        limit = wire.MAX_BLOB if size is None else size
        receiving = Receiving(self._exchange, blob, offset, total=size, limit=limit)
        try:
            with closing(self._pieces(blob, offset, size)) as pieces:
                for piece in pieces:
                    self._exchange.arriving.progress(self._peer, blob)
                    if receiving.add(piece):
                        receiving.keep()
                    if size is not None and offset + receiving.came < size and self._must_wait():
                        receiving.keep()
                        return None
            whole = receiving.finish()
        except PeerUnreachable:
            receiving.keep()
            raise
        except PeerRefused as error:
            self._note_left(error)
            if offset:
                self._holdings.blobs.drop_partial(blob)  # it does not fit what the peer has
        except (BadBlob, BadManifest):
            if receiving.all_by_this:  # else the part that lay here may be the bad one; it was dropped
                self._exchange.note_bad(self._peer, blob)
        except WrongOffset:
            self._meeting.left = True  # another meeting brings the same blob right now
        except Refused as error:
            log.info("blob not kept blob=%s code=%s", short(blob), error.code)  # its entry ended meanwhile
        except DiskFull:
            log.warning("no room for blob=%s", short(blob))
        else:
            self._meeting.count(blobs_in=int(whole), bytes_in=receiving.came)
            return whole
        return False

    def _pieces(self, blob: BlobId, offset: int, size: int | None) -> Generator[bytes]:
        """Return what is lacking of a blob, in pieces; nothing if all of it came before a cut."""
        if size is None or offset < size:
            yield from self._client.get_blob(blob, offset)

    def _give_all(self, pool: ThreadPoolExecutor, pairs: Pairs) -> None:
        offers = could_give(self._exchange, self._peer, pairs, self._exchange.roles_of(self._peer))
        entries = [offer.entry for offer in in_order(offers.values())]
        for start in range(0, len(entries), wire.MAX_IDS):
            lacks = self._client.lack(entries[start : start + wire.MAX_IDS])
            self._exchange.note_wanted(self._peer, entries[start : start + wire.MAX_IDS], lacks)
            with Lanes() as lanes:
                for entry in entries[start : start + wire.MAX_IDS]:
                    lack = lacks.get(entry)
                    if lack is not None:
                        small = offers[entry].missing <= SEGMENT_BYTES
                        lanes.run(partial(self._give_entry, pool, entry, lack), beside_others=small)

    def _give_entry(self, pool: ThreadPoolExecutor, entry: EntryId, lack: wire.Lack) -> None:
        if lack.manifest:
            self._give_blob(BlobId(entry), 0, gives_way=False)
        self._wait()
        now = self._client.lack([entry]).get(entry)  # alone: what it answers first is expected from here
        if now is not None and not now.manifest:
            self._share(pool, entry, now)

    def _share(self, pool: ThreadPoolExecutor, entry: EntryId, lack: wire.Lack) -> None:
        """Give a study a few blobs at a time, and ask in between what others have given meanwhile.

        The peer tells each giver another place to begin at. As long as nobody else gives, more go between
        two questions.
        """
        few = wire.IN_FLIGHT
        if not lack.blobs:
            self._meeting.left = True  # others bring all of it at this moment
        times: Counter[BlobId] = Counter()
        while True:
            here = [(blob, offset) for blob, offset in lack.blobs if self._holdings.blobs.has(blob)]
            moves = here[:few]
            given = list(pool.map(lambda move: self._give_blob(*move), moves))
            gave_way = None in given
            times.update(blob for (blob, _), went in zip(moves, given, strict=True) if went is not None)
            if not gave_way and (not any(given) or len(moves) == len(here)):
                return
            self._wait()
            again = self._client.lack([entry]).get(entry)
            if again is None or again.manifest:
                return
            if max(times.values(), default=0) >= _TIMES:
                log.info("peer keeps no blobs entry=%s", short(entry))
                self._meeting.left = True
                return
            if not gave_way:
                alone = len(again.blobs) == len(lack.blobs) - len(moves)
                few = min(2 * few, _AT_MOST) if alone else wire.IN_FLIGHT
            lack = again

    def _note_left(self, error: PeerRefused) -> None:
        if error.peer_code not in _FINAL:
            self._meeting.left = True

    def _give_blob(self, blob: BlobId, offset: int, *, gives_way: bool = True) -> bool | None:
        """Send one blob from where the peer has it; a refusal of one blob ends nothing else.

        None if it gave way: what came before is kept there.
        """
        size = self._holdings.blobs.size(blob)
        if size is None or offset > size:
            return False
        try:
            data = self._holdings.blobs.read(blob, offset, size - offset)
        except BlobMissing:
            return False  # erased at this moment
        except StoreDamaged:
            note_lost(self._holdings, blob)
            return False
        self.begun.set()
        try:
            if not self._client.put_blob(blob, offset, data, size, self._must_wait if gives_way else None):
                return None
        except PeerRefused as error:
            log.info("blob refused blob=%s code=%s", short(blob), error.peer_code)
            self._note_left(error)
            return False
        self._meeting.count(blobs_out=1, bytes_out=len(data))
        return True


class Lanes:
    """Moves small studies beside each other, since on a far line each waits for answers; large ones alone."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(wire.BESIDE, thread_name_prefix="studies")
        self._running: deque[Future[None]] = deque()

    def __enter__(self) -> "Lanes":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._wait(0)
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def run(self, work: Callable[[], None], *, beside_others: bool) -> None:
        """Begin to move a study once there is room, or move it now; what failed before is raised here."""
        self._wait(wire.BESIDE - 1 if beside_others else 0)
        if beside_others:
            self._running.append(self._pool.submit(work))
        else:
            work()

    def _wait(self, most: int) -> None:
        while len(self._running) > most:
            self._running.popleft().result()
