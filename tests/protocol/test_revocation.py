"""What a person is shown before a revocation is what then happens."""

from random import Random

import pytest
from support.facts import MeshMaker, entry_of, id_of, usual_mesh
from support.story import NAMES, story

from sync.bodies import Device, Revoked, Vouched
from sync.ids import EntryId, FactId, NodeId
from sync.ledger import Ledger
from sync.revocation import MAX_VOUCHED, consequences, vouchings

E = entry_of("one")


def ended(ledger: Ledger) -> set[EntryId]:
    return {view.entry for view in ledger.entries() if ledger.is_tombstoned(view.entry)}


def active(ledger: Ledger) -> set[NodeId]:
    return {node for node, info in ledger.membership.members().items() if info.roles}


@pytest.mark.parametrize("seed", range(60))
def test_the_forecast_comes_true(seed: int) -> None:
    """Whoever decides by it, and vouches by it, must not be surprised."""
    mesh, facts = story(seed)
    random = Random(seed)
    for name in (*NAMES, "spare"):
        ledger = mesh.ledger(fact.raw for fact in facts)
        if ledger.membership.is_revoked(mesh.node("root")):
            return
        key = mesh.node(name)
        hurtful = consequences(ledger, mesh.root_ids, key).hurtful
        assert all(fact.header.author == key for fact in hurtful)
        vouched = {fact.id for fact in hurtful if random.random() < 0.5}
        told = consequences(ledger, mesh.root_ids, key, vouched)
        ended_before, active_before = ended(ledger), active(ledger)

        ledger.add(mesh.say("root", Vouched(key, tuple(vouched))))
        added = ledger.add(mesh.say("root", Revoked(key)))

        assert told.entries == ended_before - ended(ledger)
        assert set(added.revived) == told.entries
        assert told.members == active_before - active(ledger) - {key}


def test_what_falls_with_a_node_is_named() -> None:
    """Its tombstones, the members below it, and their devices, too."""
    mesh, members = usual_mesh()
    below = mesh.member("admin", "post", ["ingest", "enrol"])
    phone = mesh.say("post", Device(bytes(16), "{}", "Nurse's phone", "clinician"))
    tombstone = mesh.tombstone("admin", E)
    ledger = mesh.ledger([*members, below, phone, mesh.study("clinic", E), tombstone])

    told = consequences(ledger, mesh.root_ids, mesh.node("admin"))
    vouched = consequences(ledger, mesh.root_ids, mesh.node("admin"), {id_of(below)})

    assert [fact.id for fact in told.hurtful] == [id_of(below), id_of(tombstone)]
    assert (told.entries, told.members, told.devices) == ({E}, {mesh.node("post")}, ("Nurse's phone",))
    assert (vouched.entries, vouched.members, vouched.devices) == ({E}, frozenset(), ())
    assert not ledger.membership.is_revoked(mesh.node("admin"))


def test_vouching_for_very_many_fits_into_facts() -> None:
    """A forwarder that worked for years has signed more tombstones than one fact can list."""
    mesh = MeshMaker()
    ids = [FactId(number.to_bytes(32)) for number in range(2 * MAX_VOUCHED + 1)]

    bodies = vouchings(mesh.node("cloud"), [*ids, ids[0]])

    assert [len(body.facts) for body in bodies] == [MAX_VOUCHED, MAX_VOUCHED, 1]
    assert [one for body in bodies for one in body.facts] == ids
    assert isinstance(mesh.parse(mesh.say("root", bodies[0])).body, Vouched)
    assert vouchings(mesh.node("cloud"), []) == []
