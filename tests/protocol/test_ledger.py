"""What a set of facts means is a function of the set: not of the order, the road or the number of times."""

from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.facts import ALL, MeshMaker, entry_of, id_of, meaning, node_of, usual_mesh
from support.story import story

from sync.bodies import Claim, Decision, Device, Recall, Report, Role, Study
from sync.facts import Fact, FactClass, sign_raw
from sync.ids import EntryId, FactId
from sync.ledger import MAX_WAITING, Ledger, Outcome
from sync.lifecycle import EntryState
from sync.membership import MEMBERSHIP_KINDS
from sync.reconcile import Reconciler

E = entry_of("e")
_BOUNDED = settings(max_examples=40, deadline=None, derandomize=True)


def _told(mesh: MeshMaker, facts: Iterable[Fact]) -> Ledger:
    """Tell a new ledger these facts; who holds an entry's blobs puts its study back when it is revived."""
    ledger = mesh.ledger()
    heard: dict[EntryId, list[Fact]] = {}
    for fact in facts:
        if isinstance(fact.body, Study) and fact.header.entry is not None:
            heard.setdefault(fact.header.entry, []).append(fact)
        for entry in ledger.add_fact(fact).revived:
            for study in heard.get(entry, ()):
                ledger.add_fact(study)
    return ledger


def _ids(ledger: Ledger) -> dict[FactClass, set[FactId]]:
    return {kind: set(ledger.facts(kind)) for kind in FactClass}


@_BOUNDED
@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_order_and_repetition_do_not_matter(seed: int, order: int) -> None:
    """Two clinics that heard the same facts on other roads must tell people the same.

    Facts that were void when they came are dropped; so each ledger is told everything once more, as
    any later meeting does. What protects a study, its announcement and its end, must be right before.
    """
    mesh, facts = story(seed)
    reference = _told(mesh, [*facts, *facts])
    random = Random(order)
    shuffled = random.sample(facts, len(facts)) + random.choices(facts, k=20)
    ledger = _told(mesh, shuffled)

    wanted, got = meaning(reference), meaning(ledger)
    for part in ("members", "devices", "destinations"):
        assert got[part] == wanted[part]
    for entry, (_, study, *_, tombstone, recall, waits, frozen, _) in wanted["entries"].items():
        view = ledger.entry(entry)
        assert (view.study and view.study.id, view.tombstone and view.tombstone.id) == (study, tombstone)
        assert (view.recall and view.recall.id, view.waits_for_person, view.frozen) == (recall, waits, frozen)

    for fact in facts:
        ledger.add_fact(fact)
    assert meaning(ledger) == wanted
    assert _ids(ledger) == _ids(reference)


@_BOUNDED
@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_a_restart_changes_nothing(seed: int, order: int) -> None:
    """A ledger read from disk means what it meant before: members first, else in any order.

    Members first, or a thief's tombstone would have effect for a moment, and drop what it is about.
    """
    mesh, facts = story(seed)
    ledger = _told(mesh, facts)
    kept = [f for kind in FactClass for f in ledger.facts(kind).values()]
    Random(order).shuffle(kept)
    kept.sort(key=lambda fact: fact.header.kind not in MEMBERSHIP_KINDS)
    again = mesh.ledger()
    for fact in kept:
        again.add_fact(fact)

    assert meaning(again) == meaning(ledger)
    assert _ids(again) == _ids(ledger)


@_BOUNDED
@given(st.integers(0, 2**32))
def test_what_is_reported_is_what_changed(seed: int) -> None:
    """The disk follows these reports: a fact that is missing in them would be forgotten at the next start."""
    mesh, facts = story(seed)
    ledger, disk = mesh.ledger(), set[FactId]()
    for fact in facts:
        added = ledger.add_fact(fact)
        disk |= {f.id for f in added.admitted}
        disk -= set(added.dropped)
        assert disk == set().union(*_ids(ledger).values())


def _exchange(initiator: Ledger, responder: Ledger, fact_class: FactClass, frame: int) -> int:
    """Make the sets of a class equal as a meeting does; return the number of round trips."""
    ours = Reconciler(initiator.snapshot(fact_class), frame)
    theirs = Reconciler(responder.snapshot(fact_class), frame)
    have, need = list[bytes](), list[bytes]()
    message: bytes | None = ours.initiate()
    rounds = 0
    while message is not None:
        message = ours.reconcile(theirs.respond(message))
        have, need = have + ours.have, need + ours.need
        rounds += 1
        assert rounds < 1000
    for ids, giver, taker in ((need, responder, initiator), (have, initiator, responder)):
        for fact in [giver.get(FactId(one)) for one in ids]:
            if fact is not None:
                assert taker.add(fact.raw).outcome is not Outcome.REFUSED
    return rounds


@_BOUNDED
@given(st.integers(0, 2**32), st.sampled_from([0, 4096, 5000]))
def test_two_ledgers_become_equal_by_meeting(seed: int, frame: int) -> None:
    """Whatever each has heard, lost or never understood: after a meeting both know the same."""
    mesh, facts = story(seed, length=70)
    random = Random(seed)
    one, two = (_told(mesh, random.sample(facts, random.randint(0, len(facts)))) for _ in range(2))
    for fact_class in (FactClass.PERMANENT, FactClass.PERMANENT, FactClass.LIVE):
        _exchange(one, two, fact_class, frame)  # the second time for facts that waited for their author

    for fact_class in FactClass:
        assert one.snapshot(fact_class).root_fingerprint() == two.snapshot(fact_class).root_fingerprint()
    assert meaning(one) == meaning(two)


@pytest.mark.parametrize("frame", [4096, 0])
def test_many_facts_become_equal_in_small_frames(frame: int) -> None:
    """A weak line carries a few kilobytes at a time."""
    mesh = MeshMaker()
    one, two = mesh.ledger(), mesh.ledger()
    for number in range(700):
        fact = mesh.parse(mesh.say_unknown("root", "future", {"n": number}))
        for ledger in ([one], [two], [one, two])[number % 3]:
            ledger.add_fact(fact)
    rounds = _exchange(one, two, FactClass.LIVE, frame)

    assert _ids(one) == _ids(two)
    assert len(one.facts(FactClass.LIVE)) == 700
    assert rounds > 1 or not frame


def test_a_node_relays_kinds_that_it_does_not_know() -> None:
    """An old courier between two new clinics must not filter what they say to each other."""
    mesh, members = usual_mesh()
    new, old, far = mesh.ledger(members), mesh.ledger(members), mesh.ledger(members)
    live = mesh.say_unknown("clinic", "future", entry=E, slot=b"s")
    newer = mesh.say_unknown("clinic", "future", {"x": 1}, entry=E, slot=b"s")
    permanent = mesh.say_unknown("cloud", "future", permanent=True)
    for raw in (live, newer, permanent):
        new.add(raw)
    for fact_class in FactClass:
        _exchange(old, new, fact_class, 0)
        _exchange(far, old, fact_class, 0)

    assert far.get(id_of(newer)) is not None
    assert far.get(id_of(permanent)) is not None
    assert far.get(id_of(live)) is None


# -- void, waiting, refused ---------------------------------------------------------------------


def test_facts_about_an_ended_entry_are_dropped_on_sight() -> None:
    """Else the mesh would drown in custody of what the PACS has had for years."""
    mesh, members = usual_mesh()
    study, custody = mesh.study("clinic", E), mesh.custody("courier", E)
    ledger = mesh.ledger([*members, study, custody])
    added = ledger.add(mesh.tombstone("cloud", E))

    assert set(added.dropped) == {id_of(study), id_of(custody)}
    assert ledger.add(study).outcome is Outcome.VOID
    assert ledger.add(mesh.custody("clinic", E)).outcome is Outcome.VOID
    assert ledger.entry(E).state is EntryState.DELIVERED
    assert not ledger.facts(FactClass.LIVE)


def test_the_newest_of_a_slot_stands_whatever_came_first() -> None:
    """A node's last word counts, by its own clock."""
    mesh, members = usual_mesh()
    older = mesh.custody("courier", E, holds=False, at=10)
    newer = mesh.custody("courier", E, holds=True, at=20)
    for order in ([older, newer], [newer, older]):
        ledger = mesh.ledger([*members, mesh.study("clinic", E), *order])
        assert node_of("courier") in ledger.entry(E).holders
        assert ledger.get(id_of(older)) is None
    assert ledger.newest_of(node_of("courier")) == 20


def test_facts_of_unknown_authors_wait_and_are_not_offered() -> None:
    """A stranger must not fill the disks of a mesh."""
    mesh, members = usual_mesh()
    ledger = mesh.ledger(members)
    before = ledger.snapshot(FactClass.LIVE).root_fingerprint()
    raw = mesh.custody("newcomer", E)

    assert ledger.add(raw).outcome is Outcome.WAITING
    assert ledger.get(id_of(raw)) is None
    assert ledger.snapshot(FactClass.LIVE).root_fingerprint() == before
    added = ledger.add(mesh.member("admin", "newcomer", [Role.CARRY]))
    assert id_of(raw) in {f.id for f in added.admitted}
    assert ledger.get(id_of(raw)) is not None


def test_the_waiting_area_is_bounded_and_the_oldest_go() -> None:
    """A flood of strangers' facts costs them, not us."""
    mesh, members = usual_mesh()
    ledger = mesh.ledger(members)
    raws = [mesh.custody("newcomer", entry_of(str(n))) for n in range(MAX_WAITING + 5)]
    for raw in raws:
        ledger.add(raw)
    added = ledger.add(mesh.member("admin", "newcomer", [Role.CARRY]))

    assert len(added.admitted) == MAX_WAITING + 1
    assert ledger.get(id_of(raws[4])) is None
    assert ledger.get(id_of(raws[5])) is not None


def test_what_waited_together_is_judged_together() -> None:
    """A thief's tombstone that waited beside its revocation must not have effect for a moment."""
    mesh, members = usual_mesh()
    study, custody = mesh.study("clinic", E), mesh.custody("courier", E)
    ledger = mesh.ledger([members[0], members[1], study, custody])
    for raw in (
        mesh.tombstone("thief", E),
        mesh.member("admin", "thief", [Role.FORWARD]),
        mesh.revoke("admin", "thief"),
    ):
        assert ledger.add(raw).outcome is Outcome.WAITING
    added = ledger.add(members[3])

    assert len(added.admitted) == 4
    assert not added.dropped
    assert ledger.entry(E).state is EntryState.CARRIED


def test_ending_one_entry_brings_back_nothing_of_another() -> None:
    """Else a newer fact that went with one entry would bring back an older one about the other."""
    mesh, members = usual_mesh()
    other = entry_of("other")
    facts = [
        mesh.say_unknown("cloud", "future", entry=other, slot=b"s", at=10),
        mesh.say_unknown("cloud", "future", entry=E, slot=b"s", at=20),
        mesh.tombstone("cloud", E),
    ]
    one, two = mesh.ledger([*members, *facts]), mesh.ledger([*members, *reversed(facts)])

    assert _ids(one) == _ids(two)


def test_wrong_octets_are_refused_with_a_code_and_never_raise() -> None:
    """A peer that sends rubbish gets an answer for each piece, and the rest of its facts is taken in."""
    ledger = MeshMaker().ledger()
    for raw in (b"", b"\xd2", b"rubbish", bytes(70_000), b"\xd2" + b"\x81" * 60_000):
        added = ledger.add(raw)
        assert (added.outcome, added.code) == (Outcome.REFUSED, "bad-fact")


def test_a_fact_that_is_here_is_known() -> None:
    """Twice is once."""
    mesh, members = usual_mesh()
    ledger = mesh.ledger(members)
    assert ledger.add(members[0]).outcome is Outcome.KNOWN


# -- entries ------------------------------------------------------------------------------------


@pytest.mark.parametrize("author", ["courier", "clinic", "stranger"])
def test_only_a_forwarder_ends_an_entry(author: str) -> None:
    """A courier's word must not erase what it carries."""
    mesh, members = usual_mesh()
    ledger = mesh.ledger([*members, mesh.study("clinic", E), mesh.tombstone(author, E)])

    assert not ledger.is_tombstoned(E)
    assert ledger.entry(E).state is EntryState.WAITING


def test_the_tombstone_of_a_thief_has_no_effect_whenever_it_comes() -> None:
    """Who stole a forwarder must not erase by it, neither before nor after we know."""
    mesh, members = usual_mesh()
    study, tombstone, revoked = (
        mesh.study("clinic", E),
        mesh.tombstone("cloud", E),
        mesh.revoke("root", "cloud"),
    )
    after = mesh.ledger([*members, study, revoked, tombstone])
    assert after.entry(E).state is EntryState.WAITING

    before = mesh.ledger([*members, study, tombstone])
    added = before.add(revoked)
    assert added.revived == (E,)
    before.add(study)
    assert meaning(before) == meaning(after)
    vouched = before.add(mesh.vouch("root", "cloud", tombstone))
    assert id_of(study) in vouched.dropped
    assert before.entry(E).state is EntryState.DELIVERED


def test_the_origin_withdraws_its_own_study_and_no_other_nodes() -> None:
    """A person takes back a mistake, on the node where it was made."""
    mesh, members = usual_mesh()
    study = mesh.study("clinic", E)
    by_origin = mesh.tombstone("clinic", E, outcome="withdrawn", study=study)
    assert mesh.ledger([*members, study, by_origin]).entry(E).state is EntryState.WITHDRAWN

    for wrong in (
        mesh.tombstone("courier", E, outcome="withdrawn", study=study),
        mesh.tombstone("clinic", E, outcome="withdrawn", study=None),
        mesh.tombstone("clinic", E, outcome="withdrawn", study=mesh.study("clinic", entry_of("other"))),
        mesh.tombstone("clinic", E, outcome="withdrawn", study=study[:-1] + bytes([study[-1] ^ 1])),
        mesh.tombstone("clinic", E, outcome="withdrawn", origin="admin", study=study),
    ):
        assert mesh.ledger([*members, study, wrong]).entry(E).state is EntryState.WAITING


def test_a_delivery_beats_a_withdrawal_and_the_newest_delivery_is_shown() -> None:
    """People must see that the PACS has it, whoever withdrew it meanwhile."""
    mesh, members = usual_mesh()
    study = mesh.study("clinic", E)
    delivered = mesh.tombstone("cloud", E, at=10)
    later = mesh.tombstone("clinic", E, outcome="withdrawn", study=study, at=99)
    for order in ([delivered, later], [later, delivered]):
        view = mesh.ledger([*members, study, *order]).entry(E)
        assert view.state is EntryState.DELIVERED
        assert view.tombstone is not None and view.tombstone.id == id_of(delivered)


def test_a_recall_counts_from_a_forwarder_and_only_after_an_end() -> None:
    """Nobody else knows what the PACS lost."""
    mesh, members = usual_mesh()
    by_cloud = mesh.say("cloud", Recall("lost", bytes(16)), E)
    by_clinic = mesh.say("clinic", Recall("lost", bytes(16)), E)
    study, tombstone = mesh.study("clinic", E), mesh.tombstone("cloud", E)

    assert mesh.ledger([*members, study, by_cloud]).entry(E).state is EntryState.WAITING
    assert mesh.ledger([*members, by_clinic, tombstone]).entry(E).state is EntryState.DELIVERED
    recalled = mesh.ledger([*members, by_cloud, tombstone, study])
    assert recalled.entry(E).state is EntryState.RECALLED
    assert recalled.get(id_of(study)) is None


def test_a_critical_fact_of_an_unknown_kind_freezes_one_entry() -> None:
    """A newer version may forbid erasing; an older one must obey without understanding."""
    mesh, members = usual_mesh()
    frozen = mesh.say_unknown("cloud", "future", permanent=True, entry=E, critical=True)
    ledger = mesh.ledger(
        [*members, frozen, mesh.tombstone("cloud", E), mesh.tombstone("cloud", entry_of("o"))]
    )

    assert ledger.entry(E).frozen
    assert not ledger.entry(entry_of("o")).frozen
    assert ledger.entry(E).state is EntryState.DELIVERED


def test_copies_are_what_trusted_nodes_say_they_hold() -> None:
    """The number that people see must not be a thief's."""
    mesh, members = usual_mesh()
    ledger = mesh.ledger([
        *members, mesh.study("clinic", E), mesh.custody("clinic", E), mesh.custody("courier", E),
        mesh.custody("cloud", E, holds=False), mesh.custody("stranger", E),
    ])  # fmt: skip
    view = ledger.entry(E)
    assert (view.copies, view.state, view.holders) == (2, EntryState.CARRIED, {node_of("courier")})

    ledger.add(mesh.custody("cloud", E))
    assert ledger.entry(E).state is EntryState.AT_FORWARDER
    ledger.add(mesh.revoke("root", "courier"))
    assert ledger.entry(E).holders == {node_of("cloud")}
    ledger.add(mesh.custody("clinic", E, holds=False))
    assert not ledger.entry(E).origin_holds
    assert ledger.entry(E).copies == 1


def test_an_entry_that_a_thief_announced_too_is_read_from_its_clinic() -> None:
    """Else a thief with an old clock could take over where a study goes and who is asked for it."""
    mesh, members = usual_mesh()
    honest = mesh.study("clinic", E, destination="pacs")
    stolen = mesh.study("admin", E, destination="elsewhere", at=1)
    ledger = mesh.ledger([*members, stolen, honest, mesh.revoke("root", "admin")])
    view = ledger.entry(E)

    assert view.announced is not None and view.announced.destination == "pacs"
    assert not view.waits_for_person


def test_a_person_lets_the_study_of_a_stolen_node_go_on() -> None:
    """The patient waits; somebody above looks at it and says: deliver."""
    mesh, members = usual_mesh()
    ledger = mesh.ledger([*members, mesh.study("clinic", E), mesh.revoke("root", "clinic")])
    ledger.add(mesh.say("clinic", Decision("retry", "Thief", {}), E))
    assert ledger.entry(E).waits_for_person

    ledger.add(mesh.say("cloud", Decision("retry", "Dr. Owl", {}), E))
    ledger.add(mesh.say("cloud", Decision("urgent", "Dr. Owl", {}), E))
    assert not ledger.entry(E).waits_for_person
    assert ledger.entry(E).urgent


def test_a_recalled_study_is_announced_anew_by_whoever_holds_it() -> None:
    """The origin may have erased it; its own signed words go along, so nobody invents studies."""
    mesh, members = usual_mesh()
    first, successor = mesh.study("clinic", E), entry_of("successor")
    good = mesh.study("clinic", successor, author="courier", again=first)
    assert mesh.ledger([*members, good]).entry(successor).origin == node_of("clinic")

    for wrong in (
        mesh.study("admin", successor, author="courier", again=first),
        mesh.study("clinic", successor, author="courier"),
        mesh.study("clinic", successor, author="courier", again=b"rubbish"),
        mesh.study("courier", successor, author="courier", again=mesh.study("courier", E)),
    ):
        assert mesh.ledger([*members, wrong]).entry(successor).study is None


def test_claims_and_troubles_end_when_their_author_says_so() -> None:
    """A trouble that was solved must leave the list of those who look after it."""
    mesh, members = usual_mesh()
    ledger = mesh.ledger([*members, mesh.study("clinic", E), mesh.say("cloud", Claim(True, 0, 2), E)])
    assert ledger.entry(E).state is EntryState.FORWARDING
    ledger.add(mesh.say("cloud", Claim(False, 1, 2), E))
    assert ledger.entry(E).state is EntryState.WAITING
    ledger.add(mesh.say("courier", Claim(True, 0, 2), E))
    assert ledger.entry(E).state is EntryState.WAITING


# -- devices, destinations, reports -------------------------------------------------------------


def test_one_revocation_ends_a_device_for_ever() -> None:
    """A lost phone must not come back by an older or newer fact."""
    mesh, members = usual_mesh()
    phone = Device(bytes(16), "{}", "Phone", "clinician")
    ended = Device(bytes(16), "{}", "Phone", "clinician", revokes=True)
    ledger = mesh.ledger([*members, mesh.say("admin", phone, at=50)])
    assert set(ledger.devices()) == {bytes(16)}

    ledger.add(mesh.say("admin", ended, at=10))
    ledger.add(mesh.say("admin", phone, at=99))
    assert ledger.devices() == {}
    assert mesh.ledger([*members, mesh.say("clinic", phone)]).devices() == {}


def test_destinations_of_a_thief_do_not_count() -> None:
    """Patients' images must not be sent to an address that a thief made up."""
    mesh, members = usual_mesh()
    _, facts = story(7)
    body = next(f.body for f in facts if f.header.kind == "destination")
    assert body is not None
    raw = mesh.say("admin", body)
    ledger = mesh.ledger([*members, raw])
    assert len(ledger.destinations()) == 1

    ledger.add(mesh.revoke("root", "admin"))
    assert ledger.destinations() == {}
    ledger.add(mesh.vouch("root", "admin", raw))
    assert len(ledger.destinations()) == 1
    assert mesh.ledger([*members, mesh.say("courier", body)]).destinations() == {}


def test_the_newest_report_of_each_node_stands() -> None:
    """One line for each node, its latest."""
    mesh, members = usual_mesh()
    ledger = mesh.ledger(members)
    for free in (1, 2):
        ledger.add(mesh.say("courier", Report(free, {}, (), "0")))
    ledger.add(mesh.say("cloud", Report(9, {}, (), "0")))

    assert {node: f.body.free for node, f in ledger.reports().items() if isinstance(f.body, Report)} == {
        node_of("courier"): 2,
        node_of("cloud"): 9,
    }


def test_a_fact_signed_by_hand_in_the_name_of_another_is_refused() -> None:
    """The author stands in the header; the signature must be its own."""
    mesh = MeshMaker()
    fact = mesh.parse(mesh.member("root", "clinic", ALL))
    forged = sign_raw(fact.header, {}, key=mesh.key("thief"), mesh=mesh.id)

    assert mesh.ledger().add(forged).outcome is Outcome.REFUSED


def test_a_node_that_may_not_admit_enrols_no_administrators() -> None:
    """A stolen clinic laptop with `enrol` must not become the mesh's administrator by way of a phone."""
    mesh, members = usual_mesh()
    members = [*members, mesh.member("root", "desk", [Role.ENROL, Role.INGEST])]
    phone = Device(bytes(16), "{}", "phone", "admin")

    by_desk = mesh.ledger([*members, mesh.say("desk", phone)]).devices()[bytes(16)]
    by_admin = mesh.ledger([*members, mesh.say("admin", phone)]).devices()[bytes(16)]

    assert (by_desk.role, by_admin.role) == ("lead", "admin")
