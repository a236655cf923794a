"""Whether a file that a PACS gave back is the same as the one that was sent.

Same means equal bytes, or equal data set and pixels: without the preamble and group 0002, and apart from
attributes that the destination is recorded to coerce. Called by `node.deliver.verify`
for the few instances whose bytes differ; both files are in memory then.
"""

import hashlib
import struct
import zlib
from io import BytesIO
from typing import Any

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from node.deliver.part10 import HEAD_BYTES, file_meta

_IMPLICIT_LITTLE = "1.2.840.10008.1.2"
_EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
_PIXEL_DATA = 0x7FE00010
# What identifies the patient and the image, by tag: compared at the level "metadata".
_TELLING = {
    "00080016": "SOPClassUID",
    "00080018": "SOPInstanceUID",
    "00080060": "Modality",
    "00100020": "PatientID",
    "00100030": "PatientBirthDate",
    "0020000D": "StudyInstanceUID",
    "0020000E": "SeriesInstanceUID",
    "00280008": "NumberOfFrames",
    "00280010": "Rows",
    "00280011": "Columns",
}

# What pydicom raises over damaged files; the texts quote values, so none is passed on.
UNREADABLE = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, OSError),
    *(RuntimeError, TypeError, ValueError, struct.error, zlib.error, InvalidDicomError),
)


class Digest:
    """Takes the two digests of a Part 10 file as it streams by.

    Attributes:
        size: how many bytes have come.
    """

    def __init__(self, *, content: bool) -> None:
        self._whole = hashlib.sha256()
        self._content = hashlib.sha256() if content else None
        self._head = bytearray()
        self._syntax: str | None = None
        self._in_content = False
        self.size = 0

    def update(self, piece: bytes) -> None:
        """Take the next bytes."""
        self._whole.update(piece)
        self.size += len(piece)
        if self._content is None:
            return
        if self._in_content:
            self._content.update(piece)
            return
        self._head += piece
        if len(self._head) >= HEAD_BYTES:
            self._begin_content()

    def _begin_content(self) -> None:
        assert self._content is not None
        meta = file_meta(bytes(self._head))
        if meta is not None:
            self._syntax = meta.syntax
            self._content.update(memoryview(self._head)[meta.data_set_at :])
        self._in_content = True
        self._head.clear()

    def whole(self) -> bytes:
        """Return the SHA-256 of all bytes."""
        return self._whole.digest()

    def content(self) -> tuple[str, bytes] | None:
        """Return the transfer syntax and the SHA-256 of what follows group 0002; None without group 0002."""
        if self._content is None:
            return None
        if not self._in_content:
            self._begin_content()
        return None if self._syntax is None else (self._syntax, self._content.digest())


def same_data_set(ours: bytes, theirs: bytes, coerced: frozenset[int] = frozenset()) -> bool:
    """Say whether two Part 10 files hold the same data set and pixels.

    Pixels are the same if they are coded the same; a compression that was changed cannot be checked without
    decoding, and counts as different. So does what cannot be parsed.

    Args:
        coerced: tags that this destination is recorded to change.
    """
    try:
        mine, other = _parsed(ours), _parsed(theirs)
        syntaxes = {_syntax(mine), _syntax(other)}
        if len(syntaxes) > 1 and not syntaxes <= {_IMPLICIT_LITTLE, _EXPLICIT_LITTLE}:
            return False
        return _same(mine, other, coerced)
    except UNREADABLE:
        return False


def same_metadata(ours: bytes, theirs: Any) -> bool | None:
    """Compare what identifies patient and image with a WADO-RS metadata object (PS3.18 Annex F).

    Args:
        ours: the Part 10 file, or its beginning up to the pixels.

    Returns:
        False if an attribute differs, None if one is missing there or ours cannot be read, else True.
    """
    try:
        mine = pydicom.dcmread(
            BytesIO(ours), stop_before_pixels=True, specific_tags=list(_TELLING.values()), force=True
        )
        missing = False
        for tag, keyword in _TELLING.items():
            value = mine.get(keyword)
            expected = "" if value is None else str(value).strip()
            shown = _json_text(theirs.get(tag))
            if expected and not shown:
                missing = True
            elif expected != shown:
                return False
    except UNREADABLE:
        return None
    return None if missing else True


def _json_text(element: Any) -> str:
    values = element.get("Value") if isinstance(element, dict) else None
    value = values[0] if isinstance(values, list) and values else None
    return "" if value is None else str(value).strip()


def _parsed(part10: bytes) -> Dataset:
    return pydicom.dcmread(BytesIO(part10), force=True)


def _syntax(data_set: Any) -> str:
    return str(data_set.file_meta.get("TransferSyntaxUID", ""))


def _same(ours: Dataset, theirs: Dataset, coerced: frozenset[int]) -> bool:
    tags = _compared(ours, coerced)
    return tags == _compared(theirs, coerced) and all(_same_element(ours, theirs, t, coerced) for t in tags)


def _compared(data_set: Dataset, coerced: frozenset[int]) -> set[int]:
    """Return the tags that count: not group lengths (gggg,0000), nor trailing padding (FFFC,FFFC)."""
    tags = {int(tag) for tag in data_set.keys()}  # noqa: SIM118  (a Dataset iterates over elements)
    return {t for t in tags if t & 0xFFFF and t != 0xFFFCFFFC and t >> 16 != 0x0002} - coerced


def _same_element(ours: Dataset, theirs: Dataset, tag: int, coerced: frozenset[int]) -> bool:
    mine, other = ours.get_item(tag), theirs.get_item(tag)
    if isinstance(mine, RawDataElement) and isinstance(other, RawDataElement):
        # Equal as written, apart from padding to even length: the ordinary case, without decoding.
        if _same_bytes(bytes(mine.value or b""), bytes(other.value or b"")):
            return True
        if tag == _PIXEL_DATA:
            return False
    a, b = ours[tag], theirs[tag]
    if a.VR == "SQ" and b.VR == "SQ":
        return len(a.value) == len(b.value) and all(
            _same(x, y, coerced) for x, y in zip(a.value, b.value, strict=True)
        )
    return bool(a.VR == b.VR and a.value == b.value)


def _same_bytes(a: bytes, b: bytes) -> bool:
    """Compare values as written; one of them may lack the byte that pads it to even length (PS3.5 §6.2)."""
    if a == b:
        return True
    longer, shorter = (a, b) if len(a) > len(b) else (b, a)
    return len(longer) == len(shorter) + 1 and longer[-1:] in b" \0" and longer[:-1] == shorter
