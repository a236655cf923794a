"""Detection: what a file is, by its first octets and never by its name."""

import struct
from enum import StrEnum

HEAD_BYTES = 144
"""So many octets are enough to tell."""

_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x00\x00PK\x03\x04")
_PLAUSIBLE_LENGTH = 1 << 12


class Content(StrEnum):
    """What the first octets of a file say."""

    PART10 = "part10"  # PS3.10 §7.1: preamble, then "DICM"
    BARE = "bare"  # the file meta information without its preamble
    HEADLESS = "headless"  # a data set without file meta information
    ZIP = "zip"
    OTHER = "other"


def content_of(head: bytes) -> Content:
    """Say what a file is that begins with `head`, its first 144 octets or all of them.

    DICOM comes first: its preamble may hold anything, the beginning of another format included.
    """
    if head[128:132] == b"DICM":
        return Content.PART10
    if head.startswith(_ZIP):
        return Content.ZIP
    if _begins_with_group(head, 0x0002, explicit_only=True):
        return Content.BARE
    if _begins_with_group(head, 0x0008, explicit_only=False):
        return Content.HEADLESS
    return Content.OTHER


def _begins_with_group(head: bytes, group: int, *, explicit_only: bool) -> bool:
    """Say whether `head` begins with two plausible elements of a little-endian data set."""
    at = 0
    for _ in range(2):
        if len(head) < at + 8:
            return False
        found, element, vr, short = struct.unpack_from("<HH2sH", head, at)
        if found != group or element > 0x0300:
            return False
        if vr.isalpha() and vr.isupper():
            length = struct.unpack_from("<I", head, at + 8)[0] if vr in (b"OB", b"UN") else short
            at += (12 if vr in (b"OB", b"UN") else 8) + length
        elif explicit_only:
            return False
        else:
            length = struct.unpack_from("<I", head, at + 4)[0]
            at += 8 + length
        if length > _PLAUSIBLE_LENGTH:
            return False
        if at + 8 > len(head):
            return True
    return True
