"""The spool: sealed as it arrives, read back at random, exact after a crash."""

import os
import random
import zipfile
from pathlib import Path

import pytest
from support.clock import FakeClock
from support.dicoms import zip_of
from support.intake import Bench

from node.errors import DiskFull, Refused, StoreDamaged, WrongOffset
from node.intake.spool import FRAME_BYTES, SpoolReader, SpoolWriter, new_key
from node.intake.uploads import EXPIRE_MS

UPLOAD = "ab" * 16
MARKER = b"CANARY^PATIENT^NAME"


def write(path: Path, key: bytes, pieces: list[bytes], *, upload: str = UPLOAD) -> tuple[int, int]:
    writer = SpoolWriter(path, upload, key=key, offset=0, position=0)
    for piece in pieces:
        writer.write(piece)
    writer.sync()
    writer.close()
    return writer.offset, writer.position


def reader(path: Path, key: bytes, offset: int, position: int, *, upload: str = UPLOAD) -> SpoolReader:
    return SpoolReader(path, upload, keys=[(0, key)], position=position, length=offset)


def test_what_was_written_is_read_back_at_any_place(tmp_path: Path) -> None:
    """Studies are cut out of the upload by offset; a wrong octet is a wrong image."""
    lot = random.Random(5)
    pieces = [lot.randbytes(size) for size in (1, FRAME_BYTES, 77_777, FRAME_BYTES, 3)]
    whole = b"".join(pieces)
    key = new_key()

    with reader(tmp_path / "u", key, *write(tmp_path / "u", key, pieces)) as file:
        assert file.read() == whole
        for _ in range(200):
            at = lot.randrange(len(whole))
            size = lot.randrange(100_000)
            file.seek(at)
            assert file.read(size) == whole[at : at + size]
        assert file.seek(-4, os.SEEK_END) == len(whole) - 4
        assert file.read(100) == whole[-4:]


def test_a_zip_is_read_without_being_unpacked_to_disk(tmp_path: Path) -> None:
    """The archive stays sealed; zipfile sees plaintext in memory only."""
    packed = zip_of({"a": b"first" * 1000, "b": MARKER * 1000}, method=zipfile.ZIP_DEFLATED)
    key = new_key()
    place = write(tmp_path / "u", key, [packed[:500], packed[500:]])

    with reader(tmp_path / "u", key, *place) as file, zipfile.ZipFile(file) as archive:  # type: ignore[arg-type]
        assert archive.read("b") == MARKER * 1000


def test_two_requests_never_seal_with_the_same_nonce(tmp_path: Path) -> None:
    """A part that is given up is written anew at the same place, under the same key, with other octets."""
    key, nonces = new_key(), []
    for piece in (b"a", b"b"):
        write(tmp_path / "u", key, [piece * 100, piece * 100])
        data = (tmp_path / "u").read_bytes()
        nonces += [data[4:28], data[len(data) // 2 + 4 : len(data) // 2 + 28]]

    assert len(set(nonces)) == 4


def test_nothing_of_the_plaintext_is_on_the_disk(tmp_path: Path) -> None:
    """A stolen laptop shows nothing of uploads under way."""
    write(tmp_path / "u", new_key(), [MARKER * 100])

    assert MARKER not in (tmp_path / "u").read_bytes()


@pytest.mark.parametrize("damage", ["flip", "swap", "short", "other-upload", "other-key"])
def test_damage_is_seen_and_never_read_as_data(tmp_path: Path, damage: str) -> None:
    """A bad disk, or someone with access to it, must not change an image unseen."""
    path, key = tmp_path / "u", new_key()
    offset, position = write(path, key, [b"a" * 1000, b"b" * 1000])
    data = bytearray(path.read_bytes())
    half = len(data) // 2
    if damage == "flip":
        data[100] ^= 1
    elif damage == "swap":
        data = data[half:] + data[:half]
    elif damage == "short":
        data = data[:-1]
    path.write_bytes(data)
    other = {"upload": "cd" * 16} if damage == "other-upload" else {}

    with pytest.raises(StoreDamaged):
        reader(path, new_key() if damage == "other-key" else key, offset, position, **other).read()


def test_a_forged_length_does_not_make_it_read_beyond_measure(tmp_path: Path) -> None:
    """The frame headers are not trusted."""
    path, key = tmp_path / "u", new_key()
    offset, position = write(path, key, [b"a" * 1000])
    data = bytearray(path.read_bytes())
    data[0:4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)

    with pytest.raises(StoreDamaged):
        reader(path, key, offset, position)


def test_what_was_not_committed_is_cut_off_and_written_again(tmp_path: Path) -> None:
    """After a power cut the file may hold frames that nobody was told of."""
    bench = Bench(tmp_path / "n")
    made = bench.intake.submit("phone", "c1", "file")
    upload = bench.intake.uploads.create("phone", made.id, length=30, metadata=b"")
    part = bench.intake.uploads.begin(upload, 0)
    part.write(b"a" * 10)
    upload = part.commit()
    part.write(b"x" * 20)  # the power goes here
    part.close()
    bench.database.close()

    again = Bench(tmp_path / "n")
    after_start = (again.spool / upload.id).stat().st_size
    upload = again.intake.uploads.get("phone", upload.id)
    part = again.intake.uploads.begin(upload, 10)
    part.write(b"b" * 20)
    upload = part.commit()
    part.close()

    assert after_start == sealed_size(10)
    with again.intake.uploads.reader(upload) as file:
        assert file.read() == b"a" * 10 + b"b" * 20
    again.close()


def sealed_size(octets: int) -> int:
    return 4 + 24 + octets + 16


def test_uploads_go_on_while_the_node_is_locked_after_a_restart(tmp_path: Path) -> None:
    """Nobody may be there to type the passphrase when the phone comes back."""
    bench = Bench(tmp_path / "n")
    made = bench.intake.submit("phone", "c1", "file")
    upload = bench.intake.uploads.create("phone", made.id, length=40, metadata=b"filename QQ==")
    for piece in (b"a" * 10, b"b" * 10):
        part = bench.intake.uploads.begin(upload, upload.offset)
        part.write(piece)
        upload = part.commit()
        part.close()
    bench.close()

    for restart, piece in enumerate((b"c" * 10, b"d" * 10)):
        bench = Bench(tmp_path / "n")
        bench.keys.locked = True
        upload = bench.intake.uploads.get("phone", upload.id)
        assert bench.intake.uploads.metadata(upload) == b"", restart
        part = bench.intake.uploads.begin(upload, upload.offset)
        part.write(piece)
        upload = part.commit()
        part.close()
        if restart == 0:
            bench.close()

    assert len(upload.keys) == 3
    assert bench.intake.examine_next() is False
    bench.keys.locked = False
    assert bench.intake.uploads.metadata(upload) == b"filename QQ=="
    with bench.intake.uploads.reader(upload) as file:
        assert file.read() == b"a" * 10 + b"b" * 10 + b"c" * 10 + b"d" * 10
    bench.close()


def test_keys_that_sealed_nothing_do_not_pile_up(tmp_path: Path) -> None:
    """A node that restarts often must not fill its rows."""
    for _ in range(4):
        bench = Bench(tmp_path / "n")
        made = bench.intake.submit("phone", "c1", "file")
        upload = bench.intake.uploads.create("phone", made.id, length=40, metadata=b"name")
        part = bench.intake.uploads.begin(upload, 0)
        part.write(b"lost")
        part.close()
        bench.close()
    bench = Bench(tmp_path / "n")
    part = bench.intake.uploads.begin(bench.intake.uploads.get("phone", upload.id), 0)
    part.write(b"z" * 40)
    upload = part.commit()
    part.close()

    assert len(upload.keys) == 2
    assert bench.intake.uploads.metadata(upload) == b"name"
    with bench.intake.uploads.reader(upload) as file:
        assert file.read() == b"z" * 40
    bench.close()


def test_an_upload_that_rests_a_month_is_erased_and_says_so(tmp_path: Path) -> None:
    """Half studies of people who gave up must not stay for ever. The node's own running time counts."""
    clock = FakeClock()
    bench = Bench(tmp_path / "n", clock=clock)
    made = bench.intake.submit("phone", "c1", "file")
    upload = bench.intake.uploads.create("phone", made.id, length=40, metadata=b"")
    part = bench.intake.uploads.begin(upload, 0)
    part.write(b"a" * 10)
    part.commit()
    part.close()
    clock.now += 10 * EXPIRE_MS  # the wall clock jumps: nothing may come of it
    early = bench.intake.expire()
    clock.advance(EXPIRE_MS)

    with pytest.raises(Refused) as gone:
        bench.intake.uploads.get("phone", upload.id)
    assert (early, gone.value.code, bench.intake.expire()) == (0, "gone", 1)
    assert list(bench.spool.iterdir()) == []
    again = bench.intake.uploads.create("phone", made.id, length=40, metadata=b"")
    assert again.id != upload.id
    bench.close()


def test_what_was_to_be_erased_is_erased_after_a_crash(tmp_path: Path) -> None:
    """Between the intent and the removal of the file the power may go."""
    bench = Bench(tmp_path / "n")
    submission = bench.hand_in(b"bytes", kind="file")
    bench.intake.uploads.remove_file = lambda upload: None  # type: ignore[method-assign]
    bench.intake.remove("phone", submission)
    left = list(bench.spool.iterdir())
    bench.close()

    bench = Bench(tmp_path / "n")

    assert len(left) == 1
    assert list(bench.spool.iterdir()) == []
    bench.close()


def test_the_reserve_is_kept_free(tmp_path: Path) -> None:
    """A node with a full disk could not even erase."""
    bench = Bench(tmp_path / "n", reserve_bytes=1000, free_bytes=lambda: 1500)
    made = bench.intake.submit("phone", "c1", "file")

    with pytest.raises(DiskFull):
        bench.intake.uploads.create("phone", made.id, length=501, metadata=b"")
    assert bench.intake.uploads.create("phone", made.id, length=500, metadata=b"").length == 500
    bench.close()


def test_a_part_must_go_on_where_the_upload_ends(tmp_path: Path) -> None:
    """Otherwise two phones' bytes would be mixed."""
    bench = Bench(tmp_path / "n")
    made = bench.intake.submit("phone", "c1", "file")
    upload = bench.intake.uploads.create("phone", made.id, length=40, metadata=b"")

    with pytest.raises(WrongOffset) as wrong:
        bench.intake.uploads.begin(upload, 5)
    assert wrong.value.offset == 0
    bench.close()
