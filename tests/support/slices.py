"""DICOM files for tests: pydicom's own, and made ones of any size."""

import hashlib
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"


def pydicom_file(name: str) -> bytes:
    """Return one of the files that come with pydicom."""
    path = get_testdata_file(name, download=False)
    assert path is not None, name
    return Path(str(path)).read_bytes()


def made_slice(
    study: int, number: int, *, octets: int = 2048, series: int = 1, name: str = "Doe^Made"
) -> bytes:
    """Return a CT slice as Part 10 bytes; the same arguments give the same bytes."""
    side = max(2, int((octets // 2) ** 0.5))
    data_set = Dataset()
    data_set.SpecificCharacterSet = "ISO_IR 192"
    data_set.SOPClassUID = CT_IMAGE
    data_set.SOPInstanceUID = f"2.25.{study}.{series}.{number}"
    data_set.Modality = "CT"
    data_set.PatientName = name
    data_set.PatientID = f"P{study}"
    data_set.StudyInstanceUID = f"2.25.{study}"
    data_set.SeriesInstanceUID = f"2.25.{study}.{series}"
    data_set.InstanceNumber = number
    data_set.SamplesPerPixel = 1
    data_set.PhotometricInterpretation = "MONOCHROME2"
    data_set.Rows = data_set.Columns = side
    data_set.BitsAllocated = data_set.BitsStored = 16
    data_set.HighBit = 15
    data_set.PixelRepresentation = 0
    seed = hashlib.sha256(f"{study}.{series}.{number}".encode()).digest()
    data_set.PixelData = (seed * (side * side * 2 // 32 + 1))[: side * side * 2]
    return written(data_set)


def written(data_set: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """Return a data set as Part 10 bytes."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = data_set.SOPClassUID
    meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    data_set.file_meta = meta
    file = BytesIO()
    pydicom.dcmwrite(file, data_set, enforce_file_format=True)
    return file.getvalue()
