"""tus 1.0 to the letter, with foreign clients, bad lines and power cuts."""

import base64
import hashlib
import io
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import aiotus
import httpx
import pytest
from support.clock import FakeClock
from support.intake import Bench, app_of
from support.servers import serve
from tusclient.client import TusClient

from node.intake.uploads import EXPIRE_MS

MARKER = b"CANARY^PATIENT^NAME "
TYPE = "application/offset+octet-stream"
LENGTH = 3_000_000


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


class Line:
    """One device's way to a node."""

    def __init__(self, bench: Bench, base: str, device: str = "phone") -> None:
        self.bench = bench
        self.base = base
        self.http = httpx.Client(
            headers={"Authorization": f"Bearer {device}", "Tus-Resumable": "1.0.0"}, timeout=10
        )

    def submission(self, client: str = "6b0f9d2e-0000-4000-8000-000000000001") -> str:
        answer = self.http.post(f"{self.base}/api/v1/submissions", json={"client_id": client, "kind": "file"})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def create(self, length: int = LENGTH, submission: str | None = None, **more: Any) -> httpx.Response:
        submission = submission or self.submission()
        headers = {
            "Upload-Length": str(length),
            "Upload-Metadata": f"filename {b64('Doe^Jane.dcm')},submission {b64(submission)}",
        }
        return self.http.post(
            f"{self.base}/api/v1/uploads", headers=headers | more.pop("headers", {}), **more
        )

    def made(self, length: int = LENGTH) -> str:
        return str(self.create(length).headers["Location"])

    def patch(self, url: str, offset: int | str, body: Any, **headers: str) -> httpx.Response:
        return self.http.patch(
            url,
            content=body,
            headers={"Upload-Offset": str(offset), "Content-Type": TYPE} | headers,
        )

    def offset(self, url: str) -> int:
        return int(self.http.head(url).headers["Upload-Offset"])

    def stored(self, url: str) -> bytes:
        upload = self.bench.intake.uploads.get("phone", url.rsplit("/", 1)[1])
        with self.bench.intake.uploads.reader(upload) as file:
            return file.read()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def line(tmp_path: Path, clock: FakeClock) -> Iterator[Line]:
    bench = Bench(tmp_path / "node", clock=clock, max_bytes=1 << 30)
    with serve(app_of(bench.intake)) as base:
        line = Line(bench, base)
        yield line
        line.http.close()
    bench.close()


@pytest.fixture(scope="module")
def content() -> bytes:
    return random.Random(1).randbytes(LENGTH - 2 * len(MARKER)) + MARKER * 2


def code(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, str(answer.json()["code"])


# -- the protocol -------------------------------------------------------------------------------


def test_options_tells_what_the_server_can_do(line: Line) -> None:
    """Clients choose their way by it, before they have a token."""
    answer = httpx.options(f"{line.base}/api/v1/uploads")

    assert answer.status_code == 204
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert answer.headers["Tus-Max-Size"] == str(1 << 30)
    assert answer.headers["Tus-Checksum-Algorithm"] == "sha256,sha1"
    assert set(answer.headers["Tus-Extension"].split(",")) == {
        *("creation", "creation-with-upload", "checksum", "termination", "expiration"),
    }


def test_an_upload_in_parts_arrives_bit_for_bit(line: Line, content: bytes) -> None:
    """The offset is exact after each part, whatever size the node seals at."""
    created = line.create()
    url = created.headers["Location"]
    offset = 0
    for size in (1, 99_999, 1 << 20, 1_234_567, LENGTH):
        part = content[offset : offset + size]
        answer = line.patch(url, offset, part)
        offset += len(part)
        assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, str(offset))

    assert url.startswith(line.base + "/api/v1/uploads/")
    assert "Upload-Expires" in created.headers
    assert "Upload-Expires" not in answer.headers
    assert line.stored(url) == content
    assert line.bench.woken == 1


def test_head_tells_how_far_it_is_also_when_all_is_here(line: Line, content: bytes) -> None:
    """A phone that lost the last answer must not send everything again."""
    url = line.made()
    line.patch(url, 0, content[:1000])
    half = line.http.head(url)
    line.patch(url, 1000, content[1000:])
    done = line.http.head(url)

    assert (half.status_code, half.headers["Upload-Offset"]) == (200, "1000")
    assert half.headers["Upload-Length"] == str(LENGTH)
    assert half.headers["Cache-Control"] == "no-store"
    assert b64("Doe^Jane.dcm") in half.headers["Upload-Metadata"]
    assert (done.status_code, done.headers["Upload-Offset"]) == (200, str(LENGTH))
    assert line.patch(url, LENGTH, b"").status_code == 204


def test_the_first_bytes_may_come_with_the_creation(line: Line, content: bytes) -> None:
    """One round trip less for each small study."""
    answer = line.create(headers={"Content-Type": TYPE}, content=content[:70_000])

    assert (answer.status_code, answer.headers["Upload-Offset"]) == (201, "70000")
    assert line.offset(answer.headers["Location"]) == 70_000


def test_asking_twice_for_an_upload_gives_the_same_one(line: Line, content: bytes) -> None:
    """The first answer may be lost; a second upload would be a second study."""
    first = line.create()
    line.patch(first.headers["Location"], 0, content[:10])
    second = line.create(headers={"Content-Type": TYPE}, content=content[:10])
    other = line.create(length=LENGTH + 1)

    assert second.headers["Location"] == first.headers["Location"]
    assert second.headers["Upload-Offset"] == "10"
    assert code(other) == (409, "upload-differs")


def test_a_part_at_the_wrong_offset_is_refused_with_the_right_one(line: Line, content: bytes) -> None:
    """Bytes are never put in the wrong place."""
    url = line.made()
    line.patch(url, 0, content[:10])

    for offset in (0, 9, 11, LENGTH):
        answer = line.patch(url, offset, content[:5])
        assert code(answer) == (409, "wrong-offset")
        assert answer.headers["Upload-Offset"] == "10"
    line.patch(url, 10, content[10:])
    assert line.stored(url) == content


@pytest.mark.parametrize("name", ["sha256", "sha1"])
def test_a_part_with_its_checksum_counts_only_if_it_is_right(line: Line, content: bytes, name: str) -> None:
    """A bad radio must not change an image."""
    url = line.made()
    right = f"{name} {b64(hashlib.new(name, content[:2_000_000]).digest())}"
    line.patch(url, 0, b"", **{"Upload-Checksum": f"{name} {b64(hashlib.new(name, b'').digest())}"})
    bad = line.patch(url, 0, b"X" + content[1:2_000_000], **{"Upload-Checksum": right})
    after_bad = line.offset(url)
    good = line.patch(url, 0, content[:2_000_000], **{"Upload-Checksum": right})
    line.patch(url, 2_000_000, content[2_000_000:])

    assert code(bad) == (460, "checksum-mismatch")
    assert (after_bad, good.headers["Upload-Offset"]) == (0, "2000000")
    assert line.stored(url) == content


@pytest.mark.parametrize(
    ("headers", "status", "problem"),
    [
        ({"Tus-Resumable": "0.2.2"}, 412, "tus-version"),
        ({"Content-Type": "application/octet-stream"}, 415, "wrong-media-type"),
        ({"Upload-Offset": "-1"}, 400, "header-wrong"),
        ({"Upload-Offset": "ten"}, 400, "header-wrong"),
        ({"Upload-Checksum": "md5 AAAA"}, 400, "header-wrong"),
        ({"Upload-Checksum": "sha256 ???"}, 400, "header-wrong"),
        ({"Content-Length": str(LENGTH + 1)}, 413, "too-large"),
    ],
)
def test_a_part_that_is_said_wrongly_changes_nothing(
    line: Line, headers: dict[str, str], status: int, problem: str
) -> None:
    """Each mistake has its own code, and none costs what is here."""
    url = line.made()
    body = b"x" * (LENGTH + 1) if problem == "too-large" else b"x" * 10

    assert code(line.patch(url, 0, body, **headers)) == (status, problem)
    assert line.offset(url) == 0


def test_more_bytes_than_announced_are_refused_without_a_length_too(line: Line) -> None:
    """A body that does not say its size cannot fill the disk."""
    url = line.made(100)

    answer = line.patch(url, 0, (b"x" * 60 for _ in range(2)))

    assert code(answer) == (413, "too-large")
    assert line.offset(url) == 0


@pytest.mark.parametrize(
    ("headers", "status", "problem"),
    [
        ({"Upload-Length": "-5"}, 400, "header-wrong"),
        ({"Upload-Length": ""}, 400, "header-wrong"),
        ({"Upload-Length": str((1 << 30) + 1)}, 413, "too-large"),
        ({"Upload-Metadata": "filename QQ=="}, 400, "submission-missing"),
        ({"Upload-Metadata": f"submission {b64('ff' * 16)}"}, 404, "submission-unknown"),
        ({"Tus-Resumable": ""}, 412, "tus-version"),
    ],
)
def test_an_upload_that_is_asked_for_wrongly_is_not_made(
    line: Line, headers: dict[str, str], status: int, problem: str
) -> None:
    """The app can say what is wrong by the code."""
    assert code(line.create(headers=headers)) == (status, problem)


def test_a_full_disk_says_so_before_bytes_are_sent(line: Line) -> None:
    """Nobody should send an hour for nothing."""
    object.__setattr__(line.bench.intake.uploads.limits, "free_bytes", lambda: 0)

    assert code(line.create(100)) == (507, "disk-full")


def test_an_upload_can_be_ended(line: Line, content: bytes) -> None:
    """What a person cancels leaves nothing behind."""
    url = line.made()
    line.patch(url, 0, content[:10])

    assert line.http.delete(url).status_code == 204
    assert list(line.bench.spool.iterdir()) == []
    assert line.http.head(url).status_code == 404
    assert code(line.patch(url, 10, b"x")) == (404, "upload-unknown")


def test_clients_that_cannot_say_patch_say_post(line: Line) -> None:
    """tus wants X-HTTP-Method-Override for old proxies."""
    url = line.made(3)
    answer = line.http.post(
        url,
        content=b"abc",
        headers={"X-HTTP-Method-Override": "PATCH", "Upload-Offset": "0", "Content-Type": TYPE},
    )

    assert (answer.status_code, line.offset(url)) == (204, 3)


def test_an_expired_upload_is_gone(line: Line, clock: FakeClock) -> None:
    """410 tells the client to begin anew; 404 would be a riddle."""
    url = line.made()
    line.patch(url, 0, b"x")
    clock.advance(EXPIRE_MS)

    assert line.http.head(url).status_code == 410
    assert code(line.patch(url, 1, b"x")) == (410, "gone")
    assert line.made() != url


def test_nobody_sees_the_uploads_of_others(line: Line) -> None:
    """Another phone's upload looks like none at all."""
    url = line.made()
    thief = Line(line.bench, line.base, device="thief")
    submission = line.submission()

    answers = [
        thief.http.head(url),
        thief.patch(url, 0, b"x"),
        thief.http.delete(url),
        thief.create(submission=submission),
    ]

    thief.http.close()
    assert [answer.status_code for answer in answers] == [404, 404, 404, 404]
    assert line.offset(url) == 0


# -- foreign clients ----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tuspy_uploads_in_chunks(line: Line, content: bytes) -> None:
    """A client of others, with its own ideas of the protocol."""
    client = TusClient(f"{line.base}/api/v1/uploads", headers={"Authorization": "Bearer phone"})
    uploader = client.uploader(
        file_stream=io.BytesIO(content),
        chunk_size=777_777,
        metadata={"submission": line.submission()},
        upload_checksum=True,
    )
    uploader.upload()

    assert line.stored(uploader.url) == content


async def _aiotus(url: str, submission: str, content: bytes) -> str:
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer phone"}) as session:
        location = await aiotus.upload(
            url,
            io.BytesIO(content),
            metadata={"submission": submission.encode(), "filename": b"Doe^Jane.dcm"},
            client_session=session,
            chunksize=1 << 20,
        )
        assert location is not None
        told = await aiotus.metadata(str(location), client_session=session)
    assert told["filename"] == b"Doe^Jane.dcm"
    return str(location)


def test_aiotus_uploads_and_reads_the_metadata(line: Line, content: bytes) -> None:
    """Another client; it gave up on servers whose Location is not absolute."""
    import asyncio

    location = asyncio.run(_aiotus(f"{line.base}/api/v1/uploads", line.submission(), content))

    assert line.stored(location) == content


# -- bad lines ----------------------------------------------------------------------------------


def raw(
    line: Line, url: str, offset: int, sent: bytes, *, length: int, token: str = "phone"
) -> socket.socket:
    """Send the beginning of a PATCH over a socket of its own and leave it open."""
    host = line.base.removeprefix("http://")
    head = (
        f"PATCH {url.removeprefix(line.base)} HTTP/1.1\r\nHost: {host}\r\n"
        f"Authorization: Bearer {token}\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: {offset}\r\n"
        f"Content-Type: {TYPE}\r\nContent-Length: {length}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", int(host.rsplit(":", 1)[1])))
    connection.sendall(head.encode() + sent)
    return connection


def until(condition: Any, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def test_a_request_without_a_token_is_answered_before_its_body(line: Line) -> None:
    """Strangers must not be able to fill the disk, nor keep the node reading."""
    url = line.made()
    connection = raw(line, url, 0, b"", length=LENGTH, token="")
    connection.settimeout(5)

    answer = connection.recv(65536)

    connection.close()
    assert answer.startswith(b"HTTP/1.1 401")
    assert list(line.bench.spool.iterdir()) == []


@pytest.mark.parametrize("verb", ["PATCH", "HEAD"])
def test_a_new_request_takes_over_from_a_dead_one_at_once(line: Line, content: bytes, verb: str) -> None:
    """A phone comes back on another network; its old connection still looks alive to the node."""
    url = line.made()
    with raw(line, url, 0, content[:1_500_000], length=LENGTH):
        begun = line.bench.spool / url.rsplit("/", 1)[1]
        until(lambda: begun.exists() and begun.stat().st_size > 1_000_000)
        start = time.monotonic()
        health = httpx.get(f"{line.base}/healthz").status_code
        if verb == "HEAD":
            offset = line.offset(url)
        else:
            refused = line.patch(url, 0, content)
            offset = int(refused.headers["Upload-Offset"])
        took = time.monotonic() - start
        rest = line.patch(url, offset, content[offset:])

    assert health == 200
    assert took < 5
    assert 1_000_000 < offset <= 1_500_000
    assert rest.status_code == 204
    assert line.stored(url) == content


def test_many_slow_bodies_block_nobody(line: Line, content: bytes) -> None:
    """Fifty phones at the edge of the Wi-Fi, and still the others are served at once."""
    sockets = []
    for number in range(50):
        client = f"6b0f9d2e-0000-4000-8000-0000000001{number:02}"
        url = line.create(submission=line.submission(client)).headers["Location"]
        sockets.append(raw(line, url, 0, content[:10], length=LENGTH))
    start = time.monotonic()
    health = httpx.get(f"{line.base}/healthz").status_code
    url = line.made()
    done = line.patch(url, 0, content).status_code
    took = time.monotonic() - start

    for connection in sockets:
        connection.close()
    assert (health, done) == (200, 204)
    assert took < 10


@pytest.mark.parametrize("checked", [False, True])
def test_a_broken_line_keeps_what_came_unless_a_checksum_was_promised(
    line: Line, content: bytes, checked: bool
) -> None:
    """Bad lines should cost as little as may be, but never let an unchecked part count as checked."""
    url = line.made()
    upload = line.bench.intake.uploads
    connection = raw(line, url, 0, b"", length=LENGTH) if not checked else None
    if connection is None:
        host = line.base.removeprefix("http://")
        connection = socket.create_connection(("127.0.0.1", int(host.rsplit(":", 1)[1])))
        digest = b64(hashlib.sha256(content).digest())
        connection.sendall(
            f"PATCH {url.removeprefix(line.base)} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer phone\r\n"
            f"Tus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Type: {TYPE}\r\n"
            f"Upload-Checksum: sha256 {digest}\r\nContent-Length: {LENGTH}\r\n\r\n".encode()
        )
    connection.sendall(content[:1_400_000])
    begun = line.bench.spool / url.rsplit("/", 1)[1]
    until(lambda: begun.exists() and begun.stat().st_size > 1_000_000)
    connection.close()
    if checked:
        until(lambda: begun.stat().st_size == 0)
    else:
        until(lambda: upload.get("phone", begun.name).offset > 1_000_000)

    offset = line.offset(url)
    line.patch(url, offset, content[offset:])

    assert offset == 0 if checked else offset > 1_000_000
    assert line.stored(url) == content


def test_no_file_holds_anything_of_the_patient(line: Line, tmp_path: Path) -> None:
    """During an upload and after it, whoever copies the disk finds nothing to read."""
    url = line.made(4_000_000)
    seen: list[str] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            for path in tmp_path.rglob("*"):
                if path.is_file():
                    data = path.read_bytes()
                    seen.extend(
                        path.name for word in (MARKER, b"Doe^Jane", b64("Doe^Jane").encode()) if word in data
                    )
            over.wait(0.02)

    watcher = threading.Thread(target=look)
    watcher.start()
    body = MARKER * (4_000_000 // len(MARKER))
    for begin in range(0, len(body), 500_000):
        line.patch(url, begin, body[begin : begin + 500_000])
    line.bench.work()
    over.set()
    watcher.join()
    look_again = [p for p in tmp_path.rglob("*") if p.is_file() and MARKER in p.read_bytes()]

    assert line.offset(url) == 4_000_000
    assert (seen, look_again) == ([], [])


# -- power cuts ---------------------------------------------------------------------------------

SERVER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import uvicorn
from support.intake import Bench, app_of
bench = Bench(Path(sys.argv[1]))
bench.keys.locked = True
config = uvicorn.Config(app_of(bench.intake), port=int(sys.argv[2]), log_level="critical", lifespan="off")
uvicorn.Server(config).run()
"""


def start_server(folder: Path, port: int) -> subprocess.Popen[bytes]:
    tests = str(Path(__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER.format(tests=tests), str(folder), str(port)],
        cwd=Path(__file__).parents[2],
        stderr=subprocess.DEVNULL,
    )

    def up() -> bool:
        assert process.poll() is None
        try:
            return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    until(up, 20)
    return process


def test_power_cuts_in_the_middle_of_parts_cost_no_byte(tmp_path: Path) -> None:
    """kill -9 at random moments; after each, HEAD says where to go on, and the end is bit for bit right."""
    lot = random.Random(7)
    content = lot.randbytes(16_000_000)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path / "node"
    process = start_server(folder, port)
    bench: Any = None
    line = Line(bench, f"http://127.0.0.1:{port}")
    url = line.made(len(content))
    acknowledged = 0
    cuts = 0
    while True:
        offset = line.offset(url)
        assert offset >= acknowledged
        if offset == len(content):
            break
        if cuts < 3:
            cuts += 1
            killer = threading.Timer(lot.uniform(0.01, 0.12), process.send_signal, [signal.SIGKILL])
            killer.start()
        try:
            while offset < len(content):
                answer = line.patch(url, offset, content[offset : offset + 400_000])
                offset = acknowledged = int(answer.headers["Upload-Offset"])
        except httpx.TransportError:
            process.wait()
            process = start_server(folder, port)
    killer.join()
    process.kill()
    process.wait()
    line.http.close()

    bench = Bench(folder)
    upload = bench.intake.uploads.get("phone", url.rsplit("/", 1)[1])
    with bench.intake.uploads.reader(upload) as file:
        assert file.read() == content
    assert cuts == 3
    assert len(upload.keys) > 1
    bench.close()
