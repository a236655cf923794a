"""What a destination forces: other bytes than the original ones, proven like these, and remembered."""

import hashlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from support.forwarders import DAY_MS, Forwarding, two_forwarders
from support.lying_pacs import Answer, Behaviour, LyingPacs, as_json, lying_pacs, response
from support.slices import made_slice, written

from node.wrap.document import impression_instance
from node.wrap.order import Order, StudyContext, uid_of
from node.wrap.page import impression_page
from sync import cbor


@pytest.fixture
def pacs() -> Iterator[LyingPacs]:
    with lying_pacs() as served:
        yield served


@pytest.fixture
def node(tmp_path: Path, pacs: LyingPacs) -> Iterator[Forwarding]:
    one = Forwarding(tmp_path, *two_forwarders(), pacs.url)
    yield one
    one.close()


def implicit_slice(study: int, number: int) -> bytes:
    data_set = pydicom.dcmread(BytesIO(made_slice(study, number)))
    return written(data_set, "1.2.840.10008.1.2")


def explicit_only(code: int) -> Behaviour:
    """Refuse implicit value representation, as Azure does."""

    def answer(pacs: LyingPacs, parts: dict[str, bytes]) -> Answer:
        good = {
            uid: data
            for uid, data in parts.items()
            if pydicom.dcmread(BytesIO(data)).file_meta.TransferSyntaxUID != "1.2.840.10008.1.2"
        }
        pacs.keep(good)
        failed = dict.fromkeys(set(parts) - set(good), code)
        return Answer(202 if good else 409, as_json(response(list(good), failed)))

    return answer


@pytest.mark.parametrize("code", [0xC122, 43264, 272])
def test_a_pacs_that_takes_explicit_value_representation_only_gets_it(
    node: Forwarding, pacs: LyingPacs, code: int
) -> None:
    """The same data set, coded otherwise, the same way each time; both digests stand in the receipt."""
    originals = [implicit_slice(111, n) for n in (1, 2)]
    pacs.posts = [explicit_only(code)] * 100
    entry = node.keep(originals)
    node.until_ended(entry)

    assert node.state(entry) == "delivered"
    for data in originals:
        mine = pydicom.dcmread(BytesIO(data))
        theirs = pydicom.dcmread(BytesIO(pacs.kept[str(mine.SOPInstanceUID)]))
        assert theirs.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
        assert mine == theirs
    receipt = cbor.decode(node.queue.receipts.receipt(entry) or b"")
    assert sorted(line[3] for line in receipt["instances"]) == ["explicit-vr"] * 2
    assert all(line[0] != line[2] for line in receipt["instances"])

    pacs.bodies.clear()
    node.restart()
    node.until_ended(node.keep([implicit_slice(112, 1)]))
    assert len(pacs.bodies) == 1  # it was learnt, and remembered


def test_a_refusal_that_no_other_coding_mends_stays_a_refusal(node: Forwarding, pacs: LyingPacs) -> None:
    """The re-coded file is refused as well: a person hears it, and nothing was learnt."""
    pacs.posts = [lambda p, parts: Answer(409, as_json(response([], dict.fromkeys(parts, 0xC122))))] * 9
    entry = node.keep([implicit_slice(113, 1)])
    node.run()

    assert node.troubles(entry) == [("rejected", 1)]
    assert node.codes(entry) == {"C122": [0]}
    assert "needs-explicit-vr" not in str(node.notes.value("learnt:main " + pacs.url) or b"")


def takes_no_pdf(pacs: LyingPacs, parts: dict[str, bytes]) -> Answer:
    """Refuse Encapsulated PDF as a kind of image that is not accepted."""
    pdf = "1.2.840.10008.5.1.4.1.1.104.1"
    good = {uid: data for uid, data in parts.items() if pydicom.dcmread(BytesIO(data)).SOPClassUID != pdf}
    pacs.keep(good)
    failed = dict.fromkeys(set(parts) - set(good), 0x0122)
    return Answer(202 if good else 409, as_json(response(list(good), failed)))


def impression(study: int, text: str) -> bytes:
    """Return a clinical impression as the intake makes it: an Encapsulated PDF of this study."""
    context = StudyContext(f"2.25.{study}", "Doe^Made", f"P{study}", birth_date="19700101", sex="O")
    order = Order("impression", "impression", context, uid_of(str(study)), text=text, written="202601031011")
    return impression_instance(order, impression_page(order)).whole()


def test_a_pacs_that_takes_no_pdf_gets_the_pages_of_the_impression(node: Forwarding, pacs: LyingPacs) -> None:
    """What the clinician wrote arrives as a picture, is proven, and is looked for again a day later."""
    document = impression(114, "Fall from a tree.")
    pacs.posts = [takes_no_pdf] * 100
    entry = node.keep([made_slice(114, 1), document])
    node.run()

    assert node.state(entry) == "delivered"
    (page,) = set(pacs.kept) - {"2.25.114.1.1"}
    shown = pydicom.dcmread(BytesIO(pacs.kept[page]))
    assert shown.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    assert (shown.StudyInstanceUID, shown.PatientID) == ("2.25.114", "P114")
    receipt = cbor.decode(node.queue.receipts.receipt(entry) or b"")
    (line,) = [line for line in receipt["instances"] if len(line) == 4]
    assert line[0] == hashlib.sha256(document).digest()
    assert line[2:] == [hashlib.sha256(pacs.kept[page]).digest(), "pdf-pages"]

    node.run(rounds=3, between_ms=DAY_MS)
    look = node.queue.receipts.look(entry)
    assert look is not None and look.result == "there"
    pacs.bodies.clear()
    node.until_ended(node.keep([impression(115, "Cough.")]))
    assert len(pacs.bodies) == 1  # learnt


def test_pages_that_were_proven_before_a_power_cut_are_known_by_their_names(
    node: Forwarding, pacs: LyingPacs
) -> None:
    """The rest of the study fails first; after the restart nothing is drawn or sent in vain."""

    def part_of_it(state: LyingPacs, parts: dict[str, bytes]) -> Answer:
        if "2.25.116.1.1" in parts:
            good = {uid: data for uid, data in parts.items() if uid != "2.25.116.1.1"}
            answer = takes_no_pdf(state, good)
            return answer if good else Answer(500, b"", "text/html")
        return takes_no_pdf(state, parts)

    pacs.posts = [part_of_it] * 6
    entry = node.keep([made_slice(116, 1), impression(116, "Fever.")])
    node.run()
    assert node.view(entry).tombstone is None
    assert len(pacs.kept) == 1
    node.restart()
    pacs.posts = [takes_no_pdf] * 100
    node.until_ended(entry)
    assert len(pacs.kept) == 2
    node.run(rounds=3, between_ms=DAY_MS)
    assert node.state(entry) == "delivered"
