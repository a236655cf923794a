"""TLS sessions between nodes: what both ends keep of a handshake, so that the next one takes a quarter.

RFC 8446 §2.2, with tickets that only name what the server keeps (§4.6.1). A resumed line shows the same keys
at both ends, and what these may do is asked for each request as on any line. Called by `node.mesh.tls` for
the mesh port, and by `node.mesh.client` for dials. All of it is in memory only, and gone with the process.
"""

import ssl
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_EACH = 256  # handshakes of one context
_MOST = 768  # sessions kept by all contexts, about; each is 1 to 12 kB
_LONGEST_S = 6 * 3600.0  # then every key has to be shown again
_ADDRESSES = 64
_OF_ONE = 8  # sessions kept for one address: a meeting has some lines at once


class Renewed(ssl.SSLContext):
    """A server's context that keeps few sessions, and none for long.

    OpenSSL keeps one for each handshake, also of who shows no certificate, up to 20,480, and Python has no
    call for that number. So each handshake is one of an inner context, which is made anew after some
    hundred handshakes and after some hours. The one before lives as long as its lines do; while all that
    live keep too many sessions, the next gives no tickets, and lines cost a whole handshake.

    Args:
        make: returns the inner context; it gives tickets if the argument says so.
        now: seconds of a clock that only goes on.
    """

    def __new__(cls, *_args: Any, **_more: Any) -> "Renewed":
        """Make the outer context, which never shakes hands."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(
        self, make: Callable[[bool], ssl.SSLContext], *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._make = make
        self._now = now
        self._lock = threading.Lock()
        self._alive: weakref.WeakSet[ssl.SSLContext] = weakref.WeakSet()
        self._begin()

    @property
    def kept(self) -> int:
        """How many sessions are kept now."""
        return sum(one.session_stats()["number"] for one in self._alive)

    def wrap_bio(self, *args: Any, **more: Any) -> ssl.SSLObject:
        """Begin a handshake; see ssl."""
        return self._next().wrap_bio(*args, **more)

    def wrap_socket(self, *args: Any, **more: Any) -> ssl.SSLSocket:
        """Begin a handshake; see ssl."""
        return self._next().wrap_socket(*args, **more)

    def _next(self) -> ssl.SSLContext:
        with self._lock:
            if self._shaken >= _EACH or self._now() - self._began >= _LONGEST_S:
                self._begin()
            self._shaken += 1
            return self._inner

    def _begin(self) -> None:
        self._inner = self._make(self.kept < _MOST)
        self._alive.add(self._inner)
        self._began, self._shaken = self._now(), 0


class Sessions:
    """What the dials of a node share: their context, and the sessions of lines that were, by address.

    A session is good for one line, which brings the next: by a ticket that is sent twice, who listens
    could tell that both lines are of one node (RFC 8446 appendix C.4). Safe to call from many threads.

    Args:
        context: of `node.mesh.tls`, for all dials; a session belongs to one context.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self._lock = threading.Lock()
        self._kept: dict[str, list[ssl.SSLSession]] = {}

    def at(self, address: str) -> "Resumes":
        """Return the sessions of one address."""
        return Resumes(self, address)

    def take(self, address: str) -> ssl.SSLSession | None:
        """Return the newest session of an address, and forget it; None if there is none."""
        with self._lock:
            kept = self._kept.get(address)
            return kept.pop() if kept else None

    def keep(self, address: str, session: ssl.SSLSession) -> None:
        """Keep a session for the next line to an address."""
        with self._lock:
            kept = self._kept.pop(address, [])
            self._kept[address] = [*kept, session][-_OF_ONE:]  # and so the one heard last
            while len(self._kept) > _ADDRESSES:
                del self._kept[next(iter(self._kept))]


@dataclass(frozen=True, slots=True)
class Resumes:
    """The sessions of one address, for the sockets of its lines."""

    sessions: Sessions
    address: str

    def take(self) -> ssl.SSLSession | None:
        """Return a session to offer, which is nobody else's then."""
        return self.sessions.take(self.address)

    def look(self, made: ssl.SSLSocket, offered: ssl.SSLSession | None) -> None:
        """Keep the session that a line brought with its first octets, if it brought one."""
        session = made.session
        if session is not None and session.has_ticket and session != offered:
            self.sessions.keep(self.address, session)
