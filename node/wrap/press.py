"""The press: has a process of its own make instances, and never waits for ever.

Called by `node.intake` when a study is kept, and by `node.deliver` for a PACS that takes no PDF. An instance
is made twice if it is large: once for its size and SHA-256, and once for its octets, so that it lies
nowhere in the meantime; it is the same each time.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

import node
from node.confined import kill_when_late
from node.errors import NodeError, WorkerFailed
from node.wrap.order import Order

TIMEOUT_S = 120.0
_PIECE_BYTES = 1 << 20
_HELD_BYTES = 8 << 20  # an instance up to this size is not made again
_HELD_IN_ALL = 32 << 20
_LINE_LIMIT = 1 << 16

FileOf = Callable[[], Iterator[bytes]]
"""Gives the octets of the file that belongs to an order, from the beginning."""


class CannotWrap(Exception):
    """A file that no instance can be made of. `code` is one of `node.intake.reasons`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Wrapped:
    """An instance that was made: its names, and its octets when they are asked for."""

    uid: str = field(repr=False)
    sop_class: str
    syntax: str
    size: int
    sha256: bytes = field(repr=False)
    pieces: Callable[[], Iterator[bytes]] = field(repr=False)


def no_file() -> Iterator[bytes]:
    """Give the octets of an order that needs no file."""
    return iter(())


class Press:
    """Makes instances in a process that is started when it is needed. For one thread.

    Args:
        timeout_s: how long nothing may come from the process; then it is killed.
    """

    def __init__(self, *, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._deadline: float | None = None
        self._stopped = threading.Event()
        self._held = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._stopped.set()
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):
                    cast("BinaryIO", pipe).close()

    def check(self, order: Order, file: FileOf) -> None:
        """Decode a picture and make nothing of it.

        Raises:
            CannotWrap: it cannot be decoded.
            WorkerFailed: the process does not start.
        """
        for _ in self._answer(order, file):
            raise WorkerFailed("the press made what was not asked for")

    def wrap(self, order: Order, file: FileOf = no_file) -> Wrapped:
        """Make the instance of an order.

        Args:
            order: what to make.
            file: the file that belongs to it; read again when the instance is, if that is large.

        Raises:
            CannotWrap: nothing can be made of this file.
            WorkerFailed: the process does not start.
        """
        made = list(self._made(order, file, _HELD_BYTES))
        if len(made) != 1:
            raise WorkerFailed("the press made what was not asked for")
        return made[0]

    def captures(self, part10: bytes) -> list[Wrapped]:
        """Return a picture of each page of an Encapsulated PDF instance, as Secondary Captures.

        The same instance gives the same pictures.

        Raises:
            CannotWrap: `pdf-unreadable`, its PDF cannot be drawn.
            WorkerFailed: the process does not start.
        """
        order = Order("captures", size=len(part10))
        return list(self._made(order, lambda: iter((part10,)), _HELD_BYTES * 4))

    def _made(self, order: Order, file: FileOf, held_bytes: int) -> Iterator[Wrapped]:
        for number, (told, pieces) in enumerate(self._answer(order, file)):
            digest, held = hashlib.sha256(), list[bytes]()
            hold = told["size"] <= held_bytes and self._held + told["size"] <= _HELD_IN_ALL
            self._held += told["size"] if hold else 0
            for piece in pieces:
                digest.update(piece)
                if hold:
                    held.append(piece)
            yield Wrapped(
                uid=told["uid"],
                sop_class=told["sop_class"],
                syntax=told["syntax"],
                size=told["size"],
                sha256=digest.digest(),
                pieces=_held(held) if held else self._again(order, file, number),
            )

    def _again(self, order: Order, file: FileOf, number: int) -> Callable[[], Iterator[bytes]]:
        def pieces() -> Iterator[bytes]:
            for place, (_, octets) in enumerate(self._answer(order, file)):
                if place == number:
                    yield from octets
                else:
                    for _piece in octets:
                        pass

        return pieces

    def _answer(self, order: Order, file: FileOf) -> Iterator[tuple[dict[str, Any], Iterator[bytes]]]:
        """Yield each instance that an order makes; its octets must be read before the next."""
        source, sink = self._running()
        failed: list[NodeError] = []
        feeder = threading.Thread(
            target=self._feed, args=(sink, order, file, failed), name="press-feed", daemon=True
        )
        feeder.start()
        finished = False
        try:
            while True:
                told = self._line(source)
                if "end" in told:
                    finished = True
                    if told["end"]:
                        raise CannotWrap(str(told["end"]))
                    return
                yield told, self._octets(source, int(told["size"]))
        except (OSError, EOFError, ValueError):
            if failed:
                raise failed[0] from None
            raise CannotWrap("too-complex") from None
        finally:
            if not finished or feeder.is_alive():
                self.close()  # it holds an answer that nobody reads, or waits for what does not come
            feeder.join()

    def _feed(self, sink: BinaryIO, order: Order, file: FileOf, failed: list[NodeError]) -> None:
        """Write an order and its file. If that cannot be read, the process is ended: it would wait."""
        process = self._process
        try:
            with suppress(OSError, ValueError):
                sink.write(order.to_json() + b"\n")
                for piece in file():
                    sink.write(piece)
                sink.flush()
        except NodeError as error:
            failed.append(error)
            if process is not None:
                process.kill()

    def _line(self, source: BinaryIO) -> dict[str, Any]:
        self._deadline = time.monotonic() + self._timeout_s
        try:
            line = source.readline(_LINE_LIMIT)
        finally:
            self._deadline = None
        if not line.endswith(b"\n"):
            raise EOFError
        told: dict[str, Any] = json.loads(line)
        return told

    def _octets(self, source: BinaryIO, size: int) -> Iterator[bytes]:
        while size:
            self._deadline = time.monotonic() + self._timeout_s
            try:
                piece = source.read(min(size, _PIECE_BYTES))
            finally:
                self._deadline = None
            if not piece:
                raise EOFError
            size -= len(piece)
            yield piece

    def _running(self) -> tuple[BinaryIO, BinaryIO]:
        """Return the process's output and input; start it if it is not there."""
        if self._process is None or self._process.poll() is not None:
            self.close()
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "node.wrap.worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,  # a traceback would quote the file
                    env={**os.environ, "PYTHONPATH": str(Path(node.__file__).parents[1])},
                )
            except OSError:
                raise WorkerFailed("the process that wraps documents does not start") from None
            self._stopped = threading.Event()
            threading.Thread(
                target=self._watch, args=(self._process, self._stopped), name="press-watch", daemon=True
            ).start()
        return cast("BinaryIO", self._process.stdout), cast("BinaryIO", self._process.stdin)

    def _watch(self, process: "subprocess.Popen[bytes]", stopped: threading.Event) -> None:
        kill_when_late(process, stopped, lambda: self._deadline, every_s=min(1.0, self._timeout_s / 4))


def _held(pieces: list[bytes]) -> Callable[[], Iterator[bytes]]:
    return lambda: iter(pieces)
