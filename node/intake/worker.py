"""The worker process: reads the headers of hostile files, and dies if one is too much.

Started by `node.intake.dicom` as `python -m node.intake.worker`; talks over its standard input and output
in the frames of `node.intake.frames`. Holds at most a few hundred kB of a file; memory, CPU time and core
dumps are limited by the system.
"""

import json
import os
import sys
from dataclasses import asdict
from io import BytesIO
from typing import Any, BinaryIO

import pydicom
from pydicom.dataset import Dataset

from node.confined import limit_cpu, limit_memory
from node.intake import frames, headless, pictures
from node.intake.charsets import corrected
from node.intake.frames import ANSWER, FILE, MORE, NEED, OPENING, READY, WANT, receive, send
from node.intake.headers import (
    DICOMDIR,
    META_CLASS,
    META_SYNTAX,
    RECORD_FILE,
    RECORD_UID,
    BadHeader,
    Walked,
    text,
    walk,
)

MEMORY_BYTES = 400 << 20  # of address space; it begins with 140 MB
CPU_S = 10
_TEXT_LIMIT = 512  # characters of a value that are shown

_TAGS = {
    "class_uid": 0x00080016,
    "uid": 0x00080018,
    "study_date": 0x00080020,
    "modality": 0x00080060,
    "study_description": 0x00081030,
    "series_description": 0x0008103E,
    "patient_name": 0x00100010,
    "patient_id": 0x00100020,
    "birth_date": 0x00100030,
    "sex": 0x00100040,
    "body_part": 0x00180015,
    "study_time": 0x00080030,
    "study_id": 0x00200010,
    "accession": 0x00080050,
    "referring": 0x00080090,
    "study_uid": 0x0020000D,
    "series_uid": 0x0020000E,
    "series_number": 0x00200011,
}
_UIDS = frozenset({"class_uid", "uid", "study_uid", "series_uid"})
_TEXTS = ("study_description", "series_description", "patient_name", "patient_id")
_CHARSET = 0x00080005
_WANTED = frozenset({_CHARSET, *_TAGS.values()})
_UID_CHARACTERS = frozenset("0123456789.")


class _Pipe:
    """A file at the other end of the pipes."""

    def __init__(self, size: int, head: bytes, source: BinaryIO, sink: BinaryIO) -> None:
        self._size = size
        self._data = head
        self._base = 0
        self._source = source
        self._sink = sink

    def fetch(self, at: int, size: int) -> bytes:
        """Return octets from `at` on, as `node.intake.headers.Source` wants it."""
        if at > self._size:
            raise BadHeader("truncated")
        end = self._base + len(self._data)
        if min(at + size, self._size) > end and end < self._size:
            more = _ask(self._source, self._sink, max(at, end), size)
            kept = self._data[at - self._base :] if at < end else b""
            self._data, self._base = kept + more, at
        return self._data[at - self._base :]


def summary_of(size: int, kind: str, head: bytes, source: BinaryIO, sink: BinaryIO) -> dict[str, Any]:
    """Return what the examination wants to know of a file, or `{"code": why not}`."""
    try:
        file, syntax = _Pipe(size, head, source, sink), ""
        if kind in pictures.LOOKS:
            return asdict(pictures.LOOKS[kind](file, size))
        if kind in headless.KINDS:
            made = headless.header_for(file, little=kind == "headless")
            syntax = made.syntax
            send(sink, frames.HEADER, made.header)
        walked = walk(file, 132 if kind == "part10" else 0, _WANTED, syntax)
        if syntax and walked.fragments:
            return {"code": "no-meta-header"}  # nothing says how its pixels are compressed
        if text(walked.meta.get(META_CLASS, b"")) == DICOMDIR:
            return {"code": "dicomdir", "listed": _listed(walked.records)}
        if walked.rows and not walked.pixels:
            error = BadHeader("truncated")  # cut off exactly between two elements
            error.walked = walked
            raise error
        told = _values(walked)
    except BadHeader as error:
        return {"code": error.code, "header": _header_before(error.walked, syntax)}
    except (MemoryError, RecursionError):
        return {"code": "too-complex"}
    except Exception:
        # pydicom raises nearly anything on nonsense (seen in 60 s of mutated files: eight kinds).
        return {"code": "malformed"}
    if not all(_is_uid(told[name]) for name in _UIDS):
        return {"code": "no-uids"}
    told["syntax"] = syntax or text(walked.meta.get(META_SYNTAX, b""))
    return told if _is_uid(told["syntax"]) else {"code": "malformed"}


def _header_before(walked: Walked | None, syntax: str) -> dict[str, Any] | None:
    """Return what was read before a file turned out to be unsound, if that says which image it is."""
    if walked is None or (walked.fragments and syntax):
        return None
    try:
        told = _values(walked)
    except Exception:  # as above
        return None
    told["syntax"] = syntax or text(walked.meta.get(META_SYNTAX, b""))
    return told if all(_is_uid(told[name]) for name in (*_UIDS, "syntax")) else None


def _listed(records: list[dict[int, bytes]]) -> list[list[str]]:
    """Return the path and the UID of each file that a directory's records refer to."""
    told = [[text(record.get(tag, b"")) for tag in (RECORD_FILE, RECORD_UID)] for record in records]
    return [one for one in told if any(one)]


def _values(walked: Walked) -> dict[str, Any]:
    """Decode what was picked, with the character sets that the file names, or is really in."""
    data: Dataset = pydicom.filereader.read_dataset(
        BytesIO(bytes(walked.picked)), walked.implicit, walked.little
    )
    raw = {name: _encoded(data, _TAGS[name]) for name in _TEXTS}
    codec = corrected(_declared(data), list(raw.values()))
    told: dict[str, Any] = {name: _shown(data, tag) for name, tag in _TAGS.items()}
    if codec is not None:
        told |= {name: _trimmed(value.decode(codec, "replace")) for name, value in raw.items()}
    return told | {"repaired": codec is not None}


def _encoded(data: Dataset, tag: int) -> bytes:
    """Return a value as it is encoded."""
    value = data.get_item(tag).value if tag in data else b""
    return value if isinstance(value, bytes) else b""


def _declared(data: Dataset) -> list[str]:
    """Return the values of Specific Character Set."""
    return [name.strip("\0 ") for name in _encoded(data, _CHARSET).decode("ascii", "replace").split("\\")]


def _shown(data: Dataset, tag: int) -> str:
    """Return one value as text; what cannot be decoded is empty."""
    try:
        value = data[tag].value if tag in data else None
    except (ValueError, TypeError, LookupError, NotImplementedError, OverflowError):
        return ""
    if value is None:
        return ""
    if isinstance(value, pydicom.multival.MultiValue):
        value = "\\".join(map(str, value))
    return _trimmed(str(value))


def _trimmed(value: str) -> str:
    return value.strip("\0 ")[:_TEXT_LIMIT]


def _is_uid(value: str) -> bool:
    return 0 < len(value) <= 64 and set(value) <= _UID_CHARACTERS


def _ask(source: BinaryIO, sink: BinaryIO, at: int, size: int) -> bytes:
    send(sink, NEED, WANT.pack(at, size))
    kind, payload = receive(source)
    if kind != MORE:
        raise SystemExit(2)
    return payload


def main() -> None:
    """Answer for one file after the other until the input ends."""
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nothing printed gets between the frames
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    limit_memory(MEMORY_BYTES)
    send(sink, READY)
    while True:
        try:
            kind, payload = receive(source)
        except EOFError:
            return
        if kind != FILE:
            return
        limit_cpu(CPU_S)
        size, kind = OPENING.unpack_from(payload)
        told = summary_of(size, frames.KINDS[kind], payload[OPENING.size :], source, sink)
        send(sink, ANSWER, json.dumps(told).encode())


if __name__ == "__main__":
    main()
