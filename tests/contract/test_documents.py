"""Real pictures of every kind that phones make: recognised, measured, and known when they are cut."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from node.intake.detect import DOCUMENTS, content_of
from node.intake.dicom import Found, HeaderReader

NOISE = Image.effect_noise((640, 360), 80)
COLOUR = Image.merge("RGB", (NOISE, NOISE.rotate(180), NOISE))


@pytest.fixture(scope="module")
def headers() -> Iterator[HeaderReader]:
    reader = HeaderReader()
    yield reader
    reader.close()


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: the phone was held upright
    exif[0x010F] = "Maker"
    return encoded(COLOUR, "JPEG", exif=exif)


def with_preview() -> bytes:
    """Return a photo whose EXIF holds a whole small JPEG, with an end of its own."""
    preview = encoded(COLOUR.resize((160, 90)), "JPEG")
    body = b"Exif\0\0" + preview
    data = encoded(COLOUR, "JPEG")
    return data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2) + body + data[2:]


PICTURES = {
    "JPEG baseline": encoded(COLOUR, "JPEG"),
    "JPEG progressive": encoded(COLOUR, "JPEG", progressive=True),
    "JPEG grey": encoded(NOISE, "JPEG"),
    "JPEG CMYK": encoded(COLOUR.convert("CMYK"), "JPEG"),
    "JPEG 4:4:4": encoded(COLOUR, "JPEG", subsampling=0, restart_marker_blocks=4),
    "JPEG turned": turned(),
    "JPEG with a preview": with_preview(),
    "JPEG with a comment": encoded(COLOUR, "JPEG", comment=b"\xff\xd9" * 20),
    "PNG grey": encoded(NOISE, "PNG"),
    "PNG colour": encoded(COLOUR, "PNG"),
    "PNG 16 bit": encoded(NOISE.convert("I;16"), "PNG"),
    "PNG with alpha": encoded(COLOUR.convert("RGBA"), "PNG"),
    "PNG with a palette": encoded(COLOUR.convert("P"), "PNG"),
    "PNG black and white": encoded(NOISE.convert("1"), "PNG"),
}


def look(headers: HeaderReader, data: bytes) -> Found:
    content = content_of(data)
    assert content in DOCUMENTS
    return headers.read(data, io.BytesIO(), len(data), content)


@pytest.mark.parametrize("name", list(PICTURES))
def test_each_kind_is_recognised_and_measured(headers: HeaderReader, name: str) -> None:
    """Nobody asks a nurse how her phone encodes a picture."""
    found = look(headers, PICTURES[name])

    assert found.code is None
    assert found.document is not None
    assert (found.document.kind, found.document.width, found.document.height) == (
        name.split()[0].lower(),
        640,
        360,
    )


@pytest.mark.parametrize("name", list(PICTURES))
def test_a_cut_picture_is_never_taken_for_a_whole_one(headers: HeaderReader, name: str) -> None:
    """A stick that was pulled out leaves half a picture; its upper half shows, the finding may be below."""
    data = PICTURES[name]
    codes = {look(headers, data[: len(data) * share // 100]).code for share in (2, 10, 30, 50, 70, 90, 99)}

    assert codes <= {"truncated", "picture-damaged"}


def test_a_pdf_ends_where_it_says(headers: HeaderReader) -> None:
    """The end of a PDF holds its table of contents."""
    data = encoded(COLOUR, "PDF")

    assert look(headers, data).document is not None
    assert look(headers, data + b"\r\n" * 20).document is not None
    assert look(headers, data[: len(data) // 2]).code == "truncated"
