"""The schedule: what a node does by itself, by the clock and when woken (APScheduler's home).

A job is a plain function that may fail; it is run again at its next time, and no failure of one
stops another. Each runs once at a time. Waking a job that is running lets it run once more.
"""

import logging
import threading
from collections.abc import Callable

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from node.errors import NodeError
from sync.errors import SyncError

log = logging.getLogger(__name__)


class Schedule:
    """The jobs of one node."""

    def __init__(self) -> None:
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(16)},
            job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1},
            timezone="UTC",
        )
        self._runs: list[_Runner] = []

    def every(self, name: str, seconds: float, work: Callable[[], object]) -> Callable[[], None]:
        """Run `work` every so many seconds; return what wakes it at once."""
        runner = _Runner(name, work)
        self._runs.append(runner)
        self._scheduler.add_job(runner.run, "interval", seconds=seconds, id=name)

        def wake() -> None:
            if runner.want() and self._scheduler.running:
                self._scheduler.add_job(runner.run, id=f"{name}-woken", replace_existing=True)

        return wake

    def start(self) -> None:
        """Begin; jobs that were woken before run now."""
        self._scheduler.start()
        for runner in self._runs:
            if runner.wanted:
                self._scheduler.add_job(runner.run, id=f"{runner.name}-woken", replace_existing=True)

    def stop(self) -> None:
        """Start no more jobs and wait for those that run."""
        for runner in self._runs:
            runner.stopped = True
        if self._scheduler.running:
            self._scheduler.shutdown(wait=True)


class _Runner:
    """One job: never twice at once, and once more if it was woken while it ran."""

    def __init__(self, name: str, work: Callable[[], object]) -> None:
        self.name = name
        self.wanted = False
        self.stopped = False
        self._work = work
        self._lock = threading.Lock()
        self._running = False

    def want(self) -> bool:
        """Note that the job is wanted; say whether it must be started for that."""
        with self._lock:
            self.wanted = True
            return not self._running

    def run(self) -> None:
        """Run the work, again as long as it is wanted."""
        with self._lock:
            if self._running:
                self.wanted = True
                return
            self._running = True
        try:
            while not self.stopped:
                self.wanted = False
                self._once()
                with self._lock:
                    if not self.wanted:
                        break
        finally:
            with self._lock:
                self._running = False

    def _once(self) -> None:
        try:
            self._work()
        except (NodeError, SyncError) as error:
            log.warning("job failed job=%s code=%s", self.name, error.code)
        except Exception:
            log.exception("job failed job=%s", self.name)
