"""Keeping: hand the instances of an examined study on to the vault, straight from the sealed upload."""

from collections.abc import Iterator, Sequence
from functools import partial

from node.errors import UploadDamaged
from node.intake.archive import BadArchive
from node.intake.contents import Contents
from node.intake.dicom import PIECE_BYTES
from node.intake.examination import ExaminedInstance
from node.intake.spool import SpoolReader
from node.store.vault import Incoming


def incoming(file: SpoolReader, instances: Sequence[ExaminedInstance]) -> list[Incoming]:
    """Return instances of an upload as the vault takes them; `file` must stay open until it has.

    While they are read, UploadDamaged is raised if the upload is no longer what was examined.
    """
    contents = Contents(file)
    return [
        Incoming(
            uid=instance.uid,
            sop_class=instance.sop_class,
            syntax=instance.syntax,
            size=instance.size,
            sha256=bytes.fromhex(instance.sha256),
            open=partial(_pieces, contents, instance),
        )
        for instance in instances
    ]


def _pieces(contents: Contents, instance: ExaminedInstance) -> Iterator[bytes]:
    if instance.prefix:
        yield bytes.fromhex(instance.prefix)
    try:
        with contents.open(instance.place, checked=False) as stream:  # the vault checks the SHA-256
            while piece := stream.read(PIECE_BYTES):
                yield piece
    except BadArchive:
        raise UploadDamaged("an upload is no longer the archive that was examined") from None
