"""Who may open what is on its way: a forwarder that joins later can, one that was revoked cannot any more."""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.archives import by_uid, read_back, real_cd
from support.nodes import LocalNode

from node.keys import Keystore
from node.opening import own_key_id
from sync.errors import CannotOpen
from sync.ids import BlobId, EntryId
from sync.manifest import open_key, parse_manifest

CD = real_cd()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[LocalNode, LocalNode, LocalNode, LocalNode]]:
    """A cloud node and a clinic that run, a second cloud node and a courier that are not made yet."""
    with ExitStack() as stack:
        cloud, clinic, second, courier = (
            stack.enter_context(LocalNode(tmp_path / name))
            for name in ("cloud", "clinic", "second", "courier")
        )
        cloud.init()
        cloud.start()
        cloud.admit(clinic, "clinic")
        yield cloud, clinic, second, courier


def holds(node: LocalNode, entries: list[str]) -> bool:
    """Say whether a node says that it holds these studies whole."""
    told = node.stories()
    return all(node.label in told.get(one, {"holders": []})["holders"] for one in entries)


def entry_of(text: str) -> EntryId:
    return EntryId(bytes.fromhex(text))


def test_a_forwarder_that_joins_later_delivers_what_was_sealed_before(
    nodes: tuple[LocalNode, LocalNode, LocalNode, LocalNode], sandbox: str
) -> None:
    """The old cloud node dies on the day after the new one joined; its studies do not die with it."""
    cloud, clinic, second, _ = nodes
    clinic.start([cloud])
    entries = clinic.submit(CD)
    cloud.wait(lambda: holds(cloud, entries), "to hold the studies")
    roles = ["carry", "forward", "admit"]
    said = cloud.ask("POST", "/api/v1/admin/invitations", {"roles": roles, "label": "second"})
    second.join(said["code"], cloud.mesh_address)
    second.start([cloud])
    secret = Keystore.load(second.home.keys).seal_secret
    assert secret is not None
    for one in entries:
        manifest = parse_manifest(clinic.node.blobs.get(BlobId(entry_of(one))))
        with pytest.raises(CannotOpen):
            open_key(manifest, secret)

    second.wait(lambda: holds(second, entries), "to hold the studies", 60)
    second.wait(
        lambda: all(second.node.holdings.view(entry_of(one)).grants for one in entries), "the grants", 60
    )
    assert second.troubles() == []
    cloud.stop()
    second.add_pacs(sandbox)

    second.wait(lambda: second.states(entries) == {"delivered"}, "the PACS's proof", 90)
    assert read_back(sandbox, CD.values()) == by_uid(CD.values())


def test_studies_under_way_are_sealed_anew_without_a_revoked_forwarder(
    nodes: tuple[LocalNode, LocalNode, LocalNode, LocalNode], sandbox: str
) -> None:
    """The second cloud machine is stolen while the PACS is down. Nothing is lost, and nothing comes twice."""
    cloud, clinic, second, courier = nodes
    cloud.admit(second, "cloud")
    cloud.admit(courier, "courier")
    clinic.start([cloud])
    clinic.wait(lambda: len(clinic.get("/api/v1/status")["members"]) == 4, "to hear of all nodes")
    courier.start([clinic, cloud])
    entries = clinic.submit(CD)
    for node in (cloud, courier):
        node.wait(
            lambda node=node: holds(node, entries),  # type: ignore[misc]
            "to hold the studies",
        )
    stolen = Keystore.load(second.home.keys).seal_secret
    assert stolen is not None
    old_blobs = {blob.hex() for one in entries for blob, _ in clinic.node.queue.blobs(entry_of(one))}
    for one in entries:
        assert open_key(parse_manifest(clinic.node.blobs.get(BlobId(entry_of(one)))), stolen)

    seen = cloud.get("/api/v1/admin/revocations?key=second")
    body = {"node": seen["node"], "shown": seen["shown"], "reason": "stolen"}
    cloud.ask("POST", "/api/v1/admin/revocations", body)

    for node in (cloud, clinic, courier):
        node.wait(
            lambda node=node: all(node.story(one).get("goes_on_as") for one in entries),  # type: ignore[misc]
            "to hear that the studies go on",
            90,
        )
        node.wait(
            lambda node=node: old_blobs.isdisjoint(path.name for path in node.blobs()),  # type: ignore[misc]
            "to erase what the thief could open",
            60,
        )
    fresh = [clinic.story(one)["goes_on_as"] for one in entries]
    clinic.wait(
        lambda: all(clinic.node.holdings.has_manifest(entry_of(one)) for one in fresh), "the new ones", 60
    )
    for one in fresh:
        manifest = parse_manifest(clinic.node.blobs.get(BlobId(entry_of(one))))
        assert own_key_id(stolen) not in manifest.keys
        with pytest.raises(CannotOpen):
            open_key(manifest, stolen)
    assert {story["entry_id"] for story in clinic.get("/api/v1/studies")["studies"]} == set(fresh)
    assert clinic.states(fresh).isdisjoint({"withdrawn", "unknown"})

    cloud.add_pacs(sandbox)
    clinic.wait(lambda: clinic.states(fresh) == {"delivered"}, "the PACS's proof", 90)
    assert {clinic.story(one)["state"] for one in entries} == {"delivered"}, "what the phone asks for"
    assert read_back(sandbox, CD.values()) == by_uid(CD.values())
    for node in (cloud, clinic, courier):
        node.wait(lambda node=node: node.blobs() == [], "to erase everything", 60)  # type: ignore[misc]


def test_a_node_that_is_killed_while_it_seals_anew_leaves_nothing_behind(
    nodes: tuple[LocalNode, LocalNode, LocalNode, LocalNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The power goes between the new blobs and the commit: the old entry goes on, then it is sealed again."""
    cloud, clinic, second, _ = nodes
    cloud.admit(second, "cloud")
    clinic.start([cloud])
    clinic.wait(lambda: len(clinic.get("/api/v1/status")["members"]) == 3, "to hear of all nodes")
    (entry, *_) = entries = clinic.submit(CD)
    cloud.wait(lambda: holds(cloud, entries), "to hold the studies")
    before = digest(cloud)
    clinic.stop()

    class PowerCut(BaseException):
        pass

    def cut(*_: object, **__: object) -> None:
        raise PowerCut

    sealer = cloud.service._delivery._sealer
    monkeypatch.setattr(sealer, "seal_anew", lambda: None)
    seen = cloud.get("/api/v1/admin/revocations?key=second")
    cloud.ask(
        "POST", "/api/v1/admin/revocations", {"node": seen["node"], "shown": seen["shown"], "reason": ""}
    )
    held, view = cloud.node.queue.get(entry_of(entry)), cloud.node.holdings.view(entry_of(entry))
    assert held is not None and cloud.node.keystore.seal_secret is not None
    monkeypatch.setattr(sealer, "_announce", cut)
    with pytest.raises(PowerCut):
        sealer._seal_one(held, view, cloud.node.keystore.seal_secret)
    assert digest(cloud) != before
    cloud.stop()
    cloud.start()

    assert cloud.story(entry)["state"] == "at-forwarder"
    clinic.start([cloud])
    clinic.wait(lambda: clinic.story(entry).get("goes_on_as"), "to hear that it goes on", 90)
    names = {path.name for path in cloud.blobs()}
    listed = {blob.hex() for blob in cloud.node.queue.known_blobs()}
    assert names <= listed


def digest(node: LocalNode) -> str:
    """Return what stands for the files of studies on a node's disk."""
    return hashlib.sha256(repr(sorted(path.name for path in node.blobs())).encode()).hexdigest()
