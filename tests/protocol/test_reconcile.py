"""Reconciliation: two nodes learn exactly what each of them lacks, in the reference's own bytes."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from node.reconcile_stdio import main
from sync.errors import BadReconcileMessage, LocalError, ReconcileMisuse
from sync.reconcile import Item, Reconciler, Snapshot

ROOT = Path(__file__).parents[2]
VECTORS = json.loads((ROOT / "tests/vectors/negentropy.json").read_text())["cases"]
MANY_ROUNDS = 2_000
LAST_TIMESTAMP = 2**64 - 2


def fact(number: int, *, timestamp: int | None = None, zero_bytes: int = 0) -> Item:
    digest = sha256(str(number).encode()).digest()
    return (number if timestamp is None else timestamp, bytes(zero_bytes) + digest[zero_bytes:])


def ids(items: list[Item] | set[Item]) -> set[bytes]:
    return {item_id for _, item_id in items}


class Conversation:
    """Run an initiator against a responder to its end and keep all that was said."""

    def __init__(self, ours: Any, theirs: Any, our_limit: int = 0, their_limit: int = 0) -> None:
        initiator = Reconciler(Snapshot(ours), our_limit)
        snapshot = Snapshot(theirs)
        self.messages: list[bytes] = []
        self.have: list[bytes] = []
        self.need: list[bytes] = []
        message: bytes | None = initiator.initiate()
        while message is not None:
            assert len(self.messages) < MANY_ROUNDS
            answer = Reconciler(snapshot, their_limit).respond(message)
            self.messages += [message, answer]
            message = initiator.reconcile(answer)
            self.have += initiator.have
            self.need += initiator.need

    @property
    def rounds(self) -> int:
        return len(self.messages) // 2


# -- equal knowledge, whatever the sets and the frames --------------------------------------------

FRAME_LIMITS = st.sampled_from([0, 4096, 4100, 5000, 60_000])


@st.composite
def two_sets(draw: st.DrawFn) -> tuple[list[Item], list[Item]]:
    """Two overlapping sets; timestamps may all be one, ids may share their first bytes."""
    count = draw(st.sampled_from([0, 1, 2, 31, 32, 33, 100, 400, 1500]))
    seed = draw(st.integers(0, 2**32))
    per_timestamp = draw(st.sampled_from([1, 2, 40, 10_000]))
    zero_bytes = draw(st.sampled_from([0, 1, 20, 24]))
    base = draw(st.sampled_from([0, 1_700_000_000_000, LAST_TIMESTAMP - 2_000]))
    every = [fact(seed + n, timestamp=base + n // per_timestamp, zero_bytes=zero_bytes) for n in range(count)]
    ours_missing = draw(st.sets(st.integers(0, max(count - 1, 0)), max_size=60))
    start, end = sorted(draw(st.tuples(st.integers(0, count), st.integers(0, count))))
    ours = [item for n, item in enumerate(every) if n not in ours_missing]
    theirs = every[:start] + every[end:]
    return (theirs, ours) if draw(st.booleans()) else (ours, theirs)


@settings(deadline=None, max_examples=200)
@given(two_sets(), FRAME_LIMITS, FRAME_LIMITS)
def test_both_learn_exactly_the_difference(
    sets: tuple[list[Item], list[Item]], our_limit: int, their_limit: int
) -> None:
    """A fact that reconciliation overlooks would never reach the hospital."""
    ours, theirs = sets
    talk = Conversation(ours, theirs, our_limit, their_limit)

    assert set(talk.have) == ids(ours) - ids(theirs)
    assert set(talk.need) == ids(theirs) - ids(ours)
    assert len(talk.have) == len(set(talk.have))
    assert len(talk.need) == len(set(talk.need))
    assert all(not our_limit or len(message) <= our_limit for message in talk.messages[::2])
    assert all(not their_limit or len(message) <= their_limit for message in talk.messages[1::2])


def test_nothing_is_told_twice_though_a_full_frame_is_gone_through_again() -> None:
    """The reference tells some ids twice here; a caller that counts or asks by id must not notice."""
    ours = [fact(n, timestamp=n % 3) for n in range(1300)]
    theirs = [fact(n, timestamp=n % 3) for n in range(700, 1900)]
    talk = Conversation(ours, theirs, 60_000, 4096)

    assert sorted(talk.have) == sorted(ids(ours) - ids(theirs))
    assert sorted(talk.need) == sorted(ids(theirs) - ids(ours))


def test_two_equal_sets_need_one_small_round_trip() -> None:
    """Most meetings on the road find nothing new; they must cost next to nothing on a poor line."""
    same = [fact(n) for n in range(5000)]
    talk = Conversation(same, same)

    assert (talk.have, talk.need) == ([], [])
    assert talk.rounds == 1
    assert sum(map(len, talk.messages)) <= 350
    assert talk.messages[1] == b"\x61"


def test_equal_roots_tell_equal_sets_in_sixteen_bytes() -> None:
    """The hello carries this, so that a meeting in sync needs no reconciliation at all."""
    same = [fact(n) for n in range(500)]

    assert Snapshot(same).root_fingerprint() == Snapshot(reversed(same)).root_fingerprint()
    assert Snapshot(same).root_fingerprint() != Snapshot(same[:-1]).root_fingerprint()
    assert len(Snapshot(same).root_fingerprint()) == 16


def test_the_responder_keeps_nothing_between_messages() -> None:
    """One object may answer many peers, and a restarted node the rest of a conversation."""
    ours, theirs = [fact(n) for n in range(900)], [fact(n) for n in range(50, 1000)]
    responder = Reconciler(Snapshot(theirs))
    fresh = Conversation(ours, theirs).messages

    assert [responder.respond(message) for message in reversed(fresh[::2])] == fresh[::-2]


# -- the bytes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_our_bytes_are_those_of_the_reference(vector: dict[str, Any]) -> None:
    """Other implementations can check ours only while the messages are the same ones."""

    def items(ranges: list[list[int]]) -> list[Item]:
        return [
            fact(n, timestamp=1_700_000_000 + n // vector["per_timestamp"], zero_bytes=vector["zero_bytes"])
            for start, end in ranges
            for n in range(start, end)
        ]

    talk = Conversation(
        items(vector["initiator"]),
        items(vector["responder"]),
        vector["initiator_frame_limit"],
        vector["responder_frame_limit"],
    )

    if "messages" in vector:
        assert [message.hex() for message in talk.messages] == vector["messages"]
    else:
        digests = [sha256(message).hexdigest() for message in talk.messages]
        assert digests == vector["sha256_of_messages"]
    assert (len(talk.have), len(talk.need)) == (vector["have"], vector["need"])


def test_the_first_message_of_an_empty_set_is_five_bytes() -> None:
    """Derived by hand from the specification: version, infinity, no prefix, list, no ids."""
    assert Reconciler(Snapshot()).initiate() == bytes.fromhex("61 00 00 02 00")


def test_the_first_message_of_one_item_carries_its_id() -> None:
    """Derived by hand from the specification: version, infinity, no prefix, list, one id."""
    timestamp, item_id = fact(1)
    message = Reconciler(Snapshot([(timestamp, item_id)])).initiate()

    assert message == bytes.fromhex("61 00 00 02 01") + item_id


@pytest.mark.parametrize(
    ("oldest", "encoded"),
    [
        (0, "04"),
        (123, "7f"),
        (124, "8100"),
        (1_700_000_000_000, "b1bcff95d004"),
        (LAST_TIMESTAMP - 39, "81ffffffffffffffff5b"),
    ],
)
def test_the_first_message_of_forty_items_holds_sixteen_fingerprints(oldest: int, encoded: str) -> None:
    """Derived from the specification with plain sums: 8 parts of 3 items, then 8 parts of 2."""
    items = [fact(n, timestamp=oldest + n) for n in range(40)]
    expected, start = b"\x61", 0
    for size in [3] * 8 + [2] * 8:
        part = items[start : start + size]
        total = sum(int.from_bytes(item_id, "little") for _, item_id in part) % 2**256
        fingerprint = sha256(total.to_bytes(32, "little") + bytes([size])).digest()[:16]
        step = bytes.fromhex(encoded) if start == 0 else bytes([size + 1])
        start += size
        expected += (b"\0" if start == 40 else step) + b"\0\1" + fingerprint

    assert Reconciler(Snapshot(items)).initiate() == expected


def test_a_newer_version_is_answered_with_ours() -> None:
    """A peer of tomorrow can then step down to the version that both speak."""
    assert Reconciler(Snapshot([fact(1)])).respond(b"\x62what comes after 1") == b"\x61"


# -- snapshots that grow --------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 50), st.binary(min_size=32, max_size=32)), unique=True, max_size=120),
    st.integers(0, 120),
    st.booleans(),
)
def test_a_snapshot_that_grew_equals_one_that_was_built(items: list[Item], cut: int, in_order: bool) -> None:
    """Facts come one by one; a sum that went wrong on the way would keep two nodes apart for ever."""
    ordered = sorted(items) if in_order else items
    grown = Snapshot(ordered[:cut]).with_added(ordered[cut:])
    built = Snapshot(items)

    assert len(grown) == len(built) == len(items)
    for start in range(0, len(items), 7):
        for end in range(start, len(items) + 1, 5):
            assert grown.fingerprint(start, end) == built.fingerprint(start, end)
    assert Reconciler(grown).initiate() == Reconciler(built).initiate()


def test_adding_leaves_the_older_snapshot_as_it_was() -> None:
    """A conversation keeps its snapshot while new facts are stored."""
    older = Snapshot([fact(n) for n in range(100)])
    root = older.root_fingerprint()
    older.with_added([fact(200), fact(50, timestamp=3)])

    assert (len(older), older.root_fingerprint()) == (100, root)


@pytest.mark.parametrize(
    "items",
    [
        [fact(1), fact(2), fact(1)],
        [(1, b"short")],
        [(1, bytes(33))],
        [(1, bytes(33)), (2, bytes(31))],
        [(-1, bytes(32))],
        [(2**64 - 1, bytes(32))],
        [(2**64, bytes(32))],
    ],
)
def test_a_set_that_the_protocol_cannot_say_is_our_own_fault(items: list[Item]) -> None:
    """The error must point at this node and not at an innocent peer."""
    with pytest.raises(LocalError):
        Snapshot(items)
    with pytest.raises(ReconcileMisuse):
        Snapshot([fact(7)]).with_added(items)


def test_an_item_is_not_added_a_second_time() -> None:
    """Counted twice it would change the fingerprint and never settle."""
    with pytest.raises(ReconcileMisuse):
        Snapshot([fact(n) for n in range(40)]).with_added([fact(50), fact(20)])


def test_calls_out_of_order_are_our_own_fault() -> None:
    """A wrong order would look like a set in sync, which is worse than an error."""
    initiator = Reconciler(Snapshot())
    with pytest.raises(ReconcileMisuse):
        initiator.reconcile(b"\x61")
    initiator.initiate()
    with pytest.raises(ReconcileMisuse):
        initiator.initiate()
    with pytest.raises(ReconcileMisuse):
        initiator.respond(b"\x61")
    for frame_limit in (-1, 1, 4095):
        with pytest.raises(ReconcileMisuse):
            Reconciler(Snapshot(), frame_limit)


# -- items that a full frame left out -------------------------------------------------------------

NOTHING = b"\0\0\1" + sha256(bytes(32) + b"\0").digest()[:16]
"""The end of a message whose sender says that it has no items up to infinity."""

LISTED = [fact(n, timestamp=n) for n in range(4 * 31)]
TAIL = [fact(n, timestamp=n) for n in range(1000, 1020)]
DOUBTS = b"\x61" + 4 * (b"\x20\0\1" + bytes(16))
"""A message that doubts four ranges of LISTED, 31 items each."""


def limit_that_the_lists_fill() -> int:
    """Give the frame limit at which not one range fits after the lists of ids of LISTED."""
    return len(Reconciler(Snapshot(LISTED)).respond(DOUBTS)) + 200


def test_items_left_out_of_a_full_frame_are_told_though_the_peer_is_silent() -> None:
    """The reference never tells these twenty; a study announced by one of them would stay behind."""
    initiator = Reconciler(Snapshot(LISTED + TAIL), limit_that_the_lists_fill())
    initiator.initiate()
    message = initiator.reconcile(DOUBTS + NOTHING)
    assert message is not None
    assert message.endswith(NOTHING)

    following = initiator.reconcile(Reconciler(Snapshot(LISTED)).respond(message))

    assert following is None
    assert set(initiator.have) == ids(TAIL)


def test_items_that_the_peer_left_out_of_a_full_frame_are_asked_for() -> None:
    """Both frames end at the same place: the reference takes "nothing" said twice for agreement."""
    limit = limit_that_the_lists_fill()
    initiator, responder = Reconciler(Snapshot(LISTED), limit), Reconciler(Snapshot(LISTED + TAIL), limit)
    initiator.initiate()
    message = initiator.reconcile(DOUBTS + b"\0\0\1" + bytes(16))
    assert message is not None
    answer = responder.respond(message)
    assert message.endswith(NOTHING)
    assert answer.endswith(NOTHING)

    question = initiator.reconcile(answer)
    assert question is not None
    following = initiator.reconcile(responder.respond(question))

    assert following is None
    assert set(initiator.need) == ids(TAIL)


# -- what no honest peer sends --------------------------------------------------------------------

VARINT_2_TO_70 = b"\x81" + b"\x80" * 9 + b"\0"
ID = bytes(range(32))


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x5f", id="below the versions"),
        pytest.param(b"\x70", id="above the versions"),
        pytest.param(b"\x61\0", id="cut after the timestamp"),
        pytest.param(b"\x61\0\0", id="cut before the mode"),
        pytest.param(b"\x61\0\0\1" + bytes(15), id="cut fingerprint"),
        pytest.param(b"\x61\0\0\2", id="list without a count"),
        pytest.param(b"\x61\0\0\2\1" + bytes(31), id="cut id"),
        pytest.param(b"\x61\0\0\2\x8f\xff\xff\xff\x7f" + ID, id="four billion ids in 32 bytes"),
        pytest.param(b"\x61\0\0\2" + VARINT_2_TO_70, id="count above 64 bits"),
        pytest.param(b"\x61" + b"\xff" * 4000, id="number without an end"),
        pytest.param(b"\x61\x80\1\0\0", id="number longer than needed"),
        pytest.param(b"\x61" + VARINT_2_TO_70 + b"\0\0", id="timestamp above 64 bits"),
        pytest.param(b"\x61\x81" + b"\xff" * 8 + b"\x7f\0\0\2\0\0", id="timestamps whose sum is infinity"),
        pytest.param(b"\x61\5\x21" + bytes(33) + b"\0", id="prefix of 33 bytes"),
        pytest.param(b"\x61\5\x20" + bytes(9), id="cut prefix"),
        pytest.param(b"\x61\0\1\5\0", id="id beyond infinity"),
        pytest.param(b"\x61\5\1\x09\0\1\1\x08\0", id="bounds go backwards"),
        pytest.param(b"\x61\5\2\x09\1\0\1\1\x09\0", id="bounds go backwards behind a shorter prefix"),
        pytest.param(b"\x61\0\0\0\5\0\0", id="a range after infinity"),
        pytest.param(b"\x61\0\0\3", id="unknown mode"),
        pytest.param(b"\x61\0\0\x90\0", id="unknown mode in two bytes"),
        pytest.param(bytes(33 * 1024 * 1024), id="33 megabytes"),
    ],
)
def test_a_message_that_no_honest_peer_sends_is_refused(message: bytes) -> None:
    """A radio of a stranger must not make a node crash, hang or take all its memory."""
    initiator = Reconciler(Snapshot([fact(n) for n in range(100)]))
    initiator.initiate()

    with pytest.raises(BadReconcileMessage):
        initiator.reconcile(message)
    with pytest.raises(BadReconcileMessage):
        Reconciler(Snapshot([fact(n) for n in range(100)])).respond(message)

    assert (initiator.have, initiator.need) == ([], [])


def test_an_initiator_refuses_another_version() -> None:
    """A version byte alone would otherwise read as "in sync"."""
    initiator = Reconciler(Snapshot([fact(1)]))
    initiator.initiate()

    with pytest.raises(BadReconcileMessage):
        initiator.reconcile(b"\x62")


def damaged(message: bytes, data: st.DataObject) -> bytes:
    """Cut, flip or repeat a part of a message."""
    at = data.draw(st.integers(0, len(message) - 1))
    match data.draw(st.sampled_from(["cut", "flip", "repeat"])):
        case "cut":
            return message[:at]
        case "flip":
            return message[:at] + bytes([message[at] ^ data.draw(st.integers(1, 255))]) + message[at + 1 :]
        case _:
            return message[:at] + message[max(0, at - data.draw(st.integers(1, 60))) :]


@settings(deadline=None, max_examples=300)
@given(st.data(), FRAME_LIMITS, st.integers(0, 3), st.booleans())
def test_damage_on_the_way_ends_in_a_refusal_or_in_a_finished_conversation(
    data: st.DataObject, frame_limit: int, damaged_round: int, damage_answer: bool
) -> None:
    """A bad line may cost a conversation, never the node; ids that are told as ours to give are ours."""
    ours = [fact(n, timestamp=n // 9) for n in range(600)]
    theirs = [fact(n, timestamp=n // 9) for n in range(3, 620) if n % 50]
    initiator = Reconciler(Snapshot(ours), frame_limit)
    responder = Reconciler(Snapshot(theirs), frame_limit)
    message: bytes | None = initiator.initiate()
    rounds = 0
    try:
        while message is not None:
            if rounds == damaged_round and not damage_answer:
                message = damaged(message, data)
            answer = responder.respond(message)
            if rounds == damaged_round and damage_answer:
                answer = damaged(answer, data)
            message = initiator.reconcile(answer)
            assert set(initiator.have) <= ids(ours)
            rounds += 1
            assert rounds < 100
    except BadReconcileMessage as error:
        assert error.code == "bad-reconcile-message"


@settings(max_examples=300)
@given(st.binary(max_size=200))
@example(b"\0\0\1" + bytes(16))
@example(50 * (b"\1\0\1" + bytes(16)))
def test_noise_is_answered_or_refused(noise: bytes) -> None:
    """Whatever follows a version byte, the answer stays in proportion to the set and the question."""
    items = [fact(n, timestamp=n) for n in range(70)]
    try:
        answer = Reconciler(Snapshot(items)).respond(b"\x61" + noise)
    except BadReconcileMessage:
        return

    assert len(answer) <= 32 * len(items) + 40 * (16 + len(noise))


# -- the program for tests against other implementations ------------------------------------------


def lines_of(items: list[Item]) -> list[str]:
    return [f"item,{timestamp},{item_id.hex()}" for timestamp, item_id in items] + ["seal"]


def talk(process: "subprocess.Popen[str]", *lines: str) -> Iterator[str]:
    """Send lines to a program and give its answers up to the one that ends a turn."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("".join(line + "\n" for line in lines))
    process.stdin.flush()
    while True:
        answer = process.stdout.readline().strip()
        yield answer
        if answer == "done" or answer.startswith("msg,") or not answer:
            return


@pytest.mark.parametrize("frame_limit", ["0", "4096"])
def test_two_programs_agree_over_standard_input_and_output(frame_limit: str) -> None:
    """The public fuzz tests speak this line protocol; so can the programs of others."""
    ours, theirs = [fact(n) for n in range(300)], [fact(n) for n in range(290, 700)]

    def start() -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "node.reconcile_stdio"],
            cwd=ROOT,
            env={"FRAMESIZELIMIT": frame_limit},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    with start() as initiator, start() as responder:
        told = list(talk(initiator, *lines_of(ours), "initiate"))
        setup = lines_of(theirs)
        while told[-1] != "done":
            (answer,) = talk(responder, *setup, told[-1])
            setup = []
            told += talk(initiator, answer)
        _ = initiator.communicate()[0], responder.communicate()[0]

    assert {line[5:] for line in told if line.startswith("have,")} == {
        x.hex() for x in ids(ours) - ids(theirs)
    }
    assert {line[5:] for line in told if line.startswith("need,")} == {
        x.hex() for x in ids(theirs) - ids(ours)
    }
    assert (initiator.returncode, responder.returncode) == (0, 0)


@pytest.mark.parametrize(
    ("lines", "limit", "said"),
    [
        (["initiate"], "0", "bad-line"),
        (["seal", "msg,zz"], "0", "bad-line"),
        (["item,1"], "0", "bad-line"),
        (["hello"], "0", "bad-line"),
        (["seal"], "17", "reconcile-misuse"),
        (["item,1,aa", "seal"], "0", "reconcile-misuse"),
        (["seal", "msg,"], "0", "bad-reconcile-message"),
    ],
)
def test_a_line_that_cannot_be_answered_ends_the_program(
    lines: list[str], limit: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fuzz test must see a failure as one, and not wait for an answer for ever."""
    status = main(io.StringIO("\n".join(lines)), io.StringIO(), {"FRAMESIZELIMIT": limit})

    assert status == 1
    assert capsys.readouterr().err.startswith(said)
