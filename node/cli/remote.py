"""How commands talk to a running node: the people's API, as operator on this machine (httpx).

Errors of the API come back as the node's own, with their codes.
"""

import hashlib
import os
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from node import operator
from node.errors import NotRunning, Refused
from node.home import Home

_TIMEOUT = httpx.Timeout(300.0, connect=5.0)
_CHUNK = 4 * 1024 * 1024
_TUS = {"Tus-Resumable": "1.0.0"}


class Remote:
    """A running node's API."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

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
        location = made.headers["Location"]
        offset = int(self._send("HEAD", location, headers=_TUS).headers["Upload-Offset"])
        data.seek(offset)
        sent(offset)
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
            sent(int(answer.headers["Upload-Offset"]) - offset)
            offset = int(answer.headers["Upload-Offset"])

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
    if node_url is None or token is None:
        known = operator.read(Home(data).run)
        node_url, token = node_url or known.url, token or known.token
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=node_url, headers=headers, timeout=_TIMEOUT, trust_env=False) as http:
        yield Remote(http)
