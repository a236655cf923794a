"""Real HTTP servers for tests: uvicorn on a free port of the loopback, in a thread.

`serve(app)` is a context manager and gives the base URL. Starlette's TestClient is no
replacement: it has neither TLS nor real connections, and warns under `filterwarnings=error`.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvicorn

_START_S = 10


@contextlib.contextmanager
def serve(app: Any, ssl_context: ssl.SSLContext | None = None, http: Any = None) -> Iterator[str]:
    """Serve an ASGI application until the block ends.

    Args:
        app: the application.
        ssl_context: serve HTTPS with it.
        http: uvicorn's HTTP protocol class, "auto" when it is not given.
    """
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    config = uvicorn.Config(
        app,
        http=http or "auto",
        ws="none",
        loop="asyncio",
        lifespan="auto",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=2,
        ssl_context_factory=(lambda _config, _default: ssl_context) if ssl_context else None,
    )
    server = uvicorn.Server(config)
    # The listener is closed by the server. Plain `run` would ask for the main thread's signals.
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + _START_S
        while not server.started and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        if not server.started:
            raise RuntimeError("the test server did not start")
        yield f"{'https' if ssl_context else 'http'}://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(_START_S)
        listener.close()
