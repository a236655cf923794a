"""A PACS that misbehaves on request, on a real socket.

It keeps what it is sent and lists and gives it back honestly, except where a test says otherwise: `posts`
holds one behaviour for each store request to come (then it is honest), `given_back` changes what is read.
"""

import contextlib
import email.message
import functools
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

import pydicom

from node.deliver.multipart import MultipartParser, PartBegins, PartData, boundary_of

_JSON = "application/dicom+json"


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    body: bytes = b""
    content_type: str = _JSON
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Hangup:
    """The line drops after so many bytes of the request."""

    after: int


Behaviour = Callable[["LyingPacs", dict[str, bytes]], Answer | None] | Answer | Hangup


class LyingPacs:
    """What the PACS holds, and what it was asked.

    Attributes:
        kept: SOP Instance UID → bytes.
        posts: behaviours of the next store requests.
        bodies: the UIDs of each store request that came whole.
        sizes: bytes of each of these requests.
        lengths: their Content-Length.
        given_back: turns the bytes that are read back into what is sent.
        cut_answers: read-back answers end after so many bytes.
        page: what a query answers at most; the offset is ignored if it is negative.
        delay_s: between one kilobyte of a read-back answer and the next.
        query_status: answer queries with it.
        hidden: so many of the next queries list nothing, as while an index lags.
        commits: answers of the next requests about a commitment; without them there is no such service.
        commit_asked: their methods.
        redirect_to: answers of status 302 and 307 lead there.
        asked: how many requests came, of any kind.
        largest: requests above it are answered with 413.
    """

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.posts: list[Behaviour] = []
        self.bodies: list[list[str]] = []
        self.lengths: list[int] = []
        self.headers: list[email.message.Message] = []
        self.reads: list[str] = []
        self.given_back: Callable[[bytes], bytes] = lambda part10: part10
        self.cut_answers: int | None = None
        self.page = 100
        self.delay_s = 0.0
        self.query_status = 200
        self.hidden = 0
        self.commits: list[Callable[[LyingPacs, list[str]], Answer]] = []
        self.commit_asked: list[str] = []
        self.redirect_to = ""
        self.asked = 0
        self.read_status = 200
        self.largest: int | None = None
        self.url = ""

    def keep(self, parts: Mapping[str, bytes]) -> None:
        self.kept.update(parts)


@contextlib.contextmanager
def lying_pacs() -> Iterator[LyingPacs]:
    """Serve a `LyingPacs` on a free port of the loopback."""
    pacs = LyingPacs()

    class Handler(_Handler):
        state = pacs

    server = _Server(("127.0.0.1", 0), Handler)
    pacs.url = f"http://127.0.0.1:{server.server_address[1]}/dicom-web"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield pacs
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def response(
    stored: Sequence[str] = (),
    failed: Mapping[str, int] | None = None,
    *,
    others: Sequence[int] = (),
    warnings: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Return a store response in the DICOM JSON model."""
    answer: dict[str, Any] = {
        "00081199": {
            "vr": "SQ",
            "Value": [
                _item(uid) | ({"00081196": _us((warnings or {})[uid])} if uid in (warnings or {}) else {})
                for uid in stored
            ],
        },
        "00081198": {
            "vr": "SQ",
            "Value": [_item(uid) | {"00081197": _us(reason)} for uid, reason in (failed or {}).items()],
        },
    }
    if others:
        answer["0008119A"] = {"vr": "SQ", "Value": [{"00081197": _us(reason)} for reason in others]}
    return answer


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def as_xml(stored: Sequence[str] = (), failed: Mapping[str, int] | None = None) -> bytes:
    """Return a store response in the native DICOM model (PS3.19), as Orthanc and others write it."""

    def element(tag: str, vr: str, inner: str) -> str:
        return f'<DicomAttribute tag="{tag}" vr="{vr}">{inner}</DicomAttribute>'

    def value(text: object) -> str:
        return f'<Value number="1">{text}</Value>'

    kept = "".join(f'<Item number="1">{element("00081155", "UI", value(u))}</Item>' for u in stored)
    lost = "".join(
        f'<Item number="1">{element("00081155", "UI", value(u))}{element("00081197", "US", value(r))}</Item>'
        for u, r in (failed or {}).items()
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">'
        f"{element('00081199', 'SQ', kept)}{element('00081198', 'SQ', lost)}</NativeDicomModel>"
    ).encode()


def _item(uid: str) -> dict[str, Any]:
    return {"00081155": {"vr": "UI", "Value": [uid]}}


def _us(value: int) -> dict[str, Any]:
    return {"vr": "US", "Value": [value]}


def honest(pacs: LyingPacs, parts: dict[str, bytes]) -> Answer:
    pacs.keep(parts)
    return Answer(200, as_json(response(list(parts))))


class _Server(ThreadingHTTPServer):
    # Closing waits for the threads, so that no socket outlives a test.
    daemon_threads = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is what some tests are about."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    state: LyingPacs
    timeout = 5
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _commit(self, uids: list[str]) -> None:
        self.state.commit_asked.append(self.command)
        behaviour = self.state.commits.pop(0) if self.state.commits else lambda _pacs, _uids: Answer(404)
        self._answer(behaviour(self.state, uids))

    def do_POST(self) -> None:
        state = self.state
        state.asked += 1
        if "/commitment-requests/" in self.path:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._commit([item["00081155"]["Value"][0] for item in asked["00081199"]["Value"]])
            return
        behaviour: Behaviour = state.posts.pop(0) if state.posts else honest
        length = int(self.headers["Content-Length"])
        if isinstance(behaviour, Hangup):
            self.rfile.read(min(behaviour.after, length))
            self.close_connection = True
            # An immediate reset, as from a router that restarts.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.close()
            return
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
            return
        parts = self._parts(body)
        state.bodies.append(list(parts))
        state.lengths.append(length)
        state.headers.append(self.headers)
        if state.largest is not None and length > state.largest:
            self._answer(Answer(413, b"<html>too large</html>", "text/html"))
            return
        answer = behaviour(state, parts) if callable(behaviour) else behaviour
        if answer is None:  # it closes the connection without a word
            self.close_connection = True
            return
        self._answer(answer)

    def _parts(self, body: bytes) -> dict[str, bytes]:
        boundary = boundary_of(self.headers["Content-Type"])
        assert boundary is not None
        parser = MultipartParser(boundary)
        files: list[bytearray] = []
        for event in parser.feed(body):
            if isinstance(event, PartBegins):
                files.append(bytearray())
            elif isinstance(event, PartData):
                files[-1] += event.data
        assert parser.complete
        return {_uid(bytes(part10)): bytes(part10) for part10 in files}

    def do_GET(self) -> None:
        state = self.state
        state.asked += 1
        path, _, query = self.path.partition("?")
        names = path.removeprefix("/dicom-web/").split("/")
        if names[0] == "commitment-requests":
            self._commit([])
            return
        if names[-1] == "instances":
            self._list(names[1], query)
            return
        state.reads.append(path)
        uid = names[5] if len(names) > 5 else None
        found = [
            part10 for key, part10 in state.kept.items()
            if uid in (None, key) and _header(part10).SeriesInstanceUID == names[3]
        ]  # fmt: skip
        if not found or state.read_status != 200:
            self._answer(Answer(404 if not found else state.read_status))
            return
        body = b"".join(
            b"--edge\r\nContent-Type: application/dicom\r\n\r\n" + state.given_back(part10) + b"\r\n"
            for part10 in found
        )
        body += b"--edge--"
        self.send_response(200)
        self.send_header("Content-Type", 'multipart/related; type="application/dicom"; boundary="edge"')
        # No length: the answer ends with the connection, so a cut is not seen by HTTP.
        self.send_header("Connection", "close")
        self.end_headers()
        with contextlib.suppress(OSError):
            sent = body[: state.cut_answers]
            for at in range(0, len(sent), 1024 if state.delay_s else len(sent)):
                self.wfile.write(sent[at : at + 1024] if state.delay_s else sent)
                time.sleep(state.delay_s)
        self.close_connection = True

    def _list(self, study: str, query: str) -> None:
        state = self.state
        options = dict(pair.split("=", 1) for pair in query.split("&") if "=" in pair)
        rows = []
        for part10 in state.kept.values():
            header = _header(part10)
            if header.StudyInstanceUID == study:
                rows.append(
                    {
                        "00080018": {"vr": "UI", "Value": [header.SOPInstanceUID]},
                        "0020000E": {"vr": "UI", "Value": [header.SeriesInstanceUID]},
                    }
                )
        if state.hidden:
            state.hidden -= 1
            rows = []
        if state.page >= 0:
            offset = int(options.get("offset", 0))
            rows = rows[offset : offset + min(state.page, int(options.get("limit", state.page)))]
        self._answer(Answer(state.query_status, as_json(rows)))

    def _answer(self, answer: Answer) -> None:
        self.send_response(answer.status)
        if answer.status in (302, 307):
            self.send_header("Location", self.state.redirect_to)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if answer.status != 204:
            self.wfile.write(answer.body)


@functools.lru_cache(maxsize=2048)
def _header(part10: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(BytesIO(part10), stop_before_pixels=True)


def _uid(part10: bytes) -> str:
    return str(_header(part10).SOPInstanceUID)
