"""The keystore and the recovery sheet."""

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import VerifyKey

from node.errors import BadSettings, Locked, Refused, StoreDamaged
from node.keys import FILE_NAME, Keystore, open_box, seal
from node.recovery import RecoverySheet
from sync import cbor
from sync.errors import CannotOpen

PASSPHRASE = "a donkey carries the studies"
SHEET = RecoverySheet(bytes(range(32)), bytes(range(100, 132)))


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("node") / "keys"
    Keystore.create(folder, can_open=True, passphrase=PASSPHRASE)
    return folder


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    Keystore.create(tmp_path / "keys", can_open=False, passphrase=None)
    return tmp_path / "keys"


def test_a_node_is_the_same_after_a_restart(protected: Path) -> None:
    """Another key would be another node, and its studies nobody's."""
    first, second = Keystore.load(protected), Keystore.load(protected)

    signed = first.node_key.sign(b"fact")
    VerifyKey(second.node_id).verify(signed)
    assert (first.token_key, first.web_key) == (second.token_key, second.web_key)
    assert first.intake_public == second.intake_public


def test_a_locked_node_takes_in_but_opens_nothing(protected: Path) -> None:
    """After a power cut at night uploads go on; a thief who starts the laptop sees nothing."""
    keystore = Keystore.load(protected)
    box = keystore.intake.seal(b"upload key")

    assert keystore.locked
    with pytest.raises(Locked):
        keystore.intake.open(box)
    with pytest.raises(Locked):
        _ = keystore.seal_secret
    with pytest.raises(Locked):
        _ = keystore.dedup_key


def test_the_passphrase_opens_what_was_sealed_before(protected: Path) -> None:
    """Nothing that came in while the node was locked may be lost."""
    box = Keystore.load(protected).intake.seal(b"upload key")
    keystore = Keystore.load(protected)
    keystore.unlock(PASSPHRASE)

    assert keystore.intake.open(box) == b"upload key"
    assert keystore.seal_public is not None and keystore.seal_secret is not None
    assert open_box(keystore.seal_secret, seal(keystore.seal_public, b"study key")) == b"study key"
    keystore.lock()
    assert keystore.locked


def test_a_wrong_passphrase_opens_nothing(protected: Path) -> None:
    """And says so, in words that lead to the right one."""
    keystore = Keystore.load(protected)

    with pytest.raises(Refused) as refused:
        keystore.unlock(PASSPHRASE + " ")
    assert refused.value.code == "passphrase-wrong"
    assert keystore.locked


def test_the_file_does_not_hold_the_secrets_in_the_open(protected: Path) -> None:
    """The stolen disk is the case that the passphrase is for."""
    keystore = Keystore.load(protected)
    keystore.unlock(PASSPHRASE)
    data = (protected / FILE_NAME).read_bytes()

    assert keystore.seal_secret is not None
    assert keystore.intake_public in data
    for secret in (keystore.seal_secret, keystore.intake_secret, keystore.dedup_key):
        assert secret not in data


def test_a_carrier_needs_nobody_at_its_start(plain: Path) -> None:
    """A courier's laptop is switched on by whoever drives."""
    keystore = Keystore.load(plain)
    keystore.lock()

    assert not keystore.locked
    assert keystore.intake.open(keystore.intake.seal(b"x")) == b"x"
    assert keystore.seal_public is None and keystore.seal_secret is None


def test_an_admitter_keeps_its_issuing_key(protected: Path) -> None:
    """It must issue certificates next year, with the root's paper in the safe."""
    Keystore.load(protected).keep_web_issuer_key(b"pkcs8")
    again = Keystore.load(protected)
    again.unlock(PASSPHRASE)

    assert again.web_issuer_key == b"pkcs8"
    assert again.locked is False
    assert "pkcs8" not in repr(again) + repr(again._open)


def test_only_the_owner_reads_the_keys(plain: Path) -> None:
    """Other users of the laptop are not the clinic."""
    assert stat.S_IMODE((plain / FILE_NAME).stat().st_mode) == 0o600
    assert stat.S_IMODE(plain.stat().st_mode) == 0o700

    (plain / FILE_NAME).chmod(0o640)
    with pytest.raises(BadSettings):
        Keystore.load(plain)


def test_keys_are_never_written_over(plain: Path) -> None:
    """A second `init` would make every upload of the first unreadable."""
    before = (plain / FILE_NAME).read_bytes()

    with pytest.raises(BadSettings):
        Keystore.create(plain, can_open=True, passphrase=None)
    assert (plain / FILE_NAME).read_bytes() == before


def test_no_keys_are_told_from_damaged_ones(plain: Path, tmp_path: Path) -> None:
    """One asks for `init`, the other for the backup."""
    with pytest.raises(BadSettings):
        Keystore.load(tmp_path / "nothing")

    data = (plain / FILE_NAME).read_bytes()
    for damaged in (b"", data[:-1], data + b"\0", cbor.encode({"v": 1}), cbor.encode([1])):
        (plain / FILE_NAME).write_bytes(damaged)
        with pytest.raises(StoreDamaged):
            Keystore.load(plain)


@pytest.mark.parametrize("part", ["intake", "sealing", "identity"])
def test_public_keys_cannot_be_swapped_beside_the_sealed_section(
    protected: Path, tmp_path: Path, part: str
) -> None:
    """Else a thief could have the owner unlock a node that seals to the thief."""
    value = cbor.decode((protected / FILE_NAME).read_bytes())
    value["open"][part] = bytes(range(32))
    forged = tmp_path / FILE_NAME
    forged.write_bytes(cbor.encode(value))
    forged.chmod(0o600)

    with pytest.raises(Refused):
        Keystore.load(tmp_path).unlock(PASSPHRASE)


def test_a_damaged_keystore_cannot_ask_for_all_memory(protected: Path, tmp_path: Path) -> None:
    """Unlocking must not bring the laptop down."""
    value = cbor.decode((protected / FILE_NAME).read_bytes())
    value["sealed"]["kdf"]["memory"] = 2**40
    forged = tmp_path / FILE_NAME
    forged.write_bytes(cbor.encode(value))
    forged.chmod(0o600)

    with pytest.raises(StoreDamaged):
        Keystore.load(tmp_path).unlock(PASSPHRASE)


def test_a_box_is_for_its_key_only(plain: Path) -> None:
    """And an altered one is refused, never opened to something else."""
    keys = Keystore.load(plain).intake
    box = keys.seal(b"key")

    with pytest.raises(CannotOpen):
        open_box(bytes(range(32)), box)
    with pytest.raises(CannotOpen):
        keys.open(box[:-1] + bytes([box[-1] ^ 1]))
    with pytest.raises(CannotOpen):
        keys.open(b"")


def test_the_sheet_brings_the_same_mesh_back() -> None:
    """The paper is all that is left after a fire."""
    again = RecoverySheet.parse("\n".join(SHEET.lines()))

    assert again == SHEET
    assert bytes(again.root_key) == bytes(SHEET.root_key)
    assert open_box(again.recovery_secret, seal(SHEET.recovery_public, b"study key")) == b"study key"
    assert again.web_root_key.private_numbers() == SHEET.web_root_key.private_numbers()


def test_what_a_sheet_stands_for_never_changes() -> None:
    """A sheet from today must work with the program of in ten years."""
    assert SHEET.lines()[0] == "A1 000G 40R4 0M30 ER1T"
    assert bytes(SHEET.root_key.verify_key).hex().startswith("89c2f39b4ea7643a")
    assert SHEET.recovery_public.hex().startswith("5a696bc4bc179355")
    assert SHEET.web_root_key.private_numbers().private_value >> 192 == 0xCAA81C93381FFD98


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_every_sheet_is_read_as_it_was_printed(root: bytes, recovery: bytes) -> None:
    """In lower case, with letters that look like digits, and without the spaces."""
    sheet = RecoverySheet(root, recovery)
    typed = "\n".join(sheet.lines()).lower().replace("0", "o").replace("1", "l").replace(" ", "-")
    labelled = "\n".join(
        f"{name} {line[3:]}" for name, line in zip(_names(), typed.splitlines(), strict=True)
    )

    assert RecoverySheet.parse("my sheet\n\n" + labelled) == sheet


def _names() -> list[str]:
    return [f"{block}{number}" for block in "ab" for number in range(1, 5)]


@given(line=st.integers(0, 7), place=st.integers(0, 15), other=st.integers(1, 31))
def test_one_wrong_character_is_found_and_its_line_named(line: int, place: int, other: int) -> None:
    """People mistype; the sheet must not make another key of it."""
    letters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    lines = SHEET.lines()
    name, typed = lines[line][:2], lines[line][3:].replace(" ", "")
    wrong = letters[(letters.index(typed[place]) + other) % 32]
    lines[line] = f"{name} {typed[:place]}{wrong}{typed[place + 1 :]}"

    with pytest.raises(Refused, match=f"Line {name} "):
        RecoverySheet.parse("\n".join(lines))


@given(line=st.integers(0, 7), place=st.integers(0, 14))
def test_two_swapped_neighbours_are_found(line: int, place: int) -> None:
    """The second most common slip of a typist."""
    lines = SHEET.lines()
    name, typed = lines[line][:2], lines[line][3:].replace(" ", "")
    swapped = typed[:place] + typed[place + 1] + typed[place] + typed[place + 2 :]
    if swapped == typed:
        return
    lines[line] = f"{name} {swapped}"

    with pytest.raises(Refused, match=f"Line {name} "):
        RecoverySheet.parse("\n".join(lines))


def test_lines_in_the_wrong_place_are_found() -> None:
    """Root and recovery must not be taken for each other."""
    lines = SHEET.lines()
    swapped = [f"A{line[1:]}" if line[0] == "B" else f"B{line[1:]}" for line in lines]

    with pytest.raises(Refused):
        RecoverySheet.parse("\n".join(swapped))
    with pytest.raises(Refused, match="Line B4 is missing"):
        RecoverySheet.parse("\n".join(lines[:-1]))


def test_nothing_prints_the_secrets() -> None:
    """A sheet in a log would be the mesh in a log."""
    assert SHEET.recovery_seed.hex() not in repr(SHEET)
    assert "recovery_seed" not in repr(SHEET)
