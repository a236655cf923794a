"""News: a peer that cannot be dialled is answered as soon as there is something new for it.

The server's half of `GET /news` (docs/protocol.md §5). A waiting request costs the loop one look at a count
five times a second, and neither a thread nor the database. What waits at the other end is
`node.jobs.replicate`.
"""

import asyncio
from collections.abc import Awaitable, Callable

from node.mesh.exchange import Exchange
from node.mesh.wire import NEWS_WAIT_S, Hello
from sync.ids import NodeId

_LOOK_S = 0.2


class News:
    """Who waits for this node's facts to change. One request of each peer waits: its newest."""

    def __init__(self, exchange: Exchange, *, wait_s: float = NEWS_WAIT_S) -> None:
        self._exchange = exchange
        self._wait_s = wait_s
        self._changes = 0
        self._closed = False
        self._turns: dict[NodeId, object] = {}

    def changed(self) -> None:
        """Note that facts came; from any thread."""
        self._changes += 1

    def close(self) -> None:
        """Answer all that wait, and let nobody wait any more; from any thread."""
        self._closed = True

    async def wait(
        self, peer: NodeId, told: bytes | None, gone: Callable[[], Awaitable[bool]]
    ) -> Hello | None:
        """Return what this node would say in a hello once that differs from what it `told` the peer.

        None if nothing came in 25 s, the peer asked anew or is `gone`, or the node stops.

        Args:
            peer: who asks.
            told: both fingerprints that this node has told it, 32 octets; None: answer at once.
            gone: says whether the peer has hung up.
        """
        loop, turn = asyncio.get_running_loop(), object()
        self._turns[peer] = turn
        seen = None
        until = loop.time() + self._wait_s
        try:
            while self._turns.get(peer) is turn and not self._closed and not await gone():
                if seen != self._changes:
                    seen = self._changes
                    hello = await asyncio.to_thread(self._exchange.hello)
                    if told is None or hello.fingerprints != told:
                        return hello
                if loop.time() >= until:
                    break
                await asyncio.sleep(_LOOK_S)
        finally:
            if self._turns.get(peer) is turn:
                del self._turns[peer]
        return None
