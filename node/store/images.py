"""Stacks of image rows, made small by JPEG-LS (ISO 14495-1) and brought back. Home of numpy and imagecodecs.

Called by `node.store.units`. Slices of one geometry are one tall image: JPEG-LS learns an image while it goes
through it, and would begin anew with each slice. Before it, steps that can be undone exactly: colours become
planes, differences to an earlier slice replace values where slices resemble each other, bits above those
that are used are set apart, and the smallest value becomes zero. Every step counts modulo the sample's size.

The libraries are loaded with the first image: a courier never needs them, and an idle node stays small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from node.errors import CodecUnknown, StoreDamaged

if TYPE_CHECKING:
    from numpy import typing as npt

    Samples = npt.NDArray[Any]

MOST_ROWS = 0xFFFF  # JPEG-LS counts rows and columns in 16 bits
_LAGS = 48  # earlier slices that are looked at
_LOOKED_AT = 48  # rows
_AS_GOOD = 1.03
_WORTH_IT = 0.7  # of the step from one pixel to the next; real MR at 0.77: 1 % more, at 0.6: 3 to 5 % less


@dataclass(frozen=True, slots=True)
class Layout:
    """How octets are samples; stacks of one layout can be one image.

    `plane`: rows of each colour plane, in frames of three planes (Planar Configuration 1); 0 if the samples
    of a pixel lie together.
    """

    octets: int  # of a sample: 1 or 2
    big_endian: bool
    columns: int
    samples: int  # 1 or 3
    plane: int

    @property
    def row_octets(self) -> int:
        """The smallest run of octets that can be a part of the image."""
        return self.octets * self.columns * self.samples * max(1, self.plane)


@dataclass(frozen=True, slots=True)
class Image:
    """A coded stack, and how to undo what was done before JPEG-LS."""

    layout: Layout
    mixed: bool  # red and blue are differences to green
    bits: int  # samples were cut off above so many bits; 0 if they were not
    lag: int  # rows to which all later ones are differences; 0 for none
    base: int  # was taken off each sample
    data: bytes = field(repr=False)  # JPEG-LS
    high: bytes = field(repr=False)  # what was cut off, in octets


def encode(
    layout: Layout, stretches: Sequence[memoryview], *, rows: int, stored: int, rgb: bool
) -> Image | None:
    """Return whole rows, one stretch after another, as an image; None if there is no such image.

    `rows` of a frame, bits `stored` and `rgb` are hints: they decide the size, not the octets. Memory: one
    copy of the rows, and what the library makes of them.
    """
    import numpy as np
    from imagecodecs import _jpegls as jpegls

    pieces = [np.frombuffer(stretch, _dtype(layout)) for stretch in stretches]
    samples = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    mixed = layout.samples == 3 and rgb
    stack = _stacked(layout, samples.astype(_native(layout), copy=False), mixed)
    del samples
    if len(stack) > MOST_ROWS:
        return None
    bits, high = 0, b""
    if stored < 8 * layout.octets and _spread(stack)[1] >> stored:
        bits = stored
        stack, high = _cut(stack, stored)
    lag = _best_lag(stack, rows) if layout.samples == 1 else 0
    stack = np.require(
        stack, requirements=["C", "W"]
    )  # ours to change; read-only while it is the files' octets
    if lag:  # from the end, since what is subtracted must be as it was
        for at in range(len(stack) - lag, 0, -lag):
            part = stack[max(at, lag) : at + lag]
            part -= stack[max(at, lag) - lag : at]
    base, _ = _spread(stack)
    stack -= _native(layout)(base)
    try:
        coded = jpegls.jpegls_encode(stack)
    except jpegls.JpeglsError:  # noise becomes larger than it was, and than the room for it
        return None
    return Image(layout, mixed, bits, lag, base, bytes(coded), high)


def decode(image: Image, length: int) -> memoryview:
    """Return the `length` octets that were coded.

    Raises:
        StoreDamaged: the image is malformed, or another one than it should be.
        CodecUnknown: the library does not load on this machine.
    """
    try:
        import numpy as np
        from imagecodecs import _jpegls as jpegls
    except ImportError:
        raise CodecUnknown("JPEG-LS does not load on this machine") from None

    layout = image.layout
    count, rest = divmod(length, layout.octets * layout.columns)
    if rest or not 0 < count <= MOST_ROWS:
        raise StoreDamaged("an image of an impossible size")
    stack = np.empty((count, layout.columns), _native(layout))
    try:
        jpegls.jpegls_decode(image.data, out=stack)
    except (jpegls.JpeglsError, ValueError, TypeError, RuntimeError):
        raise StoreDamaged("an image does not decode") from None
    stack += _native(layout)(image.base)
    if image.lag:
        for at in range(image.lag, count, image.lag):
            part = stack[at : at + image.lag]
            part += stack[at - image.lag : at - image.lag + len(part)]
    if image.bits:
        stack &= _native(layout)((1 << image.bits) - 1)
        stack |= _high(image, stack.size).reshape(stack.shape) << image.bits
    samples = np.ascontiguousarray(_unstacked(layout, stack, image.mixed), _dtype(layout))
    return samples.reshape(-1).view("u1").data


def _dtype(layout: Layout) -> str:
    return "u1" if layout.octets == 1 else ">u2" if layout.big_endian else "<u2"


def _native(layout: Layout) -> Any:
    import numpy as np

    return np.uint8 if layout.octets == 1 else np.uint16


def _stacked(layout: Layout, samples: Samples, mixed: bool) -> Samples:
    """Return rows of one sample each; of colours first all rows of one plane, then of the next."""
    if layout.samples == 1:
        return samples.reshape(-1, layout.columns)
    if layout.plane:
        planes = samples.reshape(-1, 3, layout.plane * layout.columns).transpose(1, 0, 2).reshape(3, -1)
    else:
        planes = samples.reshape(-1, 3).T
    if mixed:
        planes = planes.copy()
        planes[::2] -= planes[1] - (1 << (8 * layout.octets - 1))
    return planes.reshape(-1, layout.columns)


def _unstacked(layout: Layout, stack: Samples, mixed: bool) -> Samples:
    if layout.samples == 1:
        return stack
    if len(stack) % (3 * max(1, layout.plane)):
        raise StoreDamaged("an image of an impossible size")
    planes = stack.reshape(3, -1)
    if mixed:
        planes[::2] += planes[1] - (1 << (8 * layout.octets - 1))
    if layout.plane:
        return planes.reshape(3, -1, layout.plane * layout.columns).transpose(1, 0, 2)
    return planes.T


def _spread(stack: Samples) -> tuple[int, int]:
    """Return the smallest sample and how far the largest is above it, signed if that makes it less."""
    low, high = int(stack.min()), int(stack.max())
    signed = stack.view(f"i{stack.itemsize}")
    signed_low, signed_high = int(signed.min()), int(signed.max())
    if signed_high - signed_low < high - low:
        return signed_low % (1 << 8 * stack.itemsize), signed_high - signed_low
    return low, high - low


def _cut(stack: Samples, bits: int) -> tuple[Samples, bytes]:
    """Return the samples without what is above so many bits, and that; undone by adding both."""
    top = stack >> bits
    high = top.astype("u1" if top.max() < 256 else "<u2").tobytes()
    low = stack & ((1 << bits) - 1)
    half = 1 << (bits - 1)
    turned = low ^ half  # brings values around zero together if the top bit is a sign
    if int(turned.max()) - int(turned.min()) < int(low.max()) - int(low.min()):
        return turned - half, high
    return low, high


def _best_lag(stack: Samples, rows: int) -> int:
    """Return the distance in rows at which images resemble each other most; 0 if none is worth it."""
    import numpy as np

    slices = len(stack) // rows if rows else 0
    if slices < 2:
        return 0
    chosen = np.unique(np.linspace(len(stack) // 2, len(stack) - 1, _LOOKED_AT).astype(int))
    there = stack[chosen].astype(np.int32)
    plain = np.abs(np.diff(there, axis=1)).mean()
    steps = {
        lag: np.abs(np.diff(there - stack[chosen - lag * rows], axis=1)).mean()
        for lag in range(1, min(slices // 2, _LAGS) + 1)
    }
    least = min(steps.values())
    lag = next(lag for lag, step in steps.items() if step <= _AS_GOOD * least)  # the first slices have none
    return lag * rows if least < _WORTH_IT * plain else 0


def _high(image: Image, count: int) -> Samples:
    import numpy as np

    if len(image.high) not in (count, count * image.layout.octets):
        raise StoreDamaged("an image of an impossible size")
    kind = "u1" if len(image.high) == count else "<u2"
    return np.frombuffer(image.high, kind).astype(_native(image.layout))
