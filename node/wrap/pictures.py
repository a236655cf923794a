"""Pictures decoded, upright, in strips. Runs in the press's process; home of Pillow.

A picture is opened only as what its first octets say, and loaded whole; what cannot be loaded is
`picture-damaged`. Rotating and converting is done strip by strip, so that memory holds the picture once.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import cast

from PIL import Image, ImageFile, UnidentifiedImageError

from node.wrap.jpeg import BadJpeg, Jpeg, take_apart

PIXEL_LIMIT = 75_000_000  # that are decoded
KEPT_PIXEL_LIMIT = 1 << 27  # of a JPEG that stays as it is; the largest of phones has 108 million
_STRIP_BYTES = 4 << 20
_ORIENTATION, _EXIF, _TAKEN = 0x0112, 0x8769, 0x9003
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIXTEEN = ("I;16", "I;16B", "I;16L", "I;16N")
_MOMENT = re.compile(
    r"(\d{4}):(0[1-9]|1[0-2]):(0[1-9]|[12]\d|3[01]) ([01]\d|2[0-3]):([0-5]\d):([0-5]\d)", re.ASCII
)
_PNG = b"\x89PNG\r\n\x1a\n"

_BROKEN = (
    *(OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError, OverflowError),
    *(ZeroDivisionError, AttributeError, struct.error, zlib.error),
)  # seen when Pillow is given nonsense
_SEE_THROUGH = ("RGBA", "LA", "PA", "La", "RGBa")

Image.MAX_IMAGE_PIXELS = None  # our own limit is looked at before anything is decoded
ImageFile.LOAD_TRUNCATED_IMAGES = False


class BadPicture(ValueError):
    """A picture that cannot be wrapped. `code` is one of `node.intake.reasons`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that was loaded whole. `jpeg` is what it was taken apart to, if it is one.

    `image` is smaller than `stored` if nobody needs its pixels. `bits` is 8 or 16.
    `taken`: when, as the camera wrote it (YYYYMMDDHHMMSS), or nothing. `reduced`: whether samples of 16 bits
    became 8, which happens to colours and to what is see-through.
    """

    image: Image.Image = field(repr=False)
    stored: tuple[int, int]
    jpeg: Jpeg | None = field(repr=False)
    orientation: int
    grey: bool
    bits: int
    icc: bytes = field(repr=False)
    taken: str
    reduced: bool

    @property
    def kept(self) -> bool:
        """Whether its coded scan stays as it is."""
        return _kept(self.jpeg, self.orientation)

    @property
    def width(self) -> int:
        """Pixels of a row, upright."""
        return self.stored[self.orientation >= 5]

    @property
    def height(self) -> int:
        """Rows, upright."""
        return self.stored[self.orientation < 5]

    def strips(self) -> Iterator[bytes]:
        """Yield the pixels from the top, as native pixel data: grey of 8 or 16 bits, or RGB."""
        sideways = self.orientation >= 5
        step = max(1, _STRIP_BYTES // (self.width * (self.bits // 8 if self.grey else 3)))
        for top in range(0, self.height, step):
            bottom = min(top + step, self.height)
            strip = self.image.crop(self._source_of(top, bottom, sideways=sideways))
            if self.orientation in _TURNS:
                strip = strip.transpose(_TURNS[self.orientation])
            yield self._octets(strip)

    def _source_of(self, top: int, bottom: int, *, sideways: bool) -> tuple[int, int, int, int]:
        """Return the box of the stored picture that upright rows come from."""
        if self.orientation in (3, 4, 7, 8):  # upright rows run against the stored ones
            top, bottom = self.height - bottom, self.height - top
        return (top, 0, bottom, self.image.height) if sideways else (0, top, self.image.width, bottom)

    def _octets(self, strip: Image.Image) -> bytes:
        if self.grey and self.bits == 16:
            return strip.tobytes("raw", "I;16")
        if not self.grey and (strip.mode in _SEE_THROUGH or "transparency" in strip.info):
            over = strip.convert("RGBA")
            paper = Image.new("RGBA", over.size, (255, 255, 255, 255))
            paper.alpha_composite(over)
            strip = paper
        return strip.convert("L" if self.grey else "RGB").tobytes()


def load(data: bytes) -> Picture:
    """Decode a JPEG or PNG.

    Raises:
        BadPicture: `picture-damaged`, `picture-unusual` or `picture-too-large`.
    """
    jpeg = None
    if not data.startswith(_PNG):
        try:
            jpeg = take_apart(data)
        except BadJpeg:
            raise BadPicture("picture-damaged") from None
        if jpeg.precision != 8:
            raise BadPicture("picture-unusual")  # Pillow decodes 8 bits a sample
    try:
        image = Image.open(BytesIO(data), formats=["JPEG" if jpeg else "PNG"])
        stored = image.size
        orientation, taken = _camera(image) if jpeg else (1, "")
        icc = image.info.get("icc_profile") or b""
        kept = _kept(jpeg, orientation)
        if stored[0] * stored[1] > (KEPT_PIXEL_LIMIT if kept else PIXEL_LIMIT):
            raise BadPicture("picture-too-large")
        if kept:
            image.draft(None, (1, 1))  # decodes every coefficient, and draws an eighth of them
        image.load()
        if jpeg is None:  # of a PNG, Pillow reads all to find EXIF: never before it is known to be whole
            orientation, taken = _camera(image)
    except BadPicture:
        raise
    except (UnidentifiedImageError, NotImplementedError):
        raise BadPicture("picture-unusual") from None
    except _BROKEN:
        raise BadPicture("picture-damaged") from None
    profile = jpeg.icc if jpeg else cast("bytes", icc)
    deep = jpeg is None and data[24:25] == b"\x10"
    picture = Picture(image, stored, jpeg, orientation, False, 8, profile, taken, deep)
    return _in_a_plain_mode(picture)


def _kept(jpeg: Jpeg | None, orientation: int) -> bool:
    return jpeg is not None and jpeg.baseline and orientation == 1


def _in_a_plain_mode(picture: Picture) -> Picture:
    """Return a picture as grey of 8 or 16 bits, or as colours."""
    image, icc = picture.image, picture.icc
    if image.mode == "P" and "transparency" not in image.info:
        image = image.convert("RGB")
    sixteen = image.mode in (*_SIXTEEN, "I")
    grey = sixteen or (image.mode in ("1", "L") and "transparency" not in image.info)
    if sixteen and image.mode != "I;16":
        image = image.convert("I;16")
    coloured = not grey and icc[16:20] == b"RGB "
    return replace(
        picture,
        image=image,
        grey=grey,
        bits=16 if sixteen else 8,
        icc=icc if coloured else b"",
        reduced=picture.reduced and not sixteen,
    )


def _camera(image: Image.Image) -> tuple[int, str]:
    """Return how the camera was held, and when, as it says; nothing else of what it tells."""
    try:
        exif = image.getexif()
        turned = exif.get(_ORIENTATION, 1)
        told = str(exif.get_ifd(_EXIF).get(_TAKEN, ""))
    except _BROKEN:  # a format of its own, and as broken as anything
        return 1, ""
    moment = _MOMENT.match(told)
    return turned if turned in range(1, 9) else 1, "".join(moment.groups()) if moment else ""
