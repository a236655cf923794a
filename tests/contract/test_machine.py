"""This machine: what the doctor sees, where a passphrase comes from, what is measured and handed on."""

import io
import json
import os
import shutil
import stat
import sys
import time
import zipfile
from pathlib import Path

import keyring
import keyring.backend
import pytest
from support.nodes import HandIn, LocalNode
from support.slices import made_slice
from typer.testing import CliRunner

from node import doctor, unlock
from node.cli.main import app
from node.config import Settings
from node.doctor import Level, examine, is_encrypted
from node.errors import BadSettings, Refused
from node.home import Home
from node.keys import Keystore

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
CANARY = "CANARY^MACHINE"


@pytest.fixture
def node(tmp_path: Path) -> LocalNode:
    made = LocalNode(tmp_path / "cloud")
    made.init()
    return made


def levels(home: Home, settings: Settings | None = None) -> dict[str, Level]:
    return {one.code: one.level for one in examine(home, settings or Settings())}


def run(*arguments: str, typed: str = "") -> tuple[int, str]:
    """Run a command of the command line; return its exit code and what it printed."""
    done = CliRunner().invoke(app, arguments, input=typed)
    return done.exit_code, done.output


# -- doctor ----------------------------------------------------------------------------------------


def test_the_doctor_looks_at_everything_and_changes_nothing(node: LocalNode) -> None:
    """Each finding says what to do, and the worst come first."""
    before = {path: path.read_bytes() for path in node.folder.rglob("*") if path.is_file()}

    found = examine(node.home, Settings.load(node.folder))

    assert {one.code for one in found} >= {
        *("disk", "swap", "permissions", "keys", "clock", "mesh", "certificate", "space", "database"),
        *("network", "firewall", "program"),
    }
    assert all(one.advice for one in found if one.level is Level.BAD)
    order = [Level.BAD, Level.WARN, Level.UNKNOWN, Level.GOOD]
    assert [order.index(one.level) for one in found] == sorted(order.index(one.level) for one in found)
    assert {path: path.read_bytes() for path in node.folder.rglob("*") if path.is_file()} == before


@posix
def test_a_folder_that_others_may_read_is_bad(node: LocalNode) -> None:
    """And the exit code says so to a script."""
    assert levels(node.home)["permissions"] is Level.GOOD
    node.folder.chmod(0o755)

    code, said = run("doctor", "--data", str(node.folder), "--json")

    assert code == 1
    assert {"code": "permissions", "level": "bad"}.items() <= json.loads(said)["findings"][0].items()


def test_the_doctor_sees_a_wrong_clock_a_full_disk_and_an_old_certificate(
    node: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a technician finds first on a laptop that was in a drawer."""
    assert {levels(node.home)[code] for code in ("clock", "space", "certificate")} == {Level.GOOD}
    assert levels(node.home, Settings(reserve_gb=1e6))["space"] is Level.BAD
    later = time.time_ns() + 900 * 86_400 * 10**9
    monkeypatch.setattr(doctor.time, "time_ns", lambda: later)
    assert levels(node.home)["certificate"] is Level.BAD
    monkeypatch.setattr(doctor.time, "time_ns", lambda: 978_307_200 * 10**9)  # 2001
    assert levels(node.home)["clock"] is Level.WARN


def test_a_damaged_database_is_told(node: LocalNode) -> None:
    """With what to do: nothing is lost with it that peers and files do not have."""
    node.home.database.write_bytes(b"SQLite format 3\0" + os.urandom(8000))

    assert levels(node.home)["database"] is Level.BAD


def test_an_encrypted_disk_is_told_from_a_plain_one(tmp_path: Path) -> None:
    """By what the kernel says of the device below the folder, and of all devices below that one."""
    number = tmp_path.stat().st_dev
    devices = tmp_path / "sys" / "dev" / "block"
    device = tmp_path / "sys" / "devices" / "dm-1"
    below = tmp_path / "sys" / "devices" / "dm-0"
    for folder in (devices, device / "slaves", device / "dm", below / "dm"):
        folder.mkdir(parents=True)
    (devices / f"{os.major(number)}:{os.minor(number)}").symlink_to(device)
    (device / "dm" / "uuid").write_text("LVM-abc\n")
    (device / "slaves" / "dm-0").symlink_to(below)

    (below / "dm" / "uuid").write_text("CRYPT-LUKS2-abc\n")
    if sys.platform.startswith("linux"):
        assert is_encrypted(tmp_path, tmp_path / "sys") is True
        (below / "dm" / "uuid").write_text("mpath-abc\n")
        assert is_encrypted(tmp_path, tmp_path / "sys") is False
        assert is_encrypted(tmp_path, tmp_path / "nothing") is None
    else:
        assert is_encrypted(tmp_path, tmp_path / "sys") is None


# -- passphrase ------------------------------------------------------------------------------------


def test_a_passphrase_is_set_changed_and_taken_away(node: LocalNode) -> None:
    """What opens patient data is on disk only under it; the wrong one opens nothing."""
    secret = Keystore.load(node.home.keys).intake_secret
    stored = node.home.keys / "keystore"
    assert secret in stored.read_bytes()

    assert run("passphrase", "--data", str(node.folder), typed="short\nshort\n")[0] == 1
    assert run("passphrase", "--data", str(node.folder), typed="a long sentence\na long sentence\n")[0] == 0
    assert secret not in stored.read_bytes()
    assert levels(node.home)["keys"] is Level.GOOD
    locked = Keystore.load(node.home.keys)
    with pytest.raises(Refused):
        locked.unlock("another sentence")
    locked.unlock("a long sentence")
    assert locked.intake_secret == secret
    assert run("passphrase", "--data", str(node.folder), "--remove", typed="a long sentence\n")[0] == 0
    assert Keystore.load(node.home.keys).intake_secret == secret


def test_a_node_that_was_started_without_it_is_unlocked_later(node: LocalNode) -> None:
    """Uploads are taken meanwhile; the examination goes on by itself."""
    run("passphrase", "--data", str(node.folder), typed="a long sentence\na long sentence\n")
    with node:
        node.start()
        assert node.get("/api/v1/status")["locked"]
        code, said = run("unlock", "--data", str(node.folder), typed="wrong sentence\n")
        assert (code, "passphrase-wrong" in said) == (1, True)
        assert run("unlock", "--data", str(node.folder), typed="a long sentence\n")[0] == 0
        assert not node.get("/api/v1/status")["locked"]
        assert HandIn(node, {"1.dcm": made_slice(3, 1)}).until_kept()


class MemoryKeyring(keyring.backend.KeyringBackend):
    """A store of secrets in memory, as the system's own behaves."""

    priority = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[(service, username)] = password

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[(service, username)]


def test_a_passphrase_comes_from_the_systems_store_a_credential_or_a_mounted_file(
    node: LocalNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that nobody sits at starts by itself, and its disk alone opens nothing."""
    store, before = MemoryKeyring(), keyring.get_keyring()
    keyring.set_keyring(store)
    try:
        given = ("passphrase", "--keyring", "--data", str(node.folder))
        assert run(*given, typed="a long sentence\na long sentence\n")[0] == 0
        name = Keystore.load(node.home.keys).node_id.hex()
        assert unlock.passphrase_from("keyring", name) == "a long sentence"
        with pytest.raises(BadSettings):
            unlock.passphrase_from("keyring", "another")
    finally:
        keyring.set_keyring(before)
    (tmp_path / "clinicmesh.passphrase").write_text("a long sentence\n")
    (tmp_path / "clinicmesh.passphrase").chmod(0o600)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    assert unlock.passphrase_from("systemd", name) == "a long sentence"
    assert unlock.passphrase_from(f"file:{tmp_path / 'clinicmesh.passphrase'}", name) == "a long sentence"


@pytest.mark.parametrize("source", ["systemd", "file:no/such/file", "somewhere", "keyring"])
def test_a_place_that_holds_no_passphrase_is_told(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node starts locked then; it must not stop."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(BadSettings):
        unlock.passphrase_from(source, "0" * 64)


@posix
def test_a_passphrase_that_everybody_may_read_is_none(tmp_path: Path) -> None:
    """It would protect nothing."""
    file = tmp_path / "secret"
    file.write_text("a long sentence")
    file.chmod(0o644)

    with pytest.raises(BadSettings):
        unlock.passphrase_from(f"file:{file}", "0" * 64)


# -- metrics and the bundle --------------------------------------------------------------------------


def test_metrics_are_told_on_the_loopback_port_only(node: LocalNode) -> None:
    """A watcher on this machine sees the queue; the network sees nothing."""
    with node:
        node.start()
        HandIn(node, {"1.dcm": made_slice(4, 1, name=CANARY)}).until_kept()
        with node.api() as client:
            here = client.get("/metrics", headers={"Authorization": ""})
            there = client.get(f"https://127.0.0.1:{node.people_port}/metrics")
        assert here.status_code == 200
        assert 'clinicmesh_studies{state="waiting"} 1.0' in here.text
        assert 'clinicmesh_undelivered_copies{copies="1"} 1.0' in here.text
        for name in ("oldest_waiting_seconds", "held_bytes", "free_bytes", "facts", "running_seconds"):
            assert f"clinicmesh_{name}" in here.text
        assert "CANARY" not in here.text
        assert there.status_code == 404


def test_the_support_bundle_has_what_helps_and_no_patient(node: LocalNode, tmp_path: Path) -> None:
    """It can be sent by mail, with the node running or not."""
    bundle = tmp_path / "bundle.zip"
    with node:
        node.start()
        impression = f"{CANARY} has pain"
        HandIn(node, {"1.dcm": made_slice(5, 1, name=CANARY)}, impression=impression).until_kept()
        shutil.copy(node.folder / "node.toml", tmp_path)
        code, said = run("support-bundle", str(bundle), "--data", str(node.folder), "--json")
    assert code == 0, said
    assert sys.platform == "win32" or stat.S_IMODE(bundle.stat().st_mode) == 0o600

    with zipfile.ZipFile(io.BytesIO(bundle.read_bytes())) as opened:
        parts = {name: opened.read(name) for name in opened.namelist()}
    assert {"doctor.json", "status.json", "studies.json", "metrics.txt", "admin-audit-verify.json"} <= set(
        parts
    )
    whole = b"".join(parts.values())
    assert b"CANARY" not in whole
    assert b"2.25.5" not in whole
    assert run("support-bundle", str(bundle), "--data", str(node.folder))[0] == 1
    assert run("support-bundle", str(tmp_path / "stopped.zip"), "--data", str(node.folder))[0] == 0
