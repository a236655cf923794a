"""What every blob store promises; run against the real one and the one in memory."""

import errno
import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from node.errors import BlobMissing, DiskFull, StoreDamaged, WrongOffset
from node.store import files
from node.store.blobs import BlobStore, DiskBlobStore, MemoryBlobStore
from sync.errors import BadBlob
from sync.ids import BlobId

DATA = b"sealed bytes " * 1000
ID = BlobId(hashlib.sha256(DATA).digest())


@dataclass
class Case:
    """A store, with a way to spoil one of its blobs and a way to fill its disk up."""

    store: BlobStore
    spoil: Callable[[BlobId, bytes], None]
    fill_up: Callable[[], None]


@pytest.fixture(params=["memory", "disk"])
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    if request.param == "memory":
        memory = MemoryBlobStore(capacity=100_000)

        def fill_memory() -> None:
            memory.put(bytes(memory.free_bytes()))

        return Case(memory, memory.corrupt, fill_memory)
    folder = tmp_path / "blobs"

    def spoil(blob_id: BlobId, data: bytes) -> None:
        (folder / blob_id.hex()[:2] / blob_id.hex()).write_bytes(data)

    def fill_disk() -> None:
        def half_a_write(descriptor: int, data: bytes) -> None:
            os.write(descriptor, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "canary")

        monkeypatch.setattr(files, "write_all", half_a_write)

    return Case(DiskBlobStore(folder), spoil, fill_disk)


@pytest.fixture
def store(case: Case) -> BlobStore:
    return case.store


def test_what_was_put_is_read_back_by_its_hash(store: BlobStore) -> None:
    """The name is the proof: any node can check what any other gave it."""
    assert store.put(DATA) == ID
    assert store.get(ID) == DATA
    assert store.read(ID, 5, 10) == DATA[5:15]
    assert store.read(ID, len(DATA) - 3, 10) == DATA[-3:]
    assert (store.has(ID), store.size(ID), list(store.ids())) == (True, len(DATA), [ID])
    assert store.verify(ID)


def test_an_empty_blob_is_a_blob(store: BlobStore) -> None:
    """A size of nothing is not the same as nothing."""
    blob_id = store.put(b"")

    assert (store.has(blob_id), store.size(blob_id), store.get(blob_id)) == (True, 0, b"")


def test_putting_twice_keeps_one(store: BlobStore) -> None:
    """A blob that arrives from two couriers is the same blob."""
    store.put(DATA)
    store.put_verified(ID, DATA)

    assert list(store.ids()) == [ID]


def test_bytes_under_a_false_name_are_refused(store: BlobStore) -> None:
    """A peer cannot plant bytes under another blob's name."""
    with pytest.raises(BadBlob):
        store.put_verified(ID, DATA + b"!")

    assert not store.has(ID)


def test_a_blob_that_is_not_here_is_said_to_be_missing(store: BlobStore) -> None:
    """Missing and damaged call for the same cure, a good copy; but they are told apart."""
    assert (store.has(ID), store.size(ID)) == (False, None)
    for ask in (
        store.get,
        store.verify,
        store.set_aside,
        lambda i: store.read(i, 0, 1),
        store.finish_partial,
    ):
        with pytest.raises(BlobMissing):
            ask(ID)
    store.delete(ID)


@pytest.mark.parametrize("spoilt", [DATA[:-1], DATA + b"x", b"\x00" + DATA[1:], b""])
def test_damage_is_noticed_and_never_served_as_right(case: Case, spoilt: bytes) -> None:
    """A flipped bit on an old disk must not become a flipped bit in the PACS."""
    case.store.put(DATA)
    case.spoil(ID, spoilt)

    with pytest.raises(StoreDamaged):
        case.store.get(ID)
    assert not case.store.verify(ID)


def test_a_good_copy_takes_the_place_of_a_damaged_one(case: Case) -> None:
    """The scrub found damage; a peer still has the blob."""
    case.store.put(DATA)
    case.spoil(ID, b"\x00" + DATA[1:])
    case.store.put_verified(ID, DATA)
    assert case.store.get(ID) == DATA
    case.spoil(ID, b"\x00" + DATA[1:])

    case.store.set_aside(ID)

    assert (case.store.has(ID), list(case.store.ids())) == (False, [])
    case.store.put(DATA)
    assert case.store.get(ID) == DATA


def test_a_deleted_blob_is_gone_with_all_its_copies(case: Case, tmp_path: Path) -> None:
    """Erased means the partial and the damaged copy too."""
    case.store.put(DATA)
    case.spoil(ID, b"\x00" + DATA[1:])
    case.store.set_aside(ID)
    case.store.append_partial(ID, 0, DATA[:100])
    case.store.put(DATA)

    case.store.delete(ID)

    assert (case.store.has(ID), case.store.partial_size(ID)) == (False, 0)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_transfer_goes_on_inside_a_blob(store: BlobStore) -> None:
    """A courier who drove out of range in the middle sends only the rest next time."""
    assert store.append_partial(ID, 0, DATA[:5000]) == 5000
    assert (store.partial_size(ID), list(store.partial_ids())) == (5000, [ID])
    assert (store.has(ID), list(store.ids())) == (False, [])
    assert store.append_partial(ID, 5000, DATA[5000:]) == len(DATA)

    store.finish_partial(ID)

    assert store.get(ID) == DATA
    assert (store.partial_size(ID), list(store.partial_ids())) == (0, [])


@pytest.mark.parametrize("offset", [0, 99, 101])
def test_a_part_at_the_wrong_place_is_refused_with_the_right_one(store: BlobStore, offset: int) -> None:
    """Two peers that send the same blob must not interleave."""
    store.append_partial(ID, 0, DATA[:100])

    with pytest.raises(WrongOffset) as refused:
        store.append_partial(ID, offset, DATA[offset:])

    assert (refused.value.offset, store.partial_size(ID)) == (100, 100)


def test_a_part_of_nothing_at_the_wrong_place_leaves_nothing(store: BlobStore) -> None:
    """A refused part is not a reason to list the blob as on its way."""
    with pytest.raises(WrongOffset):
        store.append_partial(ID, 7, DATA[7:])

    assert list(store.partial_ids()) == []


def test_a_transfer_with_the_wrong_bytes_starts_again(store: BlobStore) -> None:
    """After a power cut the parts may be garbage; the hash knows."""
    store.append_partial(ID, 0, b"\x00" + DATA[1:])

    with pytest.raises(BadBlob):
        store.finish_partial(ID)

    assert (store.has(ID), store.partial_size(ID)) == (False, 0)


def test_a_transfer_may_be_dropped(store: BlobStore) -> None:
    """The study was delivered by another before it was complete here."""
    store.append_partial(ID, 0, DATA[:9])
    store.drop_partial(ID)
    store.drop_partial(ID)

    assert store.partial_size(ID) == 0


def test_a_full_disk_is_named_and_leaves_nothing(case: Case, tmp_path: Path) -> None:
    """Half a blob would take the room that erasing needs, and be taken for custody."""
    case.store.append_partial(ID, 0, DATA[:100])
    case.fill_up()

    with pytest.raises(DiskFull) as refused:
        case.store.put(DATA)
    with pytest.raises(DiskFull):
        case.store.append_partial(ID, 100, DATA[100:])

    assert "canary" not in str(refused.value)
    assert (case.store.has(ID), case.store.partial_size(ID)) == (False, 100)
    assert [path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()] in ([], [100])


def test_free_space_is_told(store: BlobStore) -> None:
    """Reserve and ballast are counted from it."""
    assert store.free_bytes() > 0


def test_many_threads_may_put_the_same_blob(store: BlobStore) -> None:
    """Two meetings bring the same study at the same time."""
    failures: list[Exception] = []

    def work() -> None:
        try:
            for _ in range(20):
                store.put_verified(ID, DATA)
                assert store.get(ID) == DATA
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert failures == []
    assert list(store.ids()) == [ID]


def test_a_new_store_on_the_same_folder_finds_blobs_and_parts_and_clears_leftovers(tmp_path: Path) -> None:
    """After a power cut: whole blobs and resumable parts stay, half-written files go."""
    first = DiskBlobStore(tmp_path)
    first.put(DATA)
    other = BlobId(bytes(32))
    first.append_partial(other, 0, b"abc")
    leftover = tmp_path / "part" / f"{ID.hex()}.0123abcd{files.TEMPORARY_SUFFIX}"
    leftover.write_bytes(b"half")

    second = DiskBlobStore(tmp_path)

    assert (list(second.ids()), second.partial_size(other), second.get(ID)) == ([ID], 3, DATA)
    assert list(second.partial_ids()) == [other]
    assert not leftover.exists()


@pytest.mark.skipif(os.name != "posix", reason="folders are flushed on POSIX only")
def test_a_blob_is_flushed_then_named_then_its_name_is_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any other order loses an acknowledged study in a power cut."""
    store = DiskBlobStore(tmp_path)
    log: list[str] = []

    def note(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def noted(*args: object) -> object:
            log.append(name)
            return real(*args)

        return noted

    for name in ("write_all", "sync_file", "replace", "sync_dir", "remove"):
        monkeypatch.setattr(files, name, note(name, getattr(files, name)))

    store.put(DATA)
    assert log == ["write_all", "sync_file", "replace", "sync_dir"]
    log.clear()
    store.append_partial(BlobId(hashlib.sha256(b"x").digest()), 0, b"x")
    store.finish_partial(BlobId(hashlib.sha256(b"x").digest()))
    assert log == ["write_all", "sync_file", "replace", "sync_dir"]
    log.clear()
    store.delete(ID)
    assert log[:2] == ["remove", "sync_dir"]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_files_and_folders_are_for_the_owner_only(tmp_path: Path) -> None:
    """Even sealed bytes tell an onlooker how much is waiting."""
    store = DiskBlobStore(tmp_path / "blobs")
    store.put(DATA)
    store.append_partial(BlobId(bytes(32)), 0, b"x")

    modes = {path.is_dir(): path.stat().st_mode & 0o777 for path in (tmp_path / "blobs").rglob("*")}

    assert modes == {True: 0o700, False: 0o600}


def test_a_failing_device_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush that failed is not tried again: Linux would report success over lost pages."""
    store = DiskBlobStore(tmp_path)
    calls: list[int] = []

    def fail(descriptor: int) -> None:
        calls.append(descriptor)
        raise OSError(errno.EIO, "canary")

    monkeypatch.setattr(files, "sync_file", fail)

    with pytest.raises(StoreDamaged):
        store.put(DATA)

    assert len(calls) == 1
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
