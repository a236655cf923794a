"""Character sets: which one the texts of a file are really in, when what it declares is plainly wrong.

Runs in the worker process (`node.intake.worker`). The file stays as it is; this is for what people are shown,
and for the objects that are made to go with it. Devices write `ISO IR 192` for `ISO_IR 192`, UTF-8 or GB18030
without saying so, or UTF-8 in files that claim Latin-1; each rule here needs all texts of a file to agree.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

UTF8, GB18030, LATIN1 = "utf-8", "gb18030", "latin-1"

_NAMES = {
    "UTF8": "ISO_IR 192",
    "UNICODE": "ISO_IR 192",
    "192": "ISO_IR 192",
    "LATIN1": "ISO_IR 100",
    "ISO88591": "ISO_IR 100",
    "100": "ISO_IR 100",
    "GB18030": "GB18030",
    "GBK": "GBK",
    "GB2312": "GB18030",
}
_SINGLE = {
    "ISO_IR 6": "",
    "ISO_IR 100": LATIN1,
    "ISO_IR 101": "iso8859_2",
    "ISO_IR 109": "iso8859_3",
    "ISO_IR 110": "iso8859_4",
    "ISO_IR 126": "iso8859_7",
    "ISO_IR 127": "iso8859_6",
    "ISO_IR 138": "iso8859_8",
    "ISO_IR 144": "iso8859_5",
    "ISO_IR 148": "iso8859_9",
    "ISO_IR 166": "iso8859_11",
    "ISO_IR 203": "iso8859_15",
    "ISO_IR 13": "shift_jis",
}
_KNOWN = {**_SINGLE, "ISO_IR 192": UTF8, "GB18030": GB18030, "GBK": GB18030, "": ""}
_COMMON_HANZI = range(0xB0, 0xD8)  # first octets of GB 2312's level 1: the 3,755 usual ones
_ENOUGH = 0.8


def corrected(declared: Sequence[str], texts: Sequence[bytes]) -> str | None:
    """Return the Python codec that the texts are really in; None if what is declared can stand.

    Args:
        declared: the values of Specific Character Set (0008,0005).
        texts: the encoded values of a file that people are shown.
    """
    data = b"\n".join(texts)
    if data.isascii():
        return None  # escape sequences are ASCII, too: ISO 2022 is as declared
    names = [normal(name) for name in declared] or [""]
    if len(names) > 1 or names[0].startswith("ISO 2022"):
        return None
    declared_codec = _KNOWN.get(names[0])
    if names[0] == "ISO_IR 13":
        return None  # half-width katakana look like anything
    codec = _codec_of(data, declared_codec)
    return None if codec == declared_codec and list(declared) == names else codec


def normal(name: str) -> str:
    """Return a defined term as the standard spells it (PS3.3 C.12.1.1.2), if a slip can be seen through."""
    bare = re.sub(r"[^A-Z0-9]", "", name.upper())
    if bare in _NAMES:
        return _NAMES[bare]
    if found := re.fullmatch(r"ISO2022(?:IR)?(\d+)", bare):
        return f"ISO 2022 IR {found[1]}"
    if found := re.fullmatch(r"(?:ISO)?IR(\d+)", bare):
        return f"ISO_IR {found[1]}"
    return name.strip()


def _codec_of(data: bytes, declared: str | None) -> str:
    if _is_utf8(data, surely=declared == GB18030):
        return UTF8
    if declared and declared != UTF8:
        return declared
    return GB18030 if _is_chinese(data) else LATIN1


def _is_utf8(data: bytes, *, surely: bool) -> bool:
    """Say whether all that is not ASCII is UTF-8; `surely`: a letter of two octets may be a hanzi as well."""
    try:
        text = data.decode(UTF8)
    except UnicodeDecodeError:
        return False
    return not surely or sum(ord(char) >= 0x800 for char in text) >= 2


def _is_chinese(data: bytes) -> bool:
    """Say whether the octets above ASCII come in pairs that are mostly usual hanzi of GB 2312.

    Korean that nobody declared looks the same, and cannot be told from it.
    """
    runs = re.findall(rb"[\x80-\xff]+", data)
    if any(len(run) % 2 for run in runs):
        return False
    pairs = [(first, second) for run in runs for first, second in list(pairwise(run))[::2]]
    usual = sum(first in _COMMON_HANZI and second >= 0xA1 for first, second in pairs)
    return bool(usual >= _ENOUGH * len(pairs))
