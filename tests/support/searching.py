"""Searching what a thief would have for a patient: in the open, recoded, or packed.

`Search(markers)` looks for each marker as it is, in UTF-16, in base64 at each alignment and in hex, and once
more in whatever zlib, raw deflate with a gzip or ZIP header, and zstd give back when unpacked where such a
stream may begin.
"""

import base64
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import zstandard

_ZSTD = b"\x28\xb5\x2f\xfd"
_MOST = 4_000_000  # octets that one stream may unpack to; a marker stands near the beginning of any of ours
_ZLIB_HEADS = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")


def forms(marker: bytes) -> Iterator[bytes]:
    """Yield what a marker looks like in the codings that software writes text in."""
    yield marker
    text = marker.decode("latin-1")
    yield text.encode("utf-16-le")
    yield text.encode("utf-16-be")
    yield marker.hex().encode()
    for shift in range(3):
        whole = base64.b64encode(bytes(shift) + marker)
        yield whole[4 if shift else 0 : len(whole) - 4]


class Search:
    """Looks for markers in octets and files."""

    def __init__(self, markers: Iterable[bytes]) -> None:
        self._wanted = {form: marker for marker in markers for form in forms(marker)}
        self.searched = 0

    def in_octets(self, data: bytes) -> set[bytes]:
        """Return the markers that are in there, in whatever form."""
        self.searched += len(data)
        if not data.strip(b"\0"):
            return set()  # a node's ballast: megabytes of nothing
        found = self._plain(data)
        for unpacked in _unpacked(data):
            found |= self._plain(unpacked)
        return found

    def in_folders(self, *folders: Path) -> dict[str, set[bytes]]:
        """Return, by file, what was found in all files below some folders, and in their names."""
        found: dict[str, set[bytes]] = {}
        for folder in folders:
            for path in sorted(folder.rglob("*")):
                try:
                    data = path.read_bytes() if path.is_file() else b""
                except FileNotFoundError:
                    continue  # it was erased just now
                here = self.in_octets(str(path).encode()) | self.in_octets(data)
                if here:
                    found[str(path)] = here
        return found

    def _plain(self, data: bytes) -> set[bytes]:
        return {marker for form, marker in self._wanted.items() if form in data}


def _unpacked(data: bytes) -> Iterator[bytes]:
    for start in _places(data, *_ZLIB_HEADS):
        yield from _inflated(data[start:], 15)
    for start in _places(data, b"\x1f\x8b\x08"):
        yield from _inflated(data[start:], 31)
    for start in _places(data, b"PK\x03\x04"):
        head = data[start : start + 30]
        if len(head) == 30:
            names = int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
            yield from _inflated(data[start + 30 + names :], -15)
    for start in _places(data, _ZSTD):
        try:
            reader = zstandard.ZstdDecompressor().stream_reader(data[start:])
            yield reader.read(_MOST)
        except zstandard.ZstdError:
            continue


def _inflated(data: bytes, bits: int) -> Iterator[bytes]:
    try:
        yield zlib.decompressobj(bits).decompress(data, _MOST)
    except zlib.error:
        return


def _places(data: bytes, *heads: bytes) -> Iterator[int]:
    for head in heads:
        at = data.find(head)
        while at >= 0:
            yield at
            at = data.find(head, at + 1)
