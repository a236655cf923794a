"""A process that has imported the node and forks one on request, so that a start costs a tenth.

What is forked is a node like any other: a process of its own, its own memory, sockets and locks, to be
killed by its pid. Used where tests start nodes dozens of times. Run as a program it is the server: a line
of JSON in for each node to start, `{"pid"}` out when it is forked, `{"pid", "code"}` when it has ended.
"""

import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from support import netns


class ForkServer:
    """The test's end of it; `more` is added to the environment of all that it starts."""

    def __init__(self, **more: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.forkserver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment() | more,
        )
        self._codes: dict[int, int] = {}
        self._started: list[int] = []
        self._news = threading.Condition()
        self._starting = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        """End the server; nodes that it forked must have ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)

    def start(self, words: list[str], out: Path, namespace: str | None = None) -> "Forked":
        """Fork a process that runs the command line with these words and prints into `out`.

        In a network namespace if one is named.
        """
        assert self._process.stdin is not None
        with self._starting:
            asked = {"words": words, "out": str(out), "netns": namespace}
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
            self._process.stdin.flush()
            with self._news:
                assert self._news.wait_for(lambda: self._started, 30), "the fork server does not answer"
                return Forked(self, self._started.pop())

    def code(self, pid: int, seconds: float) -> int | None:
        """Return a process's exit code (minus the signal that ended it), or None if it runs on."""
        with self._news:
            self._news.wait_for(lambda: pid in self._codes, seconds)
            return self._codes.get(pid)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout:
            for line in self._process.stdout:
                said: dict[str, Any] = json.loads(line)
                with self._news:
                    if "code" in said:
                        self._codes[said["pid"]] = said["code"]
                    else:
                        self._started.append(said["pid"])
                    self._news.notify_all()


class Forked:
    """A forked process, with what `subprocess.Popen` offers as far as the tests need it."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self._server = server
        self.pid = pid

    def poll(self) -> int | None:
        return self._server.code(self.pid, 0)

    def wait(self, timeout: float = 30) -> int:
        code = self._server.code(self.pid, timeout)
        if code is None:
            raise subprocess.TimeoutExpired("node", timeout)
        return code

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def _environment() -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith("CLINICMESH_")}
    own["CLINICMESH_UNPROTECTED"] = "1"  # `join` must not ask, whatever the terminal
    here = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
    return own | {"PYTHONPATH": os.pathsep.join(here)}


def serve() -> list[str] | None:
    """Fork for each request; return its words in the child, None in the server when the input ends."""
    buffer = b""
    while True:
        readable, _, _ = select.select([0], [], [], 0.02)
        if readable:
            piece = os.read(0, 65_536)
            if not piece:
                return None
            buffer += piece
        while b"\n" in buffer:
            line, _, buffer = buffer.partition(b"\n")
            asked = json.loads(line)
            pid = os.fork()
            if pid == 0:
                out = os.open(asked["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(out, 1)
                os.dup2(out, 2)
                random.seed(time.time_ns())
                if asked["netns"] is not None:
                    netns.enter(asked["netns"])
                return list(asked["words"])
            _say({"pid": pid})
        _reap()


def _reap() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _say({"pid": pid, "code": os.waitstatus_to_exitcode(status)})


def _say(value: dict[str, int]) -> None:
    os.write(1, json.dumps(value).encode() + b"\n")


if __name__ == "__main__":
    from node import service
    from node.cli.main import app

    assert service
    words = serve()
    if words is not None:
        app(words)
