"""What every destination does, each kind before each PACS: a fake, the sandbox, real ones."""

import itertools

import pytest
from support.kinds import Kind
from support.outgoing import outcomes, outgoing, verdict
from support.slices import made_slice, pydicom_file

from node.deliver.destination import Destination
from node.deliver.dicomweb import DicomWebDestination
from node.deliver.stow import Limits
from sync.bodies import Ending
from sync.evidence import Evidence, Outcome

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

STUDIES = itertools.count(7_000_001)

# One of each coding that pydicom's data have, and of several kinds: frames, a report, a dose, colour.
FILES = [
    "CT_small.dcm", "MR_small.dcm", "ExplVR_BigEnd.dcm", "rtdose.dcm", "image_dfl.dcm", "reportsi.dcm",
    "test-SR.dcm", "liver_1frame.dcm", "SC_rgb_jpeg_gdcm.dcm", "JPEG-lossy.dcm", "SC_rgb_dcmtk_+eb+cr.dcm",
    "JPGLosslessP14SV1_1s_1f_8b.dcm", "JPEG2000.dcm", "693_J2KR.dcm", "MR2_J2KI.dcm", "OBXXXX1A_rle.dcm",
    "emri_small_jpeg_ls_lossless.dcm",
]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_arrives_as_it_was(kind: Kind, pacs: Destination, name: str) -> None:
    """Whatever its kind and coding, the PACS gives back what the clinic sent."""
    instance = outgoing(pydicom_file(name))

    sent = outcomes(pacs, [instance])

    assert sent[0] in (Outcome.STORED, Outcome.ALREADY_THERE_SAME)
    judged = verdict(pacs, [instance], kind.strongest)
    assert judged.ending is Ending.DELIVERED
    assert [level for _, level in judged.proven] == [kind.strongest]
    assert pacs.strongest >= kind.strongest


def test_an_unknown_study_is_not_there(kind: Kind, pacs: Destination) -> None:
    """Asking before sending must not fail on a PACS that never saw the study."""
    instance = outgoing(made_slice(next(STUDIES), 1))

    assert pacs.present(instance.study_uid) == frozenset()
    for demanded in kind.levels:
        assert verdict(pacs, [instance], demanded).missing


def test_sending_the_same_again_finds_it_there_and_sends_nothing(kind: Kind, pacs: Destination) -> None:
    """Some archives delete a file that they receive twice."""
    study = next(STUDIES)
    first, second = outgoing(made_slice(study, 1)), outgoing(made_slice(study, 2))
    outcomes(pacs, [first])

    sent = outcomes(pacs, [second, first])

    assert sent == [Outcome.STORED, Outcome.ALREADY_THERE_SAME]
    assert verdict(pacs, [first, second], kind.strongest).may_end


def test_the_same_uid_with_other_content_is_a_conflict(kind: Kind, pacs: Destination) -> None:
    """The PACS keeps the old image and would answer 200: erasing the new one would lose it."""
    study = next(STUDIES)
    old, other = outgoing(made_slice(study, 1)), outgoing(made_slice(study, 2))
    edited = outgoing(made_slice(study, 1, name="Doe^Edited"))
    outcomes(pacs, [old])
    if kind.strongest < Evidence.READ_BACK:
        # It cannot be asked what it has, and overwrites or keeps as it likes: only the answer is claimed.
        assert outcomes(pacs, [edited]) == [Outcome.STORED]
        assert verdict(pacs, [edited], Evidence.LISTED).missing
        return

    sent = outcomes(pacs, [edited, other])

    assert sent == [Outcome.CONFLICT, Outcome.STORED]
    judged = verdict(pacs, [edited, other])
    assert judged.ending is None
    assert [i.sha256 for i in judged.conflicts] == [edited.sha256]


def test_an_unreadable_part_does_not_harm_its_neighbours(kind: Kind, pacs: Destination) -> None:
    """One damaged file of a CD must not hold up the other 299, and is named."""
    study = next(STUDIES)
    good = [outgoing(made_slice(study, n)) for n in (1, 3)]
    template = made_slice(study, 2)
    bad = outgoing(template)
    noise = b"noise" * (len(template) // 5) + b"n" * (len(template) % 5)
    broken = type(bad)(
        bad.study_uid, bad.uid, bad.sop_class, bad.syntax, len(noise), bad.sha256, lambda: iter([noise])
    )

    sent = outcomes(pacs, [good[0], broken, good[1]])

    assert sent == [Outcome.STORED, Outcome.REJECTED, Outcome.STORED]
    assert verdict(pacs, good, kind.strongest).may_end
    assert verdict(pacs, [*good, broken], kind.strongest).missing


def test_an_image_of_another_study_is_no_delivery_of_this_one(kind: Kind, pacs: Destination) -> None:
    """An index that mixes studies up must not file an image under the wrong one."""
    study, foreign = next(STUDIES), next(STUDIES)
    right = outgoing(made_slice(study, 1))
    wrong = outgoing(made_slice(foreign, 1), study_uid=right.study_uid)

    sent = outcomes(pacs, [right, wrong])

    assert sent[0] is Outcome.STORED
    assert sent[1] is Outcome.REJECTED or not kind.checks_study
    if kind.strongest > Evidence.ANSWERED:
        assert verdict(pacs, [right, wrong], kind.strongest).missing


def test_a_large_study_goes_in_many_requests_and_several_pages(pacs_url: str) -> None:
    """A study of more images than a request or a page of a query holds is proven to the last one."""
    study = next(STUDIES)
    destination = DicomWebDestination(pacs_url, limits=Limits(instances=7, octets=20_000), idle_s=30)
    instances = [outgoing(made_slice(study, n, octets=2048, series=n % 3)) for n in range(120)]

    sent = outcomes(destination, instances)

    assert set(sent) == {Outcome.STORED}
    assert destination.present(instances[0].study_uid) == {i.uid for i in instances}
    judged = verdict(destination, instances)
    assert judged.ending is Ending.DELIVERED
    assert len(judged.proven) == 120
    destination.close()


def test_each_level_that_is_asked_for_is_shown(kind: Kind, pacs: Destination) -> None:
    """The destination's fact chooses; no more is asked over the line than it needs."""
    study = next(STUDIES)
    instances = [outgoing(made_slice(study, n)) for n in range(3)]
    outcomes(pacs, instances)

    for demanded in kind.levels:
        judged = verdict(pacs, instances, demanded)
        assert {level for _, level in judged.proven} == {demanded}


def test_what_cannot_be_shown_is_never_claimed(kind: Kind, pacs: Destination) -> None:
    """Reading back must not pass for a commitment, nor an answer for a listing."""
    instance = outgoing(made_slice(next(STUDIES), 1))
    outcomes(pacs, [instance])

    for demanded in Evidence:
        judged = verdict(pacs, [instance], demanded)
        assert judged.may_end is (demanded <= kind.strongest), demanded


def test_another_destination_object_finds_what_the_first_one_sent(kind: Kind, pacs: Destination) -> None:
    """After a restart nothing is remembered but what the PACS can be asked."""
    study = next(STUDIES)
    instances = [outgoing(made_slice(study, n)) for n in range(4)]
    outcomes(pacs, instances)
    pacs.close()
    second = kind.make()
    try:
        if kind.strongest is Evidence.ANSWERED:
            assert verdict(second, instances, kind.strongest).missing
        else:
            assert set(outcomes(second, instances)) == {Outcome.ALREADY_THERE_SAME}
            assert verdict(second, instances, kind.strongest).may_end
    finally:
        second.close()


def test_metadata_of_another_patient_is_a_conflict(kind: Kind, pacs: Destination) -> None:
    """Under the UID stands an image of somebody else."""
    if kind.strongest is Evidence.ANSWERED:
        pytest.skip("it cannot be asked what it has")
    study = next(STUDIES)
    ours = outgoing(made_slice(study, 1))
    swapped = made_slice(study, 1).replace(f"P{study}".encode(), f"Q{study}".encode())
    outcomes(pacs, [outgoing(swapped)])

    assert verdict(pacs, [ours], Evidence.METADATA).conflicts


def test_half_a_study_is_not_a_delivery(kind: Kind, pacs: Destination) -> None:
    """What is there is proven, what is not is named."""
    study = next(STUDIES)
    instances = [outgoing(made_slice(study, n)) for n in range(5)]
    outcomes(pacs, instances[:3])

    judged = verdict(pacs, instances, kind.strongest)

    assert judged.ending is None
    assert [i.sha256 for i in judged.missing] == [i.sha256 for i in instances[3:]]
