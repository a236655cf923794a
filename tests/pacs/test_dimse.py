"""C-STORE: one association for many, what each answer makes of an instance, and what is claimed of it."""

import gc
import itertools
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from support.nginx import Authority
from support.outgoing import outcomes, outgoing, verdict
from support.receivers import running_receiver
from support.slices import made_slice, pydicom_file

from node.deliver.association import COMMIT, FIND, GET
from node.deliver.build import connect
from node.deliver.credentials import Credentials
from node.deliver.dimse import DimseDestination
from node.deliver.places import Address
from node.errors import BadSettings, DestinationLocked, DestinationUnreachable
from sync.bodies import Ending
from sync.evidence import Evidence, Outcome

STUDIES = itertools.count(8_300_001)


def slices(count: int, **more) -> list:
    study = next(STUDIES)
    return [outgoing(made_slice(study, n, **more)) for n in range(count)]


@pytest.fixture
def closing() -> Iterator[list[DimseDestination]]:
    opened: list[DimseDestination] = []
    yield opened
    for destination in opened:
        destination.close()


def test_one_association_serves_many_images_and_their_proofs(closing) -> None:
    """An association an image is the usual mistake: 675 images took 34 s instead of 14."""
    with running_receiver(FIND, GET) as receiver:
        pacs = DimseDestination(receiver.url, idle_s=30)
        closing.append(pacs)
        for study in [slices(20), slices(20)]:
            assert set(outcomes(pacs, study)) == {Outcome.STORED}
            assert verdict(pacs, study).ending is Ending.DELIVERED
        pacs.close()

        assert (receiver.associations, receiver.received) == (1, 40)


def test_what_is_sent_are_the_bytes_of_the_file(closing) -> None:
    """Parsed and encoded anew, 13 of 243 test files came out different."""
    image = pydicom_file("JPEG2000.dcm")
    with running_receiver() as receiver:
        pacs = DimseDestination(receiver.url, idle_s=30)
        closing.append(pacs)
        instance = outgoing(image, pieces=1000)
        outcomes(pacs, [instance])
        pacs.close()

        ((syntax, data_set),) = receiver.kept.values()
        assert syntax == instance.syntax
        assert image.endswith(data_set)
        assert len(data_set) > len(image) - 1000


def test_a_line_that_breaks_in_mid_study_goes_on_where_it_broke(closing) -> None:
    """What the PACS has got is not sent again."""
    study = slices(10)
    with running_receiver(FIND, GET) as receiver:
        receiver.hang_up_after = 6
        pacs = DimseDestination(receiver.url, idle_s=10)
        closing.append(pacs)
        with pytest.raises(DestinationUnreachable):
            pacs.store(study)

        assert [r.value for r in outcomes(pacs, study)] == ["already-there-same"] * 6 + ["stored"] * 4
        assert verdict(pacs, study).ending is Ending.DELIVERED
        assert receiver.received == 11
        pacs.close()


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0xA700, Outcome.RETRY),
        (0xA900, Outcome.REJECTED),
        (0xC000, Outcome.REJECTED),
        (0x0111, Outcome.UNKNOWN),
        (0xB000, Outcome.STORED_WITH_WARNING),
    ],
)
def test_each_status_makes_what_it_says_of_one_image(closing, status: int, outcome: Outcome) -> None:
    study = slices(3)
    with running_receiver(FIND, GET) as receiver:
        receiver.statuses = [0x0000, status, 0x0000]
        pacs = DimseDestination(receiver.url, idle_s=10)
        closing.append(pacs)

        results = pacs.store(study)
        judged = verdict(pacs, study)
        pacs.close()

    assert [r.outcome for r in results] == [Outcome.STORED, outcome, Outcome.STORED]
    assert results[1].code == f"{status:04X}"
    assert results[1].detail.endswith(".")
    assert judged.may_end is (status == 0xB000)


def test_a_kind_or_a_coding_that_it_does_not_take_is_named(closing) -> None:
    """A person is told which of both it is; the other images go on."""
    with running_receiver(syntaxes=["1.2.840.10008.1.2.1"]) as receiver:
        pacs = DimseDestination(receiver.url, idle_s=10)
        closing.append(pacs)
        (good,) = slices(1)
        coded = outgoing(pydicom_file("JPEG2000.dcm"), study_uid=good.study_uid)
        strange = replace(good, uid="2.25.9", sop_class="2.25.8")

        results = pacs.store([coded, strange, good])
        pacs.close()

    assert [r.code for r in results] == ["C122", "0122", ""]
    assert results[2].outcome is Outcome.STORED


def test_titles_are_credentials(closing) -> None:
    """A PACS that does not know our title needs a person, not patience."""
    with running_receiver(checks_titles=True) as receiver:
        stranger = DimseDestination(receiver.url, idle_s=10)
        known = DimseDestination(receiver.url, calling="KNOWN", idle_s=10)
        wrong = DimseDestination(receiver.url.replace("RECEIVER", "OTHER"), calling="KNOWN", idle_s=10)
        closing += [stranger, known, wrong]

        for refused in (stranger, wrong):
            with pytest.raises(DestinationLocked):
                refused.present("2.25.1")
        assert outcomes(known, slices(1)) == [Outcome.STORED]
        known.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pynetdicom forgets a socket
def test_nobody_there_is_no_network(closing) -> None:
    pacs = DimseDestination("dicom://NOBODY@127.0.0.1:9", idle_s=5)
    closing.append(pacs)

    with pytest.raises(DestinationUnreachable):
        pacs.present("2.25.1")
    gc.collect()


def test_a_commitment_counts_only_for_what_it_names(closing) -> None:
    """The report may come, and name less than was asked for."""
    study = slices(3)
    with running_receiver(FIND, COMMIT) as receiver:
        receiver.commits = {study[0].uid, study[2].uid}
        pacs = DimseDestination(receiver.url, idle_s=10, commit_s=20)
        closing.append(pacs)
        outcomes(pacs, study)

        judged = verdict(pacs, study, Evidence.COMMITTED)
        assert pacs.strongest is Evidence.COMMITTED
        pacs.close()

    assert [i.uid for i, _ in judged.proven] == [study[0].uid, study[2].uid]
    assert [i.uid for i in judged.missing] == [study[1].uid]


def test_a_commitment_that_is_reported_elsewhere_is_none(closing) -> None:
    """It would come on a new association to us, through the hospital's firewall; it is not claimed."""
    study = slices(2)
    with running_receiver(FIND, COMMIT) as receiver:
        receiver.reports = False
        pacs = DimseDestination(receiver.url, idle_s=10, commit_s=0.5)
        closing.append(pacs)
        outcomes(pacs, study)

        assert not verdict(pacs, study, Evidence.COMMITTED).may_end
        assert verdict(pacs, study, Evidence.LISTED).may_end
        assert pacs.strongest is Evidence.LISTED
        pacs.close()


def test_a_success_that_keeps_nothing_is_not_listed(closing) -> None:
    """It answered 0000 and has nothing: listing it must not pass because it was answered."""
    study = slices(2)
    with running_receiver(FIND) as receiver:
        pacs = DimseDestination(receiver.url, idle_s=10)
        closing.append(pacs)
        outcomes(pacs, study)
        receiver.kept.pop(study[1].uid)

        judged = verdict(pacs, study, Evidence.LISTED)
        pacs.close()

    assert [i.uid for i in judged.missing] == [study[1].uid]


def test_a_large_image_goes_in_pieces(closing) -> None:
    """Nothing but some fragments of it may wait in memory."""
    (large,) = slices(1, octets=24_000_000)
    with running_receiver(FIND, GET) as receiver:
        pacs = DimseDestination(receiver.url, idle_s=60)
        closing.append(pacs)

        assert outcomes(pacs, [large]) == [Outcome.STORED]
        assert verdict(pacs, [large]).ending is Ending.DELIVERED
        pacs.close()


@pytest.mark.parametrize(
    "url",
    ["dicom://A@b", "dicom://@b:1", "dicom://A@b:0", "dicom://A@b:99999", "http://b:104", "dicom://A/B@b:1"],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(BadSettings):
        Address.of(url)


def test_an_address_is_read() -> None:
    assert Address.of("dicom://ARCHIVE@pacs.example:104") == Address("ARCHIVE", "pacs.example", 104, False)
    assert Address.of("dicom+tls://A@[::1]:2762") == Address("A", "::1", 2762, True)


def test_no_thread_is_left_behind(closing) -> None:
    """A forwarder opens and closes destinations for years."""
    before = threading.active_count()
    with running_receiver(FIND) as receiver:
        for _ in range(3):
            pacs = DimseDestination(receiver.url, idle_s=10)
            pacs.present("2.25.1")
            pacs.close()
    deadline = threading.Event()
    for _ in range(100):
        if threading.active_count() <= before:
            break
        deadline.wait(0.1)
    assert threading.active_count() <= before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pynetdicom forgets a socket
def test_a_line_with_tls_shows_our_certificate_and_trusts_one_authority(closing, tmp_path) -> None:
    """DICOM over TLS (PS3.15 B.12), with certificates on both sides."""
    hospital, stranger = Authority(), Authority("Somebody")
    for name, text in zip(("cert", "key"), hospital.issue("pacs"), strict=True):
        (tmp_path / name).write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    context.load_verify_locations(cadata=hospital.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    ours = Credentials(*[""] * 3, {}, *[""] * 4, *hospital.issue("clinicmesh"))
    with running_receiver(FIND, GET, tls=context) as receiver:
        pacs = connect("dimse", receiver.url, ours, {"ca": hospital.certificate}, idle_s=10)
        closing.append(pacs)
        study = slices(3)
        assert set(outcomes(pacs, study)) == {Outcome.STORED}
        assert verdict(pacs, study).ending is Ending.DELIVERED
        pacs.close()

        for credentials, ca in ((ours, stranger.certificate), (Credentials(), hospital.certificate)):
            refused = connect("dimse", receiver.url, credentials, {"ca": ca}, idle_s=10)
            closing.append(refused)
            with pytest.raises(DestinationUnreachable):
                refused.store(study)
    gc.collect()
