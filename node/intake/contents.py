"""Contents: open a file of an upload by its place, the upload itself or a member of its ZIP."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from node.intake.archive import Archive, BadArchive
from node.intake.examination import Place
from node.intake.spool import SpoolReader


class Contents:
    """The files of an upload, for one reader at a time. Archives are opened when they are needed."""

    def __init__(self, file: SpoolReader) -> None:
        self._file = file
        self._archive: Archive | None = None

    @contextmanager
    def open(self, place: Place, *, checked: bool = True) -> Iterator[BinaryIO]:
        """Open a file for reading; `checked` by its CRC-32, if it is of a ZIP.

        Raises:
            BadArchive: the ZIP, or this file of it, is damaged; also while it is read.
        """
        if not place:
            self._file.seek(0)
            yield cast("BinaryIO", self._file)
            return
        if self._archive is None:
            self._archive = Archive(self._file)
        if len(place) > 1:
            raise BadArchive("zip-member-damaged")
        with self._archive.open(place[0], checked=checked) as stream:
            yield stream
