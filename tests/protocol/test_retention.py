"""Blobs leave a disk only when no reason to keep them is left."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.facts import entry_of, node_of, usual_mesh

from sync.bodies import Recall
from sync.entries import EntryView
from sync.retention import (
    DEFAULT_HOLD_MS,
    Custodian,
    KeepReason,
    Kept,
    Since,
    evictable,
    has_arrived,
    may_evict,
    reasons_to_keep,
    spare_octets,
    to_clear,
    to_evict,
    to_relieve,
)

E = entry_of("e")
HOLD = DEFAULT_HOLD_MS
LONG_AGO = Since(ended_ms=HOLD, mixed_after_hold=True)
K = KeepReason


def _view(*what: str) -> EntryView:
    mesh, members = usual_mesh()
    study = mesh.study("clinic", E)
    says = {
        "study": lambda: study,
        "delivered": lambda: mesh.tombstone("cloud", E),
        "withdrawn": lambda: mesh.tombstone("clinic", E, outcome="withdrawn", study=study),
        "stolen": lambda: mesh.tombstone(
            "admin", E, outcome="withdrawn", origin="admin", study=mesh.study("admin", E)
        ),
        "recalled": lambda: mesh.say("cloud", Recall("lost", bytes(16)), E),
        "frozen": lambda: mesh.say_unknown("cloud", "future", permanent=True, entry=E, critical=True),
    }
    return mesh.ledger([*members, *(says[word]() for word in what)]).entry(E)


def _reasons(
    view: EntryView, *, origin: bool = False, since: Since | None = LONG_AGO, **more: bool
) -> set[K]:
    return set(
        reasons_to_keep(view, is_origin=origin, since=since, hold_ms=HOLD, origin=node_of("clinic"), **more)
    )


@pytest.mark.parametrize("origin", [True, False])
def test_a_study_that_has_not_ended_stays(origin: bool) -> None:
    """Sending is never a reason to forget."""
    assert K.NOT_ENDED in _reasons(_view("study"), origin=origin)
    assert K.NOT_ENDED in _reasons(_view(), origin=origin)


def test_an_end_that_is_not_durable_here_is_none() -> None:
    """After a power cut the tombstone would be gone, and the blobs too."""
    assert _reasons(_view("study", "delivered"), since=None) == {K.NOT_ENDED}


def test_a_carrier_erases_at_once_and_the_origin_after_its_hold() -> None:
    """For three days the clinic can help a PACS that forgets."""
    view = _view("study", "delivered")
    fresh = Since(ended_ms=0, mixed_after_hold=False)

    assert _reasons(view, since=fresh) == set()
    assert _reasons(view, since=fresh, origin=True) == {K.HOLD}
    assert _reasons(view, since=Since(HOLD - 1, mixed_after_hold=True), origin=True) == {K.HOLD}
    assert _reasons(view, since=Since(HOLD, mixed_after_hold=False), origin=True) == {K.NOT_MIXED}
    assert _reasons(view, since=LONG_AGO, origin=True) == set()


def test_the_hold_yields_to_a_full_disk_and_an_unproven_study_never_does() -> None:
    """New patients come first, and the PACS has the old ones."""
    pressed = Since(0, mixed_after_hold=False, disk_pressed=True)

    assert _reasons(_view("study", "delivered"), since=pressed, origin=True) == set()
    assert _reasons(_view("study"), since=pressed, origin=True) == {K.NOT_ENDED}


def test_a_frozen_entry_stays_whatever_else_is_known() -> None:
    """A newer version said so."""
    assert _reasons(_view("study", "delivered", "frozen")) == {K.FROZEN}


def test_a_recalled_entry_stays_until_its_successor_lists_the_same_blobs() -> None:
    """The blobs of both are the same: erased too early, they would be erased for both."""
    view = _view("study", "delivered", "recalled")

    assert _reasons(view) == {K.RECALLED}
    assert _reasons(view, origin=True) == {K.RECALLED}
    assert _reasons(view, successor_known=True) == set()


def test_a_withdrawal_as_another_nodes_study_erases_nothing() -> None:
    """Any ingest node can say of any entry that it was its own: a person must look."""
    assert _reasons(_view("study", "withdrawn")) == set()
    assert _reasons(_view("study", "stolen")) == {K.DISPUTED}
    assert _reasons(_view("study", "stolen"), origin=True) == {K.DISPUTED}


def test_a_forwarder_keeps_a_withdrawn_study_until_it_has_said_how_much_had_arrived() -> None:
    """Erased too early, nobody could tell the hospital what to delete."""
    assert _reasons(_view("study", "withdrawn"), untold=True) == {K.UNTOLD}
    assert _reasons(_view("study", "delivered"), untold=True) == set()


def _others(*words: str) -> set[Custodian]:
    """Each word is a node and what it is: answering (!), forwarder (^)."""
    return {Custodian(w.strip("!^").encode(), "^" in w, "!" in w) for w in words}


@pytest.mark.parametrize(
    ("others", "may"),
    [
        ((), False),
        (("a", "b", "c", "d"), False),
        (("a!",), False),
        (("a!", "b"), False),
        (("a!", "b!"), True),
        (("f^!",), False),
        (("f^!", "b"), True),
        (("f^", "b!"), False),
        (("f^", "g^", "b"), False),
        (("a", "a!"), False),
        (("f^", "f^!"), False),
    ],
)
def test_a_whole_copy_goes_only_when_others_answer_now(others: tuple[str, ...], may: bool) -> None:
    """What a third party says about a copy counts for nothing."""
    assert may_evict(is_origin=False, complete=True, others=_others(*others)) is may


def test_the_origin_never_evicts_and_a_part_may_always_go() -> None:
    """The clinic's copy is the one that everybody relies on; a part is no copy."""
    assert not may_evict(is_origin=True, complete=True, others=_others("f^!", "a!", "b!"))
    assert not may_evict(is_origin=True, complete=False, others=_others("f^!", "a!", "b!"))
    assert may_evict(is_origin=False, complete=False, others=set())


def test_a_copy_of_which_nobody_was_told_may_go() -> None:
    """Nobody counts it, so nobody relies on it; the origin's is the exception here as well."""
    assert may_evict(is_origin=False, complete=True, others=set(), announced=False)
    assert not may_evict(is_origin=True, complete=True, others=_others("a!", "b!"), announced=False)


_ALONE, _SEEN = frozenset(_others("a", "b", "c")), frozenset(_others("a!", "b!"))


def _kept(name: str, **what: object) -> Kept:
    usual = {
        "entry": entry_of(name), "octets": 10, "waiting_since": 5, "promised": False, "complete": True,
        "announced": False, "is_origin": False, "others": _ALONE,
    }  # fmt: skip
    return Kept(**(usual | what))  # type: ignore[arg-type]


def test_parts_go_first_then_spares_then_what_is_safe_elsewhere() -> None:
    """What is nearest to travelling stays longest."""
    order = [
        _kept("part", complete=False, waiting_since=1),
        _kept("young", waiting_since=9),
        _kept("large", octets=11),
        _kept("small"),
        _kept("promised part", promised=True, complete=False),
        _kept("safe elsewhere", promised=True, announced=True, others=_SEEN),
    ]
    stays = [
        _kept("own", is_origin=True),
        _kept("announced", announced=True),
        _kept("needed", promised=True),  # about to be announced
    ]
    for some in permutations(order, 3):
        assert evictable([*some, *stays]) == [one for one in order if one in some]
    assert evictable([*stays, *order]) == order
    assert spare_octets(order) == 41


def test_nothing_goes_in_vain() -> None:
    """To give copies up and still have no room would be a loss for nothing."""
    kept = [_kept("young", waiting_since=9), _kept("old")]

    assert to_evict(kept, 0) == []
    assert to_evict(kept, 10) == [entry_of("young")]
    assert to_evict(kept, 11) == [entry_of("young"), entry_of("old")]
    assert to_evict(kept, 21) == []


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(
        st.builds(
            Kept, entry=st.integers(0, 99).map(lambda n: entry_of(str(n))), octets=st.integers(0, 50),
            waiting_since=st.integers(0, 9), promised=st.booleans(), complete=st.booleans(),
            announced=st.booleans(), is_origin=st.booleans(), others=st.sampled_from([_ALONE, _SEEN]),
        ),
        max_size=8, unique_by=lambda k: k.entry,
    ),
    st.integers(0, 200),
)  # fmt: skip
def test_what_goes_frees_enough_and_no_copy_that_counts(kept: list[Kept], needed: int) -> None:
    """Room is made with what nobody relies on, or what two others show at this moment."""
    by_id = {one.entry: one for one in kept}
    gone = [by_id[entry] for entry in to_evict(kept, needed)]

    assert sum(one.octets for one in gone) >= needed or gone == []
    for one in gone:
        assert not one.is_origin
        assert not one.complete or one.others == _SEEN or not (one.announced or one.promised)


def test_what_the_cloud_answers_for_is_cleared_and_nothing_else() -> None:
    """At the way out a copy has done its journey; elsewhere two answers do not say that."""
    arrived = frozenset(_others("f^!", "a"))
    order = [_kept("late", announced=True, others=arrived, waiting_since=9), _kept("spare")]
    there = _kept("there", announced=True, others=arrived)
    elsewhere = _kept("elsewhere", promised=True, announced=True, others=_SEEN)

    assert to_clear([*order, there, elsewhere], 0) == []
    assert to_clear([*order, there, elsewhere], 10) == [entry_of("late")]
    assert to_clear([*order, there, elsewhere], 99) == [entry_of("late"), entry_of("there")]


@pytest.mark.parametrize(
    ("others", "arrived"),
    [
        (("f^!", "a"), True),
        (("f^!",), False),
        (("f^", "a!"), False),
        (("f^", "f^!"), False),
        (("a!", "b!"), False),
    ],
)
def test_only_a_forwarder_that_answers_shows_that_a_study_has_arrived(
    others: tuple[str, ...], arrived: bool
) -> None:
    """A claim of custody that nobody repeats now is hearsay; and one node alone is no safety."""
    assert has_arrived(_others(*others)) is arrived


def test_under_pressure_all_that_may_go_goes_even_if_it_is_too_little() -> None:
    """The reserve is what erasing lives from: less pressure is better than none given up."""
    kept = [_kept("young", waiting_since=9), _kept("old"), _kept("own", is_origin=True, octets=99)]

    assert to_relieve(kept, 0) == []
    assert to_relieve(kept, 5) == [entry_of("young")]
    assert to_relieve(kept, 99) == [entry_of("young"), entry_of("old")]
