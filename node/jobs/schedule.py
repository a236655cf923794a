"""The schedule: what a node does by itself, by the clock and when woken (APScheduler's home).

A job is a plain function that may fail; it is run again at its next time, and no failure of one
stops another. Each runs once at a time. Waking a job that is running lets it run once more.

APScheduler only says when it is time; the jobs run in threads of ours. Its own one-time jobs would lose a
wake that comes while the last run is being booked out, and stop its thread if it comes during a shutdown.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from apscheduler.schedulers.background import BackgroundScheduler

from node.errors import NodeError
from sync.errors import SyncError

log = logging.getLogger(__name__)
_THREADS = 16


class Schedule:
    """The jobs of one node."""

    def __init__(self) -> None:
        self._scheduler = BackgroundScheduler(
            job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1}, timezone="UTC"
        )
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="job")
        self._runners: list[_Runner] = []

    def every(self, name: str, seconds: float, work: Callable[[], object]) -> Callable[[], None]:
        """Run `work` every so many seconds; return what wakes it at once."""
        runner = _Runner(name, work, self._pool)
        self._runners.append(runner)
        self._scheduler.add_job(runner.wake, "interval", seconds=seconds, id=name)
        return runner.wake

    def start(self) -> None:
        """Begin; jobs that were woken before run now."""
        for runner in self._runners:
            runner.open()
        self._scheduler.start()

    def stop(self) -> None:
        """Start no more jobs and wait for those that run."""
        for runner in self._runners:
            runner.close()
        if self._scheduler.running:
            self._scheduler.shutdown(wait=True)
        self._pool.shutdown(wait=True)


class _Runner:
    """One job: never twice at once, and once more if it was woken while it ran."""

    def __init__(self, name: str, work: Callable[[], object], pool: ThreadPoolExecutor) -> None:
        self._name = name
        self._work = work
        self._pool = pool
        self._lock = threading.Lock()
        self._wanted = False
        self._running = False
        self._open = False

    def wake(self) -> None:
        """Let the job run now, or once more after the run that is under way."""
        with self._lock:
            self._wanted = True
            self._begin()

    def open(self) -> None:
        """Let it run from now on."""
        with self._lock:
            self._open = True
            self._begin()

    def close(self) -> None:
        """Start no more runs."""
        with self._lock:
            self._open = False

    def _begin(self) -> None:
        if self._wanted and self._open and not self._running:
            self._running = True
            self._pool.submit(self._run)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not (self._wanted and self._open):
                    self._running = False
                    return
                self._wanted = False
            self._once()

    def _once(self) -> None:
        try:
            self._work()
        except (NodeError, SyncError) as error:
            log.warning("job failed job=%s code=%s", self._name, error.code)
        except Exception:
            log.exception("job failed job=%s", self._name)
