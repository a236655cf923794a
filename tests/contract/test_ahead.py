"""Looking ahead: what is examined while an upload still comes is what would be found at its end."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest
from support.dicoms import zip_of
from support.intake import HEADERS, Bench, grow
from support.slices import made_slice

from node.intake import ahead as ahead_module
from node.intake.ahead import Ahead, Growing
from node.intake.detect import Content
from node.intake.dicom import Found, HeaderReader
from node.intake.examination import Examination
from node.intake.examine import examine, look_ahead
from node.intake.spool import SpoolReader, SpoolWriter, new_key


class CountingReader(HeaderReader):
    """Reads headers as ever, and counts how often."""

    def __init__(self) -> None:
        super().__init__()
        self.read_files = 0

    def read(self, first: bytes, rest: BinaryIO, size: int, content: Content) -> Found:
        self.read_files += 1
        return HEADERS.read(first, rest, size, content)


class Spool:
    """A ZIP that arrives a little at a time."""

    def __init__(self, folder: Path, data: bytes, step: int) -> None:
        self._path, self._key = folder / "spooled", new_key()
        self._marks: list[tuple[int, int]] = []
        writer = SpoolWriter(self._path, "u", key=self._key, offset=0, position=0)
        for begin in range(0, len(data), step):
            writer.write(data[begin : begin + step])
            self._marks.append((writer.offset, writer.position))
        writer.close()

    def readers(self) -> Iterator[SpoolReader]:
        for length, position in self._marks:
            with SpoolReader(
                self._path, "u", keys=[(0, self._key)], position=position, length=length
            ) as file:
                yield file


def with_and_without(folder: Path, data: bytes, step: int = 3000) -> tuple[Examination, Examination, int]:
    """Examine a ZIP while it comes and after, and after only; say how many files the end had to read."""
    spool, ahead, counting = Spool(folder, data, step), Ahead(), CountingReader()
    early = late = Examination()
    for file in spool.readers():
        while look_ahead(ahead, file, 1 << 20, counting):
            pass
        early, late = Examination(), Examination()
        if file.length == len(data):
            counting.read_files = 0
            early = examine(file, "z", counting, ahead=ahead)
            late = examine(file, "z", HEADERS)
    return early, late, counting.read_files


def streamed(files: dict[str, bytes]) -> bytes:
    """Return a ZIP whose sizes follow the members, as the command line makes it."""

    class Sink(io.RawIOBase):
        data = b""

        def writable(self) -> bool:
            return True

        def write(self, piece: object) -> int:
            octets = bytes(memoryview(piece))  # type: ignore[arg-type]
            self.data += octets
            return len(octets)

    sink = Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return sink.data


def deflated(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def files(count: int = 6) -> dict[str, bytes]:
    return {f"I{n}": made_slice(3, n, octets=4000) for n in range(1, count + 1)}


def with_descriptor_inside(count: int = 3) -> dict[str, bytes]:
    """Return files of which one holds, here and there, what looks like its own end."""
    inside = bytearray(made_slice(3, 50, octets=4000))
    for place in range(1500, 1500 + 40 * count, 40):
        said = struct.pack("<4sIII", b"PK\x07\x08", zlib.crc32(inside[:place]), place, place)
        inside[place : place + len(said)] = said
    return {"first": made_slice(3, 49, octets=3000), "inside": bytes(inside), **files(3)}


def other_octets(data: bytes) -> bytes:
    """Damage the pixels of the second member; the directory's CRC-32 no longer fits."""
    at = data.index(b"I2") + 3000
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


def other_name(data: bytes) -> bytes:
    """Give a member another name in front of it than in the directory."""
    return data.replace(b"I2", b"X2", 1)


def hidden_member(data: bytes) -> bytes:
    """Put a member in front that the directory does not know."""
    hidden = zip_of({"hidden": made_slice(9, 9)})
    return hidden[: hidden.index(b"PK\x01\x02")] + data


def other_crc_in_front(data: bytes) -> bytes:
    """Let the local header lie about the CRC-32, which zipfile does not read there."""
    return data[:14] + b"\1\2\3\4" + data[18:]


@pytest.mark.parametrize("packed", [zip_of, streamed])
def test_files_are_not_read_again_at_the_end(
    tmp_path: Path, packed: Callable[[dict[str, bytes]], bytes]
) -> None:
    """People wait for the end of the upload; what came before must be examined by then."""
    early, late, read = with_and_without(tmp_path, packed(files()))

    assert early == late
    assert len(early.studies[0].instances) == 6
    assert read == 0


@pytest.mark.parametrize(
    "made",
    [
        lambda: zip_of({}),
        lambda: deflated(files()),
        lambda: streamed(files()),
        lambda: streamed(with_descriptor_inside()),
        lambda: streamed({"small": b"x", "zip": zip_of(files(2)), **files(5)}),
        lambda: zip_of({**files(2), "empty": b"", "note": b"no image", **files(5)}),
        lambda: zip_of({"a": made_slice(3, 1), "b": made_slice(3, 1), "z": zip_of(files(2))}),
        lambda: other_octets(zip_of(files())),
        lambda: other_name(zip_of(files())),
        lambda: hidden_member(zip_of(files())),
        lambda: other_crc_in_front(zip_of(files())),
        lambda: zip_of(files())[:-40],
        lambda: b"no archive at all" * 900,
    ],
)
@pytest.mark.parametrize("step", [17, 3000, 1 << 20])
def test_looking_ahead_changes_no_finding(tmp_path: Path, made: Callable[[], bytes], step: int) -> None:
    """An archive made to confuse must not get a file past the examination by what it looks like early on."""
    data = made()
    early, late, _ = with_and_without(tmp_path, data, max(step, len(data) // 40))

    assert early == late


def test_an_end_that_is_named_at_every_place_costs_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hostile file may name its end 100,000 times; its octets must not be checked anew for each."""
    counted = 0

    def counting(data: Any, value: int = 0) -> int:
        nonlocal counted
        counted += len(data)
        return zlib.crc32(data, value)

    inside = bytearray(2 << 20)
    for place in range(16, len(inside) - 16, 16):
        inside[place : place + 16] = struct.pack("<4sIII", b"PK\x07\x08", 1, place, place)
    data = streamed({"inside": bytes(inside), **files(2)})
    monkeypatch.setattr(ahead_module, "zlib", SimpleNamespace(crc32=counting))
    spool, ahead = Spool(tmp_path, data, 1 << 20), Ahead()
    for file in spool.readers():
        while look_ahead(ahead, file, 1 << 20, HEADERS):
            pass

    assert len(inside) < counted < 12 * len(inside)


def test_a_damaged_member_is_told_although_it_was_looked_at(tmp_path: Path) -> None:
    """The CRC-32 of the directory counts, as without looking ahead."""
    early, _, _ = with_and_without(tmp_path, other_octets(zip_of(files())))

    assert [item.code for item in early.quarantined] == ["zip-member-damaged"]
    assert len(early.studies[0].instances) == 5


def test_octets_that_were_dropped_are_never_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part with a wrong checksum is dropped and sent again; only the octets that count may be seen."""
    monkeypatch.setattr(ahead_module, "_WORTH_BYTES", 1)
    data = zip_of({f"I{n}": made_slice(4, n, octets=200_000) for n in range(1, 5)})
    half = len(data) // 2
    bad = bytes(reversed(data[:half]))
    bench = Bench(tmp_path)
    submission = grow(
        bench, data, [(0, bad, False), (0, data[:half], True), (half, bad, False), (half, data[half:], True)]
    )
    bench.work()

    (study,) = bench.view(submission)["examination"]["studies"]
    assert study["instances"] == 4
    assert bench.view(submission)["examination"]["quarantined"] == []
    bench.close()


def test_what_is_known_of_an_upload_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of patients must not stay in memory when somebody takes their upload back."""
    monkeypatch.setattr(ahead_module, "_WORTH_BYTES", 1)
    data = zip_of({f"I{n}": made_slice(4, n, octets=200_000) for n in range(1, 5)})
    bench = Bench(tmp_path)
    submission = grow(bench, data, [(0, data[: len(data) // 2], True)])
    growing = bench.intake.uploads.growing
    assert len(growing._known) == 1
    assert growing._recent
    bench.intake.remove("phone", submission)

    assert not growing._known
    assert not growing._recent
    bench.close()


def test_a_damaged_spool_is_left_to_the_examination(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking ahead only makes things quicker; what it meets is told once, when all has come."""
    monkeypatch.setattr(ahead_module, "_WORTH_BYTES", 1)
    monkeypatch.setattr(ahead_module, "_RECENT_BYTES", 0)
    data = zip_of({f"I{n}": made_slice(4, n, octets=200_000) for n in range(1, 5)})
    half = len(data) // 2
    bench = Bench(tmp_path)
    submission = grow(bench, data, [(0, data[:half], True)])
    (path,) = bench.spool.iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    upload = bench.intake.uploads.create("phone", submission, length=len(data), metadata=b"")
    part = bench.intake.uploads.begin(upload, half)
    part.write(data[half : half + 1000])
    part.commit()

    assert bench.intake.examine_ahead()
    assert not bench.intake.examine_ahead()

    part.write(data[half + 1000 :])
    part.commit()
    part.close()
    bench.work()
    assert bench.view(submission)["problem"]["code"] == "upload-damaged"
    bench.close()


def test_an_upload_that_is_no_zip_is_looked_at_once_and_held_no_more() -> None:
    """Of a loop of 2 GB the list of its pieces was read again 256 times, and 16 MiB held for nothing."""
    growing = Growing()
    growing.hold("u", 0, b"first")
    assert growing.note("u", 100 << 20)
    wanted = growing.wanted()
    assert wanted is not None
    wanted[1].at = None
    growing.looked_at("u")

    growing.hold("u", 100 << 20, b"next")

    assert not growing.note("u", 200 << 20)
    assert growing.wanted() is None
    assert (growing.recent("u", 0), growing.recent("u", 100 << 20)) == (None, None)


def test_memory_stays_bounded_however_many_uploads_come() -> None:
    """A node with 250 MB to spend cannot remember every half upload of a busy day."""
    growing = Growing()
    for number in range(50):
        growing.note(f"u{number}", 100 << 20)
        for offset in range(0, 40 << 20, 1 << 20):
            growing.hold(f"u{number}", offset, bytes(1 << 20))

    assert len(growing._known) <= 4
    assert sum(map(len, growing._recent.values())) <= 16 << 20
    assert growing.recent("u49", 39 << 20) is not None
    assert growing.recent("u1", 39 << 20) is None
