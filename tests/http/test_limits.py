"""Limits on request bodies."""

from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI, Request
from pydantic import BaseModel
from support.servers import serve

from node.api import problems
from node.api.limits import BodyLimit


class Body(BaseModel):
    text: str


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    app = FastAPI()
    problems.install(app)
    app.add_middleware(BodyLimit, exempt=("/uploads",), max_bytes=1000)

    @app.post("/json")
    def take(body: Body) -> int:
        return len(body.text)

    @app.patch("/uploads/one")
    async def upload(request: Request) -> int:
        return sum([len(part) async for part in request.stream()])

    with serve(app) as base:
        yield base


def chunks(count: int) -> Iterator[bytes]:
    """A body without a length."""
    yield b'{"text": "'
    for _ in range(count):
        yield b"x" * 100
    yield b'"}'


@pytest.mark.parametrize("length", [True, False], ids=["announced", "not announced"])
def test_a_body_that_is_too_long_is_broken_off(url: str, length: bool) -> None:
    """Anyone on the clinic's Wi-Fi may ask to be enrolled; nobody may fill the laptop's memory."""
    content = b"".join(chunks(11)) if length else chunks(11)
    answer = httpx.post(f"{url}/json", content=content, headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")


def test_what_is_within_the_limit_and_what_streams_goes_through(url: str) -> None:
    """A study of two gigabytes is no body that is read whole."""
    small = httpx.post(f"{url}/json", content=chunks(9), headers={"Content-Type": "application/json"})
    assert (small.status_code, small.json()) == (200, 900)

    assert httpx.patch(f"{url}/uploads/one", content=chunks(100)).json() == 10_012
