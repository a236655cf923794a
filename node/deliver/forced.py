"""What a destination forces: other bytes than the original ones, made the same way every time.

Some archives take explicit value representations only (Azure): the data set stays what it is, its coding
changes, and it is compared with the original before it is sent. Some take no PDF: its pages go as pictures.
Made from the original bytes alone, so that two forwarders send the same bytes, and a changed instance can be
proven like any other. Called by `node.jobs.forcing`.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import BytesIO

import pydicom
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.deliver.compare import UNREADABLE, same_data_set
from node.deliver.destination import Outgoing
from node.errors import WorkerFailed
from node.wrap.press import CannotWrap, Press

EXPLICIT_VR, PAGES = "explicit-vr", "pdf-pages"
_ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
_LARGEST = 256 * 1024 * 1024  # it is held in memory twice
# What archives answer to a coding that they do not take: C122, and Azure's and others' less telling ones.
_MAY_MEAN_CODING = frozenset(
    {"C122", "0110", "0122", "0124", "A900", "C000", "C499", "no-reason", "http-400", "http-409", "http-415"}
)


def way_out(one: Outgoing, code: str) -> str:
    """Return which change might make a destination take an instance that it refused; "" for none."""
    if code not in _MAY_MEAN_CODING or one.size > _LARGEST:
        return ""
    if one.sop_class == _ENCAPSULATED_PDF:
        return PAGES
    return EXPLICIT_VR if one.syntax == ImplicitVRLittleEndian else ""


def changed(one: Outgoing, how: str) -> tuple[Outgoing, ...]:
    """Return what a destination forces an instance to; nothing if that does not concern it, or cannot be."""
    if one.size > _LARGEST:
        return ()
    if how == PAGES and one.sop_class == _ENCAPSULATED_PDF:
        return _pages(one)
    if how == EXPLICIT_VR and one.syntax == ImplicitVRLittleEndian:
        return _explicit(one)
    return ()


def digest_of(parts: Sequence[Outgoing]) -> bytes:
    """Return the digest of what is sent for one instance."""
    if len(parts) == 1:
        return parts[0].sha256
    return hashlib.sha256(b"".join(part.sha256 for part in parts)).digest()


def _explicit(one: Outgoing) -> tuple[Outgoing, ...]:
    original = b"".join(one.open())
    made = explicit_vr(original)
    if made is None or not same_data_set(original, made):
        return ()

    def opened() -> Iterator[bytes]:
        again = explicit_vr(b"".join(one.open()))
        assert again is not None
        yield again

    return (
        replace(
            one,
            syntax=str(ExplicitVRLittleEndian),
            size=len(made),
            sha256=hashlib.sha256(made).digest(),
            open=opened,
        ),
    )


def _pages(one: Outgoing) -> tuple[Outgoing, ...]:
    """Return the pages of a PDF instance as pictures; held in memory, so that no request waits for them."""
    try:
        with Press() as press:
            made = press.captures(b"".join(one.open()))
    except (CannotWrap, WorkerFailed):
        return ()
    if sum(page.size for page in made) > _LARGEST:
        return ()
    return tuple(
        replace(
            one,
            uid=page.uid,
            sop_class=page.sop_class,
            syntax=page.syntax,
            size=page.size,
            sha256=page.sha256,
            open=page.pieces,
        )
        for page in made
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
