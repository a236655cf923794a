"""Contents: open a file of an upload by its place: the upload, a file of its ZIP, or of a ZIP in that."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from node.intake.archive import Archive
from node.intake.examination import Place
from node.intake.spool import SpoolReader


class Contents:
    """The files of an upload, for one reader at a time. Archives are opened when they are needed."""

    def __init__(self, file: SpoolReader) -> None:
        self._file = file
        self._outer: Archive | None = None
        self._inner: tuple[int, Archive] | None = None  # the one that was opened last

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
        archive = self.archive() if len(place) == 1 else self.archive_in(place[0])
        with archive.open(place[-1], checked=checked) as stream:
            yield stream

    def archive(self) -> Archive:
        """Return the upload as a ZIP.

        Raises:
            BadArchive: it is none that can be used.
        """
        if self._outer is None:
            self._outer = Archive(self._file)
        return self._outer

    def archive_in(self, number: int, spent: tuple[int, int] = (0, 0)) -> Archive:
        """Return a member of the ZIP as a ZIP; `spent` as for `Archive`.

        Raises:
            BadArchive: it is none that can be used.
        """
        if self._inner is None or self._inner[0] != number:
            self._inner = number, Archive(self.archive().inner(number), spent)
        return self._inner[1]
