"""A PDF instance as pictures of its pages (Secondary Capture), for a PACS that takes no PDF.

A pure function of the instance: patient, study and title are those that it has, and each page is drawn as
PDFium draws it. Runs in the press; home of pypdfium2.
"""

import hashlib
from collections.abc import Iterator
from io import BytesIO

import pypdfium2
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from node.wrap import instance
from node.wrap.document import IMPRESSION_TITLE
from node.wrap.instance import Made, put
from node.wrap.order import uid_of
from node.wrap.pictures import BadPicture

PAGE_LIMIT = 100
_DOTS_PER_INCH = 150
_SIDE_LIMIT = 3_000  # pixels, whatever a page says that it measures
_KEPT = (
    *("SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate"),
    *("PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription"),
    *("AccessionNumber", "ReferringPhysicianName", "Manufacturer", "ContentDate", "ContentTime"),
    "AdditionalPatientHistory",
)


def captures(part10: bytes) -> Iterator[Made]:
    """Yield an instance for each page of an Encapsulated PDF instance.

    Raises:
        BadPicture: `pdf-unreadable`, PDFium does not open it, or it is no such instance.
    """
    try:
        source = dcmread(BytesIO(part10))
        data = bytes(source.EncapsulatedDocument)
        pdf = pypdfium2.PdfDocument(data)
        count = len(pdf)
    except (InvalidDicomError, AttributeError, TypeError, ValueError, pypdfium2.PdfiumError):
        raise BadPicture("pdf-unreadable") from None
    if not 0 < count <= PAGE_LIMIT:
        raise BadPicture("pdf-unreadable")
    grey = source.DocumentTitle == IMPRESSION_TITLE
    for number in range(count):
        try:
            yield _page(source, pdf[number], number + 1, grey=grey)
        except pypdfium2.PdfiumError:
            raise BadPicture("pdf-unreadable") from None


def _page(source: Dataset, page: pypdfium2.PdfPage, number: int, *, grey: bool) -> Made:
    longest = max(page.get_size()) or 1.0
    scale = min(_DOTS_PER_INCH / 72, _SIDE_LIMIT / longest)
    drawn = page.render(scale=scale, grayscale=grey, rev_byteorder=True).to_pil()
    image = drawn.convert("L" if grey else "RGB")
    pixels = image.tobytes()
    body = instance.native(len(pixels), hashlib.sha256(pixels).digest(), lambda: iter((pixels,)))
    elements = Dataset({source[word].tag: source[word] for word in _KEPT if word in source})
    title = str(source.DocumentTitle)
    put(
        elements,
        SeriesInstanceUID=uid_of("captures", source.SOPInstanceUID),
        SeriesNumber=str(int(source.SeriesNumber) + 10),
        SeriesDescription=f"{title[:48]} (pages)",
        InstanceNumber=str(number),
        Modality="DOC",
        ConversionType="WSD",
        PatientOrientation="",
        Laterality="",
        BurnedInAnnotation="YES",
        ImageType=["DERIVED", "SECONDARY"],
        DerivationDescription="A page of a PDF, drawn as a picture.",
        SamplesPerPixel=1 if grey else 3,
        PhotometricInterpretation="MONOCHROME2" if grey else "RGB",
        Rows=image.height,
        Columns=image.width,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelRepresentation=0,
        LossyImageCompression="00",
    )
    if not grey:
        put(elements, PlanarConfiguration=0)
    return instance.assemble(instance.SECONDARY_CAPTURE, elements, body)
