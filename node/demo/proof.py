"""The demo's proof: what went in is at the PACS, bit for bit, and nothing of the patient is left anywhere.

Independent of the mesh: the original files are read from disk again and compared with what the PACS
gives back, and every file that the nodes wrote is searched for what the originals say.
"""

import base64
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from node.deliver.destination import Outgoing
from node.deliver.dicomweb import DicomWebDestination
from node.errors import Refused
from node.home import Home
from node.intake.detect import Content, content_of
from node.intake.dicom import PIECE_BYTES, Header, HeaderReader
from sync.evidence import Evidence

_SHORTEST_MARKER = 5  # shorter ones are found in any megabyte of noise
_PIXELS = 48


@dataclass(frozen=True, slots=True)
class Original:
    """An instance as it lies on the CD."""

    path: Path = field(repr=False)
    header: Header = field(repr=False)
    sha256: bytes = field(repr=False)
    size: int


def bundled_cd() -> Path:
    """Return the folder of the real CD that pydicom brings along.

    Raises:
        Refused: it is not there.
    """
    package = find_spec("pydicom")
    if package is not None and package.origin is not None:
        folder = Path(package.origin).parent / "data" / "test_files" / "dicomdirtests"
        if folder.is_dir():
            return folder
    raise Refused("no-demo-data", "The bundled CD is missing; name a folder with --study.")


def originals(files: Iterable[Path]) -> list[Original]:
    """Return the instances among files, each UID once."""
    found: dict[str, Original] = {}
    headers = HeaderReader()
    try:
        for path in files:
            with path.open("rb") as file:
                first = file.read(PIECE_BYTES)
                if content_of(first) not in (Content.PART10, Content.BARE):
                    continue
                read = headers.read(first, file, path.stat().st_size, content_of(first))
            if read.header is not None:
                digest = bytes.fromhex(read.sha256)
                found[read.header.uid] = Original(path, read.header, digest, path.stat().st_size)
    finally:
        headers.close()
    return list(found.values())


def read_back(dicomweb: str, instances: Iterable[Original]) -> int:
    """Return how many of the originals the PACS gives back equal (PS3.18 §10.4)."""
    by_study: dict[str, list[Outgoing]] = defaultdict(list)
    for one in instances:
        header = one.header
        by_study[header.study_uid].append(
            Outgoing(
                study_uid=header.study_uid,
                uid=header.uid,
                sop_class=header.class_uid,
                syntax=header.syntax,
                size=one.size,
                sha256=one.sha256,
                open=partial(_pieces, one.path),
            )
        )
    pacs = DicomWebDestination(dicomweb)
    try:
        proofs = [pacs.prove(uid, study, Evidence.READ_BACK) for uid, study in by_study.items()]
    finally:
        pacs.close()
    return sum(one.level is Evidence.READ_BACK for proof in proofs for one in proof.values())


def markers(instances: Iterable[Original]) -> frozenset[bytes]:
    """Return what must be found nowhere: names, ids, dates of birth, UIDs and pixels, in several codings."""
    texts: set[str] = set()
    pixels: set[bytes] = set()
    for one in instances:
        header = one.header
        texts |= {header.patient_name, header.patient_id, header.birth_date}
        texts |= {header.uid, header.study_uid, header.series_uid}
        pixels.add(_sample(one))
    plain = {text for text in texts if len(text) >= _SHORTEST_MARKER and any(map(str.isalnum, text))}
    coded = {form for text in plain for form in _codings(text)}
    return frozenset(coded | {sample for sample in pixels if len(set(sample)) > _PIXELS // 4})


def search(folders: Iterable[Path], wanted: frozenset[bytes]) -> tuple[int, int]:
    """Search every file below some folders; return (markers found, octets searched).

    A node's ballast is left out: random octets that the node drew itself, and minutes of searching.
    """
    found = searched = 0
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and path != Home(folder).ballast:
                try:
                    data = path.read_bytes()
                except FileNotFoundError:
                    continue  # it was erased just now
                searched += len(data)
                found += sum(marker in data for marker in wanted)
    return found, searched


def _codings(text: str) -> Iterator[bytes]:
    raw = text.encode()
    yield raw
    yield text.encode("utf-16-le")
    yield text.encode("utf-16-be")
    for shift in range(3):  # base64 looks different at each of three alignments
        whole = base64.b64encode(bytes(shift) + raw)
        yield whole[4 if shift else 0 : len(whole) - 4]


def _sample(one: Original) -> bytes:
    """Return some octets from the middle of an instance: pixels, as a rule."""
    with one.path.open("rb") as file:
        file.seek(one.size * 2 // 3)
        return file.read(_PIXELS)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece
