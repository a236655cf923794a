"""Just enough of PS3.10 to compare two files without parsing them: where the data set begins, and its coding.

Called by `node.deliver.verify` for every instance read back. Everything behind group 0002 counts as content;
the preamble and group 0002 are rewritten by some archives.
"""

import struct
from dataclasses import dataclass

_PREAMBLE = 128
# Value representations with a length of four bytes (PS3.5 §7.1.2).
_LONG_FORM = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
HEAD_BYTES = 65_536  # group 0002 ends within; measured ones have 150 to 600 bytes


@dataclass(frozen=True, slots=True)
class FileMeta:
    """Transfer Syntax UID (0002,0010) and the offset of the data set."""

    syntax: str
    data_set_at: int


def file_meta(head: bytes) -> FileMeta | None:
    """Read group 0002 (PS3.10 §7.1, Explicit VR Little Endian) from the first bytes of a file.

    Returns:
        None if they are not the beginning of a Part 10 file, or group 0002 does not end within them.
    """
    if head[_PREAMBLE : _PREAMBLE + 4] != b"DICM":
        return None
    at, syntax = _PREAMBLE + 4, ""
    while at + 8 <= len(head):
        group, element = struct.unpack_from("<HH", head, at)
        if group != 0x0002:
            return FileMeta(syntax, at)
        if head[at + 4 : at + 6] in _LONG_FORM:
            if at + 12 > len(head):
                return None
            (length,) = struct.unpack_from("<I", head, at + 8)
            value_at = at + 12
        else:
            (length,) = struct.unpack_from("<H", head, at + 6)
            value_at = at + 8
        at = value_at + length
        if element == 0x0010:
            syntax = head[value_at:at].rstrip(b"\0 ").decode("ascii", "replace")
    return None
