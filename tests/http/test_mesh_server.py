"""The mesh port of a whole node, asked by peers of every kind: strangers, revoked, forging, cut off."""

import contextlib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from nacl.signing import SigningKey
from support.killing import noisy_study
from support.nodes import LocalNode
from support.routes import walk

from node.keys import Keystore
from node.mesh import tls, wire
from node.mesh.tls import Identity
from node.recovery import RecoverySheet
from sync import cbor, facts
from sync.bodies import Report, Revoked, Tombstone
from sync.facts import FactClass
from sync.ids import BlobId, EntryId, NodeId
from sync.reconcile import Reconciler, Snapshot


@dataclass(frozen=True)
class Mesh:
    """The node that is asked, a clinic that has studies, and nodes that are not trusted any more, or yet."""

    cloud: LocalNode
    clinic: LocalNode
    sheet: RecoverySheet
    revoked: Identity
    unheard: Identity

    @property
    def mesh_ca(self) -> tuple[bytes, ...]:
        return self.cloud.home.membership().genesis.mesh_ca


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("mesh")
    with LocalNode(folder / "cloud") as cloud, LocalNode(folder / "clinic") as clinic:
        sheet = cloud.init()
        cloud.start()
        cloud.admit(clinic, "clinic")
        thief = LocalNode(folder / "thief")
        cloud.admit(thief, "courier")
        clinic.start()
        revoked = identity_of(thief)
        mesh_id = cloud.home.membership().genesis.mesh_id
        revocation = facts.sign(
            Revoked(node=NodeId(bytes(revoked.key.verify_key)), reason="stolen"),
            key=sheet.root_key,
            mesh=mesh_id,
            timestamp=2_000_000_000_000,
        )
        cloud.node.facts.add_many([revocation])
        yield Mesh(cloud, clinic, sheet, revoked, unheard(cloud))


def identity_of(node: LocalNode) -> Identity:
    return Identity(Keystore.load(node.home.keys).node_key, node.home.membership().chain)


def unheard(cloud: LocalNode) -> Identity:
    """A node whose certificate is good and of whose admission nobody here has heard."""
    key, issuer = SigningKey.generate(), identity_of(cloud)
    own = tls.issue_member_cert(issuer.key, issuer.chain[0], bytes(key.verify_key), can_admit=False)
    return Identity(key, (own, *issuer.chain))


@contextlib.contextmanager
def client(mesh: Mesh, context: ssl.SSLContext) -> Iterator[httpx.Client]:
    url = f"https://{mesh.cloud.mesh_address}/mesh/v1"
    with httpx.Client(base_url=url, verify=context, trust_env=False, timeout=20) as one:
        yield one


@pytest.fixture
def peer(mesh: Mesh) -> Iterator[httpx.Client]:
    """The clinic's line to the cloud node."""
    with client(mesh, tls.client_context(identity_of(mesh.clinic), mesh.mesh_ca)) as one:
        yield one


@pytest.fixture
def nobody(mesh: Mesh) -> Iterator[httpx.Client]:
    """Somebody without a certificate."""
    with client(mesh, tls.joining_context(lambda _: True)) as one:
        yield one


@dataclass(frozen=True)
class Announced:
    """A study of the clinic's that the cloud node knows of and lacks."""

    entry: EntryId
    manifest: bytes
    blobs: dict[BlobId, bytes]


_NUMBERS = iter(range(900, 1000))


@pytest.fixture
def announced(mesh: Mesh, peer: httpx.Client) -> Announced:
    number = next(_NUMBERS)
    (text,) = mesh.clinic.submit(noisy_study(number, 1, 1_000_000))
    entry = EntryId(bytes.fromhex(text))
    clinic = mesh.clinic.node
    study = clinic.holdings.view(entry).study
    assert study is not None
    assert_ok(peer.post("/facts", content=cbor.encode([study.raw])))
    listed = [blob for blob, _ in clinic.queue.blobs(entry)]
    return Announced(
        entry, clinic.blobs.get(BlobId(entry)), {blob: clinic.blobs.get(blob) for blob in listed[1:]}
    )


def assert_ok(answer: httpx.Response) -> httpx.Response:
    assert answer.is_success, answer.text
    return answer


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Return status and code of an error, which is a problem as RFC 9457 says."""
    assert answer.headers["content-type"] == "application/problem+json"
    said = answer.json()
    assert said["status"] == answer.status_code
    assert said["detail"]
    return answer.status_code, said["code"]


def hello_of(key: SigningKey) -> bytes:
    return wire.Hello(NodeId(bytes(key.verify_key)), bytes(16), bytes(16), 0, "1").encode()


def offer_of(key: SigningKey, **what: Any) -> bytes:
    return cbor.encode({"hello": cbor.decode(hello_of(key)), "facts": [], "entries": []} | what)


def lack_of(peer: httpx.Client, entry: EntryId) -> Any:
    return wire.decode_lacks(assert_ok(peer.post("/lack", content=cbor.encode([entry]))).content).get(entry)


def lack_of_node(mesh: Mesh, entry: EntryId) -> Any:
    return mesh.cloud.service._exchange.lack(entry)


def put(peer: httpx.Client, blob: bytes, data: bytes, **headers: str) -> httpx.Response:
    return peer.put(f"/blobs/{blob.hex()}", content=data, headers=headers)


# -- who gets in ---------------------------------------------------------------------------------------


def test_a_stranger_s_certificate_does_not_pass_the_handshake(mesh: Mesh) -> None:
    """Another mesh's laptop on the same Wi-Fi is not even heard."""
    root = SigningKey.generate()
    ca = tls.make_mesh_ca(root)
    key = SigningKey.generate()
    own = tls.issue_member_cert(root, ca, bytes(key.verify_key), can_admit=False)
    context = tls.joining_context(lambda _: True)
    tls._load(context, Identity(key, (own,)))

    with client(mesh, context) as stranger, pytest.raises(httpx.TransportError):
        stranger.post("/hello", content=hello_of(key))


def test_without_a_certificate_only_joining_is_answered(mesh: Mesh, nobody: httpx.Client) -> None:
    """Whoever joins has none yet; all else is for members."""
    routes = set(walk(mesh.cloud.service.mesh_app().routes))
    closed = {(method, path) for method, path in routes if not path.endswith("/join")}
    assert len(closed) >= 7

    for method, path in closed:
        url = path.removeprefix("/mesh/v1").replace("{name}", "0" * 64)
        assert problem(nobody.request(method, url, content=b"")) == (403, "not-a-member"), path
    assert cbor.decode(assert_ok(nobody.get("/join")).content)["name"] == "Test"


@pytest.mark.parametrize("who", ["revoked", "unheard"])
def test_who_is_not_trusted_gets_permanent_facts_and_nothing_else(
    mesh: Mesh, announced: Announced, who: str
) -> None:
    """A stolen laptop learns that it was revoked; it learns nothing of any study."""
    identity = getattr(mesh, who)
    ledger = mesh.cloud.node.facts.ledger
    with client(mesh, tls.client_context(identity, mesh.mesh_ca)) as outsider:
        assert_ok(outsider.post("/hello", content=hello_of(identity.key)))
        need = reconciled(outsider, "permanent")
        got = cbor.decode(assert_ok(outsider.post("/facts/get", content=cbor.encode(need))).content)
        live = list(ledger.facts(FactClass.LIVE))
        none = cbor.decode(assert_ok(outsider.post("/facts/get", content=cbor.encode(live))).content)
        entries = cbor.encode([announced.entry])

        assert {facts.parse(raw, mesh=ledger.mesh).header.kind for raw in got} == {"member", "revoked"}
        assert (live != [], none) == (True, [])
        offer = offer_of(identity.key, entries=[[announced.entry, announced.manifest]])
        assert cbor.decode(assert_ok(outsider.post("/offer", content=offer)).content)["lacks"] == {}
        assert lack_of_node(mesh, announced.entry) == wire.Lack(True, ())
        for answer in (
            outsider.post("/reconcile/live", content=Reconciler(Snapshot([]), 4096).initiate()),
            outsider.post("/lack", content=entries),
            outsider.get(f"/blobs/{announced.entry.hex()}"),
            put(outsider, announced.entry, announced.manifest),
            outsider.get("/news"),
        ):
            assert problem(answer) == (403, "not-a-member")


def reconciled(outsider: httpx.Client, name: str) -> list[bytes]:
    """Return the ids of all facts of a class that the node offers to someone who has none."""
    reconciler = Reconciler(Snapshot([]), wire.FRAME_LIMIT)
    message: bytes | None = reconciler.initiate()
    need: list[bytes] = []
    while message is not None:
        answer = assert_ok(outsider.post(f"/reconcile/{name}", content=message))
        message = reconciler.reconcile(answer.content)
        need += reconciler.need
    return need


def test_nobody_says_hello_in_another_s_name(mesh: Mesh, peer: httpx.Client) -> None:
    """What a peer may do hangs on its certificate, never on what it says."""
    assert problem(peer.post("/hello", content=hello_of(mesh.revoked.key))) == (400, "bad-message")


# -- facts ---------------------------------------------------------------------------------------------


def test_a_forged_fact_is_refused_and_its_neighbours_are_taken(mesh: Mesh, peer: httpx.Client) -> None:
    """One bad fact in a batch must not hold up the tombstone beside it."""
    clinic = mesh.clinic.node.facts
    raws = []
    for number in range(3):
        body = Report(free=number, tombstones={}, still=(), version="test", plans="")
        stamp = clinic.ask(lambda ledger: ledger.newest_of(clinic.node_id)) + 1000 + number
        raws.append(facts.sign(body, key=clinic.key, mesh=clinic.ledger.mesh, timestamp=stamp))
    raws[1] = raws[1][:-1] + bytes([raws[1][-1] ^ 1])

    said = cbor.decode(assert_ok(peer.post("/facts", content=cbor.encode(raws))).content)

    assert said["refused"] == [[1, "bad-fact"]]
    assert said["admitted"] == 2


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/hello", b""),
        ("/hello", cbor.encode({"v": 1})),
        ("/facts/get", cbor.encode([b"short"])),
        ("/facts/get", cbor.encode([bytes(32)] * 2001)),
        ("/facts", cbor.encode({"a": 1})),
        ("/facts", b"\x9f\xff"),
        ("/lack", cbor.encode([1])),
        ("/offer", cbor.encode({"hello": {}, "facts": [], "entries": []})),
        ("/offer", cbor.encode({"hello": 1, "facts": [], "entries": []})),
        ("/offer", offer_of(SigningKey(bytes(32)), facts=[1])),
        ("/offer", offer_of(SigningKey(bytes(32)), entries=[[b"short", None]])),
        ("/offer", offer_of(SigningKey(bytes(32)), entries=[[bytes(32), 1]])),
        ("/offer", offer_of(SigningKey(bytes(32)))),  # in another's name
    ],
)
def test_a_malformed_message_is_told_so(peer: httpx.Client, path: str, body: bytes) -> None:
    """With a stable code, so that two versions can be told apart from an attack."""
    assert problem(peer.post(path, content=body)) == (400, "bad-message")


def test_a_broken_reconcile_message_breaks_nothing(peer: httpx.Client) -> None:
    """Bytes from the network are the sender's fault, not ours."""
    status, _ = problem(peer.post("/reconcile/live", content=b"\xff\xff\xff"))

    assert status == 400
    assert problem(peer.post("/reconcile/other", content=b"")) == (404, "not-found")


@pytest.mark.parametrize("path", ["/hello", "/facts", "/facts/get", "/lack", "/reconcile/live"])
def test_a_body_that_is_too_large_is_broken_off(peer: httpx.Client, path: str) -> None:
    """A peer must not be able to fill the memory."""
    assert problem(peer.post(path, content=bytes(wire.MAX_BODY + 1))) == (413, "too-large")


def test_a_request_to_join_that_is_too_large_is_broken_off(nobody: httpx.Client) -> None:
    """Whoever has no certificate gets the least patience."""
    assert problem(nobody.post("/join", content=bytes(16_385))) == (413, "too-large")
    assert problem(nobody.post("/join", content=b"?")) == (400, "bad-message")


# -- blobs ---------------------------------------------------------------------------------------------


def test_a_study_is_taken_in_and_given_out_again(
    mesh: Mesh, peer: httpx.Client, announced: Announced
) -> None:
    """Manifest, then blobs, then custody; and each octet back, whole or from anywhere on."""
    assert lack_of(peer, announced.entry) == wire.Lack(True, ())
    assert put(peer, announced.entry, announced.manifest).status_code == 201
    assert lack_of(peer, announced.entry) == wire.Lack(False, tuple((blob, 0) for blob in announced.blobs))
    for blob, data in announced.blobs.items():
        assert put(peer, blob, data).status_code == 201
    assert lack_of(peer, announced.entry) is None
    assert mesh.cloud.node.facts.node_id in mesh.cloud.node.holdings.view(announced.entry).holders

    blob, data = next(iter(announced.blobs.items()))
    whole = peer.get(f"/blobs/{blob.hex()}")
    rest = peer.get(f"/blobs/{blob.hex()}", headers={"Range": "bytes=1000-"})
    assert (whole.status_code, whole.content) == (200, data)
    assert (rest.status_code, rest.content) == (206, data[1000:])
    assert rest.headers["content-range"] == f"bytes 1000-{len(data) - 1}/{len(data)}"
    beyond = peer.get(f"/blobs/{blob.hex()}", headers={"Range": f"bytes={len(data)}-"})
    assert problem(beyond) == (416, "range-not-satisfiable")


def test_a_blob_that_is_not_here_is_not_found(peer: httpx.Client) -> None:
    """A name that is none is told apart from one that is not here."""
    assert problem(peer.get(f"/blobs/{bytes(32).hex()}")) == (404, "blob-missing")
    assert problem(peer.get("/blobs/nothing")) == (422, "bad-request")


def test_a_blob_that_nobody_asked_for_is_refused(mesh: Mesh, peer: httpx.Client) -> None:
    """A node's disk is filled by studies that it knows of, and by nothing else."""
    before = mesh.cloud.blobs()

    assert problem(put(peer, bytes(32), b"anything")) == (409, "not-wanted")
    assert mesh.cloud.blobs() == before


def test_a_blob_that_is_not_what_its_name_says_is_dropped(
    mesh: Mesh, peer: httpx.Client, announced: Announced
) -> None:
    """Whole or in parts: nothing of it stays, and the right one is still wanted."""
    put(peer, announced.entry, announced.manifest)
    (blob, data), *_ = announced.blobs.items()
    half, size = len(data) // 2, len(data)

    assert problem(put(peer, blob, bytes(size))) == (400, "bad-blob")
    first = put(peer, blob, bytes(half), **{"Content-Range": f"bytes 0-{half - 1}/{size}"})
    assert first.status_code == 202
    rest = put(peer, blob, data[half:], **{"Content-Range": f"bytes {half}-{size - 1}/{size}"})
    assert problem(rest) == (400, "bad-blob")

    lack = lack_of(peer, announced.entry)
    assert dict(lack.blobs)[blob] == 0
    assert put(peer, blob, data).status_code == 201


def test_a_manifest_that_is_none_is_refused(peer: httpx.Client, announced: Announced) -> None:
    """Under the name of another there is nothing to be had."""
    assert problem(put(peer, announced.entry, announced.manifest[:-1]))[0] == 400
    assert lack_of(peer, announced.entry) == wire.Lack(True, ())


def test_a_blob_larger_than_any_is_refused_before_it_is_read(
    peer: httpx.Client, announced: Announced
) -> None:
    """By what is announced, and by what comes beyond it."""
    put(peer, announced.entry, announced.manifest)
    (blob, data), *_ = announced.blobs.items()

    assert problem(put(peer, blob, bytes(wire.MAX_BLOB + 1))) == (413, "too-large")
    more = put(peer, blob, data, **{"Content-Range": "bytes 0-9/10"})
    assert problem(more) == (413, "too-large")
    assert problem(put(peer, blob, data, **{"Content-Range": "all of it"})) == (422, "bad-request")


def test_a_cut_upload_goes_on_where_it_was_cut(mesh: Mesh, peer: httpx.Client, announced: Announced) -> None:
    """A courier passes by for a minute; what came in that minute counts."""
    put(peer, announced.entry, announced.manifest)
    (blob, data), *_ = announced.blobs.items()
    half, size = len(data) // 2, len(data)
    head = (
        f"PUT /mesh/v1/blobs/{blob.hex()} HTTP/1.1\r\nHost: cloud\r\nContent-Length: {size}\r\n\r\n".encode()
    )
    context = tls.client_context(identity_of(mesh.clinic), mesh.mesh_ca)
    host, port = mesh.cloud.mesh_address.split(":")
    with socket.create_connection((host, int(port))) as raw, context.wrap_socket(raw) as line:
        line.sendall(head + data[:half])
        # One way only: for a ticket that is not read the kernel would send a reset, and throw away what is
        # under way.
        socket.socket.shutdown(line, socket.SHUT_WR)
        partial = mesh.cloud.node.blobs.partial_size
        # uvicorn forgets the last 64 KiB, which it had not handed on when the line was cut.
        mesh.cloud.wait(lambda: half - 200_000 < partial(blob) <= half, "what came to be kept")

    half = dict(lack_of(peer, announced.entry).blobs)[blob]
    assert half == partial(blob)
    wrong = put(peer, blob, data[100:], **{"Content-Range": f"bytes 100-{size - 1}/{size}"})
    assert problem(wrong) == (409, "wrong-offset")
    assert wrong.json()["offset"] == half
    rest = put(peer, blob, data[half:], **{"Content-Range": f"bytes {half}-{size - 1}/{size}"})
    assert rest.status_code == 201
    assert mesh.cloud.node.blobs.get(blob) == data


def test_a_manifest_that_a_power_cut_left_without_its_list_is_taken_again(
    mesh: Mesh, peer: httpx.Client, announced: Announced
) -> None:
    """The file was durable, the row was not; the study must not be stuck for ever."""
    mesh.cloud.node.blobs.put_verified(BlobId(announced.entry), announced.manifest)
    assert lack_of(peer, announced.entry) == wire.Lack(True, ())

    assert put(peer, announced.entry, announced.manifest).status_code == 201

    assert lack_of(peer, announced.entry) == wire.Lack(False, tuple((blob, 0) for blob in announced.blobs))


def _tombstone(origin: NodeId) -> Tombstone:
    return Tombstone(
        outcome="delivered",
        destination="main",
        evidence="read-back",
        instances=1,
        proven=1,
        receipt=bytes(32),
        size=1,
        origin=origin,
    )


@pytest.mark.parametrize("part", ["manifest", "blob", "half"])
def test_what_comes_in_while_its_study_is_erased_is_erased_as_well(
    mesh: Mesh, peer: httpx.Client, announced: Announced, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tombstone arrives over another line in that very moment; no sealed copy may stay behind."""
    holdings = mesh.cloud.node.holdings
    (blob, data), *_ = announced.blobs.items()
    if part != "manifest":
        put(peer, announced.entry, announced.manifest)
    name = "append_partial" if part == "half" else "put_verified"
    keep = getattr(holdings.blobs, name)

    def erased_meanwhile(*arguments: Any) -> Any:
        if holdings.view(announced.entry).tombstone is None:
            holdings.facts.issue(_tombstone(mesh.cloud.node.facts.node_id), announced.entry)
        holdings.erase(announced.entry)
        return keep(*arguments)

    monkeypatch.setattr(holdings.blobs, name, erased_meanwhile)
    if part == "half":
        put(peer, blob, data[:100], **{"Content-Range": f"bytes 0-99/{len(data)}"})
    elif part == "blob":
        put(peer, blob, data)
    else:
        put(peer, announced.entry, announced.manifest)

    names = {path.name for path in mesh.cloud.blobs()}
    assert not names & {announced.entry.hex(), *(one.hex() for one in announced.blobs)}
    assert holdings.queue.blobs(announced.entry) == []
