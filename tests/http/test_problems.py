"""Errors as they leave the HTTP APIs."""

import logging
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict
from support.servers import serve

from node.api import problems
from node.errors import DiskFull, Locked, NodeError, Refused
from sync.errors import BadFact, BadValue

CANARY = "CANARY^PATIENT"


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")
    uid: str
    count: int


RAISED: dict[str, Exception] = {
    "differs": Refused("confirmation-differs", "This was confirmed in another way."),
    "refused": Refused("some-new-code", "Wrong."),
    "full": DiskFull("The disk reserve is reached."),
    "locked": Locked("The keystore is locked."),
    "node": NodeError(),
    "fact": BadFact("not a fact"),
    "ours": BadValue("ours"),
    "surprise": KeyError(CANARY),
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    app = FastAPI()
    problems.install(app)

    @app.get("/fine")
    def fine() -> dict[str, str]:
        return {"a": "b"}

    @app.get("/raise/{name}")
    def fail(name: str) -> None:
        raise RAISED[name]

    @app.post("/body")
    def take(body: Body) -> None:
        pass

    @app.get("/breaks-off")
    def breaks_off() -> StreamingResponse:
        def parts() -> Iterator[bytes]:
            yield b"begin"
            raise ValueError(CANARY)

        return StreamingResponse(parts())

    with serve(app) as base:
        yield base


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("differs", 409, "confirmation-differs"),
        ("refused", 400, "some-new-code"),
        ("full", 507, "disk-full"),
        ("locked", 423, "keystore-locked"),
        ("node", 500, "node-error"),
        ("fact", 400, "bad-fact"),
        ("ours", 500, "bad-value"),
        ("surprise", 500, "internal-error"),
    ],
)
def test_an_error_becomes_a_problem_with_its_code(url: str, name: str, status: int, code: str) -> None:
    """The app tells people what to do by the code, so it must arrive as it was raised."""
    answer = httpx.get(f"{url}/raise/{name}")

    body = answer.json()
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert set(body) == {"type", "title", "status", "code", "detail"}
    assert body["detail"]


def test_what_helps_later_says_when_to_come_back(url: str) -> None:
    """A full disk is no reason to give an upload up."""
    answer = httpx.get(f"{url}/raise/full")

    assert int(answer.headers["retry-after"]) > 0


def test_an_unexpected_error_tells_nothing_of_its_values(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Exceptions of parsers quote patients; neither the answer nor the log may."""
    with caplog.at_level(logging.DEBUG):
        answer = httpx.get(f"{url}/raise/surprise")

    assert CANARY not in answer.text + caplog.text
    assert "KeyError" in caplog.text


def test_an_answer_that_breaks_off_is_seen_as_broken(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A client must not take half a body for the whole."""
    with caplog.at_level(logging.DEBUG), pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{url}/breaks-off")

    assert CANARY not in caplog.text


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (f'{{"uid": "1", "count": "{CANARY}"}}', "count"),
        (f'{{"uid": "1", "count": 1, "{CANARY}": 1}}', "body"),
        (f'{{"uid": "{CANARY}", ', "body"),
        (f'{{"count": 1, "uid": ["{CANARY}"]}}', "uid"),
    ],
)
def test_a_malformed_body_is_named_but_not_repeated(url: str, body: str, named: str) -> None:
    """FastAPI's own answer would repeat the patient's name to whoever reads the log of a proxy."""
    answer = httpx.post(f"{url}/body", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 422
    assert answer.json()["code"] == "bad-request"
    assert named in answer.json()["detail"]
    assert CANARY not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "code"), [("GET", "/nothing", "not-found"), ("PUT", "/fine", "method-not-allowed")]
)
def test_unknown_routes_are_problems_too(url: str, method: str, path: str, code: str) -> None:
    """One form of error for all clients."""
    answer = httpx.request(method, url + path)

    assert answer.json()["code"] == code
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/fine", "/nothing", "/raise/surprise"])
def test_every_answer_carries_the_security_headers(url: str, path: str) -> None:
    """A page of the node may load nothing from elsewhere, and nobody may frame it."""
    headers = httpx.get(url + path).headers

    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["permissions-policy"].startswith("camera=(self)")
    assert headers["cache-control"] == "no-store"
