"""A meeting is short: what is fetched and given first decides what arrives."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.facts import digest, entry_of, node_of, usual_mesh

from sync.bodies import Role
from sync.entries import EntryView
from sync.ids import BlobId
from sync.plan import (
    COPIES_FLOOR,
    Room,
    Wanted,
    accepts,
    blobs_to_move,
    fetchable,
    in_order,
    is_on_its_way,
    offerable,
)

E = entry_of("e")


def _wanted(name: str = "w", **what: object) -> Wanted:
    usual = {"entry": entry_of(name), "urgent": False, "waiting_since": 5, "missing": 100, "copies": 1}
    return Wanted(**(usual | what))  # type: ignore[arg-type]


def _view(*extra: str) -> EntryView:
    mesh, members = usual_mesh()
    says = {
        "study": lambda: mesh.study("clinic", E),
        "courier": lambda: mesh.custody("courier", E),
        "lost": lambda: mesh.custody("clinic", E, holds=False),
        "ended": lambda: mesh.tombstone("cloud", E),
    }
    return mesh.ledger([*members, *(says[word]() for word in extra)]).entry(E)


def test_urgent_then_longest_waiting_then_smallest_rest() -> None:
    """Measured on a month of courier meetings: this order brings the most patients through."""
    wanted = [
        _wanted("a", urgent=True, waiting_since=9, missing=900),
        _wanted("b", waiting_since=1, missing=900),
        _wanted("c", waiting_since=2, missing=1),
        _wanted("d", waiting_since=2, missing=2),
    ]
    for order in permutations(wanted):
        assert in_order(order) == wanted


def test_only_what_is_on_its_way_travels() -> None:
    """Blobs of ended or unknown entries would fill sticks and laptops for nothing."""
    assert is_on_its_way(_view("study"))
    for what in ((), ("courier",), ("study", "ended"), ("ended", "study")):
        assert not is_on_its_way(_view(*what))
        assert not fetchable(_view(*what), peer=node_of("clinic"))
        assert not offerable(_view(*what), peer=node_of("cloud"), roles=frozenset(Role))


def test_it_is_fetched_from_those_who_hold_it() -> None:
    """Asking a node for what it lacks wastes a short meeting."""
    view = _view("study", "courier")
    assert fetchable(view, peer=node_of("clinic"))
    assert fetchable(view, peer=node_of("courier"))
    assert not fetchable(view, peer=node_of("cloud"))
    assert not fetchable(_view("study", "courier", "lost"), peer=node_of("clinic"))


def test_it_is_offered_to_those_who_carry_and_lack_it() -> None:
    """A clinic that lost its own copy to a bad disk may have it back; who only takes in gets nothing."""
    view = _view("study", "courier")
    assert offerable(view, peer=node_of("cloud"), roles=frozenset({Role.FORWARD}))
    assert not offerable(view, peer=node_of("courier"), roles=frozenset({Role.CARRY}))
    assert not offerable(view, peer=node_of("clinic"), roles=frozenset({Role.CARRY}))
    assert not offerable(view, peer=node_of("cloud"), roles=frozenset({Role.INGEST, Role.ADMIT}))
    assert offerable(_view("study", "courier", "lost"), peer=node_of("clinic"), roles=frozenset({Role.CARRY}))


@pytest.mark.parametrize(
    ("what", "room", "can_open", "takes"),
    [
        ({}, Room(100, 100), False, True),
        ({}, Room(99, 1000), False, False),
        ({}, Room(1000, 99), False, False),
        ({}, Room(0, 100), True, True),
        ({}, Room(0, 99), True, False),
        ({"copies": COPIES_FLOOR}, Room(199, 1000), False, False),
        ({"copies": COPIES_FLOOR}, Room(200, 1000), False, True),
        ({"copies": COPIES_FLOOR - 1}, Room(100, 1000), False, True),
        ({"copies": COPIES_FLOOR, "urgent": True}, Room(100, 1000), False, True),
        ({"missing": 0}, Room(0, 0), False, True),
    ],
)
def test_a_node_takes_what_it_has_room_for(
    what: dict[str, object], room: Room, can_open: bool, takes: bool
) -> None:
    """Four copies are a floor; more go into free space only; who delivers takes all that fits its disk."""
    assert accepts(_wanted(**what), room, can_open=can_open) is takes


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 12)), max_size=8), st.integers(0, 50))
def test_every_missing_octet_is_asked_for_once(blobs: list[tuple[int, int]], start: int) -> None:
    """A transfer goes on where it broke off, and couriers that begin at different places share a study."""
    named = [(BlobId(digest("blob", n)), size, here) for n, (size, here) in enumerate(blobs)]
    already = {blob: here for blob, _, here in named}
    moves = blobs_to_move([(blob, size) for blob, size, _ in named], already, start=start)

    assert sorted(moves) == sorted((blob, here) for blob, size, here in named if here < size)
    if moves:
        first = [(blob, here) for blob, size, here in named if here < size]
        assert moves[0] == first[start % len(first)]
