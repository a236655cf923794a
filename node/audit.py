"""The audit trail: who did what to which entry, in a file that only grows.

One JSON object a line, with the names of an audit message of DICOM PS3.15 A.5 and the codes of its context
groups CID 400 and 403. Each line holds the SHA-256 of the line before, so that a changed, moved or removed
line breaks the chain. The last line's hash is the head; a node signs its head now and then as a fact
(`audit`), so that others notice when lines are cut off at the end. There is nothing of any patient in it:
ids, codes and counts only. `node.jobs.auditing` feeds it with facts, `node.api.audit` with what people do.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from node.clock import Clock
from node.store import files

log = logging.getLogger(__name__)

FILE_NAME = "trail.jsonl"
HEARD = "head-heard"  # another node's signed head; makes no head of this node due, or they would never rest
_FIRST_PREV = "0" * 64
_IS_HEARD = f'"What":"{HEARD}"'.encode()
_WORD = re.compile(r"[A-Za-z0-9_.:@+/ -]{0,64}")
_MOST_WAITING = 10_000
_SYNC_MS = 1_000  # each line of a study's way by itself would cost a submission a tenth of its time
_QUIET_MS = 60_000  # refusals of one kind from one sender make one line a minute


class Event(NamedTuple):
    """What a kind of line is in the words of PS3.15 A.5."""

    event_id: str
    name: str
    action: str  # C create, R read, U update, D delete, E execute
    type_code: str = ""


_ACTIVITY, _LOG_USED = ("110100", "Application Activity"), ("110101", "Audit Log Used")
_BEGIN, _ACCESSED = ("110102", "Begin Transferring DICOM Instances"), ("110103", "DICOM Instances Accessed")
_TRANSFERRED, _DELETED = ("110104", "DICOM Instances Transferred"), ("110105", "DICOM Study Deleted")
_EXPORT, _IMPORT = ("110106", "Export"), ("110107", "Import")
_ALERT, _AUTHENTICATION = ("110113", "Security Alert"), ("110114", "User Authentication")
_CONFIGURED, _RESTRICTED, _ROLES, _USER = "110129", "110132", "110136", "110137"

# What can be recorded. The key stands in each line as `What`, and is stable.
EVENTS: dict[str, Event] = {
    "node-started": Event(*_ACTIVITY, "E", "110120"),
    "node-stopped": Event(*_ACTIVITY, "E", "110121"),
    "trail-cut": Event(*_ALERT, "E", "110133"),
    "head-heard": Event(*_ACTIVITY, "R"),
    "audit-read": Event(*_LOG_USED, "R"),
    "keystore-unlocked": Event(*_AUTHENTICATION, "E", "110122"),
    "token-granted": Event(*_AUTHENTICATION, "E", "110122"),
    "access-refused": Event(*_ALERT, "E", "110126"),
    "code-given": Event(*_ALERT, "C", _USER),
    "device-enrolled": Event(*_ALERT, "C", _USER),
    "device-revoked": Event(*_ALERT, "D", _USER),
    "member-admitted": Event(*_ALERT, "C", _ROLES),
    "member-revoked": Event(*_ALERT, "D", _ROLES),
    "facts-vouched": Event(*_ALERT, "U", _ROLES),
    "destination-set": Event(*_ALERT, "U", _CONFIGURED),
    "destination-tested": Event(*_ACTIVITY, "E"),
    "peers-set": Event(*_ALERT, "U", "110128"),
    "submission-begun": Event(*_IMPORT, "C"),
    "submission-seen": Event(*_ACCESSED, "R"),
    "submission-confirmed": Event(*_IMPORT, "U"),
    "submission-removed": Event(*_DELETED, "D"),
    "upload-begun": Event(*_IMPORT, "C"),
    "upload-removed": Event(*_DELETED, "D"),
    "quarantine-read": Event(*_EXPORT, "R"),
    "quarantine-sent": Event(*_IMPORT, "C"),
    "quarantine-removed": Event(*_DELETED, "D"),
    "study-announced": Event(*_IMPORT, "C"),
    "copy-held": Event(*_TRANSFERRED, "C"),
    "copy-given-up": Event(*_DELETED, "D"),
    "delivery-begun": Event(*_BEGIN, "E"),
    "delivered": Event(*_TRANSFERRED, "C"),
    "withdrawn": Event(*_DELETED, "D"),
    "recalled": Event(*_ALERT, "E", _RESTRICTED),
    "receipt-read": Event(*_ACCESSED, "R"),
    "decided": Event(*_ALERT, "E", _RESTRICTED),
    "erased": Event(*_DELETED, "D"),
    "exported": Event(*_EXPORT, "C"),
    "imported": Event(*_IMPORT, "C"),
    "administered": Event(*_ALERT, "E", _RESTRICTED),
}


@dataclass(frozen=True, slots=True)
class Head:
    """How many lines there are, and the hash of the last one."""

    count: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look at a whole trail found. `broken_at`: the first line that is not what was written."""

    lines: int
    head: bytes
    broken_at: int | None = None
    missing: int = 0  # lines that a signed head counts and that are not here

    @property
    def intact(self) -> bool:
        """Whether every line is there as it was written, as far as the heads tell."""
        return self.broken_at is None and not self.missing


@dataclass(slots=True)
class _Quiet:
    until_ms: int
    skipped: int = 0


class Trail:
    """The audit trail of one node. Safe to call from many threads.

    A line that cannot be written for now (a full disk) waits in memory, and nothing else waits for it: a full
    disk must not keep a study from being erased.
    """

    def __init__(self, folder: Path, clock: Clock, *, source: str) -> None:
        self._path = folder / FILE_NAME
        self._clock = clock
        self._source = source
        self._lock = threading.Lock()
        self._waiting: list[dict[str, Any]] = []
        self._synced_ms = -_SYNC_MS
        self._later: threading.Timer | None = None  # makes durable what was written since
        self._quiet: dict[tuple[str, str], _Quiet] = {}
        files.make_dirs(folder)
        cut = self._drop_torn_line()
        self._due = 0  # the number of the last line that others should know of
        self._head = self._read_head()
        self._size = self._path.stat().st_size if self._path.exists() else 0
        if cut:
            self.record("trail-cut", "node", detail={"octets": cut})

    @property
    def head(self) -> Head:
        """How many lines there are, and the last one's hash."""
        with self._lock:
            return self._head

    @property
    def due(self) -> int:
        """The number of the last line but those that only note what other nodes signed."""
        with self._lock:
            return self._due

    @property
    def source(self) -> str:
        """Whose trail it is: `node:` and 8 digits."""
        return self._source

    def record(
        self,
        what: str,
        who: str,
        *,
        entry: bytes | None = None,
        outcome: int = 0,
        at_ms: int | None = None,
        detail: Mapping[str, str | int] | None = None,
        durably: bool = False,
    ) -> None:
        """Add a line. It is written at once, and durable on return if `durably`, else within a second.

        Args:
            what: a key of `EVENTS`.
            who: `device:…`, `node:…`, `operator`, or `node` for this one itself.
            entry: the entry or the submission that it is about, if any.
            outcome: 0 success, 4 refused, 8 failed (RFC 3881, EventOutcomeIndicator).
            at_ms: when, if not now.
            detail: codes and counts; texts that are more than words are left out.
        """
        event = EVENTS[what]
        now_ms = self._clock.now_ms() if at_ms is None else at_ms
        line: dict[str, Any] = {
            "EventDateTime": datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="milliseconds"),
            "EventID": event.event_id,
            "EventName": event.name,
            "EventActionCode": event.action,
            "EventOutcomeIndicator": outcome,
            "What": what,
            "UserID": _word(who),
            "AuditSourceID": self._source,
        }
        if event.type_code:
            line["EventTypeCode"] = event.type_code
        if entry is not None:
            line["ParticipantObjectID"] = entry.hex()
        if detail:
            line["Detail"] = {
                key: _word(value) if isinstance(value, str) else value for key, value in detail.items()
            }
        with self._lock:
            self._append(line, durably=durably)

    def refused(self, who: str, code: str) -> None:
        """Add a line for a refused request; one a minute for each sender and code, with how many more."""
        with self._lock:
            now = self._clock.monotonic_ms()
            quiet = self._quiet.get((who, code))
            if quiet is not None and now < quiet.until_ms:
                quiet.skipped += 1
                return
            if len(self._quiet) > _MOST_WAITING:
                self._quiet.clear()
            self._quiet[(who, code)] = _Quiet(now + _QUIET_MS)
        more = {"more": quiet.skipped} if quiet is not None and quiet.skipped else {}
        self.record("access-refused", who, outcome=4, detail={"code": code, **more})

    def sync(self) -> None:
        """Make every line durable: a second after one was written, and before the head is signed."""
        with self._lock, contextlib.suppress(OSError):
            self._later = None
            descriptor = os.open(self._path, os.O_RDWR)
            try:
                files.sync_file(descriptor)
            finally:
                os.close(descriptor)
            self._synced_ms = self._clock.monotonic_ms()

    def lines(self, *, after: int = 0) -> Iterator[str]:
        """Yield the lines after the first `after` ones, as they were written."""
        with self._lock:
            count = self._head.count
        for number, line in enumerate(_read(self._path), 1):
            if number > count:
                return
            if number > after:
                yield line.decode(errors="replace")

    def verify(self, heads: Mapping[int, bytes] | None = None) -> Verdict:
        """Read the whole trail, and hold it against heads that were signed before (count → hash)."""
        return verify(_read(self._path), heads or {})

    def _append(self, line: dict[str, Any], *, durably: bool) -> None:
        self._waiting.append(line)
        del self._waiting[:-_MOST_WAITING]
        head, text, due = self._head, b"", self._due
        for one in self._waiting:
            octets = _encode({"N": head.count + 1, "Prev": head.digest.hex(), **one})
            head = Head(head.count + 1, hashlib.sha256(octets).digest())
            text += octets + b"\n"
            due = due if one["What"] == HEARD else head.count
        now = self._clock.monotonic_ms()
        durably = durably or now - self._synced_ms >= _SYNC_MS
        try:
            _add(self._path, text, durably=durably)
        except OSError as error:
            self._cut_back(self._size)
            log.error("audit trail not written error=%s waiting=%d", type(error).__name__, len(self._waiting))
            return
        self._head, self._due = head, due
        self._synced_ms = now if durably else self._synced_ms
        self._size += len(text)
        self._waiting.clear()
        if not durably and self._later is None:
            later = threading.Timer(_SYNC_MS / 1000, self.sync)
            later.daemon = True
            with contextlib.suppress(RuntimeError):  # no thread to be had: the next line makes it durable
                later.start()
                self._later = later

    def _cut_back(self, size: int) -> None:
        """Take away what a write that failed has left."""
        with contextlib.suppress(OSError), self._path.open("r+b") as file:
            file.truncate(size)

    def _drop_torn_line(self) -> int:
        """Cut off what a power cut left of a line at the end; return how many octets that was."""
        try:
            with self._path.open("r+b") as file:
                data = file.read()
                torn = len(data) - (data.rfind(b"\n") + 1)
                if torn:
                    file.truncate(len(data) - torn)
                    os.fsync(file.fileno())
                return torn
        except OSError:
            return 0

    def _read_head(self) -> Head:
        count, last = 0, bytes.fromhex(_FIRST_PREV)
        for line in _read(self._path):
            count, last = count + 1, hashlib.sha256(line).digest()
            self._due = self._due if _IS_HEARD in line else count
        return Head(count, last)


def verify(lines: Iterator[bytes], heads: Mapping[int, bytes]) -> Verdict:
    """Hold a trail against its own chain and against signed heads (count → hash)."""
    number, digest = 0, bytes.fromhex(_FIRST_PREV)
    broken: int | None = None
    for line in lines:
        number += 1
        if broken is None and not _follows(line, number, digest):
            broken = number
        digest = hashlib.sha256(line).digest()
        if broken is None and heads.get(number, digest) != digest:
            broken = number
    return Verdict(number, digest, broken, max(0, max(heads, default=0) - number))


def heard_of(lines: Iterable[str], source: str) -> dict[int, bytes]:
    """Return the heads of another node (`node:` and 8 digits) that a trail has noted: count → hash."""
    heads: dict[int, bytes] = {}
    for line in lines:
        said = json.loads(line)
        detail = said.get("Detail", {})
        if said["What"] == HEARD and said["UserID"] == source:
            heads.setdefault(int(detail["lines"]), bytes.fromhex(detail["head"]))
    return heads


def _follows(line: bytes, number: int, digest: bytes) -> bool:
    try:
        said = json.loads(line)
    except ValueError:
        return False
    return isinstance(said, dict) and said.get("N") == number and said.get("Prev") == digest.hex()


def _read(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            for line in file:
                yield line.rstrip(b"\n")
    except FileNotFoundError:
        return


def _encode(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=True, separators=(",", ":")).encode()


def _word(text: str) -> str:
    """Return a text that is a word, a code or a short name; nothing for any other."""
    return text if _WORD.fullmatch(text) else "…"


def _add(path: Path, text: bytes, *, durably: bool) -> None:
    new = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o600)
    try:
        files.write_all(descriptor, text)
        if durably:
            files.sync_file(descriptor)
    finally:
        os.close(descriptor)
    if new:
        files.sync_dir(path.parent)
