"""The sockets of a line to a peer (httpcore's home).

Three things that httpcore's own do not: they can be cut at any moment, also while a name is looked up or a
peer dialled; an answer may not drip; and a blob that is being sent can give way in its middle.
"""

import selectors
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpcore

from node.lines import watch_line
from node.mesh.sessions import Resumes, Ticket

_STEP_S = 0.1  # so often a dial looks whether it was cut
_PIECE = 16 * 1024  # one TLS record; between two of them a blob may give way
_LOOK_S = 0.5  # so often it looks while it waits for the answer
_SPAN_S = 60.0
_LEAST = 1024  # octets that must come in that time once an answer has begun; 2G brings 500 in a second
_DIALS = 3  # times the time for one address are for all addresses of a name


class GaveWay(Exception):
    """What was being sent stopped in its middle; the connection is gone with it."""


class Line(httpcore.NetworkBackend):
    """Makes connections, and cuts them. Safe to call from many threads.

    Args:
        made: called with each connection whose handshake is done; it may cut it.
        resumes: the sessions of where it leads to.
    """

    def __init__(self, made: Callable[[ssl.SSLSocket], None], resumes: Resumes) -> None:
        self._made = made
        self.resumes = resumes
        self._lock = threading.Lock()
        self._is_cut = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._here = threading.local()

    @property
    def is_cut(self) -> bool:
        """Whether `cut` was called."""
        return self._is_cut.is_set()

    def cut(self) -> None:
        """End what goes on over it, and let nothing begin; from any thread."""
        self._is_cut.set()
        with self._lock:
            for one in self._sockets:
                cut(one)

    @contextmanager
    def limited(
        self, *, seconds: float | None = None, gives_way: Callable[[], bool] | None = None
    ) -> Iterator[None]:
        """Bound what this thread asks for in the block.

        Args:
            seconds: the answer must be whole by then.
            gives_way: asked until the answer is here; when it says so, `GaveWay` is raised.
        """
        self._here.until = None if seconds is None else time.monotonic() + seconds
        self._here.gives_way = gives_way
        try:
            yield
        finally:
            self._here.until = self._here.gives_way = None

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Dial; see httpcore."""
        seconds = 60.0 if timeout is None else timeout
        found = self._look_up(host, port, time.monotonic() + seconds)
        each = min(seconds, _DIALS * seconds / max(len(found), 1))
        refused: Exception | None = None
        for one in found:
            try:
                return _Stream(self, self._connected(one, time.monotonic() + each))
            except (OSError, httpcore.ConnectTimeout) as error:
                refused = error
        raise httpcore.ConnectError("nobody answers") from refused

    def sleep(self, seconds: float) -> None:
        """See httpcore."""
        self._is_cut.wait(seconds)

    # -- for streams ----------------------------------------------------------------------------

    def keep(self, made: socket.socket, instead: socket.socket | None = None) -> None:
        """Have a socket cut with the line, from now on."""
        with self._lock:
            self._sockets.discard(instead or made)
            self._sockets.add(made)
            if self.is_cut:
                cut(made)

    def drop(self, made: socket.socket) -> None:
        """Close a socket."""
        with self._lock:
            self._sockets.discard(made)
        with suppress(OSError):
            made.close()

    def tell_made(self, made: ssl.SSLSocket) -> None:
        """Say that a handshake is done."""
        self._made(made)

    def left(self, until: float | None) -> float | None:
        """Return how long this thread may wait for octets, until it looks again."""
        limits = [one for one in (until, getattr(self._here, "until", None)) if one is not None]
        now = time.monotonic()
        if limits and now >= min(limits):
            raise httpcore.ReadTimeout("the answer took too long")
        looks = [now + _LOOK_S] if getattr(self._here, "gives_way", None) is not None else []
        return min(limits + looks) - now if limits or looks else None

    def must_give_way(self) -> bool:
        """Say whether what this thread sends is to stop."""
        gives_way: Callable[[], bool] | None = getattr(self._here, "gives_way", None)
        return gives_way is not None and gives_way()

    # -- dialling -------------------------------------------------------------------------------

    def _look_up(self, host: str, port: int, until: float) -> list[Any]:
        """Return the addresses of a name. A resolver without a network takes its time: not ours."""
        found: list[Any] = []
        ended = threading.Event()

        def look() -> None:
            with suppress(OSError, UnicodeError):
                found.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            ended.set()

        if _is_address(host):
            look()
        else:
            threading.Thread(target=look, name="look-up", daemon=True).start()
        while not ended.wait(_STEP_S):
            self._check(until)
        return found

    def _connected(self, found: Any, until: float) -> socket.socket:
        """Return a socket that is connected to one address of a name."""
        family, kind, protocol, _, address = found
        made = socket.socket(family, kind, protocol)
        try:
            self.keep(made)
            self._dial(made, address, until)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            watch_line(made)
        except BaseException:
            self.drop(made)
            raise
        return made

    def _dial(self, made: socket.socket, address: Any, until: float) -> None:
        made.setblocking(False)
        with suppress(BlockingIOError):
            made.connect(address)
        with selectors.DefaultSelector() as selector:
            selector.register(made, selectors.EVENT_WRITE)
            while not selector.select(_STEP_S):
                self._check(until)
        self._check(until)
        error = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, "not connected")

    def _check(self, until: float) -> None:
        if self.is_cut:
            raise httpcore.ConnectError("the line was cut")
        if time.monotonic() > until:
            raise httpcore.ConnectTimeout("nobody answers")


class _Stream(httpcore.NetworkStream):
    """One connection, before and after its handshake."""

    def __init__(self, line: Line, made: socket.socket) -> None:
        self._line = line
        self._socket = made
        self._offered: Ticket | None = None
        self._has_looked = False  # whether a ticket for the next line came
        self._in_use = threading.Lock()  # what one thread reads or writes another may close
        self._began: float | None = None  # when the first octets of the answer came
        self._came = 0

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        until = None if timeout is None else time.monotonic() + timeout
        with self._in_use:
            while True:
                self._give_way()
                try:
                    self._socket.settimeout(self._line.left(until))
                    data = self._socket.recv(max_bytes)
                except TimeoutError:
                    continue
                except OSError as error:
                    raise httpcore.ReadError("the line was cut") from error
                self._look_for_ticket(data)
                self._keep_pace(len(data))
                return data

    def _look_for_ticket(self, data: bytes) -> None:
        """Keep what the next line can be resumed with; a server sends it before its first answer."""
        if data and not self._has_looked and isinstance(self._socket, ssl.SSLSocket):
            self._has_looked = True
            self._line.resumes.look(self._socket, self._offered)
            self._offered = None

    def _keep_pace(self, octets: int) -> None:
        now = time.monotonic()
        if self._began is None:
            self._began, self._came = now, 0
        self._came += octets
        if now - self._began > _SPAN_S:
            if self._came < _LEAST:
                raise httpcore.ReadTimeout("the answer drips")
            self._began, self._came = now, 0

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._began = None
        view = memoryview(buffer)
        try:
            with self._in_use:
                self._socket.settimeout(timeout)
                while view:
                    self._give_way()
                    view = view[self._socket.send(view[:_PIECE]) :]
        except TimeoutError:
            raise httpcore.WriteTimeout("silence") from None
        except OSError as error:
            raise httpcore.WriteError("the line was cut") from error

    def _give_way(self) -> None:
        if self._line.must_give_way():
            # What waits in the kernel would still go before what is urgent.
            with suppress(OSError):  # it is gone already
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset(sys.platform))
            raise GaveWay

    def close(self) -> None:
        # Where another thread reads or writes, it is ended under it: OpenSSL bears one call at a time.
        is_quiet = self._in_use.acquire(blocking=False)
        try:
            if is_quiet:
                _leave_in_order(self._socket)
            self._line.drop(self._socket)
        finally:
            if is_quiet:
                self._in_use.release()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            with self._in_use:
                self._shake_hands(ssl_context, server_hostname, timeout)
        except BaseException as error:
            self.close()
            if isinstance(error, TimeoutError):
                raise httpcore.ConnectTimeout("silence") from None
            if isinstance(error, OSError):
                raise httpcore.ConnectError("the handshake failed") from error
            raise
        return self

    def _shake_hands(self, context: ssl.SSLContext, name: str | None, timeout: float | None) -> None:
        self._socket.settimeout(timeout)
        self._offered = self._line.resumes.take()
        made = context.wrap_socket(
            self._socket,
            server_hostname=name,
            do_handshake_on_connect=False,
            session=self._offered.session if self._offered else None,
        )
        self._line.keep(made, self._socket)  # its descriptor is the other one's from now on
        self._socket = made
        made.do_handshake()
        self._line.tell_made(made)

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            return _is_readable(self._socket)
        if info == "ssl_object" and isinstance(self._socket, ssl.SSLSocket):
            return self._socket
        return self._socket if info == "socket" else None


def cut(made: socket.socket) -> None:
    """Wake whoever reads or writes. Not by the TLS socket's own method, which would go on in plaintext."""
    with suppress(OSError):
        socket.socket.shutdown(made, socket.SHUT_RDWR)


def _leave_in_order(made: socket.socket) -> None:
    """Say close_notify (RFC 8446 §6.1), else the server forgets the session; wait for nothing."""
    with suppress(OSError, ValueError):  # the other end has not said it yet, or the line is gone
        made.setblocking(False)
        if isinstance(made, ssl.SSLSocket):
            made.unwrap()
    # Octets unread, such as a ticket, would have the kernel throw away what is still on its way out.
    with suppress(OSError):
        socket.socket.recv(made, _PIECE)


def reset(platform: str) -> bytes:
    """Return the linger option by which closing throws away what was not sent, as a system knows it."""
    return struct.pack("HH" if platform == "win32" else "ii", 1, 0)


def _is_address(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            socket.inet_pton(family, host)
            return True
    return False


def _is_readable(made: socket.socket) -> bool:
    if made.fileno() < 0:
        return True
    with selectors.DefaultSelector() as selector:
        selector.register(made, selectors.EVENT_READ)
        return bool(selector.select(0))
