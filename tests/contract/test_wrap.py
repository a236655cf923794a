"""Pictures, PDFs and the impression as DICOM: what stays, what is taken away, and always the same."""

import io
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import replace

import pydicom
import pytest
from PIL import Image
from support.pictures import (
    CANARY,
    CONTEXT,
    CORNERS,
    HEIGHT,
    PDF,
    WIDTH,
    as_held,
    coded,
    corners,
    motif,
    near,
    ordered,
    profile,
    told_by_a_phone,
)

from node.wrap import instance
from node.wrap.jpeg import take_apart
from node.wrap.order import Order, uid_of
from node.wrap.press import CannotWrap, Press, Wrapped
from node.wrap.text import lay_out, shown, width_of

PROFILE = profile()
THUMBNAIL = bytes(range(0xC0, 0xCC))
IMPRESSION = Order(
    "impression", "impression", CONTEXT, uid_of("i"), text="Fracture?", author="Dr. A", written="202601031011"
)


@pytest.fixture(scope="module")
def press() -> Iterator[Press]:
    with Press() as press:
        yield press


def made(press: Press, order: Order, data: bytes = b"") -> tuple[Wrapped, pydicom.Dataset]:
    wrapped = press.wrap(order, lambda: iter((data,)))
    octets = b"".join(wrapped.pieces())
    assert len(octets) == wrapped.size
    return wrapped, pydicom.dcmread(io.BytesIO(octets))


def drawn(dataset: pydicom.Dataset) -> Image.Image:
    """Return native pixels, or a coded frame, as a picture."""
    if dataset.file_meta.TransferSyntaxUID == instance.JPEG_BASELINE:
        return Image.open(io.BytesIO(next(pydicom.encaps.generate_frames(dataset.PixelData))))
    mode = {1: "L" if dataset.BitsAllocated == 8 else "I;16", 3: "RGB"}[dataset.SamplesPerPixel]
    return Image.frombytes(mode, (dataset.Columns, dataset.Rows), dataset.PixelData[: _pixels(dataset)])


def _pixels(dataset: pydicom.Dataset) -> int:
    return int(dataset.Rows * dataset.Columns * dataset.SamplesPerPixel * dataset.BitsAllocated // 8)


def test_the_coded_scan_of_an_upright_jpeg_stays_as_it_is(press: Press) -> None:
    """Each decoding and coding again would cost a little of the picture; what the camera tells must go."""
    data = coded(motif(), quality=90, exif=told_by_a_phone(), icc_profile=PROFILE, comment=CANARY.encode())
    wrapped, dataset = made(press, ordered(data), data)
    frame = next(pydicom.encaps.generate_frames(dataset.PixelData))
    sos = data.index(b"\xff\xda")

    assert wrapped.syntax == instance.JPEG_BASELINE and wrapped.sop_class == instance.VL_PHOTO
    assert frame.rstrip(b"\0").endswith(data[sos:])
    assert data[data.index(b"\xff\xdb") : sos] in frame
    assert CANARY.encode() in data and CANARY.encode() not in b"".join(wrapped.pieces())
    assert dataset.ICCProfile.rstrip(b"\0") == PROFILE.rstrip(b"\0")
    assert (dataset.PhotometricInterpretation, dataset.LossyImageCompression) == ("YBR_FULL_422", "01")
    assert (dataset.LossyImageCompressionMethod, dataset.ImageType[0]) == ("ISO_10918_1", "ORIGINAL")
    assert (dataset.ContentDate, dataset.ContentTime) == ("20260103", "101112")


def test_what_stands_before_thumbnails_and_after_the_end_is_taken_away() -> None:
    """Phones hide small films, larger pictures and whole other images there."""
    data = coded(motif())
    thumbnail = b"\xff\xe0" + (16 + 12).to_bytes(2, "big") + b"JFIF\0\1\2\1\0\1\0\1\2\2" + THUMBNAIL
    jfif = int.from_bytes(data[4:6], "big") + 4
    taken = take_apart(data[:2] + thumbnail + data[jfif:] + b"MotionPhoto_Data" + data)

    assert THUMBNAIL not in taken.clean and b"MotionPhoto" not in taken.clean
    assert taken.clean.endswith(data[data.index(b"\xff\xda") :])
    assert Image.open(io.BytesIO(taken.clean)).size == (WIDTH, HEIGHT)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_upright_however_the_phone_was_held(press: Press, orientation: int) -> None:
    """A hand that is mirrored is the other hand."""
    data = as_held(orientation)
    wrapped, dataset = made(press, ordered(data), data)
    upright = drawn(dataset)

    assert (dataset.Columns, dataset.Rows) == upright.size == (WIDTH, HEIGHT)
    assert all(near(a, b) for a, b in zip(corners(upright), CORNERS, strict=True)), corners(upright)
    assert (wrapped.syntax == instance.EXPLICIT) == (orientation != 1)
    assert CANARY.encode() not in b"".join(wrapped.pieces())


@pytest.mark.parametrize(
    ("data", "photometric"),
    [
        (coded(motif(), progressive=True), "RGB"),
        (coded(motif().convert("CMYK"), quality=95), "RGB"),
        (coded(motif().convert("L")), "MONOCHROME2"),
        (coded(motif(), subsampling=0, keep_rgb=True), "RGB"),
        (coded(motif(), "PNG"), "RGB"),
        (coded(motif().quantize(), "PNG"), "RGB"),
        (coded(motif().convert("RGBA"), "PNG"), "RGB"),
        (coded(motif().convert("LA"), "PNG"), "RGB"),
        (coded(motif().convert("L"), "PNG"), "MONOCHROME2"),
        (coded(motif().convert("1"), "PNG"), "MONOCHROME2"),
        (coded(motif().convert("L").convert("I;16"), "PNG"), "MONOCHROME2"),
    ],
    ids=[
        "progressive",
        "cmyk",
        "grey",
        "rgb",
        "png",
        "palette",
        "alpha",
        "grey-alpha",
        "grey-png",
        "bits",
        "sixteen",
    ],
)
def test_every_kind_of_picture_keeps_its_pixels(press: Press, data: bytes, photometric: str) -> None:
    """What decodes to the same is the same; nothing is compressed with loss again."""
    _, dataset = made(press, ordered(data), data)
    source = Image.open(io.BytesIO(data))
    lossy = source.format == "JPEG"
    plain = source if source.mode == "I;16" else source.convert("L" if photometric[0] == "M" else "RGB")

    assert dataset.PhotometricInterpretation == photometric
    assert drawn(dataset).convert(plain.mode).tobytes() == plain.tobytes()
    assert dataset.LossyImageCompression == ("01" if lossy else "00")


def test_what_is_see_through_is_seen_on_white(press: Press) -> None:
    """Black letters on nothing would be black on black."""
    image = Image.new("RGBA", (130, 130), (0, 0, 0, 0))
    data = coded(image, "PNG")
    _, dataset = made(press, ordered(data), data)

    assert set(dataset.PixelData) == {255}


@pytest.mark.parametrize(
    ("kind", "sop_class", "conversion", "modality", "number"),
    [
        ("photo", instance.VL_PHOTO, None, "XC", 901),
        ("film", instance.SECONDARY_CAPTURE, "DF", "OT", 902),
        ("scan", instance.SECONDARY_CAPTURE, "SD", "DOC", 903),
        ("screen", instance.SECONDARY_CAPTURE, "WSD", "OT", 904),
    ],
)
def test_what_a_picture_shows_decides_what_it_becomes(
    press: Press, kind: str, sop_class: str, conversion: str | None, modality: str, number: int
) -> None:
    """A photographed film is no photo of the patient."""
    data = coded(motif())
    wrapped, dataset = made(press, ordered(data, kind, body_part="HAND", number=3), data)

    assert (wrapped.sop_class, dataset.get("ConversionType"), dataset.Modality) == (
        sop_class,
        conversion,
        modality,
    )
    assert (dataset.SeriesNumber, dataset.InstanceNumber, dataset.BodyPartExamined) == (number, 3, "HAND")
    assert str(dataset.PatientName) == CONTEXT.patient_name
    assert (dataset.StudyInstanceUID, dataset.AccessionNumber, dataset.StudyTime) == (
        CONTEXT.study_uid,
        "A1",
        "101500",
    )
    assert dataset.SpecificCharacterSet == "ISO_IR 192"


def test_the_same_gives_the_same_bytes_in_every_process(press: Press) -> None:
    """Two nodes that take in the same photo make one image of it."""
    photo, page = as_held(6), replace(IMPRESSION, text="مريض يعاني من ألم منذ 3 أيام, 患者, रोगी 🦴")
    with Press() as other:
        for order, data in ((ordered(photo), photo), (ordered(PDF, "pdf"), PDF), (page, b"")):
            one, two = made(press, order, data)[0], made(other, order, data)[0]
            assert (one.uid, one.sha256) == (two.uid, two.sha256)
    assert uid_of("a", "b") == "2.25.232546222718136015050783701916650913336"
    assert uid_of("a", "b") != uid_of("ab", "")


def test_what_differs_in_anything_has_another_uid(press: Press) -> None:
    """The same UID with other bytes is a conflict at the PACS."""
    data = coded(motif())
    first = ordered(data)
    others = [
        replace(first, body_part="HAND"),
        replace(first, number=2),
        replace(first, context=replace(CONTEXT, patient_id="P8")),
        replace(first, kind="film"),
    ]

    assert len({made(press, order, data)[0].uid for order in (first, *others)}) == 5


def test_a_large_picture_is_made_twice_and_is_the_same(press: Press) -> None:
    """Its plaintext lies nowhere in between."""
    data = as_held(8, motif((2200, 1400)))
    wrapped, _ = made(press, ordered(data), data)
    again = b"".join(wrapped.pieces())

    assert wrapped.size > 9_000_000
    assert pydicom.dcmread(io.BytesIO(again)).Rows == 1400


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (coded(motif())[:-200], "picture-damaged"),
        (coded(motif(), "PNG")[:60] + bytes(200), "picture-damaged"),
        (b"\xff\xd8\xff\xe0", "picture-damaged"),
        (coded(motif()).replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c"), "picture-unusual"),
    ],
    ids=["cut-off", "png-nonsense", "header-only", "twelve-bits"],
)
def test_what_cannot_be_decoded_says_why(press: Press, data: bytes, code: str) -> None:
    """A black picture at the PACS would be worse."""
    with pytest.raises(CannotWrap) as caught:
        press.wrap(ordered(data), lambda: iter((data,)))
    assert caught.value.code == code
    data = coded(motif())
    assert made(press, ordered(data), data)[0].size > 0  # and the next one is made


def test_a_jpeg_that_claims_sixty_thousand_rows_ends_in_time(press: Press) -> None:
    """The picture is small, and what it asks for is not."""
    data = coded(motif())
    at = data.index(b"\xff\xc0") + 5
    data = data[:at] + (60_000).to_bytes(2, "big") * 2 + data[at + 4 :]
    begin = time.monotonic()
    with pytest.raises(CannotWrap) as caught:
        press.wrap(ordered(data), lambda: iter((data,)))
    assert caught.value.code == "picture-too-large"
    assert time.monotonic() - begin < 60


def test_a_process_that_hangs_is_ended() -> None:
    """A decoder that never comes back must not hold up the clinic."""
    with Press(timeout_s=1.0) as press:
        order = replace(ordered(PDF, "pdf"), size=len(PDF) + 1)  # it waits for an octet that never comes
        with pytest.raises(CannotWrap) as caught:
            press.wrap(order, lambda: iter((PDF,)))
    assert caught.value.code == "too-complex"


def test_a_pdf_travels_as_it_came(press: Press) -> None:
    """Its bytes may carry a signature."""
    wrapped, dataset = made(press, ordered(PDF, "pdf"), PDF)

    assert wrapped.sop_class == instance.ENCAPSULATED_PDF
    assert dataset.EncapsulatedDocument[: dataset.EncapsulatedDocumentLength] == PDF
    assert dataset.MIMETypeOfEncapsulatedDocument == "application/pdf"


def test_the_impression_never_looks_like_a_report(press: Press) -> None:
    """A radiologist must see at once that nobody has read the images."""
    _, dataset = made(press, IMPRESSION)

    assert dataset.DocumentTitle == "Referring clinician's impression"
    assert dataset.VerificationFlag == "UNVERIFIED"
    assert dataset.ConceptNameCodeSequence[0].CodeMeaning == "Referral note"
    assert dataset.AdditionalPatientHistory == "Fracture?"
    assert (dataset.ContentDate, dataset.ContentTime) == ("20260103", "101100")
    assert dataset.EncapsulatedDocument.startswith(b"%PDF-")


def test_the_impression_becomes_pages_of_pictures_for_a_pacs_without_pdf(press: Press) -> None:
    """The same patient, the same words, each time the same bytes."""
    order = replace(IMPRESSION, text="word " * 4_000)
    part10 = b"".join(press.wrap(order).pieces())
    pages = press.captures(part10)
    shown = [pydicom.dcmread(io.BytesIO(b"".join(page.pieces()))) for page in pages]

    assert len(shown) > 2 and [page.InstanceNumber for page in shown] == list(range(1, len(shown) + 1))
    assert [page.sha256 for page in press.captures(part10)] == [page.sha256 for page in pages]
    first = shown[0]
    assert first.SOPClassUID == instance.SECONDARY_CAPTURE and first.BurnedInAnnotation == "YES"
    assert (str(first.PatientName), first.StudyInstanceUID) == (CONTEXT.patient_name, CONTEXT.study_uid)
    assert 0.002 < sum(octet < 128 for octet in first.PixelData) / len(first.PixelData) < 0.3


def test_a_page_that_cannot_be_drawn_says_so(press: Press) -> None:
    """The forwarder then says to a person that this PACS takes no PDF."""
    data = b"%PDF-1.4 nonsense %%EOF"
    part10 = b"".join(press.wrap(ordered(data, "pdf"), lambda: iter((data,))).pieces())

    with pytest.raises(CannotWrap) as caught:
        press.captures(part10)
    assert caught.value.code == "pdf-unreadable"


def words(text: str, width: float = 1_000.0) -> list[list[tuple[str, str, bool]]]:
    return [[(run.text, run.font, run.rtl) for run in line.runs] for line in lay_out(text, width, 1.0)]


def test_arabic_with_numbers_stands_in_the_order_of_unicode() -> None:
    """ "For 3 days" must not become "3 for days": runs are drawn from left to right."""
    (line,) = words("ألم منذ 3 أيام")

    assert [text for text, _, _ in line] == [" أيام", "3", "ألم منذ "]
    assert [rtl for _, _, rtl in line] == [True, False, True]
    assert lay_out("ألم", 99, 1)[0].rtl and not lay_out("x ألم", 99, 1)[0].rtl


@pytest.mark.parametrize("sign", ["-", "_", "$", "😀", "([{", "🦴"])
def test_a_long_row_of_signs_costs_no_word_beside_it(sign: str) -> None:
    """People draw lines and paste rows of emoji: a page that fails for that would be no page."""
    row = sign * 3_000
    latin = [run for line in lay_out(f"left{row}right", 1_000.0, 1.0) for run in line.runs]
    arabic = [run for line in lay_out(f"ألم{row}ألم", 1_000.0, 1.0) for run in line.runs]
    seen = shown(sign) if sign == "🦴" else sign

    assert "".join(run.text for run in latin) == f"left{seen * 3_000}right"
    assert not any(run.rtl for run in latin)
    assert sign == "🦴" or all(run.rtl for run in arabic)  # its name is Latin


def test_an_impression_of_nothing_but_emoji_has_its_page(press: Press) -> None:
    """As long as an impression may be."""
    order = Order("impression", "impression", CONTEXT, uid_of("i"), text="😀" * 20_000, author="Dr. A")

    assert press.wrap(order).size > 10_000


def test_what_no_font_shows_is_written_by_its_name() -> None:
    """Nothing that a clinician wrote is left out silently."""
    text = "".join(part for part, _, _ in words("🦴 \x07 \ue0ff ok")[0])

    assert text == "[BONE] [U+0007] [U+E0FF] ok" or text.startswith("[BONE] [U+0007]")


def test_every_character_is_drawn_or_named() -> None:
    """Over the whole of Unicode, and no line is too wide."""
    sample = [
        chr(code)
        for code in range(0x21, 0x30000, 41)
        if unicodedata.category(chr(code)) not in ("Cs", "Cf", "Zs", "Zl", "Zp", "Cc")
    ]
    lines = lay_out("\n".join(sample), 60.0, 1.0)
    drawn_text = "".join(run.text for line in lines for run in line.runs)
    lost = [
        one
        for one in map("".join, (unicodedata.normalize("NFC", one) for one in sample))
        if one not in drawn_text
        and shown(one[0])[1:-1] not in drawn_text
        and not 0xFE00 <= ord(one[0]) < 0xFE10
    ]

    assert lost == []
    assert max(sum(width_of(run) for run in line.runs) for line in lines) <= 60.0


LANGUAGES = (
    *("العربية", "עברית", "हिन्दी", "বাংলা", "தமிழ்", "中文测试", "日本語", "한국어", "አማርኛ"),
    *("ภาษาไทย", "ខ្មែរ", "မြန်မာ", "ქართული", "Tiếng Việt", "ትግርኛ", "اردو", "ગુજરાતી", "සිංහල", "ລາວ"),
)


@pytest.mark.parametrize("script", LANGUAGES)
def test_common_scripts_have_a_font(script: str) -> None:
    """These are the languages of the clinics."""
    assert "[" not in "".join(text for text, _, _ in words(script)[0])
