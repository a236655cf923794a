"""Broken files by the thousand, each one again from its number: what scratched discs and bad sticks yield."""

import random
from collections.abc import Iterator
from pathlib import Path

from support.corpus import specimens
from support.dicoms import deflated, dicomdir, element, encapsulated, header, jpeg, png, study_zip, zip_of

_LARGEST = 60_000


def seeds() -> list[bytes]:
    """Return sound files of every kind that the examination knows, small ones."""
    pixels = element(0x7FE0, 0x10, "OW", bytes(2000))
    made = [
        deflated(header() + pixels),
        encapsulated([bytes(300), bytes(200)]),
        header() + pixels,
        dicomdir(["2.25.1.1.1", "2.25.1.1.2"]),
        jpeg(640, 480),
        png(200, 150),
        b"%PDF-1.4\n" + bytes(400) + b"%%EOF\n",
        study_zip(),
        zip_of({"a.zip": study_zip(), "DICOMDIR": dicomdir(["2.25.1.1.1"])}, method=8),
    ]
    real = [one.path for one in specimens() if not one.name.startswith("shared/")]
    return made + [_short(path) for path in real if 0 < path.stat().st_size < 400_000]


def mutants(seed: int, count: int) -> Iterator[bytes]:
    """Yield broken files; the same seed gives the same ones."""
    sound = seeds()
    for number in range(count):
        lot = random.Random(f"{seed} {number}")
        data = bytearray(lot.choice(sound))
        for _ in range(lot.choice((1, 1, 2, 3, 8))):
            lot.choice(_WAYS)(lot, data)
        yield bytes(data)


def _short(path: Path) -> bytes:
    return path.read_bytes()[:_LARGEST]


def _flip(lot: random.Random, data: bytearray) -> None:
    if data:
        data[lot.randrange(len(data))] ^= 1 << lot.randrange(8)


def _set(lot: random.Random, data: bytearray) -> None:
    if data:
        data[lot.randrange(len(data))] = lot.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, 0x50, 0x53, 0x51))


def _early(lot: random.Random, data: bytearray) -> None:
    """Change an octet where headers are."""
    if data:
        data[lot.randrange(min(len(data), 600))] = lot.randrange(256)


def _length(lot: random.Random, data: bytearray) -> None:
    """Write a length that leads astray."""
    at = lot.randrange(max(1, len(data)))
    data[at : at + 4] = lot.choice(
        (b"\xff\xff\xff\xff", b"\xfe\xff\xff\xff", b"\0\0\0\x80", b"\1\0\0\0", bytes(4))
    )


def _cut(lot: random.Random, data: bytearray) -> None:
    del data[lot.randrange(len(data) + 1) :]


def _drop(lot: random.Random, data: bytearray) -> None:
    at = lot.randrange(len(data) + 1)
    del data[at : at + lot.randrange(1, 40)]


def _double(lot: random.Random, data: bytearray) -> None:
    at = lot.randrange(len(data) + 1)
    data[at:at] = data[at : at + lot.randrange(1, 2000)]


def _blank(lot: random.Random, data: bytearray) -> None:
    """Zero a sector, as a bad disc reads."""
    at = lot.randrange(len(data) + 1) // 512 * 512
    size = len(data[at : at + 512])
    data[at : at + size] = bytes(size)


def _tag(lot: random.Random, data: bytearray) -> None:
    """Write the tag of an item, an end or a sequence somewhere."""
    at = lot.randrange(max(1, len(data)))
    tags = (
        b"\xfe\xff\x00\xe0",
        b"\xfe\xff\x0d\xe0",
        b"\xfe\xff\xdd\xe0",
        b"SQ\0\0\xff\xff\xff\xff",
        b"UN\0\0\xff\xff\xff\xff",
    )
    tag = lot.choice(tags)
    data[at : at + len(tag)] = tag


_WAYS = (_flip, _set, _early, _length, _cut, _drop, _double, _blank, _tag)
