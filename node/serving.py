"""HTTP servers: the ports of a node, all in one event loop in a thread of their own.

Called by `node.service`, which makes the applications. A port is taken when it is added, so that the
address is known before anything is served.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from node.callers import Door, patient
from node.errors import BadSettings
from node.lines import watch_line

_KEEP_ALIVE_S = 60  # nodes meet every half minute, and phones send parts with pauses
_GRACE_S = 3
_STOP_S = 10


class Servers:
    """The servers of one node."""

    def __init__(self) -> None:
        self._pairs: list[tuple[uvicorn.Server, socket.socket]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def add(
        self, app: FastAPI, host: str, port: int, *, setting: str, context: Any = None, http: Any = None
    ) -> int:
        """Take a port for an application and return its number; port 0 takes any.

        Args:
            setting: the setting that names the port, for the error.
            context: the TLS context; without one it is plain HTTP.
            http: uvicorn's HTTP protocol class, if not its own.

        Raises:
            BadSettings: the port is taken.
        """
        listener = _listen(host, port, setting)
        server = _server(app, context=context, http=patient(http or AutoHTTPProtocol))
        self._pairs.append((server, listener))
        if self._loop is not None:  # the others are being served already
            asyncio.run_coroutine_threadsafe(server.serve(sockets=[listener]), self._loop)
        return int(listener.getsockname()[1])

    def close(self, port: int) -> None:
        """Stop serving a port that was added; the others go on."""
        for pair in [pair for pair in self._pairs if pair[1].fileno() >= 0]:
            if pair[1].getsockname()[1] == port:
                pair[0].should_exit = True
                self._pairs.remove(pair)

    def start(self) -> None:
        """Serve; return when all ports answer.

        Raises:
            BadSettings: they do not.
        """
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="http", daemon=True)
        self._thread.start()
        while not all(one.started for one, _ in self._pairs):
            self._thread.join(0.01)
            if not self._thread.is_alive():
                raise BadSettings("the node could not open its ports")

    def ask_to_stop(self) -> None:
        """Take no more requests."""
        for one, _ in self._pairs:
            one.should_exit = True

    def join(self) -> None:
        """Wait until the ports are closed."""
        if self._thread is not None:
            self._thread.join(_STOP_S)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await asyncio.gather(*(one.serve(sockets=[listener]) for one, listener in self._pairs))


class _QuietServer(uvicorn.Server):
    """A server that leaves the process's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: the command line handles signals for all servers."""
        yield


def _server(app: FastAPI, *, context: Any, http: Any) -> uvicorn.Server:
    return _QuietServer(
        uvicorn.Config(
            app,
            http=http,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # its word for who asks and by which scheme would be anybody's
            timeout_graceful_shutdown=_GRACE_S,
            timeout_keep_alive=_KEEP_ALIVE_S,
            ssl_context_factory=(lambda _config, _default: context) if context else None,
        )
    )


def _listen(host: str, port: int, setting: str) -> socket.socket:
    alone = host in ("127.0.0.1", "::1") and setting == "local_port"
    listener = Door(socket.AF_INET6 if ":" in host else socket.AF_INET, alone=alone)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        watch_line(listener)  # what it accepts inherits that
    except OSError:
        listener.close()
        raise BadSettings(f"port {port} is taken; set another {setting}") from None
    return listener
