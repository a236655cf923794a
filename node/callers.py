"""Callers: how many connections a port takes, and how long it waits for one that says nothing.

Whoever is on the clinic's network can open connections without being anybody. Each costs this process a
descriptor, which its database and its files need too: `Door` takes a bounded number, and of one address a
quarter of them at most, so that one machine cannot shut out the others. `patient` ends connections that
begin no request, stop in the middle of one, or have a head without an end; uvicorn (0.54) waits for those for
ever, and keeps all that came. Called by
`node.serving`.
"""

import logging
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

log = logging.getLogger(__name__)

_MOST = 512  # on one port
_SHARE = 4  # one address may have a fourth of that: a whole clinic may be behind one
_PORTS = 4
_OWN_FILES = 256  # descriptors for the database, blobs, ways out, workers
_WANTED_FILES = _PORTS * _MOST + 2 * _OWN_FILES
_HEAD_S = 20.0  # for a request's head, from its first octet or the connection's beginning
_HEAD_OCTETS = 65_536  # httptools takes a head of any length, and keeps it in memory
SILENCE_S = 60.0  # in the middle of a body: radio links are away for half a minute
_LOOK_S = 5.0
_QUIET_S = 60.0  # between two lines in the log


def raise_file_limit() -> None:
    """Let this process open as many files as its ports may bring connections; many systems begin at 1,024."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(_WANTED_FILES, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def most_connections() -> int:
    """Return how many connections one port may have, so that files can still be opened when all are full."""
    try:
        import resource

        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    except ImportError:  # Windows has no such limit
        return _MOST
    return _MOST if files < 0 else max(8, min(_MOST, (files - _OWN_FILES) // _PORTS))


class _Line(socket.socket):
    """An accepted connection that tells when it is closed."""

    left: Callable[[], None] | None = None

    def close(self) -> None:
        """Close it, and make room for another."""
        super().close()
        left, self.left = self.left, None
        if left is not None:
            left()


class Door(socket.socket):
    """A listening socket that takes no more connections than it has places for.

    Those that are too many are closed at once. Only asyncio's loop for selectors accepts through this class;
    the one of Windows does not, and keeps the system's limits.

    Args:
        family: of the addresses.
        most: how many connections at once; as many as the process can bear, if not said.
        alone: this machine is the only caller, so that one address may have them all.
    """

    def __init__(self, family: int, *, most: int | None = None, alone: bool = False) -> None:
        # Named: asyncio asks what is accepted for it, and else leaves Nagle on, which costs an answer 40 ms.
        super().__init__(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._most = most_connections() if most is None else most
        self._of_one = self._most if alone else max(1, self._most // _SHARE)
        self._here: Counter[str] = Counter()
        self._told = -_QUIET_S
        self._refused = 0

    def accept(self) -> tuple[socket.socket, Any]:
        """Return the next connection.

        Raises:
            ConnectionAbortedError: there was no place for it; asyncio goes on with the one after.
        """
        descriptor, address = self._accept()  # type: ignore[attr-defined]
        line = _Line(self.family, self.type, self.proto, fileno=descriptor)
        host = str(address[0])
        if self._here.total() >= self._most or self._here[host] >= self._of_one:
            line.close()
            self._tell()
            raise ConnectionAbortedError
        self._here[host] += 1
        line.left = lambda: self._leave(host)
        return line, address

    def _leave(self, host: str) -> None:
        self._here[host] -= 1
        if self._here[host] <= 0:
            del self._here[host]

    def _tell(self) -> None:
        self._refused += 1
        now = time.monotonic()
        if now - self._told >= _QUIET_S:
            log.warning("too many connections refused=%d port=%d", self._refused, self.getsockname()[1])
            self._told, self._refused = now, 0


def patient(base: Any, *, head_s: float = _HEAD_S, silence_s: float = SILENCE_S) -> Any:
    """Return uvicorn's protocol class `base`, with an end to its patience.

    Args:
        base: the class.
        head_s: how long a request's head may take.
        silence_s: how long nothing may come of a body that is wanted.
    """
    look_s = min(_LOOK_S, head_s / 2, silence_s / 2)

    class Patient(base):  # type: ignore[misc]
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._heard = self.loop.time()
            self._head_since: float | None = self._heard
            self._head_octets = 0
            self._watch = self.loop.call_later(look_s, self._look)

        def connection_lost(self, error: Exception | None) -> None:
            self._watch.cancel()
            super().connection_lost(error)

        def data_received(self, data: bytes) -> None:
            self._heard = self.loop.time()
            super().data_received(data)
            if not self._idle():
                self._head_since, self._head_octets = None, 0
                return
            if self._head_since is None:
                self._head_since = self._heard
            if self.cycle is None or not self.cycle.more_body:  # else a body that was answered already
                self._head_octets += len(data)
                if self._head_octets > _HEAD_OCTETS:
                    self.transport.abort()

        def _idle(self) -> bool:
            """Say whether no request is being answered."""
            return self.cycle is None or bool(self.cycle.response_complete)

        def _look(self) -> None:
            now = self.loop.time()
            if self._idle():
                ended = self._head_since is not None and now - self._head_since > head_s
            elif self.flow.read_paused:  # it may not speak
                self._heard, ended = now, False
            else:
                ended = bool(self.cycle.more_body) and now - self._heard > silence_s
            if ended:
                self.transport.abort()
            else:
                self._watch = self.loop.call_later(look_s, self._look)

    return Patient
