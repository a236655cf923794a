"""What is known of a patient, and whether files hold a trace of it."""

import base64
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path

import pydicom

_SHORTEST = 5  # anything shorter is found in a megabyte of noise
_PERSONAL = ("PatientName", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


def markers(files: Iterable[bytes], *words: str) -> frozenset[bytes]:
    """Return what must be found nowhere: names, ids and UIDs of DICOM files, raw, in UTF-16 and base64.

    Args:
        files: Part 10 files; of the instances of a series the first stands for all.
        words: more, such as the impression.
    """
    texts = set(words)
    series = set()
    for data in files:
        header = pydicom.dcmread(BytesIO(data), stop_before_pixels=True)
        if header.SeriesInstanceUID not in series:
            series.add(header.SeriesInstanceUID)
            texts |= {str(header[name].value) for name in _PERSONAL if name in header}
    return frozenset(form for text in texts if len(text) >= _SHORTEST for form in _forms(text))


def found_in(paths: Iterable[Path], wanted: frozenset[bytes]) -> list[str]:
    """Return the names of the files that hold a marker; one that is erased meanwhile holds none."""
    hits = []
    for path in paths:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue
        if not data.strip(b"\0"):
            continue  # a node's ballast: megabytes of nothing
        if any(marker in data for marker in wanted):
            hits.append(path.name)
    return hits


def _forms(text: str) -> Iterator[bytes]:
    raw = text.encode()
    yield raw
    yield text.encode("utf-16-le")
    yield text.encode("utf-16-be")
    for shift in range(3):  # base64 looks different at each of three alignments; its edges depend on others
        coded = base64.b64encode(bytes(shift) + raw)
        yield coded[4 if shift else 0 : len(coded) - 4]
