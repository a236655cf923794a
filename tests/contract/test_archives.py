"""ZIPs, and ZIPs in ZIPs: what is in them, and what makes them dangerous."""

import io
import random
import stat
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.dicoms import element, header, part10, study_zip, zip_of
from support.looking import Looker
from support.slices import made_slice

from node.intake.contents import Contents
from node.intake.dicom import HeaderReader
from node.intake.keeping import incoming


@pytest.fixture(scope="module")
def headers() -> Iterator[HeaderReader]:
    reader = HeaderReader()
    yield reader
    reader.close()


@pytest.fixture
def look(tmp_path: Path, headers: HeaderReader) -> Looker:
    return Looker(tmp_path, headers)


@pytest.mark.parametrize("outer", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("inner", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_in_a_zip_is_taken_in(tmp_path: Path, headers: HeaderReader, outer: int, inner: int) -> None:
    """A hospital's download is often a ZIP of one ZIP for each study."""
    slices = {f"{n}": made_slice(1, n, octets=300_000) for n in range(1, 9)}
    noise = random.Random(1).randbytes(5 << 20)  # so that the tail is not the whole
    packed = zip_of(
        {"a.zip": zip_of({**slices, "noise": noise}, method=inner), "b": made_slice(2, 1)}, method=outer
    )
    look = Looker(tmp_path, headers)
    found = look(packed)

    assert [len(study.instances) for study in found.studies] == [8, 1]
    assert found.studies[0].instances[2].place == (0, 2)
    with look.opened(packed) as file:
        kept = [b"".join(one.open()) for study in found.studies for one in incoming(file, study.instances)]
    assert kept == [*slices.values(), made_slice(2, 1)]


def test_files_of_a_packed_zip_in_a_zip_may_be_wanted_in_any_order(look: Looker) -> None:
    """A person puts pictures in the order of what they show."""
    files = {f"{n}": random.Random(n).randbytes(500_000) for n in range(30)}
    packed = zip_of({"a.zip": zip_of(files, method=zipfile.ZIP_DEFLATED)}, method=zipfile.ZIP_DEFLATED)
    order = random.Random(5).sample(range(30), 30)
    with look.opened(packed) as file:
        contents, read = Contents(file), []
        for number in order:
            with contents.open((0, number)) as stream:
                read.append(b"".join(iter(lambda stream=stream: stream.read(70_000), b"")))

    assert read == [files[str(number)] for number in order]


def test_zips_inside_count_with_the_one_around_them(look: Looker) -> None:
    """A bomb in many small parts is a bomb."""
    full = zip_of({str(number): b"" for number in range(9_000)})
    found = look(zip_of({"a": full, "b": full, "c": full}))

    assert len(found.skipped) == 18_000
    assert [(item.name, item.code) for item in found.quarantined] == [("c", "zip-too-large")]


def changed(data: bytes, **of_entry: Any) -> bytes:
    """Change a stored ZIP's central directory: flags, method or external attributes of its first entry."""
    at = data.rindex(b"PK\x05\x06")
    at = struct.unpack_from("<I", data, at + 16)[0]
    out = bytearray(data)
    if "flags" in of_entry:
        struct.pack_into("<H", out, at + 8, of_entry["flags"])
    if "method" in of_entry:
        struct.pack_into("<H", out, at + 10, of_entry["method"])
    if "attributes" in of_entry:
        struct.pack_into("<I", out, at + 38, of_entry["attributes"])
    if "size" in of_entry:
        struct.pack_into("<I", out, at + 24, of_entry["size"])
    if "crc" in of_entry:
        struct.pack_into("<I", out, at + 16, of_entry["crc"])
    return bytes(out)


def test_locked_archives_are_refused(look: Looker) -> None:
    """Nobody here knows the password; the person should hear it at once."""
    assert look.code(changed(study_zip(), flags=1)) == "zip-encrypted"


def test_files_on_top_of_each_other_are_refused(look: Looker) -> None:
    """The trick of archives that unpack to petabytes."""
    data = zip_of({"a": made_slice(1, 1), "b": made_slice(1, 2)})
    at = struct.unpack_from("<I", data, data.rindex(b"PK\x05\x06") + 16)[0]
    second = data.index(b"PK\x01\x02", at + 4)
    out = bytearray(data)
    struct.pack_into("<I", out, second + 42, 0)

    assert look.code(bytes(out)) == "zip-overlaps"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"attributes": (stat.S_IFLNK | 0o777) << 16}, "zip-link"),
        ({"method": 12}, "zip-method"),
        ({"crc": 1}, "zip-member-damaged"),
    ],
)
def test_odd_members_are_left_out_one_by_one(look: Looker, change: dict[str, int], code: str) -> None:
    """Links are not followed, unknown packings not guessed, damage not sent."""
    found = look(changed(study_zip(slices=2), **change))

    assert [len(study.instances) for study in found.studies] == [1]
    assert [item.code for item in (*found.skipped, *found.quarantined)] == [code]


def test_a_zip_bomb_is_left_out_unread(look: Looker) -> None:
    """20 kB that unpack to 20 MB are no image; a small black image is one."""
    bomb = part10(header(number=1) + element(0x7FE0, 0x10, "OW", bytes(20_000_000)))
    black = part10(header(number=2) + element(0x7FE0, 0x10, "OW", bytes(2_000_000)))
    found = look(zip_of({"bomb": bomb, "black": black}, method=zipfile.ZIP_DEFLATED))

    assert [item.code for item in found.quarantined] == ["zip-ratio"]
    assert found.studies[0].instances[0].uid == "2.25.1.1.2"


def test_too_many_files_are_refused(look: Looker) -> None:
    """A million empty files would keep the node busy for a day."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(20_001):
            archive.writestr(str(number), b"")

    assert look.code(packed.getvalue()) == "zip-too-large"
