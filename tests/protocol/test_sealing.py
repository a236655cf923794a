"""Who lacks a key, what a revoked one still opens, who seals anew, and when the old entry may end."""

from support.facts import MeshMaker, entry_of, usual_mesh

from sync.bodies import RESEALED, Grant, Role, Study, Tombstone
from sync.ids import BlobId, EntryId
from sync.ledger import Ledger
from sync.manifest import key_id
from sync.sealing import granted, is_exposed, lacking, may_end_old, newest_of, turn

E, NEW = entry_of("e"), entry_of("new")
OLD_SEAL, NEW_SEAL, LOST_SEAL = (bytes([n]) * 32 for n in (1, 2, 3))


def ledger_of(mesh: MeshMaker, facts: list[bytes]) -> Ledger:
    """Return what holds these facts."""
    ledger = Ledger(mesh.id, mesh.root_ids)
    for raw in facts:
        ledger.add(raw)
    return ledger


def _mesh() -> tuple[MeshMaker, list[bytes]]:
    mesh, facts = usual_mesh()
    facts += [
        mesh.member("root", "old", [Role.CARRY, Role.FORWARD], seal=OLD_SEAL),
        mesh.member("root", "young", [Role.CARRY, Role.FORWARD], seal=NEW_SEAL),
        mesh.member("root", "lost", [Role.CARRY, Role.FORWARD], seal=LOST_SEAL),
    ]
    return mesh, [*facts, mesh.study("clinic", E)]


def _again(mesh: MeshMaker, study: bytes, author: str = "old") -> bytes:
    body = Study(
        manifest=BlobId(NEW), size=1000, blobs=2, priority="routine", destination="pacs",
        submission=bytes(16), origin=mesh.node("clinic"), again=study,
    )  # fmt: skip
    return mesh.say(author, body, NEW)


def _ended(mesh: MeshMaker, study: bytes) -> bytes:
    body = Tombstone(
        outcome="withdrawn", destination="pacs", evidence=RESEALED, instances=0, proven=0, receipt=NEW,
        size=1000, origin=mesh.node("clinic"), study=study,
    )  # fmt: skip
    return mesh.say("old", body, E)


def _sealed_for(*seals: bytes) -> frozenset[bytes]:
    return frozenset(map(key_id, seals))


def test_only_those_that_have_no_box_yet_are_granted_one() -> None:
    """Neither the manifest's recipients again, nor somebody twice."""
    mesh, facts = _mesh()
    view = ledger_of(mesh, facts).entry(E)
    seals = [OLD_SEAL, NEW_SEAL]

    assert lacking(view, _sealed_for(OLD_SEAL), seals) == [NEW_SEAL]

    grant = mesh.say("old", Grant({bytes(key_id(NEW_SEAL)): b"box"}), E)
    view = ledger_of(mesh, [*facts, grant]).entry(E)
    assert granted(view) == _sealed_for(NEW_SEAL)
    assert lacking(view, _sealed_for(OLD_SEAL), seals) == []
    ended = ledger_of(mesh, [*facts, mesh.tombstone("old", E)]).entry(E)
    assert lacking(ended, _sealed_for(OLD_SEAL), seals) == []


def test_a_grant_by_a_thief_counts_for_nothing() -> None:
    """Else he could say that everybody has a key, and nobody would get one."""
    mesh, facts = _mesh()
    grant = mesh.say("lost", Grant({bytes(key_id(NEW_SEAL)): b"rubbish"}), E)
    view = ledger_of(mesh, [*facts, grant, mesh.revoke("root", "lost")]).entry(E)

    assert lacking(view, _sealed_for(OLD_SEAL), [OLD_SEAL, NEW_SEAL]) == [NEW_SEAL]


def test_what_a_revoked_key_opens_is_exposed_and_nothing_else() -> None:
    """By its manifest or by a grant; what waits for a person or has ended is left alone."""
    mesh, facts = _mesh()
    revoked = mesh.revoke("root", "lost")
    ledger = ledger_of(mesh, [*facts, revoked])
    distrusted = frozenset(map(key_id, ledger.membership.distrusted_seals()))
    view = ledger.entry(E)

    assert distrusted == _sealed_for(LOST_SEAL)
    assert is_exposed(view, _sealed_for(OLD_SEAL, LOST_SEAL), distrusted)
    assert not is_exposed(view, _sealed_for(OLD_SEAL, NEW_SEAL), distrusted)
    granted_to_thief = mesh.say("old", Grant({bytes(key_id(LOST_SEAL)): b"box"}), E)
    assert is_exposed(
        ledger_of(mesh, [*facts, revoked, granted_to_thief]).entry(E), _sealed_for(OLD_SEAL), distrusted
    )
    for more in (mesh.tombstone("old", E), mesh.revoke("root", "clinic")):
        other = ledger_of(mesh, [*facts, revoked, more]).entry(E)
        assert not is_exposed(other, _sealed_for(LOST_SEAL), distrusted)


def test_forwarders_take_turns_in_an_order_that_all_of_them_know() -> None:
    """So that a study is sealed anew once, though no two of them talk; its origin comes first."""
    mesh, facts = _mesh()
    view = ledger_of(mesh, [*facts, mesh.custody("old", E), mesh.custody("young", E)]).entry(E)
    old, young, cloud, clinic = (mesh.node(name) for name in ("old", "young", "cloud", "clinic"))
    both = {old, young, cloud}

    assert {turn(view, one, both) for one in (old, young)} == {0, 1}
    assert turn(view, clinic, {*both, clinic}) == 0
    assert turn(view, cloud, both) in (0, 1, 2)


def test_the_old_entry_ends_when_the_new_one_is_on_two_nodes_or_delivered() -> None:
    """One disk is no place for the only copy."""
    mesh, facts = _mesh()
    new = _again(mesh, facts[-1])
    view = ledger_of(mesh, [*facts, new]).entry(NEW)
    old, courier = mesh.node("old"), mesh.node("courier")

    assert not may_end_old(view, {old})
    assert may_end_old(view, {old, courier})
    delivered = ledger_of(mesh, [*facts, new, mesh.tombstone("old", NEW)]).entry(NEW)
    assert may_end_old(delivered, set())


def test_the_clinic_holds_the_new_entry_only_once_it_says_so() -> None:
    """Its study it is, its copy it is not: a count that includes it would let the old entry end too soon."""
    mesh, facts = _mesh()
    new = _again(mesh, facts[-1])

    def view_of(*more: bytes) -> Ledger:
        return ledger_of(mesh, [*facts, new, *more])

    assert not view_of().entry(NEW).origin_holds
    assert view_of(mesh.custody("clinic", NEW)).entry(NEW).origin_holds
    said = [mesh.custody("clinic", NEW), mesh.custody("clinic", NEW, holds=False)]
    assert not view_of(*said).entry(NEW).origin_holds
    assert view_of().entry(E).origin_holds
    assert view_of(mesh.revoke("root", "clinic")).entry(NEW).waits_for_person


def test_who_asks_for_the_old_entry_is_led_to_the_new_one() -> None:
    """The phone knows the old id for ever. A delivery of the old one beats everything."""
    mesh, facts = _mesh()
    study = facts[-1]
    full = [*facts, _again(mesh, study), _ended(mesh, study)]

    def led(facts_: list[bytes]) -> EntryId:
        return newest_of(E, ledger_of(mesh, facts_).entry).entry

    assert led(facts) == E
    assert led(full) == NEW
    assert led([*facts, _ended(mesh, study)]) == E, "the new one has not been heard of"
    assert led([*full, mesh.tombstone("old", E)]) == E
    assert led([*full, mesh.tombstone("old", NEW)]) == NEW
