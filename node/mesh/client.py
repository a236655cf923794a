"""The line to one peer: the requests of docs/protocol.md §5 over httpx and mutual TLS.

What a meeting does with them stands in `node.mesh.meeting`. No proxies, no redirects; every call has a
timeout for silence, none for its length.
"""

import json
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx

from node.errors import PeerRefused, PeerUnreachable
from node.mesh import tls, wire
from node.mesh.line import GaveWay, Line, cut
from node.mesh.sessions import Sessions
from node.store.squeeze import squeezed, unsqueezed
from sync import cbor
from sync.ids import BlobId, EntryId, NodeId

_TIMEOUT = httpx.Timeout(connect=5.0, read=60.0, write=60.0, pool=60.0)
_HELLO_S = 20.0  # the first thing on a line: nothing else is in its way
_NEWS_TIMEOUT = httpx.Timeout(connect=5.0, read=wire.NEWS_WAIT_S + 15.0, write=15.0, pool=15.0)
_AGAIN_S = 8.0  # of a hello over a line that may have died meanwhile
_OFFER_S = 30.0  # of an offer, besides its octets
_SLOWEST = 1000  # octets of an offer in a second; a weak 2G line brings twice that
_MAX_PROBLEM = 65_536
_UNSAID = ("accept", "accept-encoding", "connection", "user-agent")  # 130 octets in each request, for nobody
_ZSTD = "zstd"


class PeerClient:
    """The connection to one peer, open for one meeting.

    Args:
        address: host and port.
        sessions: what this dial shares with others.
    """

    def __init__(self, address: str, sessions: Sessions) -> None:
        self._line = Line(self._note_end, sessions.at(address))
        self._http = httpx.Client(
            base_url=f"https://{address}/mesh/v1",
            transport=_Transport(self._line, sessions.context),
            timeout=_TIMEOUT,
            trust_env=False,
            follow_redirects=False,
        )
        for name in _UNSAID:
            self._http.headers.pop(name, None)
        self._was_met = False
        self._is_open = False
        self._squeezes = False  # the peer understands zstd; its hello says so
        self._lock = threading.Lock()
        self._at_end: NodeId | None = None  # whose key the handshake has shown
        self._met_another = False  # than the one that was expected

    def cut(self) -> None:
        """Cut the line: what goes on over it ends at once, with `PeerUnreachable`; from any thread."""
        self._line.cut()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> "PeerClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def hello(self, said: wire.Hello, *, within: bool = False) -> wire.Hello:
        """Say hello and return the peer's answer; `within` a meeting it waits its turn among blobs."""
        with self._line.limited(seconds=None if within else _AGAIN_S if self._was_met else _HELLO_S):
            answer = self._post("/hello", said.encode())
        return self._met(wire.decode_hello(answer))

    def offer(
        self, peer: NodeId, said: wire.Hello, offer: wire.Offer
    ) -> tuple[wire.Hello, dict[EntryId, wire.Lack]]:
        """Say hello to a known peer and offer it something; return its hello, and what of that it lacks.

        Raises:
            PeerRefused: another node listens there (`wrong-node`), and has been sent nothing; or the peer
                does not know the request (`not-found`).
        """
        with self._lock:
            self._at_end = self._at_end or peer
            if self._at_end != peer:
                raise PeerRefused("another node listens there", "wrong-node")
        body = wire.encode_offer(said, offer)
        seconds = (_AGAIN_S if self._was_met else _OFFER_S) + len(body) / _SLOWEST
        try:
            with self._line.limited(seconds=seconds):
                answer = self._post("/offer", body)
        except PeerUnreachable:
            with self._lock:
                if not self._met_another:
                    raise
                self._at_end = None
            raise PeerRefused("another node listens there", "wrong-node") from None
        theirs, lacks = wire.decode_answer(answer)
        return self._met(theirs), {entry: lacks[entry] for entry, _ in offer.entries if entry in lacks}

    def _met(self, theirs: wire.Hello) -> wire.Hello:
        if theirs.node != self._at_end:
            raise PeerRefused("the peer says that it is another node than its key shows", "wrong-node")
        self._was_met = True
        self._squeezes = _ZSTD in theirs.caps
        return theirs

    @property
    def is_stuck(self) -> bool:
        """Whether the peer was there when it was dialled, and has answered nothing yet."""
        return self._is_open and not self._was_met

    def reconcile(self, name: str, message: bytes, token: str | None) -> tuple[str, bytes]:
        """Send a reconcile message; return the peer's snapshot and its answer."""
        headers = {} if token is None else {wire.SNAPSHOT_HEADER: token}
        answer, body = self._ask("POST", f"/reconcile/{name}", content=message, headers=headers)
        return answer.headers.get(wire.SNAPSHOT_HEADER, ""), body

    def get_facts(self, ids: Sequence[bytes]) -> list[bytes]:
        """Fetch signed facts by their ids; the peer may send fewer."""
        headers = {"Content-Type": wire.CBOR_TYPE, "Accept-Encoding": _ZSTD}
        return wire.decode_facts(
            self._ask("POST", "/facts/get", content=cbor.encode(list(ids)), headers=headers)[1]
        )

    def send_facts(self, raws: Sequence[bytes]) -> int:
        """Send signed facts; return how many the peer refused."""
        body, headers = cbor.encode(list(raws)), {"Content-Type": wire.CBOR_TYPE}
        if self._squeezes:
            body, headers = squeezed(body), headers | {"Content-Encoding": _ZSTD}
        answer = self._ask("POST", "/facts", content=body, headers=headers)[1]
        refused = wire.decode_map(answer).get("refused")
        return len(refused) if isinstance(refused, list) else 0

    def lack(self, entries: Sequence[EntryId]) -> dict[EntryId, wire.Lack]:
        """Ask what the peer lacks of these entries and wants."""
        return wire.decode_lacks(self._post("/lack", cbor.encode(list(entries))))

    def holds(self, entries: Sequence[EntryId]) -> list[EntryId]:
        """Ask which of these entries the peer holds whole now; it keeps them for a while.

        A peer that does not know the question holds nothing that could be relied on.
        """
        try:
            body = self._post("/holds", cbor.encode(list(entries)))
        except PeerRefused as error:
            if error.peer_code == "not-found":
                return []
            raise
        asked = set(entries)
        return [EntryId(one) for one in wire.decode_ids(body) if one in asked]

    def get_blob(self, blob: BlobId, offset: int) -> Iterator[bytes]:
        """Fetch a blob from `offset` on, in pieces."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        with self._told(), self._http.stream("GET", f"/blobs/{blob.hex()}", headers=headers) as answer:
            _check(answer)
            if offset and answer.status_code != 206:
                raise PeerRefused("the peer does not know ranges")
            yield from answer.iter_raw()  # as it comes: what was cut off in a buffer would come again

    def put_blob(
        self, blob: BlobId, offset: int, data: bytes, total: int, gives_way: Callable[[], bool] | None = None
    ) -> bool:
        """Send a blob's octets from `offset` on; say whether all went, or it gave way in the middle."""
        headers = {"Content-Range": f"bytes {offset}-{total - 1}/{total}"} if offset else {}
        try:
            with self._line.limited(gives_way=gives_way):
                self._ask("PUT", f"/blobs/{blob.hex()}", content=data, headers=headers)
        except GaveWay:
            return False
        return True

    def news(self, told: bytes | None) -> wire.Hello | None:
        """Wait until the peer's facts are others than it has `told` (both fingerprints), up to 25 s.

        Returns what it says then, at once if nothing was told before; None if nothing came.
        """
        params = {} if told is None else {"told": told.hex()}
        answer, body = self._ask("GET", "/news", params=params, timeout=_NEWS_TIMEOUT)
        return None if answer.status_code == 204 else wire.decode_hello(body)

    def _post(self, path: str, body: bytes) -> bytes:
        return self._ask("POST", path, content=body, headers={"Content-Type": wire.CBOR_TYPE})[1]

    def _ask(self, method: str, path: str, **more: Any) -> tuple[httpx.Response, bytes]:
        """Return an answer and its body, which no peer can make longer than is allowed."""
        with self._told(), self._http.stream(method, path, **more) as answer:
            _check(answer)
            if answer.headers.get("content-encoding") != _ZSTD:
                return answer, read_bounded(answer, wire.MAX_BODY)
            # Not by httpx, which knows no bound.
            body = unsqueezed(_bounded(answer.iter_raw(), wire.MAX_BODY), wire.MAX_BODY)
            if body is None:
                raise PeerRefused("the peer's answer is not what it says, or longer than is allowed")
            return answer, body

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn httpx's errors into the node's; theirs quote addresses."""
        if self._line.is_cut:
            raise PeerUnreachable("the line was cut")
        try:
            yield
        except (httpx.RequestError, httpx.StreamError, tls.WrongNode):
            raise PeerUnreachable("the peer does not answer, or the line was cut") from None

    def _note_end(self, made: ssl.SSLSocket) -> None:
        """Note who is at the other end of a new connection: of one line it is one node."""
        shown = made.getpeercert(binary_form=True)
        node = tls.node_id_of(shown) if shown else None
        with self._lock:
            self._at_end = self._at_end or node
            self._met_another = node != self._at_end
            self._is_open = not self._met_another
            if self._met_another:
                cut(made)


class _Transport(httpx.HTTPTransport):
    """httpx's, over connections of a line."""

    def __init__(self, line: Line, context: ssl.SSLContext) -> None:
        super().__init__(verify=context, trust_env=False)
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            # Nobody may wait for a connection while blobs crawl over all of them.
            max_connections=2 * wire.IN_FLIGHT + wire.BESIDE + 1,
            max_keepalive_connections=wire.IN_FLIGHT + 2,
            keepalive_expiry=wire.KEEP_ALIVE_S,
            network_backend=line,
        )


def _check(answer: httpx.Response) -> None:
    """Raise what an answer's problem says (RFC 9457). Nobody asked for a coding that httpx would undo."""
    if answer.headers.get("content-encoding", "") not in ("", "identity", _ZSTD):
        raise PeerRefused("the peer's answer has a coding that nobody asked for")
    if not answer.is_success:
        code = code_of(read_bounded(answer, _MAX_PROBLEM))
        raise PeerRefused(f"the peer answered {answer.status_code}", code)


def read_bounded(answer: httpx.Response, limit: int) -> bytes:
    """Return the body of an answer that is being streamed.

    Raises:
        PeerRefused: it is longer than `limit`.
    """
    return _bounded(answer.iter_raw(), limit)


def _bounded(pieces: Iterable[bytes], limit: int) -> bytes:
    body = bytearray()
    for piece in pieces:
        body += piece
        if len(body) > limit:
            raise PeerRefused("the peer's answer is longer than any that is allowed")
    return bytes(body)


def code_of(body: bytes) -> str:
    """Return the stable code of a problem, or nothing."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    return str(said.get("code", ""))[:40] if isinstance(said, dict) else ""
