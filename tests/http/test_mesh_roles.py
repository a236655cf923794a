"""What a member of the mesh is given hangs on its roles, asked on every request."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from support.nodes import LocalNode
from support.slices import made_slice

from node.keys import Keystore
from node.mesh import tls
from node.mesh.tls import Identity
from sync import cbor
from sync.bodies import Member, Revoked, Role, consent_message
from sync.facts import FactClass, parse
from sync.ids import BlobId, EntryId, FactId, NodeId


@dataclass(frozen=True)
class Mesh:
    cloud: LocalNode
    clinic: LocalNode
    entry: str

    def blobs(self) -> list[BlobId]:
        """Return the manifest and the blobs of the study, which the cloud node holds."""
        entry = EntryId(bytes.fromhex(self.entry))
        return [blob for blob, _ in self.cloud.node.queue.blobs(entry)]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("mesh")
    with LocalNode(folder / "cloud") as cloud, LocalNode(folder / "clinic") as clinic:
        cloud.init()
        cloud.start()
        admit(cloud, clinic, Role.INGEST, Role.ENROL)
        clinic.start([cloud])
        (entry,) = clinic.submit({"IM": made_slice(51, 1, octets=20_000)})
        cloud.wait(lambda: cloud.states([entry]) == {"at-forwarder"}, "the copy")
        clinic.stop()
        yield Mesh(cloud, clinic, entry)


def admit(cloud: LocalNode, node: LocalNode, *roles: Role) -> None:
    said = cloud.ask("POST", "/api/v1/admin/invitations", {"roles": list(roles), "label": node.label})
    node.join(said["code"], cloud.mesh_address)


@contextlib.contextmanager
def line_of(mesh: Mesh, node: LocalNode) -> Iterator[httpx.Client]:
    """Give a line to the cloud node's mesh port with another node's certificate."""
    membership = node.home.membership()
    identity = Identity(Keystore.load(node.home.keys).node_key, membership.chain)
    context = tls.client_context(identity, membership.genesis.mesh_ca)
    url = f"https://{mesh.cloud.mesh_address}/mesh/v1"
    with httpx.Client(base_url=url, verify=context, trust_env=False, timeout=20) as one:
        yield one


def get(line: httpx.Client, blob: bytes) -> httpx.Response:
    return line.get(f"/blobs/{blob.hex()}")


def test_who_may_not_carry_is_given_no_blob(mesh: Mesh, tmp_path: Path) -> None:
    """A machine that only enrols phones has no business with sealed studies, or with filling its disk."""
    desk = LocalNode(tmp_path / "desk")
    admit(mesh.cloud, desk, Role.ENROL)
    with line_of(mesh, desk) as line:
        for blob in mesh.blobs():
            answer = get(line, blob)
            assert (answer.status_code, answer.json()["code"]) == (403, "may-not-carry")
        assert get(line, bytes(32)).json()["code"] == "may-not-carry"


def test_an_origin_gets_its_own_study_back(mesh: Mesh) -> None:
    """A damaged blob at the clinic is repaired from a copy, also if the clinic carries for nobody."""
    with line_of(mesh, mesh.clinic) as line:
        for blob in mesh.blobs():
            assert get(line, blob).content == mesh.cloud.node.blobs.get(blob)


def test_a_carrier_that_is_demoted_or_revoked_is_refused_on_the_same_line(mesh: Mesh, tmp_path: Path) -> None:
    """A line that was opened yesterday must not outlive the trust."""
    courier = LocalNode(tmp_path / "courier")
    admit(mesh.cloud, courier, Role.CARRY, Role.ENROL)
    me = NodeId(bytes(Keystore.load(courier.home.keys).node_key.verify_key))
    blob = mesh.blobs()[0]
    with line_of(mesh, courier) as line:
        assert get(line, blob).status_code == 200

        narrow(mesh.cloud, courier, me)
        assert get(line, blob).json()["code"] == "may-not-carry"

        facts = mesh.cloud.node.facts
        revocation = facts.issue(Revoked(me, "stolen"))
        live = list(facts.ledger.facts(FactClass.LIVE))
        assert live
        for method, path, body in (
            ("GET", f"/blobs/{blob.hex()}", b""),
            ("PUT", f"/blobs/{blob.hex()}", b"x"),
            ("POST", "/lack", cbor.encode([bytes.fromhex(mesh.entry)])),
            ("POST", "/reconcile/live", b"\x61"),
            ("GET", "/news", b""),
        ):
            answer = line.request(method, path, content=body)
            assert (answer.status_code, answer.json()["code"]) == (403, "not-a-member"), path
        asked = cbor.encode([revocation.id, *live])
        given = cbor.decode(line.post("/facts/get", content=asked).content)
        assert [parse(raw, mesh=facts.ledger.mesh).id for raw in given] == [revocation.id]


def narrow(cloud: LocalNode, node: LocalNode, me: NodeId) -> None:
    """Let the cloud node supersede what it said of a node by less."""
    facts = cloud.node.facts
    old: list[FactId] = [
        fact.id
        for fact in facts.ledger.facts(FactClass.PERMANENT).values()
        if isinstance(fact.body, Member) and fact.body.node == me
    ]
    keystore = Keystore.load(node.home.keys)
    message = consent_message(mesh=facts.ledger.mesh, author=facts.node_id, seal=keystore.seal_public)
    consent = keystore.node_key.sign(message).signature
    facts.issue(Member(me, keystore.seal_public, (Role.ENROL.value,), node.label, consent, tuple(old)))
