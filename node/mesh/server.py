"""The mesh port (8444): what other nodes may ask of this one (docs/protocol.md §5).

A thin face over `node.mesh.exchange`. TLS has proven that the peer has its key; what it may do is asked of
the facts on every request. Bodies are read here with a limit before anything looks at them.
"""

import re
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from node.errors import BlobMissing, Refused
from node.mesh import wire
from node.mesh.exchange import Access, Exchange
from node.mesh.joining import Inviter
from node.mesh.news import News
from node.mesh.peercert import peer_node_id
from node.mesh.receiving import Receiving
from node.store.squeeze import squeezed, unsqueezed
from sync import cbor
from sync.errors import BadBlob
from sync.facts import FactClass
from sync.ids import BlobId, NodeId

_CLASSES = {"permanent": FactClass.PERMANENT, "live": FactClass.LIVE}

_CONTENT_RANGE = re.compile(r"bytes (\d{1,12})-(\d{1,12})/(\d{1,12})")
_ZSTD = "zstd"
_MAX_REQUEST_TO_JOIN = 16_384
_RANGE = re.compile(r"bytes=(\d{1,12})-")
_FINGERPRINTS = re.compile(r"[0-9a-f]{64}")


def _peer(request: Request) -> NodeId:
    peer = peer_node_id(request.scope)
    if peer is None:
        raise Refused("not-a-member", "this port is for the nodes of the mesh")
    return peer


Peer = Annotated[NodeId, Depends(_peer)]


def router(exchange: Exchange, news: News, *, met: Callable[[NodeId], None]) -> APIRouter:
    """Return the routes of the mesh port; `met` is called when a peer that is trusted says hello."""
    routes = APIRouter(prefix="/mesh/v1")

    def need_all(peer: NodeId) -> None:
        if exchange.access_of(peer) is not Access.ALL:
            raise Refused("not-a-member", "this node is not, or no longer, a member")

    @routes.post("/hello")
    async def hello(request: Request, peer: Peer) -> Response:
        said = wire.decode_hello(await _body(request, wire.MAX_BODY))
        if said.node != peer:
            raise Refused("bad-message", "the hello names another node than the certificate")
        if exchange.access_of(peer) is Access.ALL:
            met(peer)
        return _cbor((await run_in_threadpool(exchange.hello)).encode())

    @routes.post("/offer")
    async def offer(request: Request, peer: Peer) -> Response:
        said, offered = wire.decode_offer(await _body(request, wire.MAX_BODY))
        if said.node != peer:
            raise Refused("bad-message", "the hello names another node than the certificate")
        if exchange.access_of(peer) is Access.ALL:
            met(peer)
        lacks = await run_in_threadpool(exchange.take_offer, offered, peer)
        return _cbor(wire.encode_answer(await run_in_threadpool(exchange.hello), lacks))

    @routes.get("/news")
    async def wait_for_news(request: Request, peer: Peer) -> Response:
        need_all(peer)
        asked = request.query_params.get("told")
        if asked is not None and not _FINGERPRINTS.fullmatch(asked):
            raise Refused("bad-request", "told is not two fingerprints")
        told = None if asked is None else bytes.fromhex(asked)
        hello = await news.wait(peer, told, request.is_disconnected)
        return Response(status_code=204) if hello is None else _cbor(hello.encode())

    @routes.post("/reconcile/{name}")
    async def reconcile(name: str, request: Request, peer: Peer) -> Response:
        fact_class = _CLASSES.get(name)
        if fact_class is None:
            raise Refused("not-found", "no such class of facts")
        if fact_class is FactClass.LIVE:
            need_all(peer)
        message = await _body(request, wire.MAX_BODY)
        asked = request.headers.get(wire.SNAPSHOT_HEADER)
        token, answer = await run_in_threadpool(exchange.respond, fact_class, asked, message)
        return Response(answer, media_type=wire.OCTETS_TYPE, headers={wire.SNAPSHOT_HEADER: token})

    @routes.post("/facts/get")
    async def get_facts(request: Request, peer: Peer) -> Response:
        ids = wire.decode_ids(await _body(request, wire.MAX_BODY))
        access = exchange.access_of(peer)
        body = cbor.encode(await run_in_threadpool(exchange.facts_for, ids, access))
        if _ZSTD not in request.headers.get("accept-encoding", ""):
            return _cbor(body)
        squeezed_body = await run_in_threadpool(squeezed, body)
        return Response(squeezed_body, media_type=wire.CBOR_TYPE, headers={"Content-Encoding": _ZSTD})

    @routes.post("/facts")
    async def take_facts(request: Request, peer: Peer) -> Response:
        raws = wire.decode_facts(await _unsqueezed_body(request))
        taken = await run_in_threadpool(exchange.take_facts, raws)
        return _cbor(
            cbor.encode(
                {
                    "admitted": taken.admitted,
                    "known": taken.known,
                    "waiting": taken.waiting,
                    "refused": [[at, code] for at, code in taken.refused],
                }
            )
        )

    @routes.post("/lack")
    async def lack(request: Request, peer: Peer) -> Response:
        need_all(peer)
        entries = wire.decode_ids(await _body(request, wire.MAX_BODY))
        return _cbor(wire.encode_lacks(await run_in_threadpool(exchange.lacks, entries, peer)))

    @routes.post("/holds")
    async def holds(request: Request, peer: Peer) -> Response:
        need_all(peer)
        entries = wire.decode_ids(await _body(request, wire.MAX_BODY))
        return _cbor(cbor.encode(await run_in_threadpool(exchange.holds, entries)))

    @routes.get("/blobs/{name}")
    def get_blob(name: str, request: Request, peer: Peer) -> Response:
        need_all(peer)
        blob = _blob_id(name)
        if not exchange.may_fetch(peer, blob):
            raise Refused("may-not-carry", "this node may not carry studies")
        size = exchange.holdings.blobs.size(blob)
        if size is None:
            raise BlobMissing("not here")
        asked = request.headers.get("range")
        match = None if asked is None else _RANGE.fullmatch(asked)
        start = int(match.group(1)) if match else 0
        if start >= size:
            raise Refused("range-not-satisfiable", "the blob ends before")
        data = exchange.read_blob(blob, start, size - start)
        headers = {"Accept-Ranges": "bytes"}
        if match:
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        return Response(data, 206 if match else 200, media_type=wire.OCTETS_TYPE, headers=headers)

    @routes.put("/blobs/{name}")
    async def put_blob(name: str, request: Request, peer: Peer) -> Response:
        need_all(peer)
        blob = _blob_id(name)
        offset, total = _place(request)
        receiving = Receiving(exchange, blob, offset, total=total, limit=total)
        with exchange.arriving.from_peer(peer, blob) as alone:
            try:
                async for piece in request.stream():
                    if alone:
                        exchange.arriving.progress(peer, blob)
                    if receiving.add(piece):
                        await run_in_threadpool(receiving.keep)
            except ClientDisconnect:
                await run_in_threadpool(receiving.keep)
                return Response(status_code=408)  # nobody reads it
            except BadBlob:
                raise Refused("too-large", "more than the blob's size") from None
            whole = await run_in_threadpool(receiving.finish)
        if whole:
            await run_in_threadpool(exchange.after_blob, blob)
        return Response(status_code=201 if whole else 202)

    return routes


def joining_router(inviter: Inviter) -> APIRouter:
    """Return the routes for those who have a code and no certificate yet."""
    routes = APIRouter(prefix="/mesh/v1")

    @routes.get("/join")
    def genesis() -> Response:
        return _cbor(inviter.genesis())

    @routes.post("/join")
    async def join(request: Request) -> Response:
        body = await _body(request, _MAX_REQUEST_TO_JOIN)
        return _cbor(
            await run_in_threadpool(inviter.welcome, body, request.client.host if request.client else "")
        )

    return routes


async def _body(request: Request, limit: int) -> bytes:
    """Read a body of at most `limit` octets."""
    received = bytearray()
    async for piece in request.stream():
        received += piece
        if len(received) > limit:
            raise Refused("too-large", "the message is larger than any that is allowed")
    return bytes(received)


async def _unsqueezed_body(request: Request) -> bytes:
    """Read a body that may be one zstd frame."""
    body = await _body(request, wire.MAX_BODY)
    if request.headers.get("content-encoding") != _ZSTD:
        return body
    plain = await run_in_threadpool(unsqueezed, body, wire.MAX_BODY)
    if plain is None:
        raise Refused("bad-message", "the message is no zstd frame, or larger than any that is allowed")
    return plain


def _cbor(body: bytes) -> Response:
    return Response(body, media_type=wire.CBOR_TYPE)


def _blob_id(name: str) -> BlobId:
    try:
        blob = bytes.fromhex(name)
    except ValueError:
        blob = b""
    if len(blob) != 32:
        raise Refused("bad-request", "not a blob id")
    return BlobId(blob)


def _place(request: Request) -> tuple[int, int]:
    """Return where the body belongs in its blob, and the blob's size (RFC 9110 §14.5)."""
    said = request.headers.get("content-range")
    if said is not None:
        match = _CONTENT_RANGE.fullmatch(said)
        if match is None:
            raise Refused("bad-request", "a Content-Range that is not understood")
        start, _, total = map(int, match.groups())
    else:
        length = request.headers.get("content-length", "")
        if not length.isdigit():
            raise Refused("bad-request", "a blob needs a Content-Length")
        start, total = 0, int(length)
    if total > wire.MAX_BLOB or start > total:
        raise Refused("too-large", "larger than any blob")
    return start, total
