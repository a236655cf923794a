"""Confining processes that read what strangers made: limits that the kernel keeps, and a watch.

The limits are called in such a process, for itself; the watch by whoever started it. Not every system can
limit.
"""

import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress


def limit_memory(octets: int) -> None:
    """Limit the address space of this process; a core dump of it must not be written either."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (octets, octets))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def limit_cpu(seconds: int) -> None:
    """Give this process so many more seconds of CPU time."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        usage = resource.getrusage(resource.RUSAGE_SELF)
        soft = int(usage.ru_utime + usage.ru_stime) + seconds
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def kill_when_late(
    process: "subprocess.Popen[bytes]",
    stopped: threading.Event,
    deadline: Callable[[], float | None],
    *,
    every_s: float,
) -> None:
    """Kill a process whose deadline has passed; reading from it then ends at once.

    Windows pipes know no timeout. `deadline` gives a time of `time.monotonic`, or None between two questions.
    """
    while not stopped.wait(every_s):
        due = deadline()
        if due is not None and time.monotonic() > due:
            process.kill()
            return
