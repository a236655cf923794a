"""Logs: what happened to which digest, and nothing of any patient.

Modules log with the standard library, `log.info("study kept entry=%s instances=%d", …)`: a constant
sentence with named values. Only values under a name of `FIELDS` are written, and only if they look
like a number, a code or an id. Of an exception the class, our code and the places in the source are
written, never its text: parsers and drivers quote what they read. Of other packages' records the
unfilled template is written, and nothing if they filled it themselves. `setup` is called once, by the
command line.
"""

import logging
import logging.handlers
import os
import re
import sys
import traceback
import warnings
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

import structlog

from node.errors import NodeError
from sync.errors import SyncError

FIELDS = frozenset(
    {
        # what it is about: ids, shown as 8 hex digits
        *("entry", "fact", "blob", "node", "peer", "mesh", "submission", "upload", "device", "stick", "key"),
        # which of several
        *("kind", "state", "code", "error", "outcome", "evidence", "role", "scope", "job", "step", "type"),
        *("status", "method", "priority", "version", "level", "library", "category", "reason", "destination"),
        # how many, how much, how long
        *("blobs", "facts", "entries", "studies", "instances", "series", "patients", "files", "peers"),
        *("admitted", "known", "waiting", "refused", "skipped", "quarantined", "proven", "total", "copies"),
        *("bytes", "size", "offset", "free", "ms", "seconds", "attempt", "attempts", "rounds", "count"),
        *("port", "line", "exit"),
    }
)
_OURS = ("node", "sync")
_HIDDEN = "…"
_SPEC = re.compile(r"(?:(\w+)=)?%(?:[#0\- +]*[\d*]*(?:\.[\d*]+)?[a-zA-Z]|%)")
_TOKEN = re.compile(r"[A-Za-z0-9_.:+/-]{1,64}")
_UID = re.compile(r"\d+(\.\d+){4,}")
_LONG_HEX = re.compile(r"[0-9a-f]{9,}")
_HUSHED = {
    "httpx": logging.ERROR,  # says whole URLs at INFO
    "httpcore": logging.ERROR,
    "urllib3": logging.ERROR,
    "dicomweb_client": logging.ERROR,
    "pydicom": logging.CRITICAL,  # quotes values of the data set in warnings
    "pynetdicom": logging.CRITICAL,  # says UIDs at INFO, and what a peer sent
    "sqlalchemy": logging.ERROR,
    "uvicorn": logging.ERROR,  # a line for each line that is no request: strangers would write the log full
    "uvicorn.access": logging.CRITICAL,
    "asyncio": logging.WARNING,
    "apscheduler": logging.WARNING,
    "zeroconf": logging.ERROR,
}
_FILE_BYTES = 5_000_000
_FILES_KEPT = 4
_FRAMES = 4


def setup(log_dir: Path | None, *, console: TextIO | None = sys.stderr, verbose: bool = False) -> None:
    """Send all records of this process to the log file and the console.

    Args:
        log_dir: where `node.jsonl` and its older parts are written, one JSON object a line; None for no file.
        console: where people read along; None for silence.
        verbose: our own DEBUG records, too.
    """
    handlers: list[logging.Handler] = []
    if log_dir is not None:
        log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = _PrivateFile(
            log_dir / "node.jsonl", maxBytes=_FILE_BYTES, backupCount=_FILES_KEPT, encoding="utf-8"
        )
        kept.setFormatter(_Formatter(structlog.processors.JSONRenderer(ensure_ascii=False)))
        handlers.append(kept)
    if console is not None:
        shown = logging.StreamHandler(console)
        colours = console.isatty()
        shown.setFormatter(_Formatter(structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=0)))
        handlers.append(shown)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    for name in _OURS:
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.INFO)
    for name, level in _HUSHED.items():
        logging.getLogger(name).setLevel(level)
    # The filters are the process's: they are set once, here, since catch_warnings is not safe with threads.
    warnings.filterwarnings("ignore", module=r"pydicom(\..*)?")
    warnings.showwarning = _log_warning
    # A record that cannot be written is lost in silence: the handler's own report prints its values.
    logging.raiseExceptions = False


class _PrivateFile(logging.handlers.RotatingFileHandler):
    """A rotating file that only its owner may read."""

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return os.fdopen(descriptor, "a", encoding=self.encoding)


class _Formatter(logging.Formatter):
    """Reduces a record to what may be written, and renders that."""

    def __init__(self, renderer: Any) -> None:
        super().__init__()
        self._renderer = renderer

    def format(self, record: logging.LogRecord) -> str:
        return str(self._renderer(None, record.levelname.lower(), reduced(record)))


def reduced(record: logging.LogRecord) -> dict[str, Any]:
    """Return what may be written of a log record."""
    event: dict[str, Any] = {
        "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
    }
    ours = record.name.partition(".")[0] in _OURS
    template = record.msg if isinstance(record.msg, str) else ""
    arguments = record.args if isinstance(record.args, tuple) else ()
    if ours:
        text, fields = _read(template, arguments)
        event |= {"event": text, **fields}
    else:
        event["event"] = template if record.args else "a library's record"
    if record.exc_info and record.exc_info[1] is not None:
        event |= _error(record.exc_info[1])
    return event


def _read(template: str, arguments: tuple[Any, ...]) -> tuple[str, dict[str, Any]]:
    """Take a sentence with named values apart."""
    fields: dict[str, Any] = {}
    values = iter(arguments)

    def take(match: re.Match[str]) -> str:
        if match.group().endswith("%%"):
            return "%"
        value = next(values, None)
        name = match.group(1)
        if name is None:
            return _HIDDEN
        fields[name] = _safe(value) if name in FIELDS else _HIDDEN
        return ""

    text = _SPEC.sub(take, template) if arguments else template
    return " ".join(text.split()), fields


def _safe(value: object) -> object:
    """Return a number, a code or the first digits of an id; hide anything else."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes):
        return value[:4].hex()
    if not isinstance(value, str) or not _TOKEN.fullmatch(value) or _UID.search(value):
        return _HIDDEN
    return value[:8] if _LONG_HEX.fullmatch(value) else value


def _error(error: BaseException) -> dict[str, Any]:
    """Say which exception it was, and where in the source."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    told: dict[str, Any] = {
        "error": type(error).__name__,
        "where": ["/".join(Path(frame.filename).parts[-2:]) + f":{frame.lineno}" for frame in frames],
    }
    if isinstance(error, NodeError | SyncError):
        told["code"] = error.code
    return told


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Log a Python warning by its class and its source; its text may quote a data set."""
    logging.getLogger("node.logs").warning(
        "python warning category=%s library=%s line=%d", category.__name__, Path(filename).stem, lineno
    )
