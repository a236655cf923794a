"""C-STORE receivers on real sockets: DCMTK's storescp, and pynetdicom's with what a test lets it offer."""

import contextlib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.dsutils import decode
from support.ports import free_port
from support.programs import of_the_system

from node.deliver.association import COMMIT, GET, VERIFY

_START_S = 20
_TRIES = 3  # somebody else may take the port meanwhile
_SYNTAXES = [
    *("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"),
    *("1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5"),
    *(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91)),
]


@contextlib.contextmanager
def running_storescp(folder: Path, *options: str) -> Iterator[str]:
    """Start DCMTK's storescp, which offers C-STORE and nothing else; give its address."""
    binary = of_the_system("storescp")
    assert binary is not None
    folder.mkdir(parents=True, exist_ok=True)
    command = [binary, "--fork", "+xa", "+B", "-od", str(folder), "-aet", "RECEIVER", *options]
    said = folder.with_suffix(".out")
    for _ in range(_TRIES):
        port = free_port()
        with said.open("ab") as out:
            process = subprocess.Popen([*command, str(port)], stdout=out, stderr=out)
        try:
            if _opens(port, process):
                yield f"dicom://RECEIVER@127.0.0.1:{port}"
                return
        finally:
            process.terminate()
            process.wait(20)
    raise RuntimeError(f"storescp did not start: {said.read_text(errors='replace')[-1000:]}")


@dataclass
class Receiver:
    """What a pynetdicom receiver holds, and how it behaves.

    Attributes:
        kept: SOP Instance UID → transfer syntax and data set, as they came.
        statuses: what the next stores are answered; then 0000.
        commits: the UIDs that it takes responsibility for; None for all that it has.
        reports: a commitment is reported on the same association.
        received: how many stores came.
        associations: how many associations were made.
        hang_up_after: the association is aborted at this store.
    """

    url: str = ""
    kept: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)
    commits: set[str] | None = None
    reports: bool = True
    received: int = 0
    associations: int = 0
    hang_up_after: int | None = None

    def headers(self) -> Iterator[tuple[str, Dataset]]:
        for uid, (syntax, data_set) in list(self.kept.items()):
            yield uid, _parsed(syntax, data_set)


@contextlib.contextmanager
def running_receiver(
    *offered: str,
    syntaxes: list[str] | None = None,
    title: str = "RECEIVER",
    checks_titles: bool = False,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Receiver]:
    """Serve a `Receiver` that offers C-STORE and the services that are named (FIND, GET, COMMIT)."""
    receiver = Receiver()
    entity = AE(title)
    entity.require_called_aet = checks_titles
    entity.require_calling_aet = ["KNOWN"] if checks_titles else []
    roles = True if GET in offered else None
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(
            str(context.abstract_syntax), syntaxes or _SYNTAXES, scu_role=roles, scp_role=roles
        )
    for service in (VERIFY, *offered):
        entity.add_supported_context(service)
    handlers = [
        (evt.EVT_ACCEPTED, lambda event: _accepted(receiver)),
        (evt.EVT_C_STORE, lambda event: _store(receiver, event)),
        (evt.EVT_C_FIND, lambda event: _find(receiver, event)),
        (evt.EVT_C_GET, lambda event: _get(receiver, event)),
        (evt.EVT_N_ACTION, lambda event: _commit(receiver, event)),
    ]
    port = free_port()
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers, ssl_context=tls)
    receiver.url = f"dicom{'+tls' if tls else ''}://{title}@127.0.0.1:{port}"
    try:
        yield receiver
    finally:
        server.shutdown()


def _accepted(receiver: Receiver) -> None:
    receiver.associations += 1


def _store(receiver: Receiver, event: evt.Event) -> int:
    receiver.received += 1
    if receiver.hang_up_after is not None and receiver.received > receiver.hang_up_after:
        receiver.hang_up_after = None
        event.assoc.abort()
        return 0xC000
    status = receiver.statuses.pop(0) if receiver.statuses else 0x0000
    if status == 0x0000 or 0xB000 <= status < 0xC000:
        # As Orthanc does: what is there is kept, and the answer is success.
        receiver.kept.setdefault(
            str(event.request.AffectedSOPInstanceUID),
            (str(event.context.transfer_syntax), event.request.DataSet.getvalue()),
        )
    return status


def _find(receiver: Receiver, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
    asked = event.identifier
    level = asked.QueryRetrieveLevel
    keywords = {"SERIES": ("SeriesInstanceUID",), "IMAGE": ("SeriesInstanceUID", "SOPInstanceUID")}[level]
    told = set()
    for _, header in receiver.headers():
        if header.StudyInstanceUID != asked.StudyInstanceUID:
            continue
        if asked.get("SeriesInstanceUID") not in ("", None, header.SeriesInstanceUID):
            continue
        answer = Dataset()
        answer.QueryRetrieveLevel = level
        answer.StudyInstanceUID = header.StudyInstanceUID
        for keyword in keywords:
            setattr(answer, keyword, header[keyword].value)
        key = tuple(str(answer[keyword].value) for keyword in keywords)
        if key not in told:
            told.add(key)
            yield 0xFF00, answer


def _get(receiver: Receiver, event: evt.Event) -> Iterator[object]:
    asked = event.identifier.SOPInstanceUID
    uids = [asked] if isinstance(asked, str) else list(asked)
    found = [receiver.kept[uid] for uid in uids if uid in receiver.kept]
    yield len(found)
    for syntax, data_set in found:
        yield 0xFF00, _parsed(syntax, data_set)


def _commit(receiver: Receiver, event: evt.Event) -> tuple[int, None]:
    asked = event.action_information
    report = Dataset()
    report.TransactionUID = asked.TransactionUID
    report.ReferencedSOPSequence, report.FailedSOPSequence = [], []
    held = receiver.kept.keys() if receiver.commits is None else receiver.commits
    for item in asked.ReferencedSOPSequence:
        if item.ReferencedSOPInstanceUID in held:
            report.ReferencedSOPSequence.append(item)
        else:
            item.FailureReason = 0x0112
            report.FailedSOPSequence.append(item)

    def tell() -> None:
        event.assoc.send_n_event_report(
            report, 2 if report.FailedSOPSequence else 1, COMMIT, "1.2.840.10008.1.20.1.1"
        )

    if receiver.reports:
        threading.Timer(0.1, tell).start()
    return 0x0000, None


def _parsed(syntax: str, data_set: bytes) -> Dataset:
    implicit, little = syntax == "1.2.840.10008.1.2", syntax != "1.2.840.10008.1.2.2"
    parsed = decode(BytesIO(data_set), implicit, little, syntax == "1.2.840.10008.1.2.1.99")
    parsed.file_meta = pydicom.dataset.FileMetaDataset()
    parsed.file_meta.TransferSyntaxUID = syntax
    return parsed


def _opens(port: int, process: "subprocess.Popen[bytes]") -> bool:
    """Wait until a process listens; False if it ended instead, or does not."""
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return process.poll() is None
        time.sleep(0.05)
    return False
