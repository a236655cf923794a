"""What simulated nodes do with each other, and what is sent through them: meetings and studies."""

import hashlib
from random import Random

from nacl.public import PrivateKey
from support.sim import Node, Patient
from support.sim_disk import LineCut

from sync import segments
from sync.bodies import Study
from sync.facts import FactClass
from sync.ids import BlobId, EntryId, FactId
from sync.manifest import IndexedInstance, StudyIndex, build_manifest, entry_id, parse_manifest
from sync.plan import Wanted, blobs_to_move, fetchable, in_order
from sync.reconcile import Reconciler

# -- studies ------------------------------------------------------------------------------------


def make_study(
    node: Node, random: Random, recipients: list[bytes]
) -> tuple[Patient, EntryId, dict[BlobId, bytes], Study]:
    """Return a new study of a clinic: its blobs, sealed by the real code, its manifest first."""
    plaintext, key, uid = (
        random.randbytes(random.randint(1, 400)),
        random.randbytes(32),
        random.randbytes(8).hex(),
    )
    segment = segments.seal(key, random.randbytes(16), 0, plaintext, kind=segments.Kind.STREAM, final=True)
    stream = BlobId(hashlib.sha256(segment).digest())
    digest = hashlib.sha256(plaintext).digest()
    instance = IndexedInstance(uid, "1.2", "1.2", 0, len(plaintext), "stored", len(plaintext), digest)
    manifest = build_manifest(
        StudyIndex(uid, (instance,), {}), [(stream, len(segment))], study_key=key, mesh=node.mesh.id,
        recipients=recipients, index_prefix=random.randbytes(16),
        ephemeral_seeds=[random.randbytes(32) for _ in recipients],
    )  # fmt: skip
    entry = entry_id(manifest)
    body = Study(
        manifest=BlobId(entry), size=len(manifest) + len(segment), blobs=2,
        priority="urgent" if random.random() < 0.2 else "routine", destination="pacs",
        submission=random.randbytes(16), origin=node.id,
    )  # fmt: skip
    patient = Patient(uid.encode(), plaintext, stream, {entry})
    return patient, entry, {BlobId(entry): manifest, stream: segment}, body


def seal_secret(name: str) -> bytes:
    """Return the X25519 secret of a forwarder, or of the mesh's recovery key."""
    return hashlib.sha256(b"seal:" + name.encode()).digest()


def seal_public(name: str) -> bytes:
    return bytes(PrivateKey(seal_secret(name)).public_key)


# -- meetings -----------------------------------------------------------------------------------


def meet(one: Node, two: Node, *, frame: int = 0, corrupt: float = 0.0) -> bool:
    """Let two nodes meet; say whether it went through to the end. A line may break at every message."""
    try:
        for fact_class in (FactClass.PERMANENT, FactClass.PERMANENT, FactClass.LIVE):
            if fact_class is FactClass.LIVE and not _trust(one, two):
                return False
            _exchange(one, two, fact_class, frame)
        for taker, giver in ((one, two), (two, one)):
            _fetch(taker, giver, corrupt)
        _exchange(one, two, FactClass.LIVE, frame)
    except LineCut:
        return False
    for node in (one, two):
        node.disk.commit(lambda node=node: setattr(node.disk.durable, "mixed_ms", node.life_ms))  # type: ignore[misc]
    return True


def _trust(one: Node, two: Node) -> bool:
    """Say whether both give each other what travels: members in good standing, by each one's facts."""
    return all(a.ledger.membership.may_receive(b.id, now_ms=a.wall_ms) for a, b in ((one, two), (two, one)))


def _exchange(one: Node, two: Node, fact_class: FactClass, frame: int) -> None:
    ours = Reconciler(one.ledger.snapshot(fact_class), frame)
    theirs = Reconciler(two.ledger.snapshot(fact_class), frame)
    fuses = one.disk.fuses
    message: bytes | None = ours.initiate()
    while message is not None:
        fuses.on_line()
        message = ours.reconcile(theirs.respond(message))
        for ids, giver, taker in ((ours.need, two, one), (ours.have, one, two)):
            found = [giver.ledger.get(FactId(i)) for i in ids]
            raws = [fact.raw for fact in found if fact is not None]
            for start in range(0, len(raws), 20):
                fuses.on_line()
                taker.take(raws[start : start + 20])


def _fetch(taker: Node, giver: Node, corrupt: float) -> None:
    wanted = []
    for row in taker.rows.values():
        view = taker.ledger.entry(row.entry)
        if row.complete or row.erased or row.erasing or not fetchable(view, peer=giver.id):
            continue
        size = view.announced.size if view.announced else 0
        if taker.rules.accepts(taker, row, view, size):
            wanted.append(Wanted(row.entry, view.urgent, row.seen_ms, size, view.copies))
    for want in in_order(wanted):
        row = taker.rows[want.entry]
        if not taker.disk.good(BlobId(row.entry)) and not _move(taker, giver, BlobId(row.entry), corrupt):
            continue
        data = taker.disk.blobs[BlobId(row.entry)]
        listed = ((BlobId(row.entry), len(data)), *parse_manifest(data).blobs)
        if row.blobs != listed:
            taker.disk.sync()
            taker.disk.commit(lambda row=row, listed=listed: setattr(row, "blobs", listed))  # type: ignore[misc]
        here = {blob: size for blob, size in listed if taker.disk.good(blob)}
        for blob, _ in blobs_to_move(listed, here, start=taker.random.randrange(4)):
            _move(taker, giver, blob, corrupt)
        taker.rules.finish(taker, row)


def _move(taker: Node, giver: Node, blob: BlobId, corrupt: float) -> bool:
    """Move one blob; what does not fit its name is dropped, and the giver looks at its own copy."""
    taker.disk.fuses.on_line()
    data = giver.disk.blobs.get(blob)
    if data is not None and taker.random.random() < corrupt:
        taker.disk.fuses.counts["octets changed on the wire"] += 1
        data = data[:-1] + bytes([data[-1] ^ 1]) if data else b"x"
    if data is None or hashlib.sha256(data).digest() != blob:
        giver.rules.scrub(giver)
        return False
    taker.disk.write(blob, data)
    return True
