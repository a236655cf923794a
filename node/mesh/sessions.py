"""TLS sessions between nodes: what both ends keep of a handshake, so that the next one takes a quarter.

RFC 8446 §2.2, with tickets that only name what the server keeps (§4.6.1). A resumed line shows the same keys
at both ends, and what these may do is asked for each request as on any line. Called by `node.mesh.tls` for
the mesh port, by `node.mesh.client` and `node.mesh.line` for dials. All of it is in memory only, and gone
with the process.
"""

import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

SHOWN_S = 6 * 3600.0  # so long after a handshake with certificates lines may be resumed without
_EACH = 256  # handshakes with one context
_MOST = 1024  # with all contexts that are left; a session is 1 to 12 kB
_OWN = 8  # sessions take as much as a context does itself
_ADDRESSES = 64
_OF_ONE = 4  # sessions kept for one address: a meeting has some lines at once


class Renewed(ssl.SSLContext):
    """A server's context that keeps few sessions, and none for long.

    OpenSSL keeps one for each handshake, whoever makes it, up to 20,480; Python 3.11 has no call for that
    number, and none to remove them: they go with their context, and that with its last connection. So an
    inner context makes each handshake, and is made anew after some hundred and after some hours. While those
    that are left count too many, also because somebody stays on their lines, or the next cannot be made, a
    context without tickets takes over, and lines cost a whole handshake. A callback for the server's name
    would not do: sessions stay with the context that a connection began with.

    Args:
        make: returns a context; it gives tickets if the argument says so.
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
        self._plain = make(False)
        self._inner: ssl.SSLContext | None = None
        self._until = 0.0
        self._begun: WeakKeyDictionary[ssl.SSLContext, int] = WeakKeyDictionary()

    @property
    def kept(self) -> int:
        """How many sessions are kept now."""
        return sum(one.session_stats()["number"] for one in list(self._begun))

    def wrap_bio(self, *args: Any, **more: Any) -> ssl.SSLObject:
        """Begin a handshake; see ssl."""
        return self._next().wrap_bio(*args, **more)

    def wrap_socket(self, *args: Any, **more: Any) -> ssl.SSLSocket:
        """Begin a handshake; see ssl."""
        return self._next().wrap_socket(*args, **more)

    def _next(self) -> ssl.SSLContext:
        with self._lock:
            inner = self._inner
            if inner is None or self._begun[inner] >= _OWN + _EACH or self._now() >= self._until:
                inner = self._inner = None  # with nothing left on it, it goes now
                inner = self._inner = self._anew()
            if inner is None:
                return self._plain
            self._begun[inner] += 1
            return inner

    def _anew(self) -> ssl.SSLContext | None:
        if sum(self._begun.values()) + _OWN + _EACH > _MOST:
            return None
        try:
            made = self._make(True)
        except OSError:  # a full disk has no room for the file that OpenSSL reads the key from
            return None
        self._begun[made], self._until = _OWN, self._now() + SHOWN_S
        return made


@dataclass(frozen=True, slots=True)
class Ticket:
    """What one line can be resumed with. `until`: then both ends show their keys again."""

    session: ssl.SSLSession
    until: float


class Sessions:
    """What the dials of a node share: their context, and tickets of lines that were, by address.

    A ticket is good for one line, which brings the next: by one that is sent twice, who listens could tell
    that both lines are of one node (RFC 8446 appendix C.4). Safe to call from many threads.

    Args:
        context: of `node.mesh.tls`, for all dials. Sessions belong to it, so another identity has none.
        now: seconds of a clock that only goes on.
    """

    def __init__(self, context: ssl.SSLContext, *, now: Callable[[], float] = time.monotonic) -> None:
        self.context = context
        self._now = now
        self._lock = threading.Lock()
        self._kept: dict[str, list[Ticket]] = {}

    def at(self, address: str) -> "Resumes":
        """Return the tickets of one address."""
        return Resumes(self, address)

    def take(self, address: str) -> Ticket | None:
        """Return the newest ticket of an address, and forget it; None if there is none."""
        with self._lock:
            now = self._now()
            kept = [ticket for ticket in self._kept.pop(address, []) if now < ticket.until]
            if len(kept) > 1:
                self._kept[address] = kept[:-1]
            return kept[-1] if kept else None

    def keep(self, address: str, session: ssl.SSLSession, until: float | None) -> None:
        """Keep a session for the next line to an address.

        Args:
            until: when the keys are to be shown again; None if they were shown now.
        """
        ticket = Ticket(session, self._now() + SHOWN_S if until is None else until)
        with self._lock:
            kept = self._kept.pop(address, [])
            self._kept[address] = [*kept, ticket][-_OF_ONE:]  # and so the one heard last
            while len(self._kept) > _ADDRESSES:
                del self._kept[next(iter(self._kept))]


@dataclass(frozen=True, slots=True)
class Resumes:
    """The tickets of one address, for the sockets of its lines."""

    sessions: Sessions
    address: str

    def take(self) -> Ticket | None:
        """Return a ticket to offer, which is nobody else's then."""
        return self.sessions.take(self.address)

    def look(self, made: ssl.SSLSocket | ssl.SSLObject, offered: Ticket | None) -> None:
        """Keep the ticket that a line brought with its first octets, if it brought one."""
        session = made.session
        if session is None or not session.has_ticket or (offered and session == offered.session):
            return
        until = offered.until if offered and made.session_reused else None
        self.sessions.keep(self.address, session, until)
