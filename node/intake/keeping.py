"""Keeping: hand the instances of an examined study on to the vault, straight from the sealed upload."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import BinaryIO, cast

from node.errors import UploadDamaged
from node.intake.archive import Archive, BadArchive
from node.intake.dicom import PIECE_BYTES
from node.intake.examination import ExaminedInstance
from node.intake.spool import SpoolReader
from node.store.vault import Incoming


def incoming(file: SpoolReader, instances: Sequence[ExaminedInstance]) -> list[Incoming]:
    """Return instances of an upload as the vault takes them; `file` must stay open until it has.

    Raises:
        UploadDamaged: also while they are read; the upload is no longer what was examined.
    """
    archive = None
    if any(instance.member is not None for instance in instances):
        try:
            archive = Archive(file)
        except BadArchive:
            raise UploadDamaged("an upload is no longer the archive that was examined") from None
    return [
        Incoming(
            uid=instance.uid,
            sop_class=instance.sop_class,
            syntax=instance.syntax,
            size=instance.size,
            sha256=bytes.fromhex(instance.sha256),
            open=partial(_whole, file) if archive is None else partial(_member, archive, instance.member),
        )
        for instance in instances
    ]


def _whole(file: SpoolReader) -> Iterator[bytes]:
    file.seek(0)
    yield from _pieces(cast("BinaryIO", file))


def _member(archive: Archive, number: int | None) -> Iterator[bytes]:
    assert number is not None
    try:
        with archive.open(number, checked=False) as stream:  # the vault checks the SHA-256
            yield from _pieces(stream)
    except BadArchive:
        raise UploadDamaged("an upload is no longer the archive that was examined") from None


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    while piece := stream.read(PIECE_BYTES):
        yield piece
