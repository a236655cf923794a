"""What goes into the vault comes out bit for bit, or an error comes out."""

import hashlib
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pydicom.data
import pytest
import zstandard
from nacl.public import PrivateKey

from node.errors import BlobMissing, CodecUnknown, ContentDiffers, DiskFull, NodeError, StoreDamaged
from node.store import codecs, files, prefetch, units
from node.store.blobs import BlobStore, DiskBlobStore, MemoryBlobStore
from node.store.opened import OpenStudy
from node.store.vault import Incoming, Kept, Vault
from sync.errors import BadManifest, BadValue, CannotOpen
from sync.ids import BlobId, MeshId
from sync.manifest import key_id, parse_manifest, seal_key
from sync.segments import SEGMENT_BYTES

MESH = MeshId(hashlib.sha256(b"mesh").digest())
SECRET = hashlib.sha256(b"forwarder").digest()
PUBLIC = bytes(PrivateKey(SECRET).public_key)
RECOVERY = hashlib.sha256(b"recovery").digest()
RECIPIENTS = [PUBLIC, bytes(PrivateKey(RECOVERY).public_key)]


@pytest.fixture
def store() -> MemoryBlobStore:
    return MemoryBlobStore()


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def compressible(size: int, seed: int = 1) -> bytes:
    """Return octets of which each second one is noise, as in 16-bit images."""
    low = noise(size // 2 + 1, seed)
    return b"".join(bytes((value & 0x3F, 7)) for value in low[: size // 2]) + bytes(size % 2)


def incoming(data: bytes, n: int = 0, piece: int = 100_000) -> Incoming:
    return Incoming(
        uid=f"2.25.{n}",
        sop_class="1.2.840.10008.5.1.4.1.1.7",
        syntax="1.2.840.10008.1.2.1",
        size=len(data),
        sha256=hashlib.sha256(data).digest(),
        open=lambda: (data[start : start + piece] for start in range(0, len(data), piece)),
    )


def keep(store: BlobStore, *contents: bytes) -> Kept:
    instances = [incoming(data, n) for n, data in enumerate(contents)]
    return Vault(store, os.urandom).keep_study(
        "2.25.100", instances, {"impression": "fine"}, recipients=RECIPIENTS, mesh=MESH
    )


def opened(store: BlobStore, kept: Kept, secret: bytes = SECRET) -> OpenStudy:
    return Vault(store, os.urandom).open_study(kept.manifest, secret)


def read_all(study: OpenStudy) -> list[bytes]:
    return [b"".join(study.read(instance)) for instance in study.index.instances]


@pytest.mark.parametrize(
    "contents",
    [
        [b"x"],
        [b""],
        [b"", b"one", b""],
        [noise(1000, n) for n in range(50)],
        [compressible(100_000, n) for n in range(12)],
        [noise(SEGMENT_BYTES)],
        [noise(SEGMENT_BYTES - 1), b"x", noise(SEGMENT_BYTES), noise(SEGMENT_BYTES + 1)],
        [noise(codecs.WHOLE_BYTES + 1)],
        [compressible(codecs.WHOLE_BYTES + 1), b"small", noise(codecs.WHOLE_BYTES + 77), b"last"],
        [bytes(20_000_000)],
    ],
    ids=[
        "one octet", "nothing", "nothing and something", "many of noise", "many slices", "a segment exactly",
        "around the borders", "large noise", "large and small", "large and empty",
    ],
)  # fmt: skip
def test_studies_come_back_bit_for_bit(store: MemoryBlobStore, contents: list[bytes]) -> None:
    """Small or large, packed well or not at all: the PACS gets what the modality made."""
    kept = keep(store, *contents)
    study = opened(store, kept)

    assert read_all(study) == contents
    assert [instance.size for instance in study.index.instances] == [len(data) for data in contents]
    assert kept.blobs == study.manifest.blobs
    assert set(store.ids()) == {kept.entry_id} | {blob_id for blob_id, _ in kept.blobs}
    assert kept.size == sum(store.size(blob_id) or 0 for blob_id in store.ids())
    assert store.get(BlobId(kept.entry_id)) == kept.manifest


def test_real_dicom_files_come_back_bit_for_bit(tmp_path: Path) -> None:
    """Every syntax, odd header and broken file of pydicom's collection, through the real store."""
    folder = Path(pydicom.data.__file__).parent / "test_files"
    contents = sorted(
        {path.read_bytes() for path in folder.rglob("*.dcm") if path.stat().st_size < 2_000_000}
    )
    store = DiskBlobStore(tmp_path)

    kept = keep(store, *contents)

    assert len(contents) > 50
    assert read_all(opened(DiskBlobStore(tmp_path), kept)) == contents


def test_every_recipient_opens_and_nobody_else(store: MemoryBlobStore) -> None:
    """The paper key opens what the forwarder opens; a courier opens nothing."""
    kept = keep(store, b"one", b"two")

    assert read_all(opened(store, kept, RECOVERY)) == [b"one", b"two"]
    assert opened(store, kept).index.confirmed == {"impression": "fine"}
    with pytest.raises(CannotOpen):
        opened(store, kept, bytes(range(32)))
    with pytest.raises(BadManifest):
        Vault(store, os.urandom).open_study(b"no manifest", SECRET)


def test_a_grant_opens_the_study(store: MemoryBlobStore) -> None:
    """A forwarder that joined after the study was sealed can deliver it."""
    kept = keep(store, b"one")
    late = hashlib.sha256(b"late").digest()
    manifest = parse_manifest(kept.manifest)
    plain_key = opened(store, kept)._study_key
    name, box = seal_key(
        manifest, plain_key, recipient=bytes(PrivateKey(late).public_key), ephemeral_seed=noise(32)
    )

    assert name == key_id(bytes(PrivateKey(late).public_key))
    assert read_all(Vault(store, os.urandom).open_granted(kept.manifest, box, late)) == [b"one"]


def test_two_sealings_of_one_study_share_nothing(store: MemoryBlobStore) -> None:
    """From the blobs, nobody can tell that two clinics sent the same images."""
    first, second = keep(store, b"same"), keep(store, b"same")

    assert first.entry_id != second.entry_id
    assert not {blob_id for blob_id, _ in first.blobs} & {blob_id for blob_id, _ in second.blobs}


def test_small_slices_share_blobs_and_are_packed(store: MemoryBlobStore) -> None:
    """300 slices are a handful of files, and their number cannot be seen."""
    kept = keep(store, *(compressible(30_000, n) for n in range(300)))

    assert len(kept.blobs) <= 2
    assert {instance.codec for instance in opened(store, kept).index.instances} == {codecs.PACK}
    assert kept.size < 0.75 * 300 * 30_000


def test_what_does_not_get_smaller_is_stored(store: MemoryBlobStore) -> None:
    """JPEG 2000 stays as it is; unpacking it again would be wasted."""
    kept = keep(store, noise(100_000), noise(codecs.WHOLE_BYTES + 1))

    assert {instance.codec for instance in opened(store, kept).index.instances} == {codecs.STORED}


def test_one_instance_is_read_without_the_others(store: MemoryBlobStore) -> None:
    """A retry of one slice does not read two gigabytes."""
    kept = keep(store, noise(SEGMENT_BYTES), noise(SEGMENT_BYTES, 2), noise(SEGMENT_BYTES, 3))
    first, _, last = (blob_id for blob_id, _ in kept.blobs)
    store.delete(first)
    store.delete(last)
    study = opened(store, kept)

    assert b"".join(study.read(study.index.instances[1])) == noise(SEGMENT_BYTES, 2)
    with pytest.raises(BlobMissing):
        b"".join(study.read(study.index.instances[0]))


def test_many_threads_may_read_one_open_study(store: MemoryBlobStore) -> None:
    """Delivery sends several instances at a time."""
    contents = [noise(1_500_000, n) for n in range(8)]
    study = opened(store, keep(store, *contents))
    found: dict[int, bytes] = {}

    def work(n: int) -> None:
        found[n] = b"".join(study.read(study.index.instances[n]))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert [found[n] for n in range(8)] == contents


SWAPS: dict[str, Callable[[bytes, bytes], bytes]] = {
    "a flipped bit": lambda one, _: one[:5000] + bytes([one[5000] ^ 1]) + one[5001:],
    "cut short": lambda one, _: one[:-1],
    "another's bytes": lambda _, other: other,
    "nothing": lambda _one, _other: b"",
}


@pytest.mark.parametrize("name", SWAPS)
def test_a_damaged_blob_never_gives_a_whole_instance(store: MemoryBlobStore, name: str) -> None:
    """Silence over a broken image is the one thing that must not happen."""
    data = noise(3 * SEGMENT_BYTES)
    kept = keep(store, data)
    (one, _), (two, _), _ = kept.blobs
    store.corrupt(two, SWAPS[name](store.get(two), store.get(one)))
    study = opened(store, kept)
    got = b""

    with pytest.raises(StoreDamaged):
        for piece in study.read(study.index.instances[0]):
            got += piece

    assert data.startswith(got)
    assert len(got) < len(data)


def test_a_segment_under_the_right_name_in_the_wrong_place_is_noticed(store: MemoryBlobStore) -> None:
    """Even if the manifest's author mixed up its own blobs."""
    kept = keep(store, noise(3 * SEGMENT_BYTES))
    study = opened(store, kept)
    a, b, c = study.manifest.blobs
    study.manifest = replace(study.manifest, blobs=(b, a, c))

    with pytest.raises(StoreDamaged):
        b"".join(study.read(study.index.instances[0]))


@pytest.mark.parametrize("codec", [codecs.STORED, codecs.PACK])
def test_a_wrong_digest_in_the_index_holds_back_the_end(store: MemoryBlobStore, codec: str) -> None:
    """The reader learns of it before it has a complete instance."""
    data = compressible(700_000) if codec == codecs.PACK else noise(700_000)
    study = opened(store, keep(store, data))
    (right,) = study.index.instances
    assert right.codec == codec
    got = b""

    with pytest.raises(StoreDamaged):
        for piece in study.read(replace(right, sha256=bytes(32))):
            got += piece

    assert len(got) < len(data)


def test_an_index_that_lies_is_no_way_to_wrong_bytes_or_endless_ones(store: MemoryBlobStore) -> None:
    """A broken ingest node cannot make a forwarder swell, or send half an image."""
    study = opened(store, keep(store, compressible(700_000), b"end"))
    right = study.index.instances[0]

    for lie in (
        {"size": right.size - 1},
        {"size": right.size + 1},
        {"coded": right.coded - 1},
        {"coded": right.coded - 100_000},
        {"coded": right.coded + 1},
        {"offset": 1},
        {"offset": 5 * SEGMENT_BYTES},
        {"coded": 5 * SEGMENT_BYTES, "codec": codecs.STORED},
        {"codec": codecs.STORED},
    ):
        with pytest.raises(StoreDamaged):
            b"".join(study.read(replace(right, **lie)))
    with pytest.raises(CodecUnknown):
        b"".join(study.read(replace(right, codec="jpeg-xx")))


def test_a_bomb_is_unpacked_no_further_than_promised() -> None:
    """Four kilobytes that become a gigabyte stop at what the index says."""
    bomb = zstandard.ZstdCompressor(level=3).compress(bytes(500_000_000))
    position = 0

    class Source:
        def read(self, size: int, /) -> bytes:
            nonlocal position
            piece = bomb[position : position + size]
            position += size
            return piece

    taken = 0
    with pytest.raises(StoreDamaged):
        for piece in codecs.decode(codecs.ZSTD, Source(), 1000):
            taken += len(piece)

    assert taken <= 1000


def changed(data: bytes) -> Incoming:
    return replace(incoming(data, 9), open=lambda: iter([data[:-1] + b"!"]))


WRONG: dict[str, Callable[[], Incoming]] = {
    "another small one": lambda: changed(b"small"),
    "another large one": lambda: changed(noise(codecs.WHOLE_BYTES + 5)),
    "another large packed one": lambda: changed(compressible(codecs.WHOLE_BYTES + 5)),
    "too short": lambda: replace(incoming(b"small"), size=6),
    "too long": lambda: replace(incoming(b"small"), size=4),
    "a large one too short": lambda: replace(
        incoming(noise(codecs.WHOLE_BYTES + 5)), size=codecs.WHOLE_BYTES + 6
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_what_was_confirmed_is_not_kept(store: MemoryBlobStore, name: str) -> None:
    """The clinician confirmed one list of images; no other goes out in their name."""
    instances = [incoming(noise(SEGMENT_BYTES * 2), 1), WRONG[name](), incoming(b"after", 2)]

    with pytest.raises(ContentDiffers):
        Vault(store, os.urandom).keep_study("2.25.1", instances, {}, recipients=RECIPIENTS, mesh=MESH)

    assert list(store.ids()) == []


@pytest.mark.parametrize("problem", ["no instance", "one twice", "no recipient"])
def test_a_study_that_could_not_be_delivered_is_not_kept(store: MemoryBlobStore, problem: str) -> None:
    """The upload is still there, so the mistake costs nothing."""
    instances = [] if problem == "no instance" else [incoming(b"a")] * (2 if problem == "one twice" else 1)
    recipients = [] if problem == "no recipient" else RECIPIENTS

    with pytest.raises(BadValue):
        Vault(store, os.urandom).keep_study("2.25.1", instances, {}, recipients=recipients, mesh=MESH)

    assert list(store.ids()) == []


def test_an_error_while_reading_the_upload_comes_through(store: MemoryBlobStore) -> None:
    """The spool's own error says more than ours could."""

    def broken() -> Iterator[bytes]:
        yield b"a"
        raise NodeError("the spool is locked")

    for size in (5, codecs.WHOLE_BYTES + 5):
        instance = replace(incoming(b"x"), size=size, open=broken)
        with pytest.raises(NodeError, match="locked"):
            Vault(store, os.urandom).keep_study("2.25.1", [instance], {}, recipients=RECIPIENTS, mesh=MESH)


def test_instances_are_read_one_after_another(store: MemoryBlobStore) -> None:
    """They may be members of one sealed upload, which has one position to read from."""
    contents = [noise(300_000, n) for n in range(10)] + [noise(codecs.WHOLE_BYTES + 1), b"last"]
    log: list[str] = []

    def reading(data: bytes) -> Callable[[], Iterator[bytes]]:
        def pieces() -> Iterator[bytes]:
            log.append("open")
            for start in range(0, len(data), 50_000):
                log.append("read")
                yield data[start : start + 50_000]
            log.append("end")

        return pieces

    instances = [replace(incoming(data, n), open=reading(data)) for n, data in enumerate(contents)]
    Vault(store, os.urandom).keep_study("2.25.1", instances, {}, recipients=RECIPIENTS, mesh=MESH)

    assert [word for word in log if word != "read"] == ["open", "end"] * len(contents)


def test_a_full_disk_leaves_nothing_behind(store: MemoryBlobStore) -> None:
    """Half a study would take the room that the next one needs."""
    small = MemoryBlobStore(capacity=3 * SEGMENT_BYTES)

    with pytest.raises(DiskFull):
        keep(small, noise(6 * SEGMENT_BYTES))

    assert list(small.ids()) == []


CHILD = """
import hashlib, os, sys
from pathlib import Path
from nacl.public import PrivateKey
from node.store.blobs import DiskBlobStore
from node.store.vault import Incoming, Vault
from sync.ids import MeshId

def endless():
    while True:
        yield os.urandom(1 << 20)

class Store(DiskBlobStore):
    def put(self, data):
        blob_id = super().put(data)
        print(blob_id.hex(), flush=True)
        return blob_id

instance = Incoming("2.25.1", "1.2", "1.2", 1 << 40, bytes(32), endless)
public = bytes(PrivateKey(bytes(range(32))).public_key)
Vault(Store(Path(sys.argv[1])), os.urandom).keep_study("2.25.1", [instance], {}, recipients=[public], mesh=MeshId(bytes(32)))
"""  # noqa: E501


def test_a_kill_in_the_middle_leaves_whole_blobs_and_no_manifest(tmp_path: Path) -> None:
    """Without a manifest there is no entry; the sweep removes the rest and the upload is sealed again."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    said = [child.stdout.readline().strip() for _ in range(5)]
    child.kill()
    child.wait(10)
    child.stdout.close()

    store = DiskBlobStore(tmp_path)
    found = {blob_id.hex() for blob_id in store.ids()}

    assert set(said) <= found
    assert all(store.verify(blob_id) for blob_id in store.ids())
    assert not [blob_id for blob_id in store.ids() if store.read(blob_id, 0, 4) == b"CMM1"]
    assert list((tmp_path / "part").iterdir()) == []


MEMORY_CHILD = """
import hashlib, os, random, sys
from pathlib import Path
from nacl.public import PrivateKey
from node.store.blobs import DiskBlobStore
from node.store.memory import keep_large_buffers
from node.store.vault import Incoming, Vault
from sync.ids import MeshId

keep_large_buffers()
SIX_BITS = bytes(n & 0x3F for n in range(256))

def pieces():
    for n in range(300):
        yield random.Random(n).randbytes(1 << 20).translate(SIX_BITS)

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024

whole = hashlib.sha256()
for piece in pieces():
    whole.update(piece)
instance = Incoming("2.25.1", "1.2", "1.2", 300 << 20, whole.digest(), pieces)
secret = bytes(range(32))
before = peak()
vault = Vault(DiskBlobStore(Path(sys.argv[1])), os.urandom)
kept = vault.keep_study("2.25.1", [instance], {}, recipients=[bytes(PrivateKey(secret).public_key)], mesh=MeshId(bytes(32)))
study = vault.open_study(kept.manifest, secret)
back = sum(len(piece) for piece in study.read(study.index.instances[0]))
print(back, study.index.instances[0].codec, before, peak())
"""  # noqa: E501


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_large_instance_needs_little_memory(tmp_path: Path) -> None:
    """A cine loop of two gigabytes must fit a clinic laptop; 300 MB show that memory stays flat."""
    run = subprocess.run(
        [sys.executable, "-c", MEMORY_CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True, check=True
    )
    back, codec, before, peak = run.stdout.split()

    assert (int(back), codec) == (300 << 20, codecs.PACK)
    assert int(peak) - int(before) < 150
    assert int(peak) < 200


def test_a_codec_that_lies_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was coded is decoded again before it is believed."""
    part = units.Part(compressible(50_000), 0, None)
    honest = units.pack
    monkeypatch.setattr(
        units, "pack", lambda parts: honest([replace(one, data=one.data[:-1] + b"!") for one in parts])
    )

    assert codecs.code([part]).codec == codecs.STORED
    with pytest.raises(StoreDamaged):
        codecs.code_next(codecs.PACK, part)
    assert codecs.code_next(codecs.STORED, part).data == part.data


def test_pieces_are_made_ahead_in_order_and_errors_come_through() -> None:
    """The pipeline changes the speed and nothing else."""

    def failing() -> Iterator[bytes]:
        yield b"a"
        raise DiskFull

    many = [bytes([n]) for n in range(100)]
    failing_pieces = prefetch.prefetched(failing())

    assert list(prefetch.prefetched(many)) == many
    assert next(failing_pieces) == b"a"
    with pytest.raises(DiskFull):
        next(failing_pieces)


def test_a_pipeline_that_is_left_stops_its_thread() -> None:
    """A failed study leaves no thread behind that reads on."""
    taken: list[int] = []

    def counted() -> Iterator[bytes]:
        for n in range(1000):
            taken.append(n)
            yield b"x"

    before = threading.active_count()
    pieces = prefetch.prefetched(counted())
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]

    assert threading.active_count() == before
    assert len(taken) < 10


@pytest.mark.parametrize("sizes", [[], [1], [5, 5, 5], [20], [3, 20, 3], [10, 10]])
def test_pieces_are_collected_to_a_size(sizes: list[int]) -> None:
    """No octet is lost or moved between the spool and the codec."""
    data = noise(100)
    cuts = [data[sum(sizes[:n]) : sum(sizes[: n + 1])] for n in range(len(sizes))]

    made = list(prefetch.resized(cuts, 10))

    assert b"".join(made) == data[: sum(sizes)]
    assert all(len(piece) >= 10 for piece in made[:-1])


def test_nothing_of_the_patient_is_shown() -> None:
    """A traceback or a log of these values names nobody."""
    kept = keep(MemoryBlobStore(), b"one")

    assert "2.25" not in repr(incoming(b"x")) + repr(kept)


def test_the_files_hold_nothing_in_the_clear(tmp_path: Path) -> None:
    """Names, UIDs and words of the impression are in no file."""
    Vault(DiskBlobStore(tmp_path), os.urandom).keep_study(
        "2.25.77777",
        [incoming(b"canary in the image " * 100, 88888)],
        {"impression": "canary in the text"},
        recipients=RECIPIENTS,
        mesh=MESH,
    )
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())

    assert not any(word in everything for word in (b"canary", b"77777", b"88888", b"impression"))
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(files.TEMPORARY_SUFFIX)]
