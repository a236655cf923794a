"""The examination: what is in an upload, and why the rest is left out."""

import hashlib
import io
import json
import random
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from support.dicoms import (
    deflated,
    dicomdir,
    element,
    encapsulated,
    header,
    jpeg,
    meta,
    part10,
    png,
    study_zip,
    zip_of,
)
from support.intake import Bench
from support.looking import Looker
from support.mutants import mutants
from support.slices import made_slice, pydicom_file

from node.deliver.part10 import file_meta
from node.errors import WorkerFailed
from node.intake import reasons
from node.intake.detect import Content, content_of
from node.intake.dicom import HeaderReader
from node.intake.examination import from_json, shown, to_json

PIXELS = element(0x7FE0, 0x10, "OW", bytes(2000))


@pytest.fixture(scope="module")
def headers() -> Iterator[HeaderReader]:
    reader = HeaderReader()
    yield reader
    reader.close()


@pytest.fixture
def look(tmp_path: Path, headers: HeaderReader) -> Looker:
    return Looker(tmp_path, headers)


def without_header(part10: bytes) -> bytes:
    """Return the data set of a file."""
    found = file_meta(part10[:4096])
    assert found is not None
    return part10[found.data_set_at :]


def test_a_single_file_is_a_study_of_one_image(look: Looker) -> None:
    """The simplest case: one image from a phone."""
    data = part10(header(study=7, number=3) + PIXELS)
    found = look(data)

    (study,) = found.studies
    (instance,) = study.instances
    assert (study.study_uid, study.patient.name, study.patient.id) == ("2.25.7", "Doe^Jane", "P7")
    assert (study.study_date, study.description, study.modalities) == ("20260102", "Chest", ["CT"])
    assert (instance.uid, instance.size) == ("2.25.7.1.3", len(data))
    assert instance.sha256 == hashlib.sha256(data).hexdigest()
    assert (found.patients, found.code, found.quarantined, found.skipped) == (1, None, (), ())


def test_the_digest_is_what_a_device_can_compute_offline(look: Looker) -> None:
    """The app confirms before the node has looked; both must come to the same digest."""
    found = look(study_zip(5, 3))
    lines = sorted(f"2.25.5.1.{n} {hashlib.sha256(made_slice(5, n)).hexdigest()}\n" for n in (1, 2, 3))

    assert found.studies[0].digest == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_studies_series_and_patients_are_told_apart(look: Looker) -> None:
    """A disc may hold several people; nobody's images may end in another's record."""
    files = {
        "a": made_slice(1, 1),
        "b": made_slice(1, 2),
        "c": made_slice(1, 1, series=2),
        "d": made_slice(2, 1, name="Roe^Richard"),
    }
    found = look(zip_of(files))

    assert [(s.study_uid, len(s.instances)) for s in found.studies] == [("2.25.1", 3), ("2.25.2", 1)]
    assert [s.images for s in found.studies[0].series] == [2, 1]
    assert found.patients == 2


@pytest.mark.parametrize(
    ("charset", "name", "shown_name"),
    [
        ("ISO_IR 144", "Люкceмбypг".encode("iso8859-5"), "Люкceмбypг"),
        ("ISO_IR 192", "Wang^XiaoDong=王^小東".encode(), "Wang^XiaoDong=王^小東"),
        ("ISO_IR 100", "Buc^Jérôme".encode("latin-1"), "Buc^Jérôme"),
        (
            "\\ISO 2022 IR 87",
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
            "Yamada^Tarou=山田^太郎",
        ),
    ],
)
def test_names_are_shown_in_their_own_script(
    look: Looker, charset: str, name: bytes, shown_name: str
) -> None:
    """A clinician must recognise the patient."""
    found = look(part10(header(charset=charset, name=name) + PIXELS))

    assert found.studies[0].patient.name == shown_name


@pytest.mark.parametrize(
    "name",
    [
        *("CT_small.dcm", "MR_small.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm"),
        *("image_dfl.dcm", "JPEG2000.dcm", "SC_rgb_jpeg_dcmtk.dcm", "rtplan.dcm", "rtdose.dcm"),
        *("waveform_ecg.dcm", "SC_rgb_rle_2frame.dcm", "test-SR.dcm", "liver_1frame.dcm"),
        *("nested_priv_SQ.dcm", "UN_sequence.dcm", "no_meta_group_length.dcm"),
    ],
)
def test_files_of_many_kinds_are_taken_as_they_are(look: Looker, name: str) -> None:
    """Compressed, big-endian, deflated, nested, private: the node does not choose, it carries."""
    data = pydicom_file(name)
    found = look(data)

    if name in ("UN_sequence.dcm", "no_meta_group_length.dcm", "nested_priv_SQ.dcm"):
        assert found.code in (None, "no-uids"), found.code
    else:
        assert found.code is None, found.code
        assert found.studies[0].instances[0].sha256 == hashlib.sha256(data).hexdigest()


def test_meta_information_without_a_preamble_is_recognised(look: Looker) -> None:
    """Some devices leave the first 132 octets out."""
    found = look(meta() + header() + PIXELS)

    assert len(found.studies) == 1


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm"])
def test_a_data_set_without_a_header_is_given_one(look: Looker, name: str) -> None:
    """What a broken archive left of an image is an image; a PACS takes it once it is a file again."""
    whole = pydicom_file(name)
    data_set = without_header(whole)
    found = look(data_set)

    ((instance,),) = (study.instances for study in found.studies)
    made = bytes.fromhex(instance.prefix) + data_set
    assert (instance.size, instance.sha256) == (len(made), hashlib.sha256(made).hexdigest())
    read, wanted = pydicom.dcmread(io.BytesIO(made)), pydicom.dcmread(io.BytesIO(whole))
    assert read.file_meta.TransferSyntaxUID == wanted.file_meta.TransferSyntaxUID == instance.syntax
    assert read.file_meta.MediaStorageSOPInstanceUID == wanted.SOPInstanceUID
    assert read == wanted


def test_pictures_and_pdfs_are_handed_on_as_documents(look: Looker) -> None:
    """Photos of a wound, a film or a letter belong to the study as much as its images."""
    files = {"a": jpeg(640, 480), "b": png(300, 200), "c": b"%PDF-1.4\n" + bytes(3000) + b"%%EOF\n"}
    found = look(zip_of({**files, "d": files["a"], "icon": png(32, 32)}))

    documents = [(d.name, d.kind, d.width, d.height, d.size, d.place) for d in found.documents]
    assert documents == [
        ("a", "jpeg", 640, 480, len(files["a"]), (0,)),
        ("b", "png", 300, 200, len(files["b"]), (1,)),
        ("c", "pdf", None, None, len(files["c"]), (2,)),
    ]
    assert found.documents[0].sha256 == hashlib.sha256(files["a"]).hexdigest()
    assert [(item.name, item.code) for item in found.skipped] == [
        ("d", "same-file-twice"),
        ("icon", "thumbnail"),
    ]
    assert found.code is None


def test_pictures_on_a_disc_belong_to_its_viewer(look: Looker) -> None:
    """A disc's own help pages and logos must not end in a patient's record."""
    found = look(zip_of({"DICOMDIR": dicomdir(["2.25.1.1.1"]), "I": made_slice(1, 1), "P": jpeg(640, 480)}))

    assert found.documents == ()
    assert [item.code for item in found.skipped] == ["dicomdir", "disc-extra"]


def test_a_large_file_is_hashed_whole_and_its_fragments_followed(look: Looker) -> None:
    """A cine loop is far larger than what the worker is shown at first."""
    data = encapsulated([random.Random(n).randbytes(400_000) for n in range(8)])
    found = look(data)
    cut = look(data[:-9])

    assert found.studies[0].instances[0].sha256 == hashlib.sha256(data).hexdigest()
    assert cut.code == "truncated"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty-file"),
        (jpeg(640, 480)[:-2], "truncated"),
        (jpeg(640, 480)[:300], "truncated"),
        (b"\xff\xd8\xff\xd9" + bytes(9), "picture-damaged"),
        (jpeg(0, 480), "picture-damaged"),
        (jpeg(60_000, 60_000), "picture-too-large"),
        (jpeg(100, 80), "thumbnail"),
        (png(640, 480)[:-12], "truncated"),
        (png(640, 480).replace(b"IDAT", b"iDAT"), "picture-damaged"),
        (png(640, 480)[:60] + b"?" + png(640, 480)[61:], "picture-damaged"),
        (b"%PDF-1.7" + bytes(5000), "truncated"),
        (b"MZ" + bytes(500), "program"),
        (b"\x7fELF" + bytes(500), "program"),
        (b"[AutoRun]\r\nopen=viewer.exe\r\n", "program"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500) + "Catalog".encode("utf-16-le"), "thumbnail"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "other-document"),
        (b"\0\0\0\1Bud1" + bytes(500), "system-file"),
        (bytes.fromhex("0000001866747970") + b"heic" + bytes(200), "other-picture"),
        (b"GIF89a" + bytes(200), "other-picture"),
        (b"Rar!\x1a\x07\x01\0" + bytes(200), "other-archive"),
        (bytes(32_769) + b"CD001" + bytes(2000), "other-archive"),
        (b"just text", "not-dicom"),
        (part10(header() + PIXELS)[:-1], "truncated"),
        (part10(header() + PIXELS)[:401], "truncated"),
        (part10(header() + element(0x28, 0x10, "US", b"\0\1")), "truncated"),
        (part10(header())[:-2], "truncated"),
        (part10(header() + struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, 0xFFFFFFF0) + b"abc"), "truncated"),
        (part10(element(8, 0x16, "UI", b"1.2") + PIXELS), "no-uids"),
        (part10(header() + element(0x20, 0x0D, "UI", b"not a uid") + PIXELS), "no-uids"),
        (part10(header() + b"\x28\x00\x02\x00??\x02\x00ab" + PIXELS), "malformed"),
        (bytes(128) + b"DICM", "malformed"),
        (without_header(encapsulated([bytes(100)])), "no-meta-header"),
        (element(8, 5, "CS", b"ISO_IR 192") + element(8, 0x60, "CS", b"CT") + PIXELS, "no-uids"),
        (zip_of({}), "empty-archive"),
        (zip_of({"../../etc/passwd": b"x"}), "zip-climbs-out"),
        (zip_of({"/etc/passwd": b"x"}), "zip-climbs-out"),
        (zip_of({"C:\\a": b"x"}), "zip-climbs-out"),
        (zip_of({"a\\..\\b": b"x"}), "zip-climbs-out"),
        (study_zip()[:-30], "zip-damaged"),
        (b"PK\x03\x04" + bytes(500), "zip-damaged"),
        (zip_of({"a.zip": zip_of({"b.zip": study_zip()})}), "zip-in-zip"),
        (zip_of({"a.zip": study_zip()[:-30]}), "zip-damaged"),
        (zip_of({"a.zip": zip_of({"../b": b"x"})}), "zip-climbs-out"),
        (zip_of({"a.jar": zip_of({"META-INF/MANIFEST.MF": b"", "Main.class": bytes(9)})}), "program"),
        (
            zip_of({"a.docx": zip_of({"[Content_Types].xml": b"", "word/logo.png": png(640, 480)})}),
            "other-document",
        ),
        (zip_of({"[Content_Types].xml": b"", "word/logo.png": png(640, 480)}), "other-document"),
        (zip_of({"a": b"text", "b": part10(header() + PIXELS)[:-1]}), "nothing-to-send"),
        (dicomdir(["2.25.1"]), "dicomdir"),
    ],
)
def test_what_cannot_be_sent_says_why(look: Looker, data: bytes, code: str) -> None:
    """Each cause has its own code and sentence, so that people know what to do."""
    assert look.code(data) == code
    assert code in reasons.REASONS


def test_one_bad_file_does_not_stop_the_others(look: Looker) -> None:
    """A disc full of images must not fail for its viewer program or one scratch."""
    good = made_slice(1, 1)
    found = look(
        zip_of(
            {
                "VIEWER.EXE": b"MZ" + bytes(5000),
                "IM1": good,
                "IM2": made_slice(1, 2)[:-10],
                "copy of IM1": good,
                "IM3": made_slice(1, 1, name="Other^Bytes"),
                "DICOMDIR": dicomdir(["2.25.1.1.1", "2.25.1.1.2"]),
                "inner.zip": study_zip(study=9),
            }
        )
    )

    assert [study.study_uid for study in found.studies] == ["2.25.1", "2.25.9"]
    assert [len(study.instances) for study in found.studies] == [1, 3]
    assert [(item.name, item.code) for item in found.skipped] == [
        ("VIEWER.EXE", "program"),
        ("copy of IM1", "same-file-twice"),
        ("DICOMDIR", "dicomdir"),
    ]
    assert [(item.name, item.code) for item in found.quarantined] == [
        ("IM2", "truncated"),
        ("IM3", "same-uid-other-bytes"),
    ]
    assert found.directory is not None
    assert (found.directory.listed, found.directory.present) == (2, 1)
    assert found.directory.missing == ("DICOM/IM2",)


def test_a_disc_says_what_is_missing(look: Looker) -> None:
    """One scratched image of 282 is noticed by nobody else."""
    listed = {f"DICOM\\S1\\IM{n}": f"2.25.1.1.{n}" for n in range(1, 5)} | {"DICOM\\OLD": ""}
    found = look(
        zip_of(
            {
                "cd/DICOMDIR": dicomdir(listed),
                "cd/dicom/s1/im1": made_slice(1, 1),
                "cd/dicom/s1/im2": made_slice(1, 2),
                "cd/dicom/s1/im4": made_slice(1, 4)[:-9],
                "cd/dicom/old.": made_slice(1, 7),
            }
        )
    )

    assert found.directory is not None
    assert (found.directory.listed, found.directory.present) == (5, 3)
    assert found.directory.missing == ("DICOM/S1/IM3", "DICOM/S1/IM4")
    assert shown(found)["dicomdir"]["missing"] == ("DICOM/S1/IM3", "DICOM/S1/IM4")


def test_deflated_data_is_inflated_in_bounds(tmp_path: Path) -> None:
    """1 MB that inflates to 1 GB takes no memory, and in the end it may be what it says."""
    honest = deflated(header() + element(0x7FE0, 0x10, "OW", bytes(50_000_000)))
    cut = honest[: len(honest) // 2]
    reader = HeaderReader()
    look = Looker(tmp_path, reader)

    found, broken = look(honest), look(cut)

    assert len(found.studies) == 1
    assert broken.code == "truncated"
    reader.close()


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="asks the kernel by /proc")
def test_the_worker_is_held_by_the_kernel_and_leaves_no_core(headers: HeaderReader, look: Looker) -> None:
    """A parser's mistake must cost one process, not the laptop; and a dump would be a patient on the disk."""
    look(made_slice(1, 1))
    assert headers._process is not None
    lines = Path(f"/proc/{headers._process.pid}/limits").read_text().splitlines()
    limits = {line[:25].strip(): line[25:].split() for line in lines[1:]}

    assert int(limits["Max address space"][0]) == 400 << 20
    assert int(limits["Max core file size"][0]) == 0
    assert int(limits["Max cpu time"][0]) < 60


def test_a_file_that_takes_too_long_costs_only_itself(tmp_path: Path) -> None:
    """Two million empty elements keep a parser busy; the others must not wait."""
    reader = HeaderReader(timeout_s=0.5)
    look = Looker(tmp_path, reader)
    slow = part10(header() + element(0x29, 0x10, "LO", b"") * 8_000_000)
    start = time.monotonic()
    found = look(zip_of({"slow": slow, "good": made_slice(1, 1)}))
    took = time.monotonic() - start

    assert [item.code for item in found.quarantined] == ["too-complex"]
    assert len(found.studies) == 1
    assert took < 20
    reader.close()


def test_deep_nesting_does_not_end_the_reader(look: Looker) -> None:
    """A parser that calls itself for each level would fall over."""
    opening = struct.pack("<HH2sHI", 8, 0x1111, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    closing = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    deep = 2_000

    assert len(look(part10(header() + opening * deep + closing * deep + PIXELS)).studies) == 1
    assert look.code(part10(header() + opening * 50_000)) == "too-complex"


def test_mutated_files_never_stop_the_examination(look: Looker, headers: HeaderReader) -> None:
    """Whatever a broken disc yields ends in a study, a document or a reason; bench/mutations.py has more."""
    broken = list(mutants(11, 1500))
    examinations = [look(data) for data in broken[:150]]
    examinations.append(look(zip_of({str(number): data for number, data in enumerate(broken[150:])})))

    codes = {item.code for found in examinations for item in (*found.skipped, *found.quarantined)}
    assert len(codes) > 8
    assert codes <= reasons.REASONS.keys()
    assert {found.code for found in examinations} <= {None, *reasons.REASONS}
    assert all(from_json(to_json(found)) == found and shown(found) for found in examinations)


@pytest.mark.parametrize(
    ("head", "content"),
    [
        (bytes(128) + b"DICM", Content.PART10),
        (b"PK\x03\x04" + bytes(124) + b"DICM", Content.PART10),
        (meta(), Content.BARE),
        (header(), Content.HEADLESS),
        (b"PK\x05\x06" + bytes(18), Content.ZIP),
        (b"\x08\x00", Content.OTHER),
        (b"", Content.OTHER),
        (b"%PDF-1.7" + bytes(200), Content.PDF),
        (b"\xef\xbb\xbf\r\n%PDF-1.4" + bytes(200), Content.PDF),
        (b"\xff\xd8\xff\xe1" + bytes(200), Content.JPEG),
        (b"\xff\xd8\xff\xe1" + bytes(124) + b"DICM", Content.PART10),
        (b"MZ" + bytes(126) + b"DICM", Content.PART10),
        (without_header(pydicom_file("MR_small_bigendian.dcm")), Content.HEADLESS_BIG),
        (b"\x08\x00\x00\x00" + b"\xff" * 100, Content.OTHER),
    ],
)
def test_content_decides_and_not_the_name(head: bytes, content: Content) -> None:
    """Discs have names without endings, and endings that lie."""
    assert content_of(head) is content


def test_an_examination_survives_its_storage(look: Looker) -> None:
    """It lies sealed in the database between upload and confirmation."""
    found = look(zip_of({"a": made_slice(1, 1), "x": b"text", "D": dicomdir(["1.2"])}))

    assert from_json(to_json(found)) == found
    assert json.dumps(shown(found))


def test_a_reader_that_was_closed_starts_again(tmp_path: Path) -> None:
    """The worker may die at any time; the next file gets a new one."""
    reader = HeaderReader()
    look = Looker(tmp_path, reader)
    first = look(made_slice(1, 1))
    assert reader._process is not None
    reader._process.kill()
    reader._process.wait()
    second = look(made_slice(1, 2))
    reader.close()

    assert (len(first.studies), len(second.studies)) == (1, 1)


def test_a_worker_that_cannot_start_is_no_fault_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The examination is tried again later; nothing is called unreadable."""
    bench = Bench(tmp_path / "n")
    submission = bench.hand_in(study_zip(3, 2))
    with monkeypatch.context() as broken:
        broken.setattr("sys.executable", "/bin/false")
        broken.setattr(bench.intake, "_headers", HeaderReader())
        with pytest.raises(WorkerFailed):
            bench.intake.examine_next()
    state = bench.view(submission)["state"]
    bench.work()

    assert (state, bench.view(submission)["state"]) == ("received", "examined")
    bench.close()


def test_the_bench_examines_what_was_handed_in(tmp_path: Path) -> None:
    """From the upload to what the person is shown, names included."""
    bench = Bench(tmp_path / "n")
    submission = bench.hand_in(study_zip(3, 2))
    bench.work()
    view = bench.view(submission)
    bench.close()

    assert view["state"] == "examined"
    assert view["examination"]["studies"][0]["patient"]["name"] == "Doe^Made"
