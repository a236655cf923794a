"""Blobs leave a disk only when no reason to keep them is left."""

import pytest
from support.facts import entry_of, node_of, usual_mesh

from sync.bodies import Recall
from sync.entries import EntryView
from sync.retention import DEFAULT_HOLD_MS, Custodian, KeepReason, Since, may_evict, reasons_to_keep

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
