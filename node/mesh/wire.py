"""The bodies of mesh requests: CBOR in and out, checked, with limits (docs/protocol.md §5).

Shared by `node.mesh.server` and `node.mesh.client`, so that both ends speak from one page.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from node.errors import Refused
from sync import cbor
from sync.errors import BadCbor
from sync.ids import BlobId, EntryId, FactId, NodeId
from sync.manifest import MAX_MANIFEST_BYTES

PROTOCOL = 1
CBOR_TYPE = "application/cbor"
OCTETS_TYPE = "application/octet-stream"
SNAPSHOT_HEADER = "clinicmesh-snapshot"
MAX_BODY = 8 * 1024 * 1024
MAX_BLOB = MAX_MANIFEST_BYTES  # blobs of a stream are at most 4 MiB + 48
MAX_IDS = 2_000
FRAME_LIMIT = 128 * 1024
FACTS_BATCH_BYTES = 1024 * 1024
NEWS_WAIT_S = 25.0
KEEP_ALIVE_S = 50.0  # that a connection may be idle; the server waits a little longer
OFFER = "offer"  # in `caps`: `POST /offer` is known
CAPS = ("zstd", OFFER)  # bodies of facts may come as one zstd frame (RFC 9659); POST /offer is known
IN_FLIGHT = 4  # blobs at once over one line
BESIDE = 3  # small studies that are moved beside each other
METERED = "metered"  # in `caps`: nobody should ask again and again, since octets cost money here
OFFERED = 8  # entries that the first request of a meeting offers
OFFERED_BYTES = 64 * 1024  # of manifests in it: what a slow line carries in about a second


@dataclass(frozen=True, slots=True)
class Hello:
    """What nodes tell each other first. `permanent`, `live`: root fingerprints, 16 octets."""

    node: NodeId
    permanent: bytes
    live: bytes
    free: int
    version: str
    caps: tuple[str, ...] = ()  # what it understands beyond version 1

    @property
    def fingerprints(self) -> bytes:
        """Both fingerprints, 32 octets: equal ones mean equal facts."""
        return self.permanent + self.live

    def encode(self) -> bytes:
        """Return the body."""
        return cbor.encode(self.as_map())

    def as_map(self) -> dict[str, Any]:
        """Return what the body says."""
        return {
            "v": PROTOCOL,
            "node": self.node,
            "permanent": self.permanent,
            "live": self.live,
            "free": self.free,
            "version": self.version,
            "caps": list(self.caps),
        }


def decode_map(body: bytes) -> Mapping[Any, Any]:
    """Return the map that a body holds.

    Raises:
        Refused: it is something else (`bad-message`).
    """
    value = _decode(body)
    if not isinstance(value, dict):
        raise Refused("bad-message", "the message is not a map")
    return value


def decode_hello(body: bytes) -> Hello:
    """Return a peer's hello; keys that a later version may add are passed over.

    Raises:
        Refused: it is malformed (`bad-message`).
    """
    return _hello(decode_map(body))


def _hello(value: Any) -> Hello:
    if not isinstance(value, dict):
        raise Refused("bad-message", "the hello is malformed")
    node, permanent, live = value.get("node"), value.get("permanent"), value.get("live")
    free, version = value.get("free"), value.get("version")
    if not (_octets(node, 32) and _octets(permanent, 16) and _octets(live, 16)):
        raise Refused("bad-message", "the hello is malformed")
    if type(free) is not int or type(version) is not str or len(version) > 64:
        raise Refused("bad-message", "the hello is malformed")
    assert isinstance(node, bytes) and isinstance(permanent, bytes) and isinstance(live, bytes)
    caps = value.get("caps")
    known = tuple(one for one in caps if type(one) is str) if isinstance(caps, list) else ()
    return Hello(NodeId(node), permanent, live, max(free, 0), version, known)


def decode_ids(body: bytes) -> list[bytes]:
    """Return a list of at most 2,000 ids of 32 octets.

    Raises:
        Refused: it is something else.
    """
    value = _decode(body)
    if not isinstance(value, list) or len(value) > MAX_IDS or not all(_octets(v, 32) for v in value):
        raise Refused("bad-message", "the message is not a list of ids")
    return value


def decode_facts(body: bytes) -> list[bytes]:
    """Return a list of at most 2,000 signed facts.

    Raises:
        Refused: it is something else.
    """
    value = _decode(body)
    if not isinstance(value, list) or len(value) > MAX_IDS or not all(type(v) is bytes for v in value):
        raise Refused("bad-message", "the message is not a list of facts")
    return value


@dataclass(frozen=True, slots=True)
class Lack:
    """What a node lacks of an entry that it wants. Without the manifest it cannot say which blobs."""

    manifest: bool
    blobs: tuple[tuple[BlobId, int], ...]  # with the octets that are here already


@dataclass(frozen=True, slots=True)
class Offer:
    """What a meeting begins with: study facts, and what of these entries could be given, first things first.

    A manifest that is too long to come along is None.
    """

    facts: tuple[bytes, ...]
    entries: tuple[tuple[EntryId, bytes | None], ...]


def encode_offer(hello: Hello, offer: Offer) -> bytes:
    """Return the body of `/offer`."""
    entries = [[entry, manifest] for entry, manifest in offer.entries]
    return cbor.encode({"hello": hello.as_map(), "facts": list(offer.facts), "entries": entries})


def decode_offer(body: bytes) -> tuple[Hello, Offer]:
    """Return what a peer that dials says and offers.

    Raises:
        Refused: malformed, or more than is allowed.
    """
    match decode_map(body):
        case {"hello": hello, "facts": list(raws), "entries": list(entries)} if (
            len(raws) <= MAX_IDS and len(entries) <= MAX_IDS and all(type(raw) is bytes for raw in raws)
        ):
            return _hello(hello), Offer(tuple(raws), tuple(_offered(item) for item in entries))
    raise Refused("bad-message", "the offer is malformed")


def encode_answer(hello: Hello, lacks: Mapping[EntryId, Lack | None]) -> bytes:
    """Return the body of the answer to `/offer`."""
    return cbor.encode({"hello": hello.as_map(), "lacks": _lacks_map(lacks)})


def decode_answer(body: bytes) -> tuple[Hello, dict[EntryId, Lack]]:
    """Return what the peer says, and what it lacks of what it was offered.

    Raises:
        Refused: malformed.
    """
    value = decode_map(body)
    return _hello(value.get("hello")), _lacks(value.get("lacks"))


def encode_lacks(lacks: Mapping[EntryId, Lack | None]) -> bytes:
    """Return the body of the answer to `/lack`."""
    return cbor.encode(_lacks_map(lacks))


def _lacks_map(lacks: Mapping[EntryId, Lack | None]) -> dict[EntryId, Any]:
    return {
        entry: None
        if lack is None
        else {"manifest": lack.manifest, "blobs": [[blob, offset] for blob, offset in lack.blobs]}
        for entry, lack in lacks.items()
    }


def decode_lacks(body: bytes) -> dict[EntryId, Lack]:
    """Return what a peer lacks, without what it does not want.

    Raises:
        Refused: malformed.
    """
    return _lacks(decode_map(body))


def _lacks(value: Any) -> dict[EntryId, Lack]:
    if not isinstance(value, dict):
        raise Refused("bad-message", "the answer is malformed")
    lacks: dict[EntryId, Lack] = {}
    for entry, said in value.items():
        match said:
            case None:
                continue
            case {"manifest": bool(manifest), "blobs": list(blobs)} if _octets(entry, 32):
                lacks[EntryId(entry)] = Lack(manifest, tuple(_offset(item) for item in blobs))
            case _:
                raise Refused("bad-message", "the answer is malformed")
    return lacks


def fact_ids(ids: list[bytes]) -> list[FactId]:
    """Name ids as fact ids."""
    return [FactId(one) for one in ids]


def _offset(item: Any) -> tuple[BlobId, int]:
    match item:
        case [bytes(blob), int(offset)] if len(blob) == 32 and offset >= 0:
            return BlobId(blob), offset
    raise Refused("bad-message", "the answer is malformed")


def _offered(item: Any) -> tuple[EntryId, bytes | None]:
    match item:
        case [bytes(entry), bytes(manifest)] if len(entry) == 32:
            return EntryId(entry), manifest
        case [bytes(entry), None] if len(entry) == 32:
            return EntryId(entry), None
    raise Refused("bad-message", "the offer is malformed")


def _decode(body: bytes) -> Any:
    try:
        return cbor.decode(body)
    except BadCbor:
        raise Refused("bad-message", "the message is not deterministic CBOR") from None


def _octets(value: Any, size: int) -> bool:
    return type(value) is bytes and len(value) == size
