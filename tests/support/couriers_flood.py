"""Plain epidemic flooding on the same month, to compare with: no order, no proofs, no resuming.

Everybody copies whole studies to everybody, the first taken in first; who is full drops what it took in
first; a transfer that is cut begins again; nobody learns what was delivered. The cloud refuses what it has.
"""

import heapq
from math import inf

from support.couriers import CLOUD
from support.couriers_model import Link, Node
from support.couriers_run import Run

from sync.entries import EntryView


class Flood(Run):
    """A month without our rules; time, links and disks are the same."""

    def _consider(self, link: Link, n: int, view: EntryView) -> None:
        for giver, taker in ((link.opener, link.peer), (link.peer, link.opener)):
            if n in giver.whole and n not in taker.whole and giver.index != CLOUD:
                heapq.heappush(link.queue, (giver.seen[n], next(self._turns), n, giver, taker))

    def _begin(self, link: Link) -> bool:
        while link.queue:
            _, _, n, giver, taker = heapq.heappop(link.queue)
            if n not in giver.whole or n in taker.whole or any(x.item == n for x in taker.links):
                continue
            item = self.items[n]
            if not self._drop_oldest(taker, item.total):
                continue
            moves = [(blob, 0) for blob in range(len(item.blobs))]
            link.item, link.giver, link.taker, link.moves = n, giver, taker, moves
            link.promised = item.total
            return True
        return False

    def _drop_oldest(self, node: Node, needed: int) -> bool:
        busy = {link.item for link in node.links}
        for n in list(node.got):  # in the order in which they came
            if self._room(node).quota_left >= needed:
                return True
            if n not in busy and self.items[n].taken.clinic != node.index:
                self.evicted += 1
                self._drop(node, n)
        return self._room(node).quota_left >= needed

    def _stop(self, link: Link) -> None:
        taker, n = link.taker, link.item
        if taker is not None and n is not None:
            if link.flying and link.rate < inf:
                self.wire += int((self.now - link.started) * link.rate)
            link.clear()
            if n in taker.got and n not in taker.whole:
                self._drop(taker, n)

    def _finish(self, node: Node, n: int) -> None:
        node.whole.add(n)
        for link in node.links:
            if link.item == n and link.taker is node:
                link.clear()
        if node.index == CLOUD and self.items[n].delivered_at is None:
            self.items[n].delivered_at = self.now
        self._offer_on(node, n)
