"""Whatever fails, in whatever order: no acknowledged study is lost, and in the end none is left behind.

The nodes run the real protocol; disks, lines, clocks, people and the PACS fail by chance, from a seed.
`bench/simulate.py` runs the same for as long as one likes. A failure names its seed and its last steps.
"""

from itertools import combinations

import pytest
from support.facts import meaning
from support.sim import HOLD_MS, HOUR, Node, Rules
from support.sim_meeting import make_study, meet, seal_public, seal_secret
from support.sim_mutants import MUTANTS
from support.sim_world import Violation, World

from sync.ids import EntryId
from sync.lifecycle import EntryState

_STEPS = 350
_SEEDS_TO_CATCH = 40


@pytest.mark.parametrize("seed", range(12))
def test_nothing_is_lost_and_everything_arrives(seed: int) -> None:
    """A month of clinics, couriers, power cuts, broken lines, thieves, wrong clocks, a PACS that lies."""
    result = World(seed).run(_STEPS)
    assert result.acknowledged > 0


@pytest.mark.parametrize("seed", range(100, 110))
def test_nothing_is_lost_where_there_is_little_room(seed: int) -> None:
    """Bad disks, a PACS far away, couriers that give copies up all the time: never the last one."""
    result = World(seed, scarce=True).run(_STEPS)
    assert result.faults["copy given up"] > 0


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_rule_is_noticed(name: str) -> None:
    """A simulation that does not see the classic mistakes would not see ours."""
    for seed in range(_SEEDS_TO_CATCH):
        try:
            World(seed, MUTANTS[name], scarce=seed % 2 == 0).run(500)
        except Violation as found:
            assert f"seed {seed}" in str(found)
            return
    pytest.fail(f"nobody noticed in {_SEEDS_TO_CATCH} runs: {name}")


def test_a_seed_is_one_history() -> None:
    """A failure that cannot be repeated cannot be understood."""

    def trace() -> list[object]:
        world, told = World(7), list[object]()
        for _ in range(120):
            world.step()
            told.append((world.log[-1], [(n.name, n.up, sorted(n.disk.durable.facts)) for n in world.nodes]))
        return told

    assert trace() == trace()


# -- single stories -----------------------------------------------------------------------------


def _calm() -> World:
    world = World(1)
    world.pacs.honest = True
    return world


def _keep(world: World, clinic: str = "clinic1") -> EntryId:
    node = world.node(clinic)
    recipients = [seal_public(name) for name in ("cloud", "laptop", "recovery")]
    patient, entry, blobs, study = make_study(node, world.random, recipients)
    world.patients.append(patient)
    world.patient_of[entry] = world.by_submission[study.submission] = patient
    Rules().keep(node, patient, entry, blobs, study)
    patient.acknowledged = True
    return entry


def _all_meet(world: World) -> None:
    for _ in range(2):
        for one, two in combinations(world.running, 2):
            assert meet(one, two)
    world.check()


def _state(node: Node, entry: EntryId) -> EntryState:
    return node.ledger.entry(entry).state


def test_from_the_clinic_over_a_courier_to_the_pacs_and_back_to_erasure() -> None:
    """The one journey that everything is for."""
    world = _calm()
    clinic, courier, cloud = world.node("clinic1"), world.node("courier1"), world.node("cloud")
    entry = _keep(world)
    assert _state(clinic, entry) is EntryState.WAITING

    meet(clinic, courier)
    assert _state(clinic, entry) is EntryState.CARRIED
    meet(courier, cloud)
    assert _state(courier, entry) is EntryState.AT_FORWARDER
    assert world.rules.deliver(cloud, world.pacs, seal_secret("cloud")) == entry
    meet(cloud, courier)
    meet(courier, clinic)
    assert _state(clinic, entry) is EntryState.DELIVERED

    for node in (courier, cloud, clinic):
        world.rules.sweep(node)
    assert not courier.disk.blobs and not cloud.disk.blobs
    assert len(clinic.disk.blobs) == 2, "the clinic holds it for three days"
    world._tick(HOLD_MS)
    meet(courier, clinic)
    world.rules.sweep(clinic)
    assert not clinic.disk.blobs
    world.check()


def test_what_the_pacs_loses_on_the_first_day_is_delivered_again() -> None:
    """The clinic's hold is for this."""
    world = _calm()
    cloud = world.node("cloud")
    entry = _keep(world)
    _all_meet(world)
    world.rules.deliver(cloud, world.pacs, seal_secret("cloud"))
    _all_meet(world)
    for node in world.nodes:
        world.rules.sweep(node)
    name = world.patient_of[entry].name
    world.pacs.lose(name)
    world._tick(25 * HOUR)
    world.rules.recheck(cloud, world.pacs, {entry: name})
    _all_meet(world)
    assert _state(cloud, entry) is EntryState.RECALLED
    successor = world.rules.deliver(cloud, world.pacs, seal_secret("cloud"))

    assert successor not in (None, entry)
    assert world.pacs.read_back(name) == world.patient_of[entry].plaintext
    _all_meet(world)
    world._tick(2 * HOLD_MS)
    _all_meet(world)
    for node in world.nodes:
        world.rules.sweep(node)
    assert not any(node.disk.blobs for node in world.nodes)


def test_a_node_that_comes_back_after_a_year_is_merged() -> None:
    """Its old studies are erased, its unknown ones are new work: wiping it would lose them."""
    world = _calm()
    courier, cloud = world.node("courier1"), world.node("cloud")
    old = _keep(world)
    _all_meet(world)
    lost = _keep(world, "clinic2")
    meet(world.node("clinic2"), courier)
    courier.crash()
    world.rules.deliver(cloud, world.pacs, seal_secret("cloud"))
    world._tick(365 * 24 * HOUR)
    courier.start()
    meet(courier, cloud)
    world.rules.sweep(courier)

    assert _state(courier, old) is EntryState.DELIVERED
    assert _state(cloud, lost) is EntryState.AT_FORWARDER
    assert {e for e, row in courier.rows.items() if row.complete} == {lost}
    world.check()


def test_the_tombstones_of_a_thief_are_undone_where_they_were_believed() -> None:
    """Who erased for a thief takes the study in again from the clinic, and it is delivered."""
    world = _calm()
    clinic, courier, cloud = world.node("clinic1"), world.node("courier1"), world.node("cloud")
    entry = _keep(world)
    _all_meet(world)
    world._theft()
    assert cloud.ledger.membership.is_revoked(world.node("laptop").id)
    meet(courier, world.node("laptop"))
    meet(clinic, courier)
    for node in (courier, clinic):
        world.rules.sweep(node)
    assert (_state(clinic, entry), len(courier.disk.blobs)) == (EntryState.DELIVERED, 0)

    _all_meet(world)
    assert _state(clinic, entry) is EntryState.AT_FORWARDER
    assert courier.rows[entry].complete
    assert world.rules.deliver(cloud, world.pacs, seal_secret("cloud")) == entry


def test_two_machines_with_one_key_both_go_on() -> None:
    """A cloned disk is a Tuesday: facts are named by their hash, so both histories are kept."""
    world = _calm()
    clinic = world.node("clinic1")
    _keep(world)
    twin = world._join("clinic1'", [], clinic.disk.image())
    one, two = _keep(world), _keep(world, "clinic1'")
    _all_meet(world)

    assert twin.id == clinic.id
    assert {one, two} <= set(clinic.rows) & set(twin.rows)
    assert meaning(clinic.ledger) == meaning(twin.ledger)
    world._heal()
