"""Character sets: what people are shown when a file declares its own wrongly."""

import io
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from support.corpus import specimens
from support.dicoms import element, header, part10

from node.intake.charsets import corrected, normal
from node.intake.detect import Content
from node.intake.dicom import Header, HeaderReader

PIXELS = element(0x7FE0, 0x10, "OW", bytes(20))
RUSSIAN, CHINESE, FRENCH = "Иванов^Пётр", "王^小东", "Buc^Jérôme"


@pytest.fixture(scope="module")
def headers() -> Iterator[HeaderReader]:
    reader = HeaderReader()
    yield reader
    reader.close()


def read(headers: HeaderReader, data: bytes) -> Header:
    found = headers.read(data, io.BytesIO(), len(data), Content.PART10)
    assert found.header is not None, found.code
    return found.header


@pytest.mark.parametrize(
    ("declared", "name", "shown", "repaired"),
    [
        ("ISO_IR 192", CHINESE.encode(), CHINESE, False),
        ("ISO IR 192", CHINESE.encode(), CHINESE, True),
        ("iso-ir_192", CHINESE.encode(), CHINESE, True),
        ("UTF-8", RUSSIAN.encode(), RUSSIAN, True),
        ("", CHINESE.encode(), CHINESE, True),
        ("", RUSSIAN.encode(), RUSSIAN, True),
        ("", CHINESE.encode("gb18030"), CHINESE, True),
        ("", FRENCH.encode("latin-1"), FRENCH, True),
        ("ISO_IR 100", FRENCH.encode("latin-1"), FRENCH, False),
        ("ISO_IR 100", FRENCH.encode(), FRENCH, True),
        ("ISO_IR 100", CHINESE.encode(), CHINESE, True),
        ("ISO_IR 192", FRENCH.encode("latin-1"), FRENCH, True),
        ("ISO_IR 192", CHINESE.encode("gb18030"), CHINESE, True),
        ("ISO_IR 144", RUSSIAN.encode("iso8859-5"), RUSSIAN, False),
        ("ISO_IR 144", RUSSIAN.encode(), RUSSIAN, True),
        ("GB18030", CHINESE.encode("gb18030"), CHINESE, False),
        ("GB18030", "茅^茅".encode("gb18030"), "茅^茅", False),
        ("GB18030", CHINESE.encode(), CHINESE, True),
        ("GBK", CHINESE.encode("gb18030"), CHINESE, False),
        ("ISO_IR 13", b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3", "ﾔﾏﾀﾞ^ﾀﾛｳ", False),
        (
            "\\ISO 2022 IR 149",
            b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7",
            "Hong^Gildong=洪^吉洞",
            False,
        ),
        ("nonsense", b"Doe^Jane", "Doe^Jane", False),
        ("nonsense", CHINESE.encode(), CHINESE, True),
    ],
)
def test_a_name_reads_as_it_was_meant(
    headers: HeaderReader, declared: str, name: bytes, shown: str, repaired: bool
) -> None:
    """A clinician who sees rubbish for a name confirms the wrong patient, or none."""
    found = read(headers, part10(header(charset=declared, name=name) + PIXELS))

    assert (found.patient_name, found.repaired) == (shown, repaired)


def test_another_alphabet_that_nobody_declared_is_not_taken_for_chinese(headers: HeaderReader) -> None:
    """It cannot be known; then it must not look as if it were."""
    for encoding in ("cp1251", "iso8859-5", "iso8859-7"):
        name = "Παπαδόπουλος^Γιώργος" if encoding == "iso8859-7" else RUSSIAN
        found = read(headers, part10(header(charset="", name=name.encode(encoding)) + PIXELS))
        assert found.patient_name == name.encode(encoding).decode("latin-1")


def test_no_file_that_declares_its_own_rightly_is_repaired(headers: HeaderReader) -> None:
    """Pydicom's examples of every character set of the standard read as pydicom reads them."""
    read_names = {}
    for one in specimens():
        if one.name.startswith("pydicom/charset_files/chr"):
            data = one.path.read_bytes()
            found = headers.read(data, io.BytesIO(), len(data), Content.PART10)
            if found.header is not None:
                read_names[one.path.name] = (found.header.patient_name, found.header.repaired)
    wanted = {
        Path(name).name: (str(pydicom.dcmread(path).PatientName), False)
        for name, path in ((one.name, one.path) for one in specimens())
        if Path(name).name in read_names
    }

    assert len(wanted) > 12
    assert read_names == wanted


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("ISO_IR 192", "ISO_IR 192"),
        ("ISO IR 192", "ISO_IR 192"),
        ("ISO-IR 100", "ISO_IR 100"),
        ("IR 100", "ISO_IR 100"),
        ("ISO2022 IR 87", "ISO 2022 IR 87"),
        ("ISO_2022_IR_149", "ISO 2022 IR 149"),
        ("gb18030", "GB18030"),
        ("UTF8", "ISO_IR 192"),
        ("", ""),
        ("Klingon", "Klingon"),
    ],
)
def test_slips_of_the_pen_are_seen_through(written: str, meant: str) -> None:
    """The standard has a space in one place and an underscore in another; people mix them up."""
    assert normal(written) == meant


def test_plain_letters_need_no_character_set() -> None:
    """Most names are ASCII, and nothing is to be said of them."""
    assert corrected(["rubbish"], [b"Doe^Jane", b"\x1b$B;3ED\x1b(B"]) is None
