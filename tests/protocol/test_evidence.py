"""Whether a tombstone may be written, from what a destination has shown."""

import itertools

import pytest

from sync import cbor
from sync.bodies import Ending
from sync.evidence import (
    Change,
    Evidence,
    Expected,
    InstanceProof,
    Outcome,
    judge,
    receipt,
    receipt_digest,
)
from sync.ids import EntryId

ONE, TWO, THREE = (Expected(f"1.2.{n}", bytes([n]) * 32) for n in (1, 2, 3))
ALL = (ONE, TWO, THREE)


def shown(*instances: Expected, level: Evidence = Evidence.READ_BACK) -> dict[str, InstanceProof]:
    return {i.uid: InstanceProof(i.sha256, level) for i in instances}


def test_levels_rise_from_listed_to_committed_and_not_by_their_names() -> None:
    """Compared as words, "committed" would be the weakest."""
    order = [
        *(Evidence.ANSWERED, Evidence.LISTED, Evidence.METADATA),
        *(Evidence.CHECKSUM, Evidence.READ_BACK, Evidence.COMMITTED),
    ]

    assert sorted(order, key=str) != order
    assert sorted(set(Evidence)) == order
    for (a, weak), (b, strong) in itertools.product(enumerate(order), repeat=2):
        assert (weak < strong, weak <= strong, weak > strong, weak >= strong) == (
            (a < b), (a <= b), (a > b), (a >= b),
        )  # fmt: skip


def test_a_study_is_delivered_when_every_instance_is_proven() -> None:
    """Only then may the last copies go."""
    verdict = judge(ALL, shown(*ALL), demanded=Evidence.READ_BACK)

    assert verdict.ending is Ending.DELIVERED
    assert verdict.may_end
    assert [i for i, _ in verdict.proven] == list(ALL)


@pytest.mark.parametrize("left", range(3))
def test_one_instance_that_nobody_showed_keeps_the_whole_study(left: int) -> None:
    """299 of 300 slices is not a delivery."""
    some = [i for n, i in enumerate(ALL) if n != left]

    verdict = judge(ALL, shown(*some), demanded=Evidence.READ_BACK)

    assert verdict.ending is None
    assert verdict.missing == (ALL[left],)


@pytest.mark.parametrize("demanded", list(Evidence))
@pytest.mark.parametrize("reached", list(Evidence))
def test_a_level_below_the_demanded_one_is_no_proof(reached: Evidence, demanded: Evidence) -> None:
    """The destination's fact says what is enough, not the forwarder."""
    verdict = judge(ALL, shown(*ALL, level=reached), demanded=demanded)

    assert verdict.may_end == (reached >= demanded)


def test_a_proof_of_other_bytes_proves_nothing() -> None:
    """An old proof of a study that was scanned again under the same UIDs must not erase the new one."""
    proofs = shown(*ALL) | {TWO.uid: InstanceProof(b"?" * 32, Evidence.COMMITTED)}

    assert judge(ALL, proofs, demanded=Evidence.LISTED).missing == (TWO,)


def test_a_conflict_is_never_a_success_whatever_its_level() -> None:
    """The PACS shows the UID, but another image."""
    proofs = shown(*ALL) | {TWO.uid: InstanceProof(TWO.sha256, Evidence.COMMITTED, conflict=True)}

    verdict = judge(ALL, proofs, demanded=Evidence.LISTED)

    assert verdict.ending is None
    assert verdict.conflicts == (TWO,)


def test_an_answer_that_says_stored_is_no_proof() -> None:
    """A 200 is not proof: outcomes of sending never count for a delivery."""
    stored = {i.uid: Outcome.STORED for i in ALL}

    assert judge(ALL, {}, demanded=Evidence.LISTED, outcomes=stored).missing == ALL


def test_what_was_refused_is_told_from_what_is_missing() -> None:
    """A person must look at the one; the schedule comes back for the other."""
    outcomes = {ONE.uid: Outcome.REJECTED, TWO.uid: Outcome.UNKNOWN, THREE.uid: Outcome.CONFLICT}

    verdict = judge(ALL, {}, demanded=Evidence.LISTED, outcomes=outcomes)

    assert (verdict.rejected, verdict.missing, verdict.conflicts) == ((ONE,), (TWO,), (THREE,))


def test_instances_that_a_person_left_out_make_it_a_delivery_with_exceptions() -> None:
    """It is a person's act, and the tombstone says so."""
    verdict = judge(ALL, shown(ONE, TWO), demanded=Evidence.READ_BACK, left_out={THREE.uid})

    assert verdict.ending is Ending.WITH_EXCEPTIONS
    assert verdict.left_out == (THREE,)


def test_an_instance_left_out_but_proven_is_no_exception() -> None:
    """It arrived after all."""
    verdict = judge(ALL, shown(*ALL), demanded=Evidence.READ_BACK, left_out={THREE.uid})

    assert verdict.ending is Ending.DELIVERED


def test_leaving_some_out_does_not_excuse_the_others() -> None:
    """The decision names instances; it is no permission for the rest."""
    verdict = judge(ALL, shown(ONE), demanded=Evidence.READ_BACK, left_out={THREE.uid, "9.9"})

    assert verdict.ending is None
    assert verdict.missing == (TWO,)


@pytest.mark.parametrize(("expected", "left_out"), [((), set()), (ALL, {i.uid for i in ALL})])
def test_where_nothing_was_delivered_there_is_no_delivery(expected, left_out) -> None:
    """An empty list is an error somewhere, and all left out is a withdrawal."""
    assert judge(expected, {}, demanded=Evidence.LISTED, left_out=left_out).ending is None


def test_one_proof_does_not_serve_two_contents_of_one_uid() -> None:
    """Two instances with one UID cannot both be at the destination."""
    twin = Expected(ONE.uid, b"x" * 32)

    assert judge((ONE, twin), shown(ONE), demanded=Evidence.LISTED).missing == (twin,)


def test_a_receipt_is_the_same_for_any_order_and_names_no_uid() -> None:
    """Two forwarders that proved the same write the same bytes, and a receipt can be shown around."""
    entry = EntryId(b"e" * 32)
    verdicts = [
        judge(order, shown(ONE, TWO), demanded=Evidence.LISTED, left_out={THREE.uid})
        for order in itertools.permutations(ALL)
    ]

    encoded = {receipt(entry, "hospital", v) for v in verdicts}

    (one,) = encoded
    assert cbor.decode(one) == {
        "entry": entry,
        "destination": "hospital",
        "demanded": "listed",
        "instances": [[ONE.sha256, "read-back"], [TWO.sha256, "read-back"]],
        "left_out": [THREE.sha256],
    }
    assert len(receipt_digest(one)) == 32
    assert not any(i.uid.encode() in one for i in ALL)


def test_a_receipt_names_both_digests_of_what_was_sent_changed() -> None:
    """Whoever has the original can still say that it is the one that was delivered."""
    verdict = judge((ONE, TWO), shown(ONE, TWO), demanded=Evidence.LISTED)

    encoded = receipt(EntryId(b"e" * 32), "azure", verdict, {ONE.uid: Change("explicit-vr", b"n" * 32)})

    told = cbor.decode(encoded)["instances"]
    assert [ONE.sha256, "read-back", b"n" * 32, "explicit-vr"] in told
    assert [TWO.sha256, "read-back"] in told


def test_values_about_a_patient_do_not_show_themselves() -> None:
    """A UID identifies a patient; it must not reach a log through a repr."""
    assert ONE.uid not in repr(judge(ALL, shown(ONE), demanded=Evidence.LISTED))
