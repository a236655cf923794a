"""Units: some whole instances, or a piece of a large one, coded together (docs/protocol.md §4, "pack").

Called by `node.store.codecs`. Native pixels become JPEG-LS images, everything else of all parts one zstd
frame, so that headers which repeat from slice to slice are sent once. A unit holds about 4 MiB: it is what
must be decoded to read any of its instances, and what one thread codes while another codes the next.
What an image or a frame makes is checked against what the unit says before memory is given to it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

from node.errors import StoreDamaged
from node.store import images, squeeze
from node.store.images import Image, Layout
from node.store.pixels import Native
from node.store.squeeze import HEADERS_LEVEL, LEVEL
from sync import cbor
from sync.errors import BadCbor

UNIT_BYTES = 4 * 1024 * 1024  # at most so many octets of instances are coded together
LARGEST_UNIT_BYTES = 16 * 1024 * 1024  # none is decoded that says it holds more

_FEWEST_OCTETS = 2048  # fewer octets are no image that is worth its description
_FEWEST_COLUMNS = 8
_SAMPLE_BYTES = 8 * 1024
_SAMPLES = 16
_SURE = 0.8  # of what zstd makes of the samples; above, it is tried on all


@dataclass(frozen=True, slots=True)
class Part:
    """Octets of an instance, all or some of them; `start` is where they begin in it."""

    data: bytes = field(repr=False)
    start: int
    native: Native | None


def pack(parts: Sequence[Part]) -> bytes:
    """Return the unit of these parts; `unpack` gives back their octets, one after another."""
    starts = [0, *accumulate(len(part.data) for part in parts)]
    views = [memoryview(part.data) for part in parts]  # a slice of one is no copy
    described: list[list[Any]] = []
    taken: dict[int, list[tuple[int, int]]] = {}  # by part, where in it
    for (layout, length), places in _stacks(parts).items():
        image = _image(layout, [views[n][at : at + length] for n, at in places], parts[places[0][0]])
        if image is not None:
            described.append(_described(image, length, [starts[n] + at for n, at in places]))
            for n, at in places:
                taken.setdefault(n, []).append((at, length))
    rest = b"".join(piece for n, view in enumerate(views) for piece in _between(view, taken.get(n, ())))
    level = HEADERS_LEVEL if taken else LEVEL
    return cbor.encode([starts[-1], described, _squeezed(rest, level)])


def unpack(unit: bytes) -> bytes:
    """Return what was packed; memory stays bounded whatever the unit says.

    Raises:
        StoreDamaged: the unit is malformed, or too large.
    """
    return b"".join(unpacked(unit))


def unpacked(unit: bytes) -> Iterator[memoryview]:
    """Yield what was packed in pieces, which saves a copy; raises as `unpack` does."""
    try:
        match cbor.decode(unit):
            case [int(size), [*described], bytes(rest)] if 0 <= size <= LARGEST_UNIT_BYTES:
                pass
            case _:
                raise StoreDamaged("not a unit that this program knows")
    except BadCbor:
        raise StoreDamaged("a unit is malformed") from None
    coded = [_taken_apart(item) for item in described]
    taken = sorted((at, length, n) for n, (_, length, places) in enumerate(coded) for at in places)
    if not _apart([(at, length) for at, length, _ in taken], size):
        raise StoreDamaged("the images of a unit do not lie apart")
    left = memoryview(_unsqueezed(rest, size - sum(length for _, length, _ in taken)))
    pixels = [images.decode(image, length * len(places)) for image, length, places in coded]
    end = 0
    for at, length, n in taken:
        yield left[: at - end]
        yield pixels[n][:length]
        left, pixels[n], end = left[at - end :], pixels[n][length:], at + length
    yield left


def _stacks(parts: Sequence[Part]) -> dict[tuple[Layout, int], list[tuple[int, int]]]:
    """Return where whole rows of native pixels lie: parts and places in them, by layout and length."""
    found: dict[tuple[Layout, int], list[tuple[int, int]]] = {}
    for number, part in enumerate(parts):
        native = part.native
        if native is None or native.columns < _FEWEST_COLUMNS:
            continue
        plane = native.rows if native.samples == 3 and native.planar else 0
        layout = Layout(native.allocated // 8, native.big_endian, native.columns, native.samples, plane)
        skipped = max(0, part.start - native.offset)
        skipped += -skipped % layout.row_octets
        end = min(native.length, part.start + len(part.data) - native.offset)
        length = (end - skipped) // layout.row_octets * layout.row_octets
        if length >= _FEWEST_OCTETS:
            at = native.offset + skipped - part.start
            found.setdefault((layout, length), []).append((number, at))
    return found


def _image(layout: Layout, stretches: Sequence[memoryview], first: Part) -> Image | None:
    """Return the octets, stretches of one length, as an image, if that makes them smaller than zstd would."""
    native = first.native
    assert native is not None
    image = images.encode(layout, stretches, rows=native.rows, stored=native.stored, rgb=native.rgb)
    if image is None:
        return None
    size, length = len(image.data) + len(_squeezed(image.high, LEVEL)), len(stretches[0])
    whole = length * len(stretches)
    step = max(_SAMPLE_BYTES, whole // _SAMPLES)
    places = (divmod(at, length) for at in range(step // 2, whole, step))
    sample = b"".join(stretches[n][at : at + _SAMPLE_BYTES] for n, at in places) or bytes(stretches[0])
    if size * len(sample) < _SURE * whole * len(_squeezed(sample, LEVEL)):
        return image
    return image if size < len(_squeezed(b"".join(stretches), LEVEL)) else None


def _described(image: Image, length: int, places: Sequence[int]) -> list[Any]:
    layout = image.layout
    return [
        *(layout.octets, layout.big_endian, layout.columns, layout.samples, layout.plane),
        *(image.mixed, image.bits, image.lag, image.base),
        length,
        [at - before for before, at in pairwise((0, *places))],
        image.data,
        len(image.high),
        _squeezed(image.high, LEVEL),
    ]


def _taken_apart(item: Any) -> tuple[Image, int, list[int]]:
    """Return an image, how many octets of it lie together, and where."""
    match item:
        case [
            int(octets), bool(big), int(columns), int(samples), int(plane), bool(mixed), int(bits), int(lag),
            int(base), int(length), [*steps], bytes(data), int(high_length), bytes(high),
        ]:  # fmt: skip
            pass
        case _:
            raise StoreDamaged("not an image that this program knows")
    limit = LARGEST_UNIT_BYTES
    numbers = (columns, plane, bits, lag, base, length, high_length, *steps)
    if not all(type(number) is int and 0 <= number <= limit for number in numbers):
        raise StoreDamaged("an image of an impossible size")
    if octets not in (1, 2) or not columns or base >= 1 << 8 * octets:
        raise StoreDamaged("not an image that this program knows")
    if samples not in (1, 3) or (samples == 1 and (plane or mixed)):
        raise StoreDamaged("not an image that this program knows")
    if bits >= 8 * octets or len(steps) * length > limit or not steps or not length:
        raise StoreDamaged("an image of an impossible size")
    layout = Layout(octets, big, columns, samples, plane)
    return (
        Image(layout, mixed, bits, lag, base, data, _unsqueezed(high, high_length)),
        length,
        list(accumulate(steps)),
    )


def _apart(taken: Sequence[tuple[int, int]], size: int) -> bool:
    end = 0
    for at, length in taken:
        if at < end:
            return False
        end = at + length
    return end <= size


def _between(whole: memoryview, taken: Sequence[tuple[int, int]]) -> Iterator[memoryview]:
    end = 0
    for at, length in taken:
        yield whole[end:at]
        end = at + length
    yield whole[end:]


def _squeezed(data: bytes, level: int) -> bytes:
    """Return one zstd frame, or the octets themselves if the frame is not shorter."""
    frame = squeeze.squeezed(data, level)
    return frame if len(frame) < len(data) else data


def _unsqueezed(coded: bytes, length: int) -> bytes:
    if len(coded) == length:
        return coded
    data = squeeze.unsqueezed(coded, length)
    if data is None or len(data) != length:
        raise StoreDamaged("a unit does not decode")
    return data
