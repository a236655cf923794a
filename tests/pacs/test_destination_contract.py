"""What every destination does, held against the sandbox and a real Orthanc alike."""

import itertools

import pytest
from support.outgoing import outcomes, outgoing, verdict
from support.slices import made_slice, pydicom_file

from node.deliver.destination import Destination
from node.deliver.dicomweb import DicomWebDestination
from node.deliver.stow import Limits
from sync.bodies import Ending
from sync.evidence import Evidence, Outcome

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

STUDIES = itertools.count(7_000_001)

# One of each kind: native both ways, big endian, JPEG, JPEG 2000, several frames, a report, a dose.
FILES = [
    "CT_small.dcm", "MR_small.dcm", "ExplVR_BigEnd.dcm", "JPEG2000.dcm", "JPEG-lossy.dcm",
    "image_dfl.dcm", "reportsi.dcm", "rtdose.dcm", "test-SR.dcm", "SC_rgb_jpeg_gdcm.dcm", "liver_1frame.dcm",
]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_arrives_as_it_was(pacs: Destination, name: str) -> None:
    """Whatever its kind and coding, the PACS gives back what the clinic sent."""
    instance = outgoing(pydicom_file(name))

    sent = outcomes(pacs, [instance])

    assert sent[0] in (Outcome.STORED, Outcome.ALREADY_THERE_SAME)
    assert verdict(pacs, [instance]).ending is Ending.DELIVERED


def test_an_unknown_study_is_not_there(pacs: Destination) -> None:
    """Asking before sending must not fail on a PACS that never saw the study."""
    instance = outgoing(made_slice(next(STUDIES), 1))

    assert pacs.present(instance.study_uid) == frozenset()
    for demanded in Evidence:
        assert verdict(pacs, [instance], demanded).missing


def test_sending_the_same_again_finds_it_there_and_sends_nothing(pacs: Destination) -> None:
    """Some archives delete a file that they receive twice."""
    study = next(STUDIES)
    first, second = outgoing(made_slice(study, 1)), outgoing(made_slice(study, 2))
    outcomes(pacs, [first])

    sent = outcomes(pacs, [second, first])

    assert sent == [Outcome.STORED, Outcome.ALREADY_THERE_SAME]
    assert verdict(pacs, [first, second]).may_end


def test_the_same_uid_with_other_content_is_a_conflict(pacs: Destination) -> None:
    """The PACS keeps the old image and would answer 200: erasing the new one would lose it."""
    study = next(STUDIES)
    old, other = outgoing(made_slice(study, 1)), outgoing(made_slice(study, 2))
    edited = outgoing(made_slice(study, 1, name="Doe^Edited"))
    outcomes(pacs, [old])

    sent = outcomes(pacs, [edited, other])

    assert sent == [Outcome.CONFLICT, Outcome.STORED]
    judged = verdict(pacs, [edited, other])
    assert judged.ending is None
    assert [i.sha256 for i in judged.conflicts] == [edited.sha256]


def test_an_unreadable_part_does_not_harm_its_neighbours(pacs: Destination) -> None:
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
    assert verdict(pacs, good).may_end
    assert verdict(pacs, [*good, broken]).missing


def test_an_image_of_another_study_is_refused_and_its_neighbour_kept(pacs: Destination) -> None:
    """An index that mixes studies up must not file an image under the wrong one."""
    study, foreign = next(STUDIES), next(STUDIES)
    right = outgoing(made_slice(study, 1))
    wrong = outgoing(made_slice(foreign, 1), study_uid=right.study_uid)

    sent = outcomes(pacs, [right, wrong])

    assert sent == [Outcome.STORED, Outcome.REJECTED]
    assert verdict(pacs, [right, wrong]).missing


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


@pytest.mark.parametrize("demanded", [Evidence.LISTED, Evidence.METADATA, Evidence.READ_BACK])
def test_each_level_that_is_asked_for_is_shown(pacs: Destination, demanded: Evidence) -> None:
    """The destination's fact chooses; no more is asked over the line than it needs."""
    study = next(STUDIES)
    instances = [outgoing(made_slice(study, n)) for n in range(3)]
    outcomes(pacs, instances)

    judged = verdict(pacs, instances, demanded)

    assert {level for _, level in judged.proven} == {demanded}


def test_a_commitment_is_never_claimed(pacs: Destination) -> None:
    """Neither PACS knows the service; reading back must not pass for it."""
    instance = outgoing(made_slice(next(STUDIES), 1))
    outcomes(pacs, [instance])

    judged = verdict(pacs, [instance], Evidence.COMMITTED)

    assert judged.ending is None
    assert judged.missing


def test_metadata_of_another_patient_is_a_conflict(pacs: Destination) -> None:
    """Under the UID stands an image of somebody else."""
    study = next(STUDIES)
    ours = outgoing(made_slice(study, 1))
    swapped = made_slice(study, 1).replace(f"P{study}".encode(), f"Q{study}".encode())
    outcomes(pacs, [outgoing(swapped)])

    assert verdict(pacs, [ours], Evidence.METADATA).conflicts


def test_half_a_study_is_not_a_delivery(pacs: Destination) -> None:
    """What is there is proven, what is not is named."""
    study = next(STUDIES)
    instances = [outgoing(made_slice(study, n)) for n in range(5)]
    outcomes(pacs, instances[:3])

    judged = verdict(pacs, instances)

    assert judged.ending is None
    assert [i.sha256 for i in judged.missing] == [i.sha256 for i in instances[3:]]
