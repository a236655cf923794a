"""Who may say what follows from the set of facts alone: a thief gains nothing by saying it early or late."""

import pytest
from support.facts import ALL, MeshMaker, entry_of, id_of, node_of, usual_mesh

from sync.bodies import Custody, Member, Revoked, Role, consent_message
from sync.ledger import Ledger, Outcome

E = entry_of("e")


def _roles(ledger: Ledger, name: str) -> set[str]:
    return set(ledger.membership.roles(node_of(name)))


def test_a_root_may_do_everything_and_a_stranger_nothing() -> None:
    """All trust begins with the mesh's roots."""
    ledger = MeshMaker().ledger()

    assert _roles(ledger, "root") == set(ALL)
    assert _roles(ledger, "stranger") == set()
    assert not ledger.membership.is_known(node_of("stranger"))


def test_a_chain_can_only_narrow() -> None:
    """Who may admit must not be able to give away more than it has."""
    mesh = MeshMaker()
    ledger = mesh.ledger([
        mesh.member("root", "lead", [Role.ADMIT, Role.CARRY]),
        mesh.member("lead", "helper", [Role.ADMIT, Role.CARRY, Role.FORWARD]),
        mesh.member("helper", "courier", ALL),
        mesh.member("courier", "friend", ALL),
    ])  # fmt: skip

    assert _roles(ledger, "helper") == {Role.ADMIT, Role.CARRY}
    assert _roles(ledger, "courier") == {Role.ADMIT, Role.CARRY}
    assert _roles(ledger, "friend") == {Role.ADMIT, Role.CARRY}


def test_who_may_not_admit_admits_nobody() -> None:
    """A courier's laptop must not bring its owner's friends in."""
    mesh, members = usual_mesh()
    ledger = mesh.ledger([*members, mesh.member("courier", "friend", [Role.CARRY])])

    assert _roles(ledger, "friend") == set()
    assert not ledger.membership.is_known(node_of("friend"))


def test_roles_are_the_union_of_what_counts_and_a_newer_fact_supersedes() -> None:
    """Roles are narrowed by naming the older fact, which no clock can undo."""
    mesh = MeshMaker()
    wide = mesh.member("root", "clinic", [Role.INGEST, Role.FORWARD], at=90)
    narrow = mesh.member("root", "clinic", [Role.INGEST], supersedes=[wide], at=10)
    ledger = mesh.ledger([wide, mesh.member("root", "clinic", [Role.CARRY])])

    assert _roles(ledger, "clinic") == {Role.INGEST, Role.FORWARD, Role.CARRY}
    ledger.add(narrow)
    assert _roles(ledger, "clinic") == {Role.INGEST, Role.CARRY}
    assert Role.FORWARD in ledger.membership.granted(node_of("clinic"))


def test_only_the_author_or_who_is_above_supersedes() -> None:
    """Otherwise one admin could quietly disarm another one's nodes."""
    mesh = MeshMaker()
    chain = [mesh.member("root", "north", ALL), mesh.member("root", "south", ALL)]
    theirs = mesh.member("south", "clinic", [Role.INGEST])
    ledger = mesh.ledger([*chain, theirs, mesh.member("north", "clinic", [Role.CARRY], supersedes=[theirs])])
    assert _roles(ledger, "clinic") == {Role.INGEST, Role.CARRY}

    ledger.add(mesh.member("root", "clinic", [], supersedes=[theirs]))
    assert _roles(ledger, "clinic") == {Role.CARRY}


def test_a_revoked_node_may_do_nothing_and_is_given_nothing() -> None:
    """A stolen laptop learns that it is revoked, and no more."""
    mesh, members = usual_mesh()
    ledger = mesh.ledger(members)
    courier = node_of("courier")
    assert ledger.membership.may_receive(courier, now_ms=1)

    ledger.add(mesh.revoke("root", "courier"))
    assert _roles(ledger, "courier") == set()
    assert not ledger.membership.may_receive(courier, now_ms=1)
    assert ledger.membership.members()[courier].revoked
    assert ledger.membership.is_known(courier)


def test_a_revoked_key_stays_revoked_whoever_admits_it_again() -> None:
    """Revocation is of the key, not of a certificate: admitted anew it is still a thief's."""
    mesh, members = usual_mesh()
    ledger = mesh.ledger([*members, mesh.say("root", Revoked(node_of("courier")))])
    for author, roles in (("admin", [Role.CARRY]), ("root", ALL)):
        ledger.add(mesh.member(author, "courier", roles, at=10_000))

    assert _roles(ledger, "courier") == set()
    assert not ledger.membership.may_receive(node_of("courier"), now_ms=1)


def test_a_revoked_root_may_do_nothing() -> None:
    """A root's key can be stolen as well; another root takes its place."""
    mesh = MeshMaker(roots=("root", "spare"))
    old = mesh.member("root", "clinic", [Role.INGEST])
    ledger = mesh.ledger([old, mesh.revoke("spare", "root")])

    assert _roles(ledger, "root") == set()
    assert _roles(ledger, "clinic") == set()
    ledger.add(mesh.vouch("spare", "root", old))
    assert _roles(ledger, "clinic") == {Role.INGEST}


@pytest.mark.parametrize("author", ["clinic", "courier", "stranger", "descendant"])
def test_only_who_is_above_revokes(author: str) -> None:
    """Else any thief could shut the mesh down."""
    mesh, members = usual_mesh()
    ledger = mesh.ledger([
        *members, mesh.member("admin", "descendant", [Role.ADMIT, Role.CARRY]), mesh.revoke(author, "admin"),
    ])  # fmt: skip
    assert not ledger.membership.is_revoked(node_of("admin"))


def test_whom_a_thief_admitted_is_no_member_unless_vouched_for() -> None:
    """The thief's friends go with the thief; the honest admissions from before are named one by one."""
    mesh, members = usual_mesh()
    honest = mesh.member("admin", "clinic-2", [Role.INGEST])
    by_thief = mesh.member("admin", "friend", ALL)
    below = mesh.member("clinic-2", "nobody", [Role.CARRY])
    ledger = mesh.ledger([*members, honest, by_thief, below, mesh.revoke("root", "admin")])
    assert (_roles(ledger, "clinic-2"), _roles(ledger, "friend")) == (set(), set())

    ledger.add(mesh.vouch("root", "admin", honest))
    assert (_roles(ledger, "clinic-2"), _roles(ledger, "friend")) == ({Role.INGEST}, set())


def test_vouching_by_a_revoked_node_counts_only_if_vouched_for_itself() -> None:
    """A thief must not be able to clear another thief, however the facts arrive."""
    mesh = MeshMaker()
    facts = [mesh.member("root", "lead", ALL), mesh.member("lead", "admin", ALL)]
    honest = mesh.member("admin", "clinic", [Role.INGEST])
    clearing = mesh.vouch("lead", "admin", honest)
    facts += [honest, clearing, mesh.revoke("lead", "admin"), mesh.revoke("root", "lead")]
    good = mesh.vouch("root", "lead", facts[1])
    ledger = mesh.ledger([*facts, good])
    assert _roles(ledger, "clinic") == set()

    ledger.add(mesh.vouch("root", "lead", clearing))
    assert _roles(ledger, "clinic") == {Role.INGEST}


def test_nobody_vouches_for_itself() -> None:
    """Not even a root: it would undo its own revocation."""
    mesh = MeshMaker(roots=("root", "spare"))
    admission = mesh.member("root", "friend", ALL)
    first = mesh.vouch("root", "root", admission)
    ledger = mesh.ledger([admission, first, mesh.vouch("root", "root", first), mesh.revoke("spare", "root")])

    assert _roles(ledger, "friend") == set()


def test_an_admitter_cannot_become_an_ancestor_without_consent() -> None:
    """An ancestor may revoke: a rogue admin would put itself above its rivals."""
    mesh, members = usual_mesh()
    ledger = mesh.ledger([*members, mesh.member("admin", "rogue", ALL)])
    for victim in ("admin", "cloud", "clinic"):
        for consented_to in ("root", "admin"):
            message = consent_message(mesh=mesh.id, author=mesh.node(consented_to), seal=None)
            stolen = (
                mesh.key(victim).sign(message).signature
            )  # what the victim's own member fact shows to all
            body = Member(mesh.node(victim), None, ("carry",), "x", stolen)
            assert ledger.add(mesh.say("rogue", body)).outcome is Outcome.REFUSED
        ledger.add(mesh.revoke("rogue", victim))

        assert not ledger.membership.is_above(node_of("rogue"), node_of(victim))
        assert not ledger.membership.is_revoked(node_of(victim))


def test_two_that_admitted_each_other_make_no_endless_loop() -> None:
    """With consent a ring is possible; it must mean something, and the same for all."""
    mesh = MeshMaker()
    facts = [
        mesh.member("root", "a", ALL), mesh.member("a", "b", ALL), mesh.member("b", "a", ALL),
        mesh.member("b", "c", [Role.CARRY]),
    ]  # fmt: skip
    ledger = mesh.ledger(facts)
    assert ledger.membership.is_above(node_of("b"), node_of("a"))
    assert not ledger.membership.is_above(node_of("a"), node_of("a"))

    ledger.add(mesh.revoke("a", "b"))
    ledger.add(mesh.revoke("b", "a"))
    assert _roles(ledger, "a") == _roles(ledger, "b") == _roles(ledger, "c") == set()


def test_a_ring_without_a_root_is_nobody() -> None:
    """Keys that admit each other are as many strangers."""
    mesh = MeshMaker()
    ledger = mesh.ledger([mesh.member("x", "y", ALL), mesh.member("y", "x", ALL)])

    assert not ledger.membership.is_known(node_of("x"))
    assert ledger.membership.members() == {}


def test_expiry_limits_what_is_given_and_voids_nothing() -> None:
    """A trainee's laptop from last year gets no new studies, and what it carried then still counts."""
    mesh = MeshMaker()
    ledger = mesh.ledger([mesh.member("root", "trainee", [Role.CARRY], expires=500)])
    ledger.add(mesh.say("trainee", Custody(True), E))
    trainee = node_of("trainee")

    assert ledger.membership.may_receive(trainee, now_ms=500)
    assert not ledger.membership.may_receive(trainee, now_ms=501)
    assert trainee in ledger.entry(E).holders
    ledger.add(mesh.member("root", "trainee", [Role.CARRY], expires=900))
    assert ledger.membership.may_receive(trainee, now_ms=900)
    ledger.add(mesh.member("root", "trainee", [Role.CARRY]))
    assert ledger.membership.may_receive(trainee, now_ms=10**12)


def test_a_member_is_shown_by_its_newest_fact() -> None:
    """People see the label that was given last, and forwarders find every sealing key."""
    mesh = MeshMaker()
    ledger = mesh.ledger([
        mesh.member("root", "cloud", [Role.FORWARD], label="New", seal=b"n" * 32, at=50),
        mesh.member("root", "cloud", [Role.FORWARD], label="Old", seal=b"o" * 32, at=40),
    ])  # fmt: skip
    info = ledger.membership.members()[node_of("cloud")]

    assert (info.label, info.seals) == ("New", (b"o" * 32, b"n" * 32))


def test_kinds_that_cannot_hurt_keep_their_effect_after_revocation() -> None:
    """A stolen node's study is still a patient's: a reason to keep, delivered when a person says so."""
    mesh, members = usual_mesh()
    study = mesh.study("clinic", E)
    ledger = mesh.ledger([*members, study, mesh.revoke("root", "clinic")])
    view = ledger.entry(E)

    assert view.study is not None and view.study.id == id_of(study)
    assert view.waits_for_person
