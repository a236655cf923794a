"""JPEG taken apart (ITU-T T.81 Annex B): what it is coded as, and the image without what its camera told.

Pure, and only over octets. Runs in the press's process. Nothing is decoded here.
"""

import struct
from dataclasses import dataclass, field

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_APP0, _APP2, _APP14, _APP15, _COMMENT = 0xE0, 0xE2, 0xEE, 0xEF, 0xFE
_ICC = b"ICC_PROFILE\0"
_ICC_LIMIT = 4 << 20
_RGB_IDS = (82, 71, 66)  # "R", "G", "B"


class BadJpeg(ValueError):
    """The octets are no whole JPEG."""


@dataclass(frozen=True, slots=True)
class Jpeg:
    """A JPEG, and its image as it stays: no EXIF, XMP, IPTC, thumbnails, comments, nothing after its end.

    `clean` holds the coded scans and their tables octet for octet. `frame` is the number of its SOF marker.
    """

    frame: int
    precision: int
    width: int
    height: int
    components: tuple[int, ...]
    adobe: int | None
    jfif: bool
    icc: bytes = field(repr=False)
    clean: bytes = field(repr=False)

    @property
    def baseline(self) -> bool:
        """Whether DICOM's JPEG Baseline holds it: sequential, Huffman, 8 bits, grey or three colours."""
        return self.frame == 0 and self.precision == 8 and len(self.components) in (1, 3) and self.height > 0

    @property
    def photometric(self) -> str:
        """What its components mean, as libjpeg and everybody after it decides (PS3.3 C.7.6.3.1.2)."""
        if len(self.components) == 1:
            return "MONOCHROME2"
        rgb = self.adobe == 0 if self.adobe is not None else not self.jfif and self.components == _RGB_IDS
        return "RGB" if rgb else "YBR_FULL_422"


def take_apart(data: bytes) -> Jpeg:
    """Return what a JPEG is.

    Raises:
        BadJpeg: it is cut off, or no JPEG.
    """
    if data[:2] != b"\xff\xd8":
        raise BadJpeg
    kept = [b"\xff\xd8"]
    frame: tuple[int, ...] | None = None
    components: tuple[int, ...] = ()
    adobe, jfif, icc, at = None, False, dict[int, bytes](), 2
    while True:
        marker, at = _marker(data, at)
        if marker == _EOI:
            break
        if marker in _STANDALONE:
            continue
        body, at = _segment(data, at)
        if marker in _FRAMES and frame is None:
            frame, components = _frame(marker, body)
        keep = not _APP0 <= marker <= _APP15 and marker != _COMMENT
        if marker == _APP0 and body.startswith(b"JFIF\0") and len(body) >= 14:
            jfif, keep, body = True, True, body[:12] + b"\0\0"  # without its thumbnail
        elif marker == _APP14 and body.startswith(b"Adobe") and len(body) >= 12:
            adobe, keep, body = body[11], True, body[:12]
        elif marker == _APP2 and body.startswith(_ICC) and len(body) > 14:
            icc[body[12]] = body[14:]
        if keep:
            kept.append(struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body)
        if marker == _SOS:
            end = _scan_end(data, at)
            kept.append(data[at:end])
            at = end
    if frame is None or len(kept) < 3:
        raise BadJpeg
    kept.append(b"\xff\xd9")
    number, precision, height, width = frame
    profile = b"".join(icc[key] for key in sorted(icc))
    return Jpeg(
        frame=number,
        precision=precision,
        width=width,
        height=height,
        components=components,
        adobe=adobe,
        jfif=jfif,
        icc=profile if len(profile) <= _ICC_LIMIT else b"",
        clean=b"".join(kept),
    )


def _marker(data: bytes, at: int) -> tuple[int, int]:
    """Return the marker at a place, and the place after it; fill octets may stand in front."""
    if at >= len(data) or data[at] != 0xFF:
        raise BadJpeg
    while at < len(data) and data[at] == 0xFF:
        at += 1
    if at >= len(data) or data[at] == 0:
        raise BadJpeg
    return data[at], at + 1


def _segment(data: bytes, at: int) -> tuple[bytes, int]:
    if at + 2 > len(data):
        raise BadJpeg
    (length,) = struct.unpack_from(">H", data, at)
    if length < 2 or at + length > len(data):
        raise BadJpeg
    return data[at + 2 : at + length], at + length


def _frame(marker: int, body: bytes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if len(body) < 6 or len(body) < 6 + 3 * body[5]:
        raise BadJpeg
    precision, height, width, count = struct.unpack_from(">BHHB", body)
    return (marker - 0xC0, precision, height, width), tuple(body[6 + 3 * n] for n in range(count))


def _scan_end(data: bytes, at: int) -> int:
    """Return where the entropy-coded data end: at the next marker that is neither stuffing nor a restart."""
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 1 >= len(data):
            raise BadJpeg
        following = data[at + 1]
        if following == 0xFF:
            at += 1
        elif following == 0 or 0xD0 <= following <= 0xD7:
            at += 2
        else:
            return at
