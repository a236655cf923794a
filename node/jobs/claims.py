"""Claims: saying that this node delivers an entry, and leaving to another forwarder what it delivers.

Advisory. Two forwarders that see each other send no study twice; two that do not are kept from harm by
asking the PACS before each sending. Called by `node.jobs.forward`.
"""

import threading
from typing import Any

from node.clock import Clock
from node.store.holdings import Holdings
from sync.bodies import Claim, Role
from sync.entries import EntryView
from sync.forwarding import gives_way
from sync.ids import EntryId

_LEASE_MS = 10 * 60_000
_RENEW_MS = 3 * 60_000
_SETTLE_S = 1.5  # a claim is with the others by then, if they are in reach


class Claims:
    """The claims of this node, and what it has seen of others'. Ages count on the life clock.

    `settle_s`: how long a new claim is given to reach another forwarder that holds the entry, too.
    """

    def __init__(self, holdings: Holdings, clock: Clock, settle_s: float = _SETTLE_S) -> None:
        self._settle_s = settle_s
        self._holdings = holdings
        self._clock = clock
        self._seen: dict[bytes, int] = {}
        self._said_ms: dict[EntryId, int] = {}
        self._mine: dict[EntryId, Claim] = {}
        self._closing = threading.Event()

    def close(self) -> None:
        """Wait for nothing any more."""
        self._closing.set()

    def of_another(self, view: EntryView, now: int) -> bool:
        """Say whether another forwarder delivers this entry, and this node leaves it to that one."""
        me = self._holdings.facts.node_id
        mine = view.claims.get(me)
        claimed = False
        for author, fact in view.claims.items():
            seen = self._seen.setdefault(fact.id, now)
            if author == me or now - seen >= _LEASE_MS or not isinstance(fact.body, Claim):
                continue
            if mine is None or not isinstance(mine.body, Claim):
                claimed = True
            else:
                claimed = claimed or gives_way(
                    me=me, proven=mine.body.proven, other=author, other_proven=fact.body.proven
                )
        return claimed

    def take(self, entry: EntryId, total: int) -> bool:
        """Claim an entry; say whether it is this node's to deliver.

        Where another one could deliver it, too, the claims are given time to meet.
        """
        known = self._mine.get(entry)
        self._say(entry, Claim(active=True, proven=0 if known is None else known.proven, total=total))
        if known is None and self._others(entry) and not self._closing.wait(self._settle_s):
            view = self._holdings.view(entry)
            if view.tombstone is not None or self.of_another(view, self._clock.carried_ms()):
                self.end(entry)
                return False
        return True

    def renew(self, entry: EntryId, *, proven: int) -> None:
        """Say how far the delivery is."""
        known = self._mine.get(entry)
        if known is not None:
            self._say(entry, Claim(active=True, proven=proven, total=known.total))

    def beat(self, entry: EntryId) -> None:
        """Say again that it goes on, when that was said some time ago; called while bytes go out."""
        known, said = self._mine.get(entry), self._said_ms.get(entry)
        if known is not None and said is not None and self._clock.carried_ms() - said > _RENEW_MS:
            self._say(entry, known, again=True)

    def end(self, entry: EntryId) -> None:
        """Take the claim back."""
        known = self._mine.pop(entry, None)
        if known is not None:
            self._issue(entry, Claim(active=False, proven=known.proven, total=known.total))

    def _say(self, entry: EntryId, claim: Claim, *, again: bool = False) -> None:
        self._mine[entry] = claim
        said: Any = self._holdings.view(entry).claims.get(self._holdings.facts.node_id)
        if again or said is None or said.body != claim:
            self._issue(entry, claim)

    def _issue(self, entry: EntryId, claim: Claim) -> None:
        self._holdings.facts.issue(claim, entry)
        self._said_ms[entry] = self._clock.carried_ms()

    def _others(self, entry: EntryId) -> bool:
        """Say whether another forwarder holds the entry."""
        view = self._holdings.view(entry)
        holders = {*view.holders, *({view.origin} if view.origin_holds else ())}
        members = self._holdings.facts.ask(lambda ledger: ledger.membership.members())
        return any(
            node != self._holdings.facts.node_id
            and (info := members.get(node)) is not None
            and not info.revoked
            and Role.FORWARD in info.roles
            for node in holders
            if node is not None
        )
