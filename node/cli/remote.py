"""How commands talk to a running node: the people's API, as operator on this machine (httpx).

Errors of the API come back as the node's own, with their codes.
"""

import hashlib
import os
import time
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import httpx

from node import operator
from node.errors import NotRunning, Refused
from node.home import Home

_TIMEOUT = httpx.Timeout(300.0, connect=5.0)
_CHUNK = 4 * 1024 * 1024
_PATIENCE_S = 120  # for a node that is being restarted
_NEW_TOKEN = frozenset({"token-invalid", "token-expired"})  # each start of a node makes one
_TUS = {"Tus-Resumable": "1.0.0"}


class Remote:
    """A running node's API."""

    def __init__(self, http: httpx.Client, renew: Callable[[httpx.Client], None] = lambda http: None) -> None:
        self._http = http
        self._renew = renew

    def get(self, path: str) -> Any:
        """Return what a GET answers."""
        return self._call("GET", path)

    def text(self, path: str) -> str:
        """Return what a GET answers, as text."""
        return self._send("GET", path).text

    def post(self, path: str, body: Any = None) -> Any:
        """Return what a POST answers."""
        return self._call("POST", path, json={} if body is None else body)

    def delete(self, path: str) -> Any:
        """Send a DELETE."""
        return self._call("DELETE", path)

    def download(self, path: str, to: Path) -> int:
        """Write what a GET answers to a new file, readable by its owner only; return how many octets."""
        written = 0
        with self._http.stream("GET", path) as answer:
            if not answer.is_success:
                answer.read()
                raise _refusal(answer)
            with os.fdopen(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                for piece in answer.iter_bytes():
                    written += file.write(piece)
        return written

    def upload(
        self, url: str, submission: str, data: BinaryIO, length: int, sent: Callable[[int], None]
    ) -> None:
        """Upload a submission's octets by tus 1.0, each part with its checksum; `sent` hears of progress."""
        metadata = f"submission {b64encode(submission.encode()).decode()}"
        made = self._send(
            "POST", url, headers={**_TUS, "Upload-Length": str(length), "Upload-Metadata": metadata}
        )
        location = urlsplit(made.headers["Location"]).path  # its port may be another after a restart
        told, progress_at = 0, time.monotonic()

        def tell(offset: int) -> None:
            nonlocal told, progress_at
            sent(offset - told)
            if offset > told:
                progress_at = time.monotonic()
            told = offset

        while True:
            try:
                self._go_on(location, data, length, tell)
                return
            except (NotRunning, Refused) as error:  # restarted, or the line broke: what it has counts
                passing = isinstance(error, NotRunning) or error.code in _NEW_TOKEN
                if not passing or time.monotonic() - progress_at > _PATIENCE_S:
                    raise
                time.sleep(1)
                self._renew(self._http)

    def _go_on(self, location: str, data: BinaryIO, length: int, tell: Callable[[int], None]) -> None:
        """Ask how far an upload is, and send parts from there on until it is whole."""
        offset = int(self._send("HEAD", location, headers=_TUS).headers["Upload-Offset"])
        data.seek(offset)
        tell(offset)
        while offset < length:
            part = data.read(_CHUNK)
            checksum = b64encode(hashlib.sha256(part).digest()).decode()
            headers = {
                **_TUS,
                "Upload-Offset": str(offset),
                "Upload-Checksum": f"sha256 {checksum}",
                "Content-Type": "application/offset+octet-stream",
            }
            answer = self._send("PATCH", location, headers=headers, content=part)
            offset = int(answer.headers["Upload-Offset"])
            tell(offset)

    def submission(self, kind: str) -> Any:
        """Begin a submission."""
        return self.post("/api/v1/submissions", {"client_id": str(uuid.uuid4()), "kind": kind})

    def _call(self, method: str, path: str, **more: Any) -> Any:
        answer = self._send(method, path, **more)
        return answer.json() if answer.content else None

    def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **more)
        except httpx.TransportError:
            raise NotRunning("the node does not answer") from None
        if answer.is_success:
            return answer
        raise _refusal(answer)


def _refusal(answer: httpx.Response) -> Refused:
    """Return the node's own error, as the API told it."""
    try:
        said = answer.json()
    except ValueError:
        said = {}
    return Refused(
        str(said.get("code", "refused")),
        str(said.get("detail", f"the node answered {answer.status_code}")),
    )


@contextmanager
def running(data: Path, node_url: str | None = None, token: str | None = None) -> Iterator[Remote]:
    """Give the API of the node that runs on a data folder, or of the one at `node_url` with a token.

    Raises:
        NotRunning: no node does.
    """

    def renew(http: httpx.Client) -> None:
        """Take what the node told this machine at its last start; it may not have come up yet."""
        if node_url is None or token is None:
            with suppress(NotRunning):
                known = operator.read(Home(data).run)
                http.base_url = httpx.URL(node_url or known.url)
                http.headers["Authorization"] = f"Bearer {token or known.token}"

    with httpx.Client(timeout=_TIMEOUT, trust_env=False) as http:
        if node_url is None or token is None:
            operator.read(Home(data).run)
        else:
            http.base_url = httpx.URL(node_url)
            http.headers["Authorization"] = f"Bearer {token}"
        renew(http)
        yield Remote(http, renew)
