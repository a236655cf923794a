"""Examining bytes as if they had been uploaded."""

from pathlib import Path

from node.intake.dicom import HeaderReader
from node.intake.examination import Examination
from node.intake.examine import examine
from node.intake.spool import SpoolReader, SpoolWriter, new_key


class Looker:
    """Examines bytes as if they had been uploaded."""

    def __init__(self, folder: Path, headers: HeaderReader) -> None:
        self._folder = folder
        self._headers = headers
        self._number = 0

    def __call__(self, data: bytes, name: str = "upload") -> Examination:
        with self.opened(data) as file:
            return examine(file, name, self._headers)

    def opened(self, data: bytes) -> SpoolReader:
        """Return bytes as an upload."""
        self._number += 1
        path, key = self._folder / str(self._number), new_key()
        writer = SpoolWriter(path, "u", key=key, offset=0, position=0)
        for begin in range(0, len(data), 300_000):
            writer.write(data[begin : begin + 300_000])
        writer.close()
        return SpoolReader(path, "u", keys=[(0, key)], position=writer.position, length=len(data))

    def code(self, data: bytes) -> str | None:
        """Return why a single file cannot be sent."""
        found = self(data)
        assert found.studies == ()
        return found.code
