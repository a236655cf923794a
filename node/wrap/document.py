"""Documents as DICOM: Encapsulated PDF (PS3.3 A.45.1). Runs in the press."""

import hashlib

from pydicom.dataset import Dataset

from node.wrap import instance
from node.wrap.instance import Body, Content, Made, put
from node.wrap.order import Order

_HISTORY_LIMIT = 10_240  # characters of a Long Text (LT)
DOCUMENT_TITLE = "Document handed in with the study"
IMPRESSION_TITLE = "Referring clinician's impression"


def pdf_instance(order: Order, pieces: Content) -> Made:
    """Return a PDF as it came, as an instance. `pieces` gives its octets, once."""
    body = instance.document(order.size, bytes.fromhex(order.sha256), pieces)
    elements = _elements(order, body, DOCUMENT_TITLE)
    put(elements, ConceptNameCodeSequence=[])
    return instance.assemble(instance.ENCAPSULATED_PDF, elements, body)


def impression_instance(order: Order, page: bytes) -> Made:
    """Return the impression, laid out as the PDF `page`: a referral note that nobody verified, no report."""
    body = instance.document(len(page), hashlib.sha256(page).digest(), lambda: iter((page,)))
    elements = _elements(order, body, IMPRESSION_TITLE)
    day, time = order.written[:8], order.written[8:12]
    put(elements, ContentDate=day, ContentTime=time and f"{time}00")
    note = put(Dataset(), CodeValue="57133-1", CodingSchemeDesignator="LN", CodeMeaning="Referral note")
    put(
        elements,
        ConceptNameCodeSequence=[note],
        VerificationFlag="UNVERIFIED",
        AdditionalPatientHistory=order.text[:_HISTORY_LIMIT].replace("\r\n", "\n").replace("\n", "\r\n"),
    )
    return instance.assemble(instance.ENCAPSULATED_PDF, elements, body)


def _elements(order: Order, body: Body, title: str) -> Dataset:
    elements = instance.common(order)
    return put(
        elements,
        Modality="DOC",
        ConversionType="WSD",
        ContentDate=order.context.study_date,
        ContentTime="",
        AcquisitionDateTime="",
        BurnedInAnnotation="YES",
        DocumentTitle=title,
        MIMETypeOfEncapsulatedDocument="application/pdf",
        EncapsulatedDocumentLength=body.size,
    )
