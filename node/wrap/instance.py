"""One DICOM instance around content of any size: its elements in front of the content and after it.

Runs in the press's process. The SOP Instance UID stands for all the rest: it is made of the other elements
and of the content, so two instances with one UID have the same bytes.
"""

import hashlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from pydicom import config
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.tag import Tag

from node.wrap.order import SERIES, Order, uid_of

EXPLICIT = "1.2.840.10008.1.2.1"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
VL_PHOTO = "1.2.840.10008.5.1.4.1.1.77.1.4"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"

_PIXELS, _DOCUMENT = 0x7FE00010, 0x00420011
_IMPLEMENTATION = "2.25.2876111296117392022439180827121289"
_ITEM, _END = struct.pack("<HHI", 0xFFFE, 0xE000, 0), struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
_FRAGMENT_LIMIT = 0xFFFFFFFE

Content = Callable[[], Iterator[bytes]]
"""Gives the octets of a content from the beginning, anew at each call."""


@dataclass(frozen=True, slots=True)
class Made:
    """A Part 10 file: its names, its size, and its octets."""

    uid: str = field(repr=False)
    sop_class: str
    syntax: str
    size: int
    pieces: Content = field(repr=False)

    def whole(self) -> bytes:
        """Return all octets."""
        return b"".join(self.pieces())


@dataclass(frozen=True, slots=True)
class Body:
    """The content of an instance: pixels as they are, one coded frame, or a document.

    `size` and `digest` (SHA-256) are of what `pieces` gives.
    """

    tag: int
    vr: bytes
    syntax: str
    size: int
    digest: bytes = field(repr=False)
    pieces: Content = field(repr=False)

    def head(self) -> bytes:
        """Return what stands before the octets (PS3.5 §7.1.2, §A.4)."""
        group, element = self.tag >> 16, self.tag & 0xFFFF
        if self.syntax == JPEG_BASELINE:
            item = struct.pack("<HHI", 0xFFFE, 0xE000, self.size + self.size % 2)
            return struct.pack("<HH2sHI", group, element, b"OB", 0, 0xFFFFFFFF) + _ITEM + item
        return struct.pack("<HH2sHI", group, element, self.vr, 0, self.size + self.size % 2)

    def tail(self) -> bytes:
        """Return what stands after the octets."""
        return b"\0" * (self.size % 2) + (_END if self.syntax == JPEG_BASELINE else b"")


def native(size: int, digest: bytes, pieces: Content, *, bits: int = 8) -> Body:
    """Return pixels that are not compressed."""
    return Body(_PIXELS, b"OW" if bits > 8 else b"OB", EXPLICIT, size, digest, pieces)


def coded(frame: bytes) -> Body:
    """Return one frame of JPEG Baseline."""
    digest = hashlib.sha256(frame).digest()
    return Body(_PIXELS, b"OB", JPEG_BASELINE, len(frame), digest, lambda: iter((frame,)))


def document(size: int, digest: bytes, pieces: Content) -> Body:
    """Return a document."""
    return Body(_DOCUMENT, b"OB", EXPLICIT, size, digest, pieces)


def assemble(sop_class: str, elements: Dataset, body: Body) -> Made:
    """Return the instance of some elements around a content.

    Args:
        sop_class: its SOP Class UID.
        elements: all but the SOP class and instance, and the content.
        body: the content.

    Raises:
        ValueError: the content is larger than an element can be.
    """
    if body.size > _FRAGMENT_LIMIT:
        raise ValueError("larger than an element can be")
    put(elements, SOPClassUID=sop_class)
    front = Dataset({element.tag: element for element in elements if element.tag < body.tag})
    after = _encoded(Dataset({element.tag: element for element in elements if element.tag > body.tag}))
    uid = uid_of("instance", body.syntax, _encoded(front).hex(), after.hex(), body.digest.hex())
    put(front, SOPInstanceUID=uid)
    head = _file_head(sop_class, uid, body.syntax) + _encoded(front) + body.head()
    tail = body.tail() + after

    def pieces() -> Iterator[bytes]:
        yield head
        yield from body.pieces()
        if tail:
            yield tail

    return Made(uid, sop_class, body.syntax, len(head) + body.size + len(tail), pieces)


def common(order: Order) -> Dataset:
    """Return what every instance of a study says: patient, study, series, and who made it."""
    study = order.context
    number, description = SERIES[order.kind]
    return put(
        Dataset(),
        SpecificCharacterSet="ISO_IR 192",
        PatientName=study.patient_name,
        PatientID=study.patient_id,
        PatientBirthDate=study.birth_date,
        PatientSex=study.sex,
        StudyInstanceUID=study.study_uid,
        StudyDate=study.study_date,
        StudyTime=study.study_time,
        StudyID=study.study_id,
        AccessionNumber=study.accession,
        ReferringPhysicianName=study.referring,
        SeriesInstanceUID=order.series_uid,
        SeriesNumber=str(number),
        SeriesDescription=description,
        InstanceNumber=str(order.number),
        Manufacturer="ClinicMesh",
        **({"StudyDescription": study.description} if study.description else {}),
        **({"IssuerOfPatientID": study.issuer} if study.issuer else {}),
    )


def put(elements: Dataset, **values: Any) -> Dataset:
    """Set elements by their keywords. What a modality wrote is repeated as it is, valid or not."""
    for keyword, value in values.items():
        tag = Tag(keyword)
        vr = dictionary_VR(tag)
        elements[tag] = DataElement(tag, vr, value, validation_mode=config.IGNORE)
    return elements


def _encoded(elements: Dataset) -> bytes:
    sink = DicomBytesIO()
    sink.is_little_endian, sink.is_implicit_VR = True, False
    write_dataset(sink, elements, parent_encoding="utf8")
    return bytes(sink.getvalue())


def _file_head(sop_class: str, uid: str, syntax: str) -> bytes:
    meta = put(
        FileMetaDataset(),
        FileMetaInformationVersion=b"\0\1",
        MediaStorageSOPClassUID=sop_class,
        MediaStorageSOPInstanceUID=uid,
        TransferSyntaxUID=syntax,
        ImplementationClassUID=_IMPLEMENTATION,
        ImplementationVersionName="CLINICMESH",
    )
    sink = DicomBytesIO()
    write_file_meta_info(sink, cast("FileMetaDataset", meta))
    return bytes(128) + b"DICM" + sink.getvalue()
