"""What a destination forces: other bytes than the original ones, made the same way every time.

Some archives take explicit value representations only (Azure). The data set stays what it is; its coding
changes. Made from the original bytes alone and compared with them before it is sent, so that two forwarders
send the same bytes, and a changed instance can be proven like any other. Called by `node.jobs.forward`.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO

import pydicom
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.deliver.compare import UNREADABLE, same_data_set
from node.deliver.destination import Outgoing

EXPLICIT_VR = "explicit-vr"
_LARGEST = 256 * 1024 * 1024  # it is held in memory twice
# What archives answer to a coding that they do not take: C122, and Azure's and others' less telling ones.
_MAY_MEAN_CODING = frozenset(
    {"C122", "0110", "0122", "0124", "A900", "C000", "C499", "no-reason", "http-400", "http-409", "http-415"}
)


def way_out(one: Outgoing, code: str) -> str:
    """Return which change might make a destination take an instance that it refused; "" for none."""
    implicit = one.syntax == ImplicitVRLittleEndian and one.size <= _LARGEST
    return EXPLICIT_VR if implicit and code in _MAY_MEAN_CODING else ""


def changed(one: Outgoing, how: str) -> Outgoing | None:
    """Return an instance as a destination forces it; None if that cannot be done without loss."""
    if how != EXPLICIT_VR or one.syntax != ImplicitVRLittleEndian or one.size > _LARGEST:
        return None
    original = b"".join(one.open())
    made = explicit_vr(original)
    if made is None or not same_data_set(original, made):
        return None

    def opened() -> Iterator[bytes]:
        again = explicit_vr(b"".join(one.open()))
        assert again is not None
        yield again

    return replace(
        one,
        syntax=str(ExplicitVRLittleEndian),
        size=len(made),
        sha256=hashlib.sha256(made).digest(),
        open=opened,
    )


def explicit_vr(part10: bytes) -> bytes | None:
    """Return a Part 10 file of implicit value representation as an explicit one; None if unreadable."""
    try:
        data_set = pydicom.dcmread(BytesIO(part10))
        data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made = BytesIO()
        pydicom.dcmwrite(
            made,
            data_set,
            implicit_vr=False,
            little_endian=True,
            enforce_file_format=False,
        )
        return made.getvalue()
    except UNREADABLE:
        return None
