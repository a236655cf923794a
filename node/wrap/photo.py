"""Pictures as DICOM images: VL Photographic (PS3.3 A.32.4) or Secondary Capture (A.8). Runs in the press."""

import hashlib
from collections.abc import Iterator

from pydicom.dataset import Dataset

from node.wrap import instance
from node.wrap.instance import Body, Made, put
from node.wrap.order import Order
from node.wrap.pictures import Picture

# What a Secondary Capture says about where it comes from (PS3.3 C.8.6.1), and its modality.
_CONVERSION = {"photo": ("DI", "XC"), "film": ("DF", "OT"), "scan": ("SD", "DOC"), "screen": ("WSD", "OT")}
# Of these there is but one, and DICOM wants no side told (PS3.3 C.7.3.1.1.1).
_WITHOUT_SIDES = frozenset(
    {
        *("ABDOMEN", "BACK", "BLADDER", "BRAIN", "CHEST", "COCCYX", "COLON", "CSPINE", "ESOPHAGUS", "FACE"),
        *(
            "HEAD",
            "HEART",
            "JAW",
            "LARYNX",
            "LIVER",
            "LSPINE",
            "MAXILLA",
            "MOUTH",
            "NECK",
            "NOSE",
            "PANCREAS",
        ),
        *(
            "PELVIS",
            "PENIS",
            "PROSTATE",
            "RECTUM",
            "SKULL",
            "SPINE",
            "SPLEEN",
            "SSPINE",
            "STERNUM",
            "STOMACH",
        ),
        *("THYROID", "TONGUE", "TRACHEA", "TSPINE", "UTERUS", "VULVA", "WHOLEBODY"),
    }
)


def picture_instance(order: Order, picture: Picture) -> Made:
    """Return a picture as an instance; the coded scan of a baseline JPEG stays as it is."""
    body = _body(picture)
    elements = instance.common(order)
    conversion, modality = _CONVERSION[order.kind]
    photographic = order.kind == "photo" and picture.bits == 8
    put(
        elements,
        Modality=modality,
        PatientOrientation="",
        BurnedInAnnotation="YES",  # nobody has looked: it may show a name
        ImageType=["ORIGINAL" if picture.kept else "DERIVED", "PRIMARY" if photographic else "SECONDARY"],
    )
    day, time = picture.taken[:8], picture.taken[8:]
    if not day:
        day, time = order.context.study_date, order.context.study_time
    put(elements, **({"ContentDate": day} if day else {}), **({"ContentTime": time} if time else {}))
    if order.body_part:
        put(elements, BodyPartExamined=order.body_part)
    if order.body_part not in _WITHOUT_SIDES:
        put(elements, Laterality="")  # nobody said which
    if photographic:
        put(elements, AcquisitionContextSequence=[])
    else:
        put(elements, ConversionType=conversion)
    _describe_pixels(elements, picture, body)
    _describe_loss(elements, picture, body)
    sop_class = instance.VL_PHOTO if photographic else instance.SECONDARY_CAPTURE
    return instance.assemble(sop_class, elements, body)


def _body(picture: Picture) -> Body:
    if picture.kept and picture.jpeg is not None:
        return instance.coded(picture.jpeg.clean)
    digest, size = hashlib.sha256(), 0
    for strip in picture.strips():
        digest.update(strip)
        size += len(strip)

    def pieces() -> Iterator[bytes]:
        yield from picture.strips()

    return instance.native(size, digest.digest(), pieces, bits=picture.bits)


def _describe_pixels(elements: Dataset, picture: Picture, body: Body) -> None:
    colours = "RGB"
    if body.syntax == instance.JPEG_BASELINE and picture.jpeg is not None:
        colours = picture.jpeg.photometric
    if picture.grey:
        colours = "MONOCHROME2"
    put(
        elements,
        SamplesPerPixel=1 if picture.grey else 3,
        PhotometricInterpretation=colours,
        Rows=picture.height,
        Columns=picture.width,
        BitsAllocated=picture.bits,
        BitsStored=picture.bits,
        HighBit=picture.bits - 1,
        PixelRepresentation=0,
    )
    if not picture.grey:
        put(elements, PlanarConfiguration=0)
        if picture.icc:
            put(elements, ICCProfile=picture.icc + b"\0" * (len(picture.icc) % 2))


def _describe_loss(elements: Dataset, picture: Picture, body: Body) -> None:
    """Say what was lost: a JPEG stays a lossy picture, however it is coded now (PS3.3 C.7.6.1.1.5)."""
    told = []
    if picture.jpeg is not None:
        whole = picture.width * picture.height * (1 if picture.grey else 3)
        ratio = whole / max(1, len(picture.jpeg.clean))
        put(
            elements,
            LossyImageCompression="01",
            LossyImageCompressionRatio=f"{ratio:.2f}",
            LossyImageCompressionMethod="ISO_10918_1",
        )
        if body.syntax != instance.JPEG_BASELINE:
            told.append("Decoded from JPEG, turned upright, not compressed again.")
    else:
        put(elements, LossyImageCompression="00")
    if picture.reduced:
        told.append("16 bits a sample were reduced to 8.")
    if told:
        put(elements, DerivationDescription=" ".join(told))
