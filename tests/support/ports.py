"""Ports for servers of tests that nobody else uses, nor the tests that run beside these."""

import contextlib
import os
import random
import socket

_FIRST, _LAST = 20_000, 32_000  # below what the system gives to outgoing connections
_GIVEN_OUT: set[int] = set()


def free_port() -> int:
    """Return a port that nobody uses and that nobody will be given by this function again.

    Tests that run side by side (pytest-xdist) draw from ranges of their own: a node that is stopped for a
    while must find its port free when it starts again.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    share = (_LAST - _FIRST) // count
    while True:
        port = _FIRST + worker * share + random.SystemRandom().randrange(share)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _GIVEN_OUT:
                _GIVEN_OUT.add(port)
                return port
