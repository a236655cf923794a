"""Detection: what a file is, by its first octets and never by its name."""

import struct
from enum import StrEnum

HEAD_BYTES = 144
"""So many octets are enough to tell what can be sent; a few kB more name what is left out."""

_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x00\x00PK\x03\x04")
_PLAUSIBLE_LENGTH = 1 << 12
_LONG = (b"OB", b"UN", b"UT", b"SQ")


class Content(StrEnum):
    """What the first octets of a file say."""

    PART10 = "part10"  # PS3.10 §7.1: preamble, then "DICM"
    BARE = "bare"  # the file meta information without its preamble
    HEADLESS = "headless"  # a data set without file meta information, little endian
    HEADLESS_BIG = "headless-big"  # the same, big endian
    ZIP = "zip"
    JPEG = "jpeg"
    PNG = "png"
    PDF = "pdf"
    PROGRAM = "program"
    AUTORUN = "autorun"
    THUMBNAIL = "thumbnail"
    SYSTEM_FILE = "system-file"
    OTHER_PICTURE = "other-picture"
    OTHER_DOCUMENT = "other-document"
    OTHER_ARCHIVE = "other-archive"
    OTHER = "other"


DICOM = frozenset({Content.PART10, Content.BARE, Content.HEADLESS, Content.HEADLESS_BIG})
DOCUMENTS = frozenset({Content.JPEG, Content.PNG, Content.PDF})

_BEGINNINGS: tuple[tuple[bytes, Content], ...] = (
    (b"\xff\xd8\xff", Content.JPEG),
    (b"\x89PNG\r\n\x1a\n", Content.PNG),
    (b"MZ", Content.PROGRAM),
    (b"\x7fELF", Content.PROGRAM),
    (b"\xca\xfe\xba\xbe", Content.PROGRAM),  # Java classes, and programs for several processors
    (b"\xfe\xed\xfa", Content.PROGRAM),
    (b"\xcf\xfa\xed\xfe", Content.PROGRAM),
    (b"\xce\xfa\xed\xfe", Content.PROGRAM),
    (b"#!", Content.PROGRAM),
    (b"\0\0\0\1Bud1", Content.SYSTEM_FILE),  # .DS_Store
    (b"\x00\x05\x16\x07", Content.SYSTEM_FILE),  # AppleDouble
    (b"L\0\0\0\1\x14\2\0", Content.SYSTEM_FILE),  # a Windows shortcut
    (b"GIF8", Content.OTHER_PICTURE),
    (b"BM", Content.OTHER_PICTURE),
    (b"II*\0", Content.OTHER_PICTURE),
    (b"MM\0*", Content.OTHER_PICTURE),
    (b"\0\0\0\x0cjP  ", Content.OTHER_PICTURE),  # JPEG 2000
    (b"\0\0\1\0", Content.THUMBNAIL),  # an icon of Windows
    (b"\x1aE\xdf\xa3", Content.OTHER_PICTURE),  # Matroska video
    (b"{\\rtf", Content.OTHER_DOCUMENT),
    (b"Rar!", Content.OTHER_ARCHIVE),
    (b"7z\xbc\xaf\x27\x1c", Content.OTHER_ARCHIVE),
    (b"\x1f\x8b", Content.OTHER_ARCHIVE),
    (b"BZh", Content.OTHER_ARCHIVE),
    (b"\xfd7zXZ", Content.OTHER_ARCHIVE),
)
_COMPOUND = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # Thumbs.db, and documents of older Office programs
_THUMBS = "Catalog".encode("utf-16-le")
_DISC_IMAGE_AT, _TAR_AT = 32_769, 257


def content_of(head: bytes) -> Content:
    """Say what a file is that begins with `head`: its first 144 octets or more, or all of them.

    DICOM comes first: its preamble may hold anything, the beginning of another format included.
    """
    if head[128:132] == b"DICM":
        return Content.PART10
    if head.startswith(_ZIP):
        return Content.ZIP
    if _begins_with_group(head, 0x0002, "<", explicit_only=True):
        return Content.BARE
    if _begins_with_group(head, 0x0008, "<", explicit_only=False):
        return Content.HEADLESS
    if _begins_with_group(head, 0x0008, ">", explicit_only=True):
        return Content.HEADLESS_BIG
    for beginning, content in _BEGINNINGS:
        if head.startswith(beginning):
            return content
    return _by_more(head)


def _by_more(head: bytes) -> Content:
    """Tell what a few first octets do not."""
    if head[:1024].lstrip(b"\xef\xbb\xbf \t\r\n\0").startswith(b"%PDF-"):
        return Content.PDF
    if head[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(b"[autorun"):
        return Content.AUTORUN
    if head.startswith(_COMPOUND):
        return Content.THUMBNAIL if _THUMBS in head[:8192] else Content.OTHER_DOCUMENT
    if head[4:8] == b"ftyp" or (head[:4] == b"RIFF" and head[8:12] in (b"WEBP", b"AVI ")):
        return Content.OTHER_PICTURE  # HEIC, AVIF, MP4 and their like
    if head[_DISC_IMAGE_AT : _DISC_IMAGE_AT + 5] == b"CD001" or head[_TAR_AT : _TAR_AT + 5] == b"ustar":
        return Content.OTHER_ARCHIVE
    return Content.OTHER


def _begins_with_group(head: bytes, group: int, order: str, *, explicit_only: bool) -> bool:
    """Say whether `head` begins with two plausible elements of a data set."""
    at = 0
    for _ in range(2):
        if len(head) < at + 8:
            return False
        found, element, vr, short = struct.unpack_from(order + "HH2sH", head, at)
        if found != group or element > 0x0300:
            return False
        if vr.isalpha() and vr.isupper():
            long = vr in _LONG
            if long and len(head) < at + 12:
                return False
            length = struct.unpack_from(order + "I", head, at + 8)[0] if long else short
            at += (12 if long else 8) + length
        elif explicit_only:
            return False
        else:
            length = struct.unpack_from(order + "I", head, at + 4)[0]
            at += 8 + length
        if length > _PLAUSIBLE_LENGTH:
            return False
        if at + 8 > len(head):
            return True
    return True
