"""What a PACS holds, asked for by plain HTTP and taken apart without the node's own code."""

import email
import email.policy
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path

import httpx
import pydicom
from pydicom.errors import InvalidDicomError


def of_one_patient(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return the files of the patient who has the largest ones."""
    whose = {name: str(pydicom.dcmread(BytesIO(data)).PatientID) for name, data in files.items()}
    sizes = {who: sum(len(files[name]) for name in files if whose[name] == who) for who in whose.values()}
    return {name: data for name, data in files.items() if whose[name] == max(sizes, key=sizes.__getitem__)}


def real_cd() -> dict[str, bytes]:
    """Return the images of the real CDs that pydicom brings along, by file name."""
    folder = Path(pydicom.__file__).parent / "data" / "test_files" / "dicomdirtests"
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "DICOMDIR" not in path.name:
            data = path.read_bytes()
            try:
                header = pydicom.dcmread(BytesIO(data), stop_before_pixels=True)
            except InvalidDicomError:
                continue
            if "SOPInstanceUID" in header:
                found[path.relative_to(folder).as_posix()] = data
    return found


def uids_of(part10: bytes) -> tuple[str, str, str]:
    """Return Study, Series and SOP Instance UID."""
    header = pydicom.dcmread(BytesIO(part10), stop_before_pixels=True)
    return str(header.StudyInstanceUID), str(header.SeriesInstanceUID), str(header.SOPInstanceUID)


def read_back(dicomweb: str, files: Iterable[bytes]) -> dict[str, list[bytes]]:
    """Return, by SOP Instance UID, what the PACS gives back of these instances (PS3.18 §10.4)."""
    wanted = {uids_of(data) for data in files}
    held: dict[str, list[bytes]] = {uid: [] for _, _, uid in wanted}
    with httpx.Client(trust_env=False, verify=False, timeout=60) as client:
        for study, series in {(study, series) for study, series, _ in wanted}:
            answer = client.get(
                f"{dicomweb}/studies/{study}/series/{series}",
                headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'},
            )
            if answer.status_code == 404:
                continue
            answer.raise_for_status()
            for data in _parts(answer.headers, answer.content):
                held.setdefault(uids_of(data)[2], []).append(data)
    return held


def by_uid(files: Iterable[bytes]) -> dict[str, list[bytes]]:
    """Return what `read_back` gives of a PACS that holds each of these files once."""
    return {uids_of(data)[2]: [data] for data in files}


def _parts(headers: Mapping[str, str], body: bytes) -> list[bytes]:
    whole = b"Content-Type: " + headers["content-type"].encode() + b"\r\n\r\n" + body
    message = email.message_from_bytes(whole, policy=email.policy.HTTP)
    boundary = b"\r\n--" + str(message.get_boundary()).encode()
    pieces = (b"\r\n" + body).split(boundary)[1:-1]
    return [piece.partition(b"\r\n\r\n")[2] for piece in pieces]
