"""A meeting is short: what is fetched and given first decides what arrives."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.facts import digest, entry_of, node_of, usual_mesh

from sync.bodies import Role
from sync.entries import EntryView
from sync.ids import BlobId, NodeId
from sync.plan import (
    COPIES_FLOOR,
    HEARD_WITHIN_MS,
    Room,
    Wanted,
    accepts,
    blobs_to_move,
    carries_promise,
    fetchable,
    first_of,
    holders_that_count,
    in_order,
    is_on_its_way,
    is_told_of,
    offerable,
    overfull,
    passes,
    pressure,
    room,
    shortfall,
)

E = entry_of("e")


def _wanted(name: str = "w", **what: object) -> Wanted:
    usual = {"entry": entry_of(name), "urgent": False, "waiting_since": 5, "missing": 100, "copies": 1}
    return Wanted(**(usual | what))  # type: ignore[arg-type]


def _view(*extra: str) -> EntryView:
    mesh, members = usual_mesh()
    says = {
        "study": lambda: mesh.study("clinic", E),
        "urgent": lambda: mesh.study("clinic", E, urgent=True),
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
        assert [first_of(order, most) for most in range(6)] == [wanted[:most] for most in range(6)]


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


def test_an_urgent_study_that_one_of_two_lacks_passes_others() -> None:
    """The X-ray of an emergency does not wait behind a CT, and nothing else jumps the queue."""
    urgent, routine = _view("urgent", "courier"), _view("study", "courier")
    carries = frozenset({Role.CARRY})
    assert passes(urgent, whole=True, peer=node_of("cloud"), roles=carries)
    assert passes(urgent, whole=False, peer=node_of("courier"), roles=carries)
    assert not passes(urgent, whole=False, peer=node_of("cloud"), roles=carries)
    assert not passes(urgent, whole=True, peer=node_of("courier"), roles=carries)
    assert not passes(routine, whole=True, peer=node_of("cloud"), roles=carries)
    assert not passes(routine, whole=False, peer=node_of("courier"), roles=carries)


@pytest.mark.parametrize(
    ("what", "left", "can_open", "takes"),
    [
        ({}, Room(200, 100, 1600), False, True),
        ({}, Room(199, 100, 1600), False, False),  # a sixteenth is for urgent ones
        ({"urgent": True}, Room(100, 100, 1600), False, True),
        ({"urgent": True, "copies": COPIES_FLOOR}, Room(100, 100, 1600), False, True),
        ({}, Room(1600, 99, 1600), False, False),
        ({}, Room(0, 100, 1600), True, True),
        ({}, Room(0, 99, 1600), True, False),
        ({"copies": 2}, Room(900, 900, 1600), False, True),
        ({"copies": COPIES_FLOOR - 1}, Room(899, 900, 1600), False, False),  # half is for first copies
        ({"copies": COPIES_FLOOR}, Room(100, 100, 1600, spare=0), False, True),
        ({"copies": COPIES_FLOOR}, Room(99, 100, 1600, spare=1600), False, False),  # into free space only
        ({"copies": COPIES_FLOOR}, Room(900, 900, 1600), False, True),
        ({"copies": COPIES_FLOOR}, Room(899, 900, 1600), False, False),  # it would never go again
        ({"copies": COPIES_FLOOR - 1}, Room(0, 0, 1600, spare=900), False, True),
        ({"copies": COPIES_FLOOR - 1}, Room(0, 0, 1600, spare=899), False, False),
        ({"copies": COPIES_FLOOR}, Room(0, 0, 1600, spare=100), True, True),
        ({"missing": 0, "urgent": True}, Room(0, 0, 0), False, True),
        ({"copies": 2, "arrived": True}, Room(0, 0, 1600, spare=1600), False, False),  # nothing goes for it
        ({"copies": 2, "arrived": True}, Room(900, 900, 1600, spare=0), False, True),
        ({"copies": 2, "arrived": True}, Room(0, 0, 1600, spare=100), True, True),
    ],
)
def test_a_node_takes_what_it_has_room_for(
    what: dict[str, object], left: Room, can_open: bool, takes: bool
) -> None:
    """What the neighbours have already must not shut out what nobody has, and nothing the urgent."""
    assert accepts(_wanted(**what), left, can_open=can_open) is takes


def test_a_node_that_delivers_tells_of_every_copy_and_a_courier_only_of_those_that_are_needed() -> None:
    """That a study has arrived is news to everybody; that a fifth courier has it is not."""
    needed, spare = _wanted(copies=COPIES_FLOOR - 1), _wanted(copies=COPIES_FLOOR)

    assert is_told_of(needed, can_open=False) and is_told_of(spare, can_open=True)
    assert not is_told_of(spare, can_open=False)


@pytest.mark.parametrize(
    ("quota", "held", "free", "reserve", "can_open", "expected"),
    [
        (100, 90, 50, 50, False, 0),
        (100, 90, 49, 50, False, 1),
        (100, 130, 50, 50, False, 30),
        (100, 130, 10, 50, False, 40),
        (100, 130, 50, 50, True, 0),  # the quota does not bind the way out
    ],
)
def test_what_is_too_much(
    quota: int, held: int, free: int, reserve: int, can_open: bool, expected: int
) -> None:
    """The disk shrinks without us: somebody copies a film, or an operator lowers the quota."""
    assert pressure(quota=quota, held=held, free=free, reserve=reserve, can_open=can_open) == expected
    assert overfull(quota=quota, held=held) == max(held - 50, 0)


def test_the_quota_does_not_make_a_node_that_delivers_give_anything_up() -> None:
    """What fits its disk comes in beside the rest."""
    wanted = _wanted(missing=100)

    assert shortfall(wanted, Room(10, 100, 1600)) == 90
    assert shortfall(wanted, Room(10, 100, 1600), can_open=True) == 0
    assert shortfall(wanted, Room(10, 60, 1600), can_open=True) == 40


@pytest.mark.parametrize(
    ("copies", "urgent", "promised"),
    [(1, False, True), (COPIES_FLOOR - 1, False, True), (COPIES_FLOOR, False, False), (9, True, True)],
)
def test_four_copies_are_promised_and_urgent_ones_always(copies: int, urgent: bool, promised: bool) -> None:
    """Others rely on a promised copy; a spare may go at any moment."""
    assert carries_promise(_wanted(copies=copies, urgent=urgent)) is promised


_OCTETS = st.integers(0, 3000)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(_OCTETS, _OCTETS, _OCTETS, _OCTETS, _OCTETS, _OCTETS, st.integers(0, 6), st.booleans(), st.booleans())
def test_what_is_accepted_fits_when_the_spares_are_gone(
    quota: int, held: int, free: int, reserve: int, promised: int, missing: int, copies: int, urgent: bool,
    can_open: bool,
) -> None:  # fmt: skip
    """A full disk is a tested state, and the reserve stays: erasing, too, needs to write."""
    spare = min(held, 700)
    left = room(quota=quota, held=held, free=free, reserve=reserve, promised=promised, spare=spare)
    wanted = _wanted(missing=missing, copies=copies, urgent=urgent)

    if accepts(wanted, left, can_open=can_open):
        assert missing <= max(free - reserve - promised, 0) + spare
        assert can_open or missing <= max(quota - held - promised, 0) + spare
        assert can_open or shortfall(wanted, left) <= spare
        if not can_open and not carries_promise(wanted):
            assert shortfall(wanted, left) == 0


def test_copies_of_nodes_that_fell_silent_do_not_count() -> None:
    """A taxi that never comes back must not be what a study relies on."""
    view = _view("study", "courier")
    clinic, courier, me = node_of("clinic"), node_of("courier"), node_of("cloud")
    now = 100 * HEARD_WITHIN_MS

    def counting(heard: dict[str, int], me: NodeId = me) -> set[NodeId]:
        times = {node_of(name): at for name, at in heard.items()}
        return set(holders_that_count(view, heard_ms=times, me=me, now_ms=now))

    assert counting({"clinic": now, "courier": now}) == {clinic, courier}
    assert counting({"clinic": now, "courier": now - HEARD_WITHIN_MS}) == {clinic, courier}
    assert counting({"clinic": now, "courier": now - HEARD_WITHIN_MS - 1}) == {clinic}
    assert counting({}) == set()
    assert counting({}, me=courier) == {courier}
    lost = _view("study", "courier", "lost")
    assert set(holders_that_count(lost, heard_ms={clinic: now}, me=me, now_ms=now)) == set()


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
