"""Coding ahead: what is ready when a person confirms is what the vault would have made."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from nacl.public import PrivateKey
from support.dicoms import zip_of
from support.intake import Bench, grow
from support.slices import made_slice

from node.errors import DiskFull, StoreDamaged
from node.intake import ahead as ahead_module
from node.intake.coding import CodingAhead
from node.intake.confirmation import Confirmation, ConfirmedStudy
from node.store.blobs import MemoryBlobStore
from node.store.vault import Incoming, Vault
from sync.ids import MeshId

SECRET = hashlib.sha256(b"forwarder").digest()
PUBLIC = bytes(PrivateKey(SECRET).public_key)
SLICE = 700_000  # five of them and no sixth make a unit


def slices(study: int, count: int) -> list[bytes]:
    return [made_slice(study, number, octets=SLICE) for number in range(1, count + 1)]


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


class Coder:
    """Codes ahead in a folder; `room` False: the disk is full."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.room = True
        self.ahead = CodingAhead(folder, self._need)

    def _need(self, octets: int) -> None:
        if not self.room:
            raise DiskFull("no room")

    def add(self, study_uid: str, *contents: bytes) -> None:
        for data in contents:
            self.ahead.add("u", study_uid, digest(data), data)

    def incoming(self, contents: Sequence[bytes], *, readable: bool) -> list[Incoming]:
        """Return instances with what is ready of them; none but `readable` ones may be read."""
        find = self.ahead.ready("u")

        def opened(data: bytes) -> Iterator[bytes]:
            assert readable, "what is ready was read again"
            yield data

        return [
            Incoming(
                uid=f"2.25.{number}",
                sop_class="1.2.840.10008.5.1.4.1.1.7",
                syntax="1.2.840.10008.1.2.1",
                size=len(data),
                sha256=digest(data),
                open=lambda data=data: opened(data),  # type: ignore[misc]
                ready=find(digest(data)),
            )
            for number, data in enumerate(contents)
        ]


@pytest.fixture
def coder(tmp_path: Path) -> Iterator[Coder]:
    made = Coder(tmp_path)
    yield made
    made.ahead.close()


def kept(instances: Sequence[Incoming]) -> list[bytes]:
    """Keep instances as a study, and return what comes out of it again."""
    vault = Vault(MemoryBlobStore(), os.urandom)
    study = vault.keep_study(
        "2.25.100", instances, {}, recipients=[PUBLIC], mesh=MeshId(hashlib.sha256(b"mesh").digest())
    )
    opened = vault.open_study(study.manifest, SECRET)
    return [b"".join(opened.read(instance)) for instance in opened.index.instances]


def begun_by(instances: Sequence[Incoming]) -> list[int]:
    """Return the places of the instances with which something begins that is ready."""
    return [number for number, one in enumerate(instances) if one.ready is not None]


def test_what_is_ready_is_kept_bit_for_bit_and_not_read_again(coder: Coder) -> None:
    """The upload is read once while it comes; the clinician waits for the rest of it only."""
    contents = slices(1, 11)
    coder.add("2.25.1", *contents)

    instances = coder.incoming(contents, readable=False)
    assert begun_by(instances) == [0, 5]
    assert kept(instances[:10]) == contents[:10]

    instances = coder.incoming(contents, readable=True)
    assert kept(instances) == contents


def test_another_study_between_does_not_get_into_a_unit(coder: Coder) -> None:
    """A CD with two patients: units hold instances of one study, whatever order they come in."""
    one, other = slices(1, 4), slices(2, 9)
    coder.add("2.25.1", *one)
    coder.add("2.25.2", *other[:6])
    coder.add("2.25.1", one[0])
    coder.add("2.25.2", *other[6:])

    first, second = coder.incoming(one, readable=True), coder.incoming(other, readable=True)
    assert begun_by(first) == [0]
    assert begun_by(second) == [0]
    assert (kept(first), kept(second)) == (one, other)


def test_small_instances_are_left_to_the_end(coder: Coder) -> None:
    """Their headers take longer than their pixels, and memory is short while they come."""
    small = [made_slice(5, number, octets=20_000) for number in range(1, 5)]
    contents = [*slices(1, 4), *small, *slices(6, 6)]
    coder.add("2.25.1", *contents)

    instances = coder.incoming(contents, readable=True)

    assert begun_by(instances) == [0, 8]
    assert kept(instances) == contents


@pytest.mark.parametrize("left_out", [0, 1, 4])
def test_a_unit_is_left_when_an_instance_of_it_is_not_kept(coder: Coder, left_out: int) -> None:
    """What a person did not confirm must not travel along in what was coded before."""
    contents = slices(1, 6)
    coder.add("2.25.1", *contents)
    confirmed = contents[:left_out] + contents[left_out + 1 :]

    instances = coder.incoming(confirmed, readable=True)

    assert kept(instances) == confirmed


def test_other_content_under_a_ready_name_is_never_kept(coder: Coder) -> None:
    """A unit counts by the digests of all that it holds, in their order."""
    contents = slices(1, 6)
    coder.add("2.25.1", *contents)
    instances = coder.incoming(contents, readable=True)
    swapped = [instances[0], replace(instances[2]), replace(instances[1]), *instances[3:]]

    assert kept(swapped) == [contents[0], contents[2], contents[1], *contents[3:]]


def test_what_lies_on_the_disk_is_sealed_and_goes(coder: Coder) -> None:
    """Patient data never reaches the disk unsealed, and units that nobody needs do not stay."""
    contents = [bytes(f"PATIENT^NAME {n}", "ascii") + os.urandom(SLICE) for n in range(6)]
    coder.add("2.25.1", *contents)
    coder.ahead.ready("u")
    (path,) = coder.folder.iterdir()
    assert path.stat().st_size > 5 * SLICE
    assert b"PATIENT" not in path.read_bytes()

    coder.ahead.forget("u")

    assert not list(coder.folder.iterdir())
    assert coder.ahead.ready("u")(digest(contents[0])) is None


def test_only_the_upload_that_grows_holds_instances_in_memory(coder: Coder) -> None:
    """Many phones that lost their network in mid-upload must not fill the memory of the node."""
    contents = slices(1, 7)
    for phone in range(20):
        for data in contents:
            coder.ahead.add(f"phone {phone}", "2.25.1", digest(data), data)

    held = [one for one in coder.ahead._known.values() if one._batch.parts or one._running]

    assert len(coder.ahead._known) == 20
    assert held == [coder.ahead._known["phone 19"]]
    assert coder.ahead.ready("phone 3")(digest(contents[0])) is not None


def test_a_full_disk_leaves_all_to_the_end(coder: Coder) -> None:
    """Coding ahead only makes things quicker: it takes no room that uploads need, and tells nobody."""
    contents = slices(1, 12)
    coder.add("2.25.1", *contents[:6])
    coder.room = False
    coder.add("2.25.1", *contents[6:])

    assert begun_by(coder.incoming(contents, readable=True)) == []
    assert not list(coder.folder.iterdir())


def confirm(bench: Bench, submission: str) -> None:
    """Say yes to what was found."""
    keys = ("study_uid", "digest", "instances")
    studies = bench.view(submission)["examination"]["studies"]
    confirmed = tuple(ConfirmedStudy(**{key: one[key] for key in keys}) for one in studies)
    bench.intake.confirm("phone", submission, Confirmation(confirmed))


def uploaded(bench: Bench, data: bytes) -> str:
    """Upload a ZIP in pieces, each of them looked at before the next one comes."""
    step = 1 << 20
    return grow(bench, data, [(at, data[at : at + step], True) for at in range(0, len(data), step)])


def test_a_submission_finds_what_was_coded_while_it_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way of the intake, and nothing beside the upload is left when it is kept."""
    monkeypatch.setattr(ahead_module, "_WORTH_BYTES", 1)
    bench = Bench(tmp_path)
    contents = slices(3, 21)
    submission = uploaded(bench, zip_of({f"I{n}": data for n, data in enumerate(contents)}))
    found: list[int] = []
    keep = bench.intake._keep

    def keeping(study, instances, confirmed, **more):  # type: ignore[no-untyped-def]
        found.extend(begun_by(instances))
        assert [data for one in instances if one.ready for data in (one.ready.load().data,)]
        return keep(study, instances, confirmed, **more)

    bench.intake._keep = keeping
    bench.work()
    assert sorted(path.suffix for path in bench.spool.iterdir()) == ["", ".coded"]
    confirm(bench, submission)
    bench.work()

    assert bench.view(submission)["state"] == "kept"
    assert found == [0, 5, 10]
    assert list(bench.spool.iterdir()) == []
    bench.close()


def test_a_submission_that_is_taken_back_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upload and what was made of it go together."""
    monkeypatch.setattr(ahead_module, "_WORTH_BYTES", 1)
    bench = Bench(tmp_path)
    data = zip_of({f"I{n}": data for n, data in enumerate(slices(3, 21))})
    submission = uploaded(bench, data)
    assert len(list(bench.spool.iterdir())) == 2

    bench.intake.remove("phone", submission)

    assert list(bench.spool.iterdir()) == []
    bench.close()


def test_after_a_power_cut_all_is_coded_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of the units was in memory only: what lies there opens for nobody, and is removed."""
    monkeypatch.setattr(ahead_module, "_WORTH_BYTES", 1)
    bench = Bench(tmp_path)
    contents = slices(3, 21)
    submission = uploaded(bench, zip_of({f"I{n}": data for n, data in enumerate(contents)}))
    (left,) = [path for path in bench.spool.iterdir() if path.suffix]
    bench.close()

    bench = Bench(tmp_path)
    assert not left.exists()
    bench.work()
    confirm(bench, submission)
    bench.work()

    assert [sorted(map(digest, one.values())) for one in bench.keeper.kept] == [sorted(map(digest, contents))]
    bench.close()


@pytest.mark.parametrize("harm", ["rotten", "removed"])
def test_units_that_do_not_open_are_no_fault_of_the_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    """A clinician must not be told that a sound upload is damaged: all is coded once more from it."""
    monkeypatch.setattr(ahead_module, "_WORTH_BYTES", 1)
    bench = Bench(tmp_path)
    contents = slices(3, 21)
    submission = uploaded(bench, zip_of({f"I{n}": data for n, data in enumerate(contents)}))
    (left,) = [path for path in bench.spool.iterdir() if path.suffix]
    bench.work()
    keep = bench.intake._keep

    def loading(study, instances, confirmed, **more):  # type: ignore[no-untyped-def]
        for one in instances:
            if one.ready is not None:
                one.ready.load()
        return keep(study, instances, confirmed, **more)

    bench.intake._keep = loading
    if harm == "rotten":
        left.write_bytes(bytes(left.stat().st_size))
    else:
        left.unlink()
    confirm(bench, submission)
    with pytest.raises(StoreDamaged):
        bench.work()
    assert bench.view(submission)["state"] == "confirmed"

    bench.work()

    assert bench.view(submission)["state"] == "kept"
    assert [sorted(map(digest, one.values())) for one in bench.keeper.kept] == [sorted(map(digest, contents))]
    bench.close()
