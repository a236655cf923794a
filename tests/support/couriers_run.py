"""A month of couriers with the project's own `sync` code deciding; time, links and disks are simulated.

Facts are numbers here (a slot and how new), and spread whenever nodes can talk. A link moves one blob at a
time; what was cut goes on from the octet where it stopped. The cloud delivers a study at once when it has
every blob, and knows which ones it lacks. `support.couriers` makes the trace, `bench/couriers.py` prints the
results.
"""

import heapq
from itertools import count
from math import inf
from statistics import median
from typing import Any

from support.couriers import CLOUD, HOSPITAL, HOUR, Contact, Month
from support.couriers_model import (
    FACT,
    IDS,
    Link,
    Node,
    Result,
    Setting,
    ended_view_of,
    item_of,
    node_of,
    view_of,
)

from sync.bodies import Role
from sync.entries import EntryView
from sync.ids import NodeId
from sync.plan import (
    Room,
    Wanted,
    accepts,
    blobs_to_move,
    carries_promise,
    fetchable,
    holders_that_count,
    offerable,
    room,
    shortfall,
    turn_of,
)
from sync.retention import (
    DEFAULT_HOLD_MS,
    Custodian,
    Kept,
    Since,
    evictable,
    reasons_to_keep,
    spare_octets,
    to_evict,
)


class Run:
    """One month, one setting."""

    def __init__(self, month: Month, setting: Setting) -> None:
        self.month, self.setting = month, setting
        self.now = 0.0
        self.items = [item_of(n, taken) for n, taken in enumerate(month.studies)]
        self.nodes = [node_of(n, setting) for n in range(HOSPITAL + 1)]
        self.wire = 0
        self.lost: set[int] = set()
        self.evicted = 0
        self._events: list[tuple[float, int, str, object]] = []
        self._turns = count()

    @property
    def now_ms(self) -> int:
        return int(self.now * 1000)

    def run(self) -> Result:
        """Live through the month."""
        for contact in self.month.contacts:
            self._at(contact.start, "up", contact)
        for n, item in enumerate(self.items):
            self._at(item.taken.at, "take in", n)
        act: dict[str, Any] = {
            "up": self._up,
            "down": self._down,
            "take in": self._take_in,
            "moved": self._moved,
            "go on": self._pump,
        }
        while self._events and self._events[0][0] <= self.month.end:
            self.now, _, what, about = heapq.heappop(self._events)
            act[what](about)
        return self._result()

    def _at(self, when: float, what: str, about: object) -> None:
        heapq.heappush(self._events, (when, next(self._turns), what, about))

    # -- facts ----------------------------------------------------------------------------------

    def _tell(self, node: Node, kind: str, n: int, who: int = 0, value: int = 1) -> None:
        """Let a node learn a fact, and everybody to whom it talks now."""
        asked = [node]
        while asked:
            one = asked.pop()
            if not self._learn(one, kind, n, who, value):
                continue
            for link in one.links:
                link.facts += 1
                self.wire += FACT
                asked.append(link.other(one))

    def _learn(self, node: Node, kind: str, n: int, who: int, value: int) -> bool:
        if kind == "report":
            if node.reports.get(who, -1) >= value:
                return False
            node.reports[who] = value
            node.heard[IDS[who]] = self.now_ms
            return True
        if n in node.ended:
            return False
        item = self.items[n]
        if kind == "tombstone":
            node.ended[n] = self.now_ms
            node.views.pop(n, None)
            node.custody.pop(n, None)
            for link in node.links:
                if link.item == n:
                    self._stop(link)
                    self._at(self.now, "go on", link)
            self._sweep(node, n)
        elif kind == "study":
            if n in node.views:
                return False
            node.seen[n] = self.now_ms
            node.heard[IDS[item.taken.clinic]] = self.now_ms
            node.views[n] = view_of(item, {})
        else:
            said = node.custody.setdefault(n, {})
            if said.get(who, 0) >= value:
                return False
            said[who] = value
            node.heard[IDS[who]] = self.now_ms
            node.views[n] = view_of(item, said)
        node.version += 1
        return True

    def _mix(self, one: Node, two: Node) -> None:
        for node in (one, two):
            self._tell(node, "report", 0, node.index, self.now_ms)
        for a, b in ((one, two), (two, one)):
            for n in a.ended.keys() - b.ended.keys():
                self._tell(b, "tombstone", n)
        for a, b in ((one, two), (two, one)):
            for n in sorted(a.views.keys() - b.views.keys()):
                self._tell(b, "study", n)
        for a, b in ((one, two), (two, one)):
            for n, said in a.custody.items():
                known = b.custody.get(n, {})
                for who, value in list(said.items()):
                    if known.get(who, 0) < value:
                        self._tell(b, "custody", n, who, value)
            for who, value in list(a.reports.items()):
                self._tell(b, "report", 0, who, value)

    def _says(self, node: Node, n: int, *, holds: bool) -> None:
        value = node.custody.get(n, {}).get(node.index, 0) + 1
        self._tell(node, "custody", n, node.index, value if value % 2 == holds else value + 1)

    # -- disks ----------------------------------------------------------------------------------

    def _sweep(self, node: Node, n: int) -> None:
        """Erase what has ended, if no reason is left to keep it."""
        item = self.items[n]
        if n not in node.got:
            return
        keep = reasons_to_keep(
            ended_view_of(item), is_origin=item.taken.clinic == node.index,
            since=Since(self.now_ms - node.ended[n], mixed_after_hold=True),
            hold_ms=DEFAULT_HOLD_MS, origin=IDS[item.taken.clinic],
        )  # fmt: skip
        if not keep:
            self._drop(node, n)

    def _drop(self, node: Node, n: int) -> None:
        was_whole = n in node.whole
        node.held -= node.got.pop(n)
        node.have.pop(n)
        node.parts.pop(n, None)
        node.whole.discard(n)
        node.spares.discard(n)
        node.version += 1
        delivered = self.items[n].delivered_at is not None
        if was_whole and not delivered and not any(n in other.whole for other in self.nodes):
            self.lost.add(n)
        for link in node.links:
            if link.item == n:
                self._stop(link)
            self._again(link)

    def _room(self, node: Node, *, spare: int = 0) -> Room:
        promised = sum(link.promised for link in node.links if link.taker is node)
        free = node.disk - node.held
        return room(quota=node.disk, held=node.held, free=free, reserve=0, promised=promised, spare=spare)

    def _takes(self, node: Node, wanted: Wanted) -> bool:
        """Say whether a node takes an entry in; copies that it gives up for that are gone then."""
        opens = Role.FORWARD in node.roles
        if accepts(wanted, self._room(node), can_open=opens):
            return not shortfall(wanted, self._room(node))
        left = self._room(node, spare=self._kept(node)[1])  # looked for only when it matters: it takes long
        return accepts(wanted, left, can_open=opens) and self._make_room(node, shortfall(wanted, left))

    def _kept(self, node: Node) -> tuple[list[Kept], int]:
        """Return what could make room here now, and how many octets that is."""
        if node.could_go[0] == node.version:
            return node.could_go[1:]
        busy = {link.item for link in node.links if link.taker is node}
        peers = {link.other(node).id: link.other(node) for link in node.links}
        enough = len(peers) > 1 or IDS[CLOUD] in peers  # else no whole copy may go, as `may_evict` says
        kept = []
        for n, octets in node.got.items():
            view = node.views.get(n)
            if view is None or n in busy or (n in node.whole and n not in node.spares and not enough):
                continue
            holders = self._holders(node, view)
            others = frozenset(
                Custodian(h, h == IDS[CLOUD], h in peers and n in peers[h].whole)
                for h in holders if h != node.id
            )  # fmt: skip
            kept.append(
                Kept(
                    entry=view.entry, octets=octets, waiting_since=node.seen[n],
                    promised=carries_promise(self._wanted(n, node, node, without=node.id)),
                    complete=n in node.whole, announced=n not in node.spares,
                    is_origin=view.origin == node.id, others=others,
                )
            )  # fmt: skip
        may_go = evictable(kept)
        node.could_go = (node.version, may_go, spare_octets(may_go))
        return node.could_go[1:]

    def _holders(self, node: Node, view: EntryView) -> frozenset[NodeId]:
        return holders_that_count(view, heard_ms=node.heard, me=node.id, now_ms=self.now_ms)

    def _make_room(self, node: Node, needed: int) -> bool:
        if needed == 0:
            return True
        by_id = {self.items[n].entry: n for n in node.got}
        chosen = [by_id[entry] for entry in to_evict(self._kept(node)[0], needed)]
        for n in chosen:
            self.evicted += 1
            if n in node.whole and n not in node.spares:
                self._says(node, n, holds=False)
            self._drop(node, n)
        return bool(chosen)

    # -- meetings -------------------------------------------------------------------------------

    def _up(self, contact: Contact) -> None:
        one, two = self.nodes[contact.one], self.nodes[contact.two]
        uplink = CLOUD in (contact.one, contact.two)
        link = Link(two, one, self.setting.uplink if uplink else self.setting.lan)
        for node in (one, two):
            node.version += 1
            for n in [n for n in node.ended if n in node.got]:
                self._sweep(node, n)
        one.links.append(link)
        two.links.append(link)
        self._mix(one, two)
        self._at(contact.end, "down", link)
        for node in (one, two):
            for n in [n for n in node.spares if carries_promise(self._wanted(n, node, node))]:
                node.spares.discard(n)
                self._says(node, n, holds=True)
        for n, view in link.opener.views.items():
            self._consider(link, n, view)
        self._pump(link)

    def _consider(self, link: Link, n: int, view: EntryView) -> None:
        """Put an entry among what could be moved, as the one who opened the line sees it."""
        opener, peer = link.opener, link.peer
        if n not in opener.whole and (
            fetchable(view, peer=peer.id)
            or (self._pushes(peer, n) and offerable(view, peer=opener.id, roles=opener.roles))
        ):
            self._enqueue(link, n, peer, opener)
        elif n in opener.have and n not in peer.whole and offerable(view, peer=peer.id, roles=peer.roles):
            self._enqueue(link, n, opener, peer)

    def _pushes(self, peer: Node, n: int) -> bool:
        """Say whether the other end gives of its own accord: neighbours dial each other, the cloud nobody."""
        return peer.index != CLOUD and n in peer.have

    def _enqueue(self, link: Link, n: int, giver: Node, taker: Node) -> None:
        wanted = self._wanted(n, taker, link.opener)
        heapq.heappush(link.queue, (turn_of(wanted), next(self._turns), n, giver, taker))

    def _wanted(self, n: int, taker: Node, by: Node, *, without: NodeId | None = None) -> Wanted:
        view = by.views[n]
        missing = self.items[n].total - taker.got.get(n, 0)
        copies = len(self._holders(by, view) - {without})
        return Wanted(view.entry, view.urgent, by.seen[n], missing, copies)

    def _down(self, link: Link) -> None:
        link.open = False
        taker = link.taker
        item = link.item
        self._stop(link)
        for node in (link.opener, link.peer):
            node.links.remove(link)
            node.version += 1
        if taker is not None and item is not None:
            for other in taker.links:
                view = other.opener.views.get(item)
                if view is not None:
                    self._consider(other, item, view)
                self._pump(other)

    def _stop(self, link: Link) -> None:
        """Break off what moves; what came of it stays."""
        if link.flying and link.taker is not None and link.item is not None and link.rate < inf:
            blob = link.flying[0]
            octets = int((self.now - link.started) * link.rate)
            size = self.items[link.item].blobs[blob]
            octets = min(octets, size - link.offset)
            self.wire += octets
            if octets > 0 and link.item in link.taker.views:
                parts = link.taker.parts.setdefault(link.item, {})
                parts[blob] = parts.get(blob, 0) + octets
                link.taker.got[link.item] = link.taker.got.get(link.item, 0) + octets
                link.taker.have.setdefault(link.item, 0)
                link.taker.held += octets
                link.taker.version += 1
        link.clear()

    def _again(self, link: Link) -> None:
        """Room was made, or something else changed: what was refused may be wanted now."""
        for entry in link.refused:
            heapq.heappush(link.queue, entry)
        link.refused.clear()
        if link.open and not link.flying:
            self._at(self.now, "go on", link)

    def _pump(self, link: Link) -> None:
        """Start the next blob, if nothing moves."""
        while link.open and not link.flying:
            if link.item is None and not self._begin(link):
                return
            assert link.taker is not None and link.giver is not None and link.item is not None
            item = self.items[link.item]
            have = link.taker.have.get(link.item, 0)
            here = link.giver.have.get(link.item, 0)
            busy = {b for other in link.taker.links if other.item == link.item for b in other.flying}
            parts = link.taker.parts.get(link.item, {})
            link.moves = [
                m for m in link.moves if not have >> m[0] & 1 and here >> m[0] & 1 and m[0] not in busy
            ]
            if not link.moves:
                self._stop(link)
                continue
            blobs = [b for b, _ in (link.moves if link.rate == inf else link.moves[:1])]
            link.offset = sum(parts.get(b, 0) for b in blobs)
            octets = sum(item.blobs[b] for b in blobs) - link.offset
            link.flying, link.started = tuple(blobs), self.now
            link.promised = item.total - link.taker.got.get(link.item, 0)
            self._at(self.now + octets / link.rate, "moved", (link, link.token))

    def _begin(self, link: Link) -> bool:
        """Take the next entry whose turn it is and for which there is room."""
        while link.queue:
            queued = heapq.heappop(link.queue)
            _, _, n, giver, taker = queued
            if n not in taker.views or n not in giver.have or n in taker.whole:
                continue
            item = self.items[n]
            wanted = self._wanted(n, taker, taker)
            if not self._takes(taker, wanted):
                link.refused.append(queued)
                continue
            have, parts = taker.have.get(n, 0), taker.parts.get(n, {})
            already = {b: size if have >> b & 1 else parts.get(b, 0) for b, size in enumerate(item.blobs)}
            moves = blobs_to_move(list(enumerate(item.blobs)), already, start=link.opener.id[0])
            link.item, link.giver, link.taker, link.moves = n, giver, taker, moves
            return True
        return False

    def _moved(self, about: tuple[Link, int]) -> None:
        link, token = about
        if not link.open or token != link.token:
            return
        if link.flying:
            taker, n = link.taker, link.item
            item = self.items[n]
            for blob in link.flying:
                part = taker.parts.get(n, {}).pop(blob, 0)
                octets = item.blobs[blob] - part
                self.wire += octets
                taker.held += octets
                taker.got[n] = taker.got.get(n, 0) + octets
                taker.have[n] = taker.have.get(n, 0) | 1 << blob
            link.flying = ()
            link.token += 1
            link.promised = item.total - taker.got[n]
            if taker.have[n] == item.full:
                self._finish(taker, n)
        self._pump(link)

    def _finish(self, node: Node, n: int) -> None:
        """An entry is whole here: say so, and offer it on; the cloud delivers it."""
        node.whole.add(n)
        for link in node.links:
            if link.item == n and link.taker is node:
                self._stop(link)
        if Role.FORWARD in node.roles:
            self.items[n].delivered_at = self.now
            self._tell(node, "tombstone", n)
            return
        if carries_promise(self._wanted(n, node, node)):
            self._says(node, n, holds=True)
        else:
            node.spares.add(n)
            node.version += 1
        self._offer_on(node, n)

    def _offer_on(self, node: Node, n: int) -> None:
        for link in node.links:
            view = link.opener.views.get(n)
            if view is not None:
                self._consider(link, n, view)
                if not link.flying:
                    self._at(self.now, "go on", link)

    def _take_in(self, n: int) -> None:
        item = self.items[n]
        node = self.nodes[item.taken.clinic]
        node.have[n], node.got[n] = item.full, item.total
        node.held += item.total
        node.whole.add(n)
        self._tell(node, "study", n)
        self._offer_on(node, n)

    # -- the end --------------------------------------------------------------------------------

    def _result(self) -> Result:
        for n, item in enumerate(self.items):
            if item.delivered_at is None and not any(n in node.whole for node in self.nodes):
                self.lost.add(n)
        done = [i for i in self.items if i.delivered_at is not None]
        urgent = [i for i in self.items if i.taken.urgent]
        hours = [((i.delivered_at or 0) - i.taken.at) / HOUR for i in done]
        urgent_hours = [((i.delivered_at or 0) - i.taken.at) / HOUR for i in done if i.taken.urgent]
        return Result(
            delivered=len(done) / len(self.items),
            urgent=len(urgent_hours) / len(urgent) if urgent else 1.0,
            median_hours=median(hours) if hours else inf,
            urgent_hours=median(urgent_hours) if urgent_hours else inf,
            overhead=self.wire / (sum(i.taken.size for i in done) or 1),
            lost=len(self.lost),
            evicted=self.evicted,
        )
