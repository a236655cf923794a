"""Multipart bodies (RFC 2046 §5.1.1, RFC 2387) as they arrive: bytes in, parts out, memory flat.

`MultipartParser` does no I/O: the read-back of `node.deliver.verify` and the sandbox PACS feed it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from node.errors import Refused

_LONGEST_HEAD = 16_384
_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"([^"]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PartBegins:
    """A part begins; the names of its header fields are in lower case."""

    headers: dict[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class PartData:
    """Some bytes of the part."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PartEnds:
    """The part is complete."""


Event = PartBegins | PartData | PartEnds


def boundary_of(content_type: str) -> bytes | None:
    """Return the boundary that a Content-Type names, or None if it is no multipart type."""
    if not content_type.strip().lower().startswith("multipart/"):
        return None
    match = _BOUNDARY.search(content_type)
    return None if match is None else (match.group(1) or match.group(2)).encode("latin-1")


class MultipartParser:
    """Takes a multipart body apart.

    Attributes:
        complete: the closing delimiter has come. A body that ends before is cut off.
    """

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        # The first delimiter may stand at the very beginning, without a line break before it.
        self._buffer = bytearray(b"\r\n")
        self._step: Callable[[], list[Event] | None] = self._skip_preamble
        self.complete = False

    def feed(self, chunk: bytes) -> list[Event]:
        """Return what `chunk` completes.

        Raises:
            Refused: this is not a multipart body.
        """
        self._buffer += chunk
        found: list[Event] = []
        while not self.complete and (events := self._step()) is not None:
            found += events
        return found

    def _skip_preamble(self) -> list[Event] | None:
        at = self._buffer.find(self._delimiter)
        if at < 0:
            del self._buffer[: -len(self._delimiter)]
            return None
        del self._buffer[: at + len(self._delimiter)]
        self._step = self._after_delimiter
        return []

    def _after_delimiter(self) -> list[Event] | None:
        """Behind a delimiter stand two dashes at the end, or white space and a line break (RFC 2046)."""
        if len(self._buffer) < 2:
            return None
        if self._buffer.startswith(b"--"):
            self.complete = True
            return []
        at = self._buffer.find(b"\r\n")
        if at < 0 or bytes(self._buffer[:at]).strip(b" \t"):
            if at < 0 and len(self._buffer) < _LONGEST_HEAD:
                return None
            raise Refused("bad-multipart", "a delimiter with something behind it")
        del self._buffer[:at]
        self._step = self._head
        return []

    def _head(self) -> list[Event] | None:
        """Between the delimiter and an empty line stand header fields, maybe none."""
        at = self._buffer.find(b"\r\n\r\n")
        if at < 0 or at > _LONGEST_HEAD:
            if len(self._buffer) <= _LONGEST_HEAD:
                return None
            raise Refused("bad-multipart", "a part with an endless head")
        headers = {}
        for line in bytes(self._buffer[:at]).decode("latin-1").split("\r\n"):
            name, colon, value = line.partition(":")
            if colon:
                headers[name.strip().lower()] = value.strip()
        # The line break before the content is kept: it begins the delimiter of an empty part.
        del self._buffer[: at + 2]
        self._step = self._first_data
        return [PartBegins(headers)]

    def _first_data(self) -> list[Event] | None:
        if len(self._buffer) < len(self._delimiter):
            return None
        self._step = self._data
        if not self._buffer.startswith(self._delimiter):
            del self._buffer[:2]
        return []

    def _data(self) -> list[Event] | None:
        at = self._buffer.find(self._delimiter)
        if at >= 0:
            data = bytes(memoryview(self._buffer)[:at])
            del self._buffer[: at + len(self._delimiter)]
            self._step = self._after_delimiter
            return [PartData(data), PartEnds()] if data else [PartEnds()]
        # What might begin the delimiter waits for more.
        ready = len(self._buffer) - len(self._delimiter) + 1
        if ready <= 0:
            return None
        data = bytes(memoryview(self._buffer)[:ready])
        del self._buffer[:ready]
        return [PartData(data)]
