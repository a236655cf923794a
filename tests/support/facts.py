"""Makers of keys, meshes, members and facts for tests. Everything follows from names: no randomness."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from nacl.signing import SigningKey

from sync import facts
from sync.bodies import (
    Audit,
    Body,
    Claim,
    Custody,
    Decision,
    DestinationBody,
    Device,
    Grant,
    Member,
    Recall,
    Remains,
    Report,
    Revoked,
    Role,
    StickSeen,
    Study,
    Tombstone,
    Trouble,
    Vouched,
    WebLeaf,
    WebRequest,
    consent_message,
)
from sync.entries import EntryView
from sync.facts import Fact
from sync.ids import BlobId, EntryId, FactId, HlcMs, MeshId, NodeId
from sync.ledger import Ledger

ALL = tuple(Role)
NO_ID = bytes(32)


def digest(*parts: object) -> bytes:
    """Return 32 bytes that stand for what is named."""
    return hashlib.sha256(":".join(map(str, parts)).encode()).digest()


def key_of(name: str) -> SigningKey:
    """Return the signing key of a name."""
    return SigningKey(digest("key", name))


def node_of(name: str) -> NodeId:
    """Return the node id of a name."""
    return NodeId(bytes(key_of(name).verify_key))


def entry_of(name: str) -> EntryId:
    """Return an entry id by a name, for tests that need no manifest."""
    return EntryId(digest("entry", name))


def id_of(raw: bytes) -> FactId:
    """Return the id of signed bytes."""
    return FactId(hashlib.sha256(raw).digest())


@dataclass
class MeshMaker:
    """A mesh whose nodes are names. Each fact gets the next timestamp unless one is given."""

    roots: tuple[str, ...] = ("root",)
    name: str = "test"
    time: int = 1_000
    keys: dict[str, SigningKey] = field(default_factory=dict)

    @property
    def id(self) -> MeshId:
        return MeshId(digest("mesh", self.name))

    @property
    def root_ids(self) -> tuple[NodeId, ...]:
        return tuple(self.node(root) for root in self.roots)

    def key(self, name: str) -> SigningKey:
        if name not in self.keys:
            self.keys[name] = key_of(name)
        return self.keys[name]

    def node(self, name: str) -> NodeId:
        return NodeId(bytes(self.key(name).verify_key))

    def say(self, author: str, body: Body, entry: EntryId | None = None, *, at: int | None = None) -> bytes:
        """Sign a fact."""
        return facts.sign(body, key=self.key(author), mesh=self.id, timestamp=self._at(at), entry=entry)

    def say_unknown(
        self,
        author: str,
        kind: str,
        payload: dict[str, Any] | None = None,
        *,
        permanent: bool = False,
        entry: EntryId | None = None,
        slot: bytes | None = None,
        critical: bool = False,
        at: int | None = None,
    ) -> bytes:
        """Sign a fact of a kind that this version does not know."""
        header = facts.Header(
            kind=kind,
            author=self.node(author),
            timestamp=self._at(at),
            fact_class=facts.FactClass.PERMANENT if permanent else facts.FactClass.LIVE,
            entry=entry,
            slot=slot,
            critical=critical,
        )
        return facts.sign_raw(header, payload or {}, key=self.key(author), mesh=self.id)

    def member(
        self,
        author: str,
        node: str,
        roles: Iterable[str] = ALL,
        *,
        label: str | None = None,
        supersedes: Iterable[bytes] = (),
        expires: int | None = None,
        seal: bytes | None = None,
        at: int | None = None,
    ) -> bytes:
        """Sign the admission of a node, with its consent."""
        message = consent_message(mesh=self.id, author=self.node(author), seal=seal)
        body = Member(
            node=self.node(node),
            seal=seal,
            roles=tuple(str(role) for role in roles),
            label=label or node,
            consent=self.key(node).sign(message).signature,
            supersedes=tuple(id_of(raw) for raw in supersedes),
            expires=expires,
        )
        return self.say(author, body, at=at)

    def revoke(self, author: str, node: str) -> bytes:
        return self.say(author, Revoked(self.node(node), "stolen"))

    def vouch(self, author: str, node: str, *raws: bytes) -> bytes:
        return self.say(author, Vouched(self.node(node), tuple(id_of(raw) for raw in raws)))

    def study(
        self, origin: str, entry: EntryId, *, urgent: bool = False, destination: str = "pacs",
        again: bytes | None = None, author: str | None = None, at: int | None = None,
    ) -> bytes:  # fmt: skip
        body = Study(
            manifest=BlobId(entry),
            size=1000,
            blobs=2,
            priority="urgent" if urgent else "routine",
            destination=destination,
            submission=digest("submission", entry.hex())[:16],
            origin=self.node(origin),
            again=again,
        )
        return self.say(author or origin, body, entry, at=at)

    def custody(self, node: str, entry: EntryId, *, holds: bool = True, at: int | None = None) -> bytes:
        return self.say(node, Custody(holds), entry, at=at)

    def tombstone(
        self, author: str, entry: EntryId, *, origin: str = "clinic", outcome: str = "delivered",
        study: bytes | None = None, at: int | None = None,
    ) -> bytes:  # fmt: skip
        body = Tombstone(
            outcome=outcome,
            destination="pacs",
            evidence="read-back",
            instances=2,
            proven=2 if outcome == "delivered" else 0,
            receipt=digest("receipt", entry.hex()) if outcome == "delivered" else None,
            size=1000,
            origin=self.node(origin),
            study=study,
        )
        return self.say(author, body, entry, at=at)

    def parse(self, raw: bytes) -> Fact:
        return facts.parse(raw, mesh=self.id)

    def ledger(self, raws: Iterable[bytes] = ()) -> Ledger:
        """Return a ledger that has heard these facts, in this order."""
        ledger = Ledger(self.id, self.root_ids)
        for raw in raws:
            ledger.add(raw)
        return ledger

    def _at(self, at: int | None) -> HlcMs:
        self.time += 1
        return HlcMs(self.time if at is None else at)


def usual_mesh() -> tuple[MeshMaker, list[bytes]]:
    """Return a mesh of one root with a clinic, a courier, a cloud node and an admin, and its member facts."""
    mesh = MeshMaker()
    return mesh, [
        mesh.member("root", "clinic", [Role.INGEST, Role.CARRY]),
        mesh.member("root", "courier", [Role.CARRY]),
        mesh.member("root", "cloud", [Role.CARRY, Role.FORWARD]),
        mesh.member("root", "admin", [Role.ADMIT, Role.ENROL, Role.INGEST, Role.CARRY, Role.FORWARD]),
    ]


def bodies(mesh: MeshMaker) -> Iterator[tuple[Body, EntryId | None]]:
    """Yield one body of every known kind, with the entry it is about."""
    entry, node = entry_of("sample"), mesh.node("clinic")
    consent = mesh.key("clinic").sign(
        consent_message(mesh=mesh.id, author=mesh.node("root"), seal=digest("seal"))
    )
    yield (
        Member(node, digest("seal"), ("ingest", "carry"), "Clinic 1", consent.signature, (FactId(NO_ID),), 9),
        None,
    )
    yield Revoked(node, "stolen"), None
    yield Vouched(node, (FactId(NO_ID),)), None
    yield Device(NO_ID[:16], '{"kty":"EC"}', "Nurse's phone", "clinician"), None
    yield (
        DestinationBody(
            "pacs", "dicomweb", "https://pacs.test/", "read-back", {"drops": ["00080005"]},
            {NO_ID[:8]: b"box"}, (FactId(NO_ID),),
        ),
        None,
    )  # fmt: skip
    yield Study(BlobId(entry), 1000, 2, "urgent", "pacs", NO_ID[:16], node), entry
    yield Custody(True), entry
    yield Claim(True, 1, 2), entry
    yield Trouble("pacs-refuses", 2, 1_000), entry
    yield Decision("retry", "Dr. Owl", {"because": "fixed"}), entry
    yield Grant({NO_ID[:8]: b"box"}), entry
    yield Tombstone("delivered", "pacs", "read-back", 2, 2, NO_ID, 1000, node), entry
    yield Recall("restored from backup", NO_ID[:16]), entry
    yield Report(1_000, {NO_ID: 5}, (entry,), "0.1.0", "to town on Thursday"), None
    yield Audit(7, NO_ID), None
    yield WebRequest(b"key", ("192.168.1.2",)), None
    yield WebLeaf(node, b"leaf", b"issuer"), None
    yield Remains({NO_ID: [5, NO_ID[:16]]}, (entry,), 0), None
    yield StickSeen(NO_ID[:16], "blue", 3, (entry,), 0, {NO_ID: [5, NO_ID[:16]]}), None


def golden() -> list[dict[str, Any]]:
    """Return the golden vectors in tests/vectors/facts.json: a fact of each kind, and an unknown one."""
    mesh = MeshMaker(name="golden")
    vectors = []

    def say(body: Body, entry: EntryId | None) -> None:
        raw = mesh.say("root", body, entry)
        vectors.append({"kind": body.KIND, "raw": raw.hex(), "id": id_of(raw).hex()})

    later = []  # kinds that came after the vectors: those before stay as they are
    for body, entry in bodies(mesh):
        if isinstance(body, Audit | Remains | StickSeen | WebRequest | WebLeaf):
            later.append((body, entry))
        else:
            say(body, entry)
    raw = mesh.say_unknown(
        "root", "from-the-future", {"x": 1}, permanent=True, entry=entry_of("sample"), critical=True
    )
    vectors.append({"kind": "from-the-future", "raw": raw.hex(), "id": id_of(raw).hex()})
    for body, entry in later:
        say(body, entry)
    return vectors


def meaning(ledger: Ledger) -> dict[str, Any]:
    """Return what a ledger's facts mean, as plain values that can be compared."""
    return {
        "members": {
            node: (i.label, sorted(i.roles), i.seals, i.revoked, i.expires)
            for node, i in ledger.membership.members().items()
        },
        "devices": ledger.devices(),
        "destinations": ledger.destinations(),
        "entries": {v.entry: meaning_of(v) for v in ledger.entries()},
    }


def meaning_of(view: EntryView) -> tuple[object, ...]:
    """Return what an entry's view says, as plain values."""
    return (
        view.state, view.study and view.study.id, sorted(view.holders), sorted(view.claims),
        [f.id for f in view.troubles], [f.id for f in view.decisions], [f.id for f in view.grants],
        view.tombstone and view.tombstone.id, view.recall and view.recall.id,
        view.waits_for_person, view.frozen, view.origin_holds,
    )  # fmt: skip
