"""A TCP proxy that makes a good line bad: slow, far, cut, or silent.

Stands in for what this kernel cannot do (no netem). Nodes, PACS and browsers connect to it instead of to
each other; nothing of what it carries is looked at. In tests and bench, from any thread:

    with proxied("127.0.0.1:8444", Line(rate=30_000, rtt_s=0.6)) as proxy:
        node.start([proxy.address])
        proxy.line = Line()         # the road gets better, also for connections that are open
        proxy.cut()                 # every connection is reset
        proxy.line = Line(silent=True)  # half open: connections stay, no octet comes through

As a program: `python -m support.proxy 127.0.0.1:9000 127.0.0.1:8444 --rate 30000 --rtt 0.6` (in `tests/`).
"""

import argparse
import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, replace
from typing import Any

_PIECE = 16 * 1024


@dataclass(frozen=True, slots=True)
class Line:
    """What a line is like.

    Args:
        rate: octets a second in each direction, shared by all connections; None: as fast as it goes.
        rtt_s: the time there and back, half of it each way.
        cut_every_s: all connections are reset so often.
        cut_after: each connection is reset when so many octets have gone through it, both ways together.
        silent: nothing comes through, and nobody is told: half-open connections.
        refused: new connections are reset at once.
        queued: pieces of 16 kB that each direction of a new connection holds on their way, as modems do.
    """

    rate: float | None = None
    rtt_s: float = 0.0
    cut_every_s: float | None = None
    cut_after: int | None = None
    silent: bool = False
    refused: bool = False
    queued: int = 64


PERFECT = Line()
DEAD = Line(silent=True)
# After the profiles that ZamSync tests with (two links of rural clinics, and a good one in town).
MOBILE_2G = Line(rate=30_000 / 8, rtt_s=0.6)
SATELLITE = Line(rate=100_000 / 8, rtt_s=1.2)
MOBILE_3G = Line(rate=1_000_000 / 8, rtt_s=0.08)


class Proxy:
    """A proxy that runs in a thread of its own, from `start` to `close`."""

    def __init__(self, target: str, line: Line = PERFECT, *, listen: str = "127.0.0.1:0") -> None:
        self.connections = 0
        self.octets = [0, 0]  # that came through: towards the target, and back
        self._target, self._listen = _host_port(target), _host_port(listen)
        self._line = line
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._open: set[_Connection] = set()
        self._free_at = [0.0, 0.0]  # when each direction of the line is free again

    def start(self) -> "Proxy":
        """Begin to listen."""
        self._thread.start()
        self._run(self._start())
        self.address = "{}:{}".format(*self._server.sockets[0].getsockname()[:2])
        return self

    def close(self) -> None:
        """Reset all connections and stop."""
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def line(self) -> Line:
        """What the line is like now; set it to change it, for open connections too."""
        return self._line

    @line.setter
    def line(self, line: Line) -> None:
        self._run(self._change(line))

    def change(self, **what: Any) -> None:
        """Change some of what the line is like."""
        self.line = replace(self._line, **what)

    def cut(self) -> int:
        """Reset every connection; return how many there were."""
        return int(self._run(self._cut()))

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    # -- in the loop ----------------------------------------------------------------------------

    async def _start(self) -> None:
        self._passes = asyncio.Event()  # set while octets come through
        self._server = await asyncio.start_server(self._serve, *self._listen, limit=_PIECE)
        self._clock: asyncio.Task[None] | None = None
        await self._change(self._line)

    async def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
        self._server.close()
        await self._cut()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _change(self, line: Line) -> None:
        if self._clock is not None:
            self._clock.cancel()
        self._clock = None
        self._line = line
        if line.silent:
            self._passes.clear()
        else:
            self._passes.set()
        if line.cut_every_s is not None:
            self._clock = asyncio.create_task(self._cut_by_the_clock(line.cut_every_s))

    async def _cut_by_the_clock(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            await self._cut()

    async def _cut(self) -> int:
        cut, self._open = self._open, set()
        for one in cut:
            one.reset()
        return len(cut)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        here = _Connection(writer)
        self._open.add(here)
        try:
            if not self._line.refused:
                await self._passes.wait()
                await asyncio.sleep(self._line.rtt_s)  # the handshake goes there and back
                there, back = await asyncio.open_connection(*self._target, limit=_PIECE)
                here.add(back)
                await asyncio.gather(self._carry(reader, back, 0, here), self._carry(there, writer, 1, here))
                await here.finish()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open.discard(here)
            here.reset()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: int, connection: "_Connection"
    ) -> None:
        """Carry one direction of one connection to its end."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(self._line.queued)

        async def take() -> None:
            while True:
                piece = await reader.read(_PIECE)
                await queue.put((self._arrival(len(piece), way), piece))
                if not piece:
                    return

        taking = asyncio.create_task(take())
        try:
            while True:
                due, piece = await queue.get()
                await asyncio.sleep(due - self._loop.time())
                await self._passes.wait()
                if not piece:
                    writer.write_eof() if writer.can_write_eof() else writer.close()
                    break
                self.octets[way] += len(piece)
                writer.write(piece)
                await writer.drain()
                if connection.carried(len(piece), self._line.cut_after):
                    raise ConnectionResetError
            await taking
        finally:
            taking.cancel()

    def _arrival(self, octets: int, way: int) -> float:
        """Return when octets that are sent now come out at the other end."""
        now = self._loop.time()
        if self._line.rate is not None:
            self._free_at[way] = max(self._free_at[way], now) + octets / self._line.rate
            now = self._free_at[way]
        return now + self._line.rtt_s / 2


class _Connection:
    """Both sockets of one connection."""

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self._writers = list(writers)
        self._octets = 0

    def add(self, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)

    def carried(self, octets: int, limit: int | None) -> bool:
        """Count octets; say whether there were too many."""
        self._octets += octets
        return limit is not None and self._octets > limit

    async def finish(self) -> None:
        """End it as its peers did: what was written still comes through."""
        for writer in self._writers:
            writer.close()
        for writer in self._writers:
            await writer.wait_closed()
        self._writers.clear()

    def reset(self) -> None:
        """End it at once; the peers see a reset."""
        for writer in self._writers:
            with contextlib.suppress(OSError):
                made = writer.get_extra_info("socket")
                made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


@contextlib.contextmanager
def proxied(target: str, line: Line = PERFECT, *, listen: str = "127.0.0.1:0") -> Iterator[Proxy]:
    """Run a proxy in front of `target` ("host:port") until the block ends."""
    proxy = Proxy(target, line, listen=listen).start()
    try:
        yield proxy
    finally:
        proxy.close()


def _host_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def main() -> None:
    """Run a proxy until it is interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m support.proxy", description="A TCP proxy that makes a line bad."
    )
    parser.add_argument("listen", help="host:port")
    parser.add_argument("target", help="host:port")
    parser.add_argument("--rate", type=float, help="octets a second, each way")
    parser.add_argument("--rtt", type=float, default=0.0, help="seconds there and back")
    parser.add_argument("--cut-every", type=float, help="seconds")
    parser.add_argument("--cut-after", type=int, help="octets of a connection")
    parser.add_argument("--silent", action="store_true", help="nothing comes through")
    told = parser.parse_args()
    line = Line(told.rate, told.rtt, told.cut_every, told.cut_after, told.silent)
    with contextlib.suppress(KeyboardInterrupt), proxied(told.target, line, listen=told.listen) as proxy:
        print(f"{proxy.address} -> {told.target}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
