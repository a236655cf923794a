"""What is made smaller comes back bit for bit, whatever it was; what is damaged does not come back at all."""

import hashlib
import json
import os
import random
import sys
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nacl.public import PrivateKey
from support.scans import Pixels, files_of, folders, made_file

from node.errors import CodecUnknown, StoreDamaged
from node.store import codecs, images, units
from node.store.blobs import MemoryBlobStore
from node.store.opened import OpenStudy
from node.store.pixels import find_native
from node.store.units import Part
from node.store.vault import Incoming, Vault
from sync import cbor
from sync.ids import MeshId

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "codecs.json").read_text())
EXPLICIT, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"


def part(data: bytes, start: int = 0) -> Part:
    return Part(data, start, find_native(data, len(data)))


def described(unit: bytes) -> list[list[object]]:
    """Return the images that a unit holds."""
    value = cbor.decode(unit)
    assert isinstance(value, list)
    return list(value[1])


def smooth(pixels: Pixels, seed: int, *, noise: int = 3) -> bytes:
    """Return soft structures with a little noise, within the bits that are stored."""
    lots = np.random.default_rng(seed)
    shape = (pixels.frames, pixels.rows, pixels.columns, pixels.samples)
    frame, y, x, sample = np.indices(shape)
    top = 1 << pixels.stored
    values = top / 4 * (1.5 + np.sin(x / 9 + sample / 5) * np.cos(y / 7 + frame / 3))
    values = values + lots.integers(-noise, noise + 1, shape)
    if pixels.signed:
        values = values - top / 2
    low, high = (-top // 2, top // 2 - 1) if pixels.signed else (0, top - 1)
    if pixels.planar:
        values = values.transpose(0, 3, 1, 2)
    kind = (
        (">" if pixels.syntax == BIG else "<") + ("i" if pixels.signed else "u") + str(pixels.allocated // 8)
    )
    return np.clip(values, low, high).astype(kind).tobytes()


def decoded(coded: codecs.Coded, size: int) -> bytes:
    return b"".join(codecs.decode(coded.codec, BytesIO(coded.data), size))


# Real files


@pytest.mark.parametrize("name", sorted(folders()))
def test_every_real_file_comes_back_bit_for_bit(name: str) -> None:
    """Alone, among its neighbours, and cut in the middle as a large one is."""
    contents = [path.read_bytes() for path in files_of(folders()[name]) if path.stat().st_size < 12_000_000]
    assert len(contents) > 50
    images_seen = 0
    for number, data in enumerate(contents):
        alone = codecs.code([part(data)])
        assert decoded(alone, len(data)) == data
        native = find_native(data, len(data))
        images_seen += native is not None
        if number % 4 == 0:
            some = contents[number : number + 4]
            unit = units.pack([part(one) for one in some])
            assert units.unpack(unit) == b"".join(some)
        if native is not None:
            cut = native.offset + native.length // 3 + 1
            for begin, end in ((0, cut), (cut, len(data))):
                piece = Part(data[begin:end], begin, native)
                assert units.unpack(units.pack([piece])) == piece.data
    assert images_seen > 10


@pytest.mark.parametrize(
    ("name", "limit"), [("ct-ge", 0.26), ("mr-uih", 0.36), ("mr-ge", 0.19)]
)  # measured: 0.201, 0.249, 0.176 of only 69 small slices
def test_real_scans_become_as_small_as_promised(name: str, limit: float) -> None:
    """On a satellite line the bytes are the time."""
    folder = folders().get("scans", Path("nowhere")) / name
    if not folder.is_dir():
        pytest.skip("needs ../shared/data, or TEST_SCANS")
    contents = [path.read_bytes() for path in files_of(folder)]
    size = coded = 0
    while contents:
        batch: list[bytes] = []
        while contents and sum(map(len, batch)) + len(contents[0]) <= units.UNIT_BYTES:
            batch.append(contents.pop(0))
        size += sum(map(len, batch))
        coded += len(codecs.code([part(data) for data in batch]).data)

    assert coded < limit * size


# Made ones

SHAPES = st.builds(
    Pixels,
    rows=st.integers(1, 70),
    columns=st.integers(1, 90),
    frames=st.integers(1, 3),
    samples=st.sampled_from([1, 1, 3]),
    allocated=st.sampled_from([8, 16, 16]),
    stored=st.integers(1, 16),
    signed=st.booleans(),
    planar=st.booleans(),
    photometric=st.sampled_from(["MONOCHROME2", "RGB", "YBR_FULL", "PALETTE COLOR"]),
    syntax=st.sampled_from([EXPLICIT, EXPLICIT, IMPLICIT, BIG]),
    private=st.binary(max_size=40),
    trailing=st.binary(max_size=40),
)


@settings(max_examples=150, deadline=None)
@given(pixels=SHAPES, seed=st.integers(0, 2**32 - 1), kind=st.integers(0, 3), count=st.integers(1, 3))
@example(Pixels(64, 64, signed=True, stored=12), 1, 0, 3)
@example(Pixels(64, 64, stored=12), 1, 2, 2)
@example(Pixels(40, 50, samples=3, allocated=8, stored=8, planar=True, photometric="RGB", frames=2), 1, 0, 2)
def test_any_shape_comes_back_bit_for_bit(pixels: Pixels, seed: int, kind: int, count: int) -> None:
    """Also pixels that are not what the header says: noise, overlays in high bits, one octet too few."""
    lots = random.Random(seed)
    contents = []
    for n in range(count):
        fitting = Pixels(**{**vars(pixels), "stored": min(pixels.stored, pixels.allocated)})
        data = smooth(fitting, seed + n)
        if kind == 1:
            data = lots.randbytes(pixels.octets)
        if kind == 2:  # overlays: a bit above those that are stored
            high = bytes(n % 2 and lots.choice((0, 0x80)) for n in range(len(data)))
            data = bytes(a | b for a, b in zip(data, high, strict=True))
        if kind == 3:
            data = data[: max(1, len(data) - lots.randint(1, 300))]
        contents.append(made_file(fitting, data, f"2.25.{n}"))
    unit = units.pack([part(data) for data in contents])

    assert units.unpack(unit) == b"".join(contents)
    cut = lots.randint(1, len(contents[0]))
    native = find_native(contents[0], len(contents[0]))
    for begin, end in ((0, cut), (cut, len(contents[0]))):
        piece = Part(contents[0][begin:end], begin, native)
        assert units.unpack(units.pack([piece])) == piece.data


CODED = {
    "unsigned": Pixels(64, 64),
    "signed 12 of 16": Pixels(64, 64, stored=12, signed=True),
    "odd size": Pixels(63, 65, stored=11),
    "8 bits": Pixels(64, 64, allocated=8, stored=8),
    "implicit": Pixels(64, 64, syntax=IMPLICIT),
    "big endian": Pixels(64, 64, syntax=BIG),
    "colours": Pixels(64, 64, samples=3, allocated=8, stored=8, photometric="RGB"),
    "planes": Pixels(64, 64, samples=3, allocated=8, stored=8, planar=True, photometric="RGB", frames=2),
    "YBR": Pixels(64, 64, samples=3, allocated=8, stored=8, photometric="YBR_FULL"),
    "frames": Pixels(64, 64, frames=9, trailing=b"after the pixels"),
}


@pytest.mark.parametrize("name", CODED)
def test_native_pixels_are_coded_as_an_image(name: str) -> None:
    """And become smaller than zstd makes them."""
    pixels = CODED[name]
    contents = [made_file(pixels, smooth(pixels, n), f"2.25.{n}") for n in range(3)]
    unit = units.pack([part(data) for data in contents])
    (image,) = described(unit)
    by_zstd = units.pack([Part(data, 0, None) for data in contents])

    assert len(image[10]) == 3  # type: ignore[arg-type]  # one image of all three
    assert len(unit) < 0.85 * len(by_zstd)
    assert units.unpack(unit) == b"".join(contents)


def test_overlays_in_high_bits_are_set_apart() -> None:
    """They would make noise of a smooth image."""
    pixels = Pixels(128, 128, stored=12)
    values = np.frombuffer(smooth(pixels, 1), "<u2").copy()
    plain = len(units.pack([part(made_file(pixels, values.tobytes()))]))
    values[3000:9000] |= 0x8000
    data = made_file(pixels, values.tobytes())
    unit = units.pack([part(data)])

    assert described(unit)[0][6] == 12
    assert len(unit) < 1.1 * plain
    assert units.unpack(unit) == data


def test_slices_that_repeat_in_time_are_differences() -> None:
    """Functional MR is one volume after another."""
    pixels = Pixels(64, 64)
    lots = np.random.default_rng(3)
    places = [lots.integers(0, 4000, (64, 64)) for _ in range(4)]
    contents = [
        made_file(pixels, (places[n % 4] + lots.integers(0, 20, (64, 64))).astype("<u2").tobytes())
        for n in range(24)
    ]
    unit = units.pack([part(data) for data in contents])

    assert described(unit)[0][7] == 4 * 64
    assert len(unit) < 0.6 * sum(map(len, contents))
    assert units.unpack(unit) == b"".join(contents)


def test_headers_of_one_study_are_sent_once() -> None:
    """Small slices are mostly header."""
    private = random.Random(1).randbytes(9000)
    pixels = Pixels(16, 16, private=private)
    contents = [made_file(pixels, smooth(pixels, n), f"2.25.{n}") for n in range(50)]

    assert len(codecs.code([part(data) for data in contents]).data) < 9000 + 50 * 600


def test_screenshots_are_left_to_zstd() -> None:
    """Flat areas and letters repeat; JPEG-LS does not see that."""
    pixels = Pixels(256, 256, allocated=8, stored=8)
    letters = [bytes(random.Random(n).choices((0, 255), k=16)) for n in range(5)]
    line = b"".join(letters[n % 5] for n in range(16))
    data = made_file(pixels, line * 256)
    unit = units.pack([part(data)])

    assert described(unit) == []
    assert len(unit) < 0.02 * len(data)


def test_an_image_that_does_not_come_back_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken library costs size, not an image."""
    pixels = Pixels(64, 64)
    data = made_file(pixels, smooth(pixels, 1))
    honest = images.decode
    monkeypatch.setattr(images, "decode", lambda image, length: memoryview(bytes(length)))

    made = [codecs.code([part(data)]), codecs.code_next(codecs.PACK, part(data))]
    monkeypatch.setattr(images, "decode", honest)
    assert [one.codec for one in made] == [codecs.PACK, codecs.PACK]
    assert [described(one.data[4:]) for one in made] == [[], []]
    assert [decoded(one, len(data)) for one in made] == [data, data]


def test_a_codec_that_fails_costs_size_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a library raises: the study is kept."""
    pixels = Pixels(64, 64)
    data = made_file(pixels, smooth(pixels, 1))

    def failing(*_: object, **__: object) -> None:
        raise RuntimeError("a library that is not as it should be")

    monkeypatch.setattr(images, "encode", failing)
    assert decoded(codecs.code([part(data)]), len(data)) == data
    assert described(codecs.code([part(data)]).data[4:]) == []
    monkeypatch.setattr(units, "pack", failing)
    assert codecs.code([part(data)]) == codecs.Coded(codecs.STORED, data)


def test_a_machine_without_the_library_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps studies, and tells whoever asks it to open one what to do."""
    pixels = Pixels(64, 64)
    data = made_file(pixels, smooth(pixels, 1))
    coded = codecs.code([part(data)])
    monkeypatch.setitem(sys.modules, "imagecodecs", None)

    assert decoded(codecs.code([part(data)]), len(data)) == data
    with pytest.raises(CodecUnknown):
        decoded(coded, len(data))


# Damage


def test_a_corrupted_unit_is_noticed_or_comes_back_right() -> None:
    """Every octet of it: never other bytes without an error (the digest is the vault's last word)."""
    pixels = Pixels(24, 48, stored=12)
    contents = [made_file(pixels, smooth(pixels, n), f"2.25.{n}") for n in range(2)]
    whole = b"".join(contents)
    unit = units.pack([part(data) for data in contents])
    assert described(unit)
    noticed = other = 0
    for at in range(0, len(unit), 3):
        damaged = unit[:at] + bytes([unit[at] ^ (1 << at % 8)]) + unit[at + 1 :]
        try:
            made = units.unpack(damaged)
        except StoreDamaged:
            noticed += 1
            continue
        assert len(made) <= units.LARGEST_UNIT_BYTES
        other += made != whole
        assert hashlib.sha256(made).digest() != hashlib.sha256(whole).digest() or made == whole
    assert noticed > 20
    assert other > 20


def flipped(unit: bytes, place: int) -> bytes:
    return unit[:place] + bytes([unit[place] ^ 0x10]) + unit[place + 1 :]


def unseen(unit: bytes, whole: bytes) -> bool:
    """Say whether a damaged unit is unpacked to something else without an error."""
    try:
        return units.unpack(unit) != whole
    except StoreDamaged:
        return False


def test_a_study_whose_codec_stream_is_wrong_is_never_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that failed after the comparison, before the sealing: blobs are sound, what they hold is not."""
    pixels = Pixels(64, 64, stored=12)
    contents = [made_file(pixels, smooth(pixels, n), f"2.25.{n}") for n in range(2)]
    unit = units.pack([part(data) for data in contents])
    size, whole = len(unit), b"".join(contents)
    # Places where the codec itself notices nothing: only the digest of what was confirmed is left.
    silent = [at for at in range(0, size, 5) if unseen(flipped(unit, at), whole)]
    assert len(silent) > 6
    noticed = 0
    for place in [*silent[:: len(silent) // 6], *range(3, size, size // 12)]:

        def framed(unit: bytes, place: int = place) -> bytes:
            wrong = flipped(unit, place)
            return len(wrong).to_bytes(4, "big") + wrong

        monkeypatch.setattr(codecs, "_framed", framed)
        study = sealed(contents)
        for instance, data in zip(study.index.instances, contents, strict=True):
            got = b""
            try:
                for piece in study.read(instance):
                    got += piece
                assert got == data
            except StoreDamaged:
                noticed += 1
                assert len(got) < len(data)
    assert noticed > 12


def sealed(contents: list[bytes]) -> OpenStudy:
    """Seal a study, and open it."""
    vault = Vault(MemoryBlobStore(), os.urandom)
    instances = [
        Incoming(f"2.25.{n}", "1.2", "1.2", len(data), hashlib.sha256(data).digest(), partial(iter, [data]))
        for n, data in enumerate(contents)
    ]
    secret = bytes(range(32))
    public = bytes(PrivateKey(secret).public_key)
    kept = vault.keep_study("2.25.9", instances, {}, recipients=[public], mesh=MeshId(bytes(32)))
    return vault.open_study(kept.manifest, secret)


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.one_of(st.integers(0, 2**33), st.booleans(), st.binary(max_size=30)),
        lambda inner: st.lists(inner, max_size=14),
        max_leaves=40,
    )
)
def test_units_made_by_nobody_are_refused(value: object) -> None:
    """Whatever a broken node writes: an error of ours, soon, in little memory."""
    for unit in (cbor.encode(value), cbor.encode([1000, [value], b""]), cbor.encode([value, [], b"x"])):
        try:
            made = units.unpack(unit)
        except StoreDamaged:
            continue
        assert len(made) <= 1000


@pytest.mark.parametrize(
    ("place", "lie"),
    [(0, 3), (2, 0), (2, 65), (3, 2), (4, 5), (6, 16), (7, 1 << 30), (8, 1 << 16), (9, 0), (9, 1 << 23),
     (10, []), (10, [0, 5]), (11, b""), (11, b"\xff\xd8\xff"), (12, 5)],
)  # fmt: skip
def test_an_image_that_lies_is_refused(place: int, lie: object) -> None:
    """What it says of itself is checked before memory is given to it."""
    pixels = Pixels(64, 64)
    unit = cbor.decode(units.pack([part(made_file(pixels, smooth(pixels, 1)))]))
    unit[1][0][place] = lie

    with pytest.raises(StoreDamaged):
        units.unpack(cbor.encode(unit))


def test_a_frame_that_claims_more_than_it_should_is_refused() -> None:
    """A bomb is not unpacked."""
    rest = units._squeezed(bytes(100_000_000), 3)

    with pytest.raises(StoreDamaged):
        units.unpack(cbor.encode([1000, [], rest]))
    with pytest.raises(StoreDamaged):
        units.unpack(cbor.encode([100_000_000, [], rest]))
    with pytest.raises(StoreDamaged):
        b"".join(codecs.decode(codecs.PACK, BytesIO(b"\xff\xff\xff\xff"), 10))


# Old packs


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["name"]))
def test_old_packs_stay_readable(vector: dict[str, str]) -> None:
    """A study that comes back after a year is decoded by this program, too."""
    data = bytes.fromhex(vector["coded"])
    made = b"".join(codecs.decode(vector["codec"], BytesIO(data), int(vector["size"])))

    assert hashlib.sha256(made).hexdigest() == vector["sha256"]


def test_vectors_cover_what_is_ever_written() -> None:
    """A codec without a vector can be broken by an upgrade of a library, unseen."""
    seen = {vector["codec"] for vector in VECTORS}

    assert seen == set(codecs._DECODERS)
    with pytest.raises(CodecUnknown):
        b"".join(codecs.decode("jpeg-xx", BytesIO(b""), 0))


# Hints


def test_hints_are_found_behind_icons_and_private_data() -> None:
    """The largest value that fits is the image, not its icon."""
    pixels = Pixels(
        64, 65, stored=12, signed=True, private=b"\xe0\x7f\x10\x00OW\x00\x00\x10\x00\x00\x00" + b"i" * 20
    )
    data = made_file(pixels, smooth(pixels, 1))
    native = find_native(data, len(data))

    assert native is not None
    assert (native.rows, native.columns, native.length) == (64, 65, pixels.octets)
    assert (native.allocated, native.stored, native.signed, native.samples) == (16, 12, True, 1)


@given(st.binary(max_size=300), st.booleans())
def test_hints_of_anything_are_no_error(data: bytes, part10: bool) -> None:
    """They are looked for in bytes that nobody has checked."""
    if part10:
        meta = b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\0"
        data = bytes(128) + b"DICM" + meta + b"\xe0\x7f\x10\x00OW\0\0" + data
    assert find_native(data, len(data)) is None or part10


def test_the_comparison_sees_each_octet_wherever_pieces_and_parts_are_cut() -> None:
    data = bytes(range(1, 13))
    cuts = [0, 1, 4, 5, 12]
    parts = [units.Part(data[a:b], 0, None) for a, b in ((0, 5), (5, 5), (5, 6), (6, 12), (12, 12))]

    def same(octets: bytes) -> bool:
        view = memoryview(octets)
        ends = [*cuts[1:-1], len(octets)]
        return codecs._same(iter([view[a:b] for a, b in zip(cuts, ends, strict=False)]), parts)

    assert same(data)
    assert codecs._same(iter([memoryview(data)]), parts)
    assert not same(data[:-1]) and not same(data + b"\0")
    assert not any(same(data[:at] + b"\0" + data[at + 1 :]) for at in range(len(data)))
