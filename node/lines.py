"""What the kernel is asked to do for a connection, so that a dead line is not taken for a slow one.

A laptop that was carried away sends no farewell. Whoever reads from it would wait for as long as the slowest
line may be silent; the kernel knows better, since the other kernel acknowledges nothing any more. Not every
system can be told each of these; it then keeps its own limits.
"""

import socket
from contextlib import suppress

_QUIET_S = 15  # without any octet, until the other end is asked whether it is there
_BETWEEN_S = 5
_QUESTIONS = 3
_UNHEARD_MS = 30_000  # that what was sent may stay without an acknowledgement


def watch_line(made: socket.socket) -> None:
    """Let the kernel end a connection, or all that a listener accepts, when the other end is gone."""
    wanted = {
        "TCP_KEEPIDLE": _QUIET_S,
        "TCP_KEEPINTVL": _BETWEEN_S,
        "TCP_KEEPCNT": _QUESTIONS,
        "TCP_USER_TIMEOUT": _UNHEARD_MS,
    }
    with suppress(OSError):
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in wanted.items():
        option = getattr(socket, name, None)
        if option is not None:
            with suppress(OSError):
                made.setsockopt(socket.IPPROTO_TCP, option, value)
