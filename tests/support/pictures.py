"""Pictures for tests: one motif that shows which way is up and which colour is which, coded in many ways."""

import hashlib
import io
from typing import Any

from PIL import Image, ImageCms

from node.wrap.order import Order, StudyContext, uid_of

WIDTH, HEIGHT = 240, 160
# The motif's corners, clockwise from top left.
CORNERS = ((220, 30, 30), (30, 200, 40), (40, 60, 220), (230, 220, 60))
CANARY = "CANARYCAM"
PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj "
)
PDF += b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 300]>>endobj trailer<</Root 1 0 R>>\n%%EOF"

CONTEXT = StudyContext(
    study_uid="2.25.77",
    patient_name="Doe^Jäne=山田^太郎",
    patient_id="P7",
    birth_date="19800131",
    sex="F",
    study_date="20260102",
    study_time="101500",
    study_id="S1",
    accession="A1",
    referring="Smith^Ann",
)


def motif(size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    """Return a picture with a colour in each of its quarters."""
    width, height = size
    image = Image.new("RGB", size)
    for place, colour in zip(((0, 0), (1, 0), (1, 1), (0, 1)), CORNERS, strict=True):
        image.paste(
            colour,
            (place[0] * width // 2, place[1] * height // 2, (place[0] + 1) * width // 2 + 1, height),
        )
    image.paste(CORNERS[0], (0, 0, width // 2, height // 2))
    image.paste(CORNERS[1], (width // 2, 0, width, height // 2))
    return image


def coded(image: Image.Image, kind: str = "JPEG", **more: Any) -> bytes:
    """Return a picture as a file."""
    sink = io.BytesIO()
    image.save(sink, kind, **more)
    return sink.getvalue()


def told_by_a_phone(orientation: int = 1) -> Image.Exif:
    """Return what a phone writes into its pictures: camera, place, time, and how it was held."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, CANARY
    exif.get_ifd(0x8825)[1] = CANARY
    exif.get_ifd(0x8769)[0x9003] = "2026:01:03 10:11:12"
    return exif


def as_held(orientation: int, image: Image.Image | None = None) -> bytes:
    """Return the motif as a phone stores it that was held so."""
    stored = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    image = image or motif()
    turned = image if stored is None else image.transpose(stored)
    return coded(turned, quality=95, subsampling=0, exif=told_by_a_phone(orientation))


def profile() -> bytes:
    """Return an ICC profile."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def ordered(data: bytes, kind: str = "photo", **more: Any) -> Order:
    """Return the order to wrap a file."""
    what = "pdf" if kind == "pdf" else "picture"
    return Order(
        **{
            "what": what,
            "kind": kind,
            "context": CONTEXT,
            "series_uid": uid_of("series", kind),
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            **more,
        }
    )


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """Return the colours in the middle of a picture's quarters, clockwise from top left."""
    seen = image.convert("RGB")
    width, height = seen.size
    places = ((1, 1), (3, 1), (3, 3), (1, 3))
    return [seen.getpixel((x * width // 4, y * height // 4)) for x, y in places]  # type: ignore[misc]


def near(one: tuple[int, ...], other: tuple[int, ...], far: int = 30) -> bool:
    """Say whether two colours are about the same."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) <= far
