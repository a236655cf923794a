"""DICOM headers, pictures and PDFs: has a worker process read them, ten seconds at most for each file.

`HeaderReader` is the node's side of `node.intake.worker`. What comes back is plain text of bounded length;
nothing of a file is parsed in this process.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import node
from node.confined import kill_when_late
from node.errors import WorkerFailed
from node.intake import frames
from node.intake.detect import DOCUMENTS, Content
from node.intake.headless import PREAMBLE

PIECE_BYTES = 1 << 20
TIMEOUT_S = 10.0
_START_S = 60.0  # an old laptop with a cold disk takes its time over the libraries
_HEAD_BYTES = 16 << 10  # the header of nearly every slice
_WANT_LIMIT = 1 << 20
_WITHOUT_HEADER = frozenset({Content.HEADLESS, Content.HEADLESS_BIG})


@dataclass(frozen=True, slots=True)
class Header:
    """What the examination wants to know of an instance; all values as text, empty if missing.

    `repaired`: the character set that the file declares is plainly wrong, and its texts were read by another.
    """

    class_uid: str
    uid: str = field(repr=False)
    syntax: str
    study_uid: str = field(repr=False)
    series_uid: str = field(repr=False)
    patient_name: str = field(repr=False)
    patient_id: str = field(repr=False)
    birth_date: str = field(repr=False)
    sex: str = field(repr=False)
    study_date: str = field(repr=False)
    study_description: str = field(repr=False)
    modality: str
    series_number: str
    series_description: str = field(repr=False)
    body_part: str
    repaired: bool = False
    study_time: str = field(default="", repr=False)
    study_id: str = field(default="", repr=False)
    accession: str = field(default="", repr=False)
    referring: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Measured:
    """A picture or a PDF that is whole; `width` and `height` in pixels as stored, of a picture."""

    kind: str
    width: int | None
    height: int | None


@dataclass(frozen=True, slots=True)
class Found:
    """What a file turned out to be: an instance, a directory, a document, or a code of why it is none.

    With a code, `header` is what could be read before the file turned out to be unsound, if that says which
    image it is.

    `prefix` is what has to stand in front of the file's octets to make a Part 10 file of it; `sha256` is of
    both.
    """

    header: Header | None = None
    sha256: str = field(default="", repr=False)
    listed: tuple[tuple[str, str], ...] | None = field(default=None, repr=False)  # path, UID
    code: str | None = None
    prefix: bytes = field(default=b"", repr=False)
    document: Measured | None = None


class _WorkerDied(Exception):
    """The worker process ended, by a limit of its own or because it was late."""


class HeaderReader:
    """Reads headers in a worker process, which is started when it is needed. For one thread.

    Args:
        timeout_s: how long one file may take; then the process is killed and the file is `too-complex`.
    """

    def __init__(self, *, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._deadline: float | None = None
        self._stopped = threading.Event()

    def read(self, first: bytes, rest: BinaryIO, size: int, content: Content) -> Found:
        """Read the header of a file, and hash the file in the same pass.

        Args:
            first: the first octets, at most 1 MiB.
            rest: where the others come from.
            size: the octets of the whole file.
            content: one of `DICOM` or `DOCUMENTS`.

        Raises:
            WorkerFailed: the worker does not start; this is no fault of the file.
        """
        stream = _Forward(first, rest)
        if content is Content.BARE:
            stream.precede(PREAMBLE)
        try:
            told = self._ask(stream, first, size, content)
        except _WorkerDied:
            self._stop()
            return Found(code="too-complex")
        except BaseException:
            self._stop()  # it waits for octets that will not come
            raise
        if told.get("code") == "dicomdir":
            return Found(code="dicomdir", listed=tuple((str(path), str(uid)) for path, uid in told["listed"]))
        if "code" in told:
            return self._unsound(stream, size, told)
        if stream.drain() != size:
            return Found(code="truncated")
        sha256 = stream.hash.hexdigest()
        if content in DOCUMENTS:
            return Found(document=Measured(content.value, **told), sha256=sha256)
        return Found(header=Header(**told), sha256=sha256, prefix=stream.prefix)

    def _unsound(self, stream: "_Forward", size: int, told: dict[str, Any]) -> Found:
        code, header = str(told["code"]), told.get("header")
        if header is None or stream.drain() != size:
            return Found(code=code)
        sha256 = stream.hash.hexdigest()
        return Found(header=Header(**header), sha256=sha256, code=code, prefix=stream.prefix)

    def close(self) -> None:
        """End the worker process."""
        self._stop()

    def _ask(self, stream: "_Forward", first: bytes, size: int, content: Content) -> dict[str, Any]:
        source, sink = self._running()
        opening = frames.OPENING.pack(size, frames.KINDS.index(content.value))
        _say(sink, frames.FILE, opening, first[:_HEAD_BYTES])
        if content not in _WITHOUT_HEADER:
            stream.hash_window()  # while the worker is busy
        left = self._timeout_s
        while True:
            begin = time.monotonic()
            kind, payload = self._receive(source, left)
            left -= time.monotonic() - begin
            if kind == frames.HEADER:
                stream.precede(payload)
                continue
            if kind == frames.ANSWER:
                told: dict[str, Any] = json.loads(payload)
                return told
            at, wanted = frames.WANT.unpack(payload)
            _say(sink, frames.MORE, stream.fetch(at, min(wanted, _WANT_LIMIT)))

    def _receive(self, source: BinaryIO, patience_s: float) -> tuple[bytes, bytes]:
        self._deadline = time.monotonic() + patience_s
        try:
            return frames.receive(source)
        except (OSError, EOFError):
            raise _WorkerDied from None
        finally:
            self._deadline = None

    def _running(self) -> tuple[BinaryIO, BinaryIO]:
        """Return the worker's output and input; start it if it is not there."""
        if self._process is None or self._process.poll() is not None:
            self._stop()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "node.intake.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # a traceback would quote the file
                env={**os.environ, "PYTHONPATH": str(Path(node.__file__).parents[1]), **_ONE_THREAD},
            )
            self._stopped = threading.Event()
            threading.Thread(
                target=self._watch, args=(self._process, self._stopped), name="header-watch", daemon=True
            ).start()
            try:
                self._receive(cast("BinaryIO", self._process.stdout), _START_S)
            except _WorkerDied:
                self._stop()
                raise WorkerFailed("the process that reads headers does not start") from None
        return cast("BinaryIO", self._process.stdout), cast("BinaryIO", self._process.stdin)

    def _watch(self, process: "subprocess.Popen[bytes]", stopped: threading.Event) -> None:
        kill_when_late(process, stopped, lambda: self._deadline, every_s=min(1.0, self._timeout_s / 4))

    def _stop(self) -> None:
        self._stopped.set()
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    try:
                        pipe.close()
                    except OSError:  # octets that the worker no longer takes
                        continue


# numpy, if it is there, would make threads whose stacks count against the worker's memory.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def _say(sink: BinaryIO, kind: bytes, *payload: bytes) -> None:
    try:
        frames.send(sink, kind, *payload)
    except OSError:
        raise _WorkerDied from None


class _Forward:
    """A file read once, in windows of at most 1 MiB and what was asked for, all of it hashed."""

    def __init__(self, first: bytes, rest: BinaryIO) -> None:
        self.hash = hashlib.sha256()
        self.prefix = b""
        self._window = first
        self._base = 0
        self._hashed = False
        self._rest = rest

    def precede(self, prefix: bytes) -> None:
        """Put octets in front; before any of the file is hashed."""
        if self.prefix or self._hashed or self._base:
            raise ValueError("the file has begun")
        self.prefix = prefix
        self.hash.update(prefix)

    def hash_window(self) -> None:
        if not self._hashed:
            self.hash.update(self._window)
            self._hashed = True

    def fetch(self, at: int, size: int) -> bytes:
        """Return `size` octets from `at` on, fewer at the end. Never goes back.

        Raises:
            ValueError: the octets were let go already.
        """
        if at < self._base:
            raise ValueError("the worker asked for octets of the past")
        parts = []
        while size > 0:
            inside = at - self._base
            part = self._window[inside : inside + size]
            parts.append(part)
            at += len(part)
            size -= len(part)
            if size > 0 and not self._next():
                break
        return b"".join(parts)

    def drain(self) -> int:
        """Hash what is left and return the size of the whole."""
        while self._next():
            pass
        return self._base + len(self._window)

    def _next(self) -> bool:
        more = self._rest.read(PIECE_BYTES)
        if not more:
            self.hash_window()
            return False
        self.hash_window()
        self._base += len(self._window)
        self._window = more
        self._hashed = False
        return True
