"""Keys that lie open: no node that opens patient data is made or run so, but in demonstrations."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.nodes import LocalNode, RealNode
from typer.testing import CliRunner

from node.cli.main import app
from node.config import Settings
from node.doctor import Level, examine
from node.home import Home
from node.keys import Keystore
from sync.bodies import Role

SENTENCE = "a sentence that only we know"


@pytest.fixture(autouse=True)
def _for_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLINICMESH_UNPROTECTED")


def command(*words: str, typed: str = "") -> tuple[int, str]:
    done = CliRunner().invoke(app, words, input=typed)
    return done.exit_code, " ".join(done.output.split())


def test_a_mesh_is_not_made_with_open_keys(tmp_path: Path) -> None:
    """Its first node opens every study; a script that forgets the passphrase must hear of it."""
    code, said = command("init", "--data", str(tmp_path))

    assert (code, "keys-unprotected" in said) == (1, True)
    assert not Home(tmp_path).is_member and not list(tmp_path.rglob("keystore"))


def test_a_mesh_is_made_with_a_passphrase_that_is_typed_or_waits_somewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cloud machine has its secret mounted; nobody types there."""
    typed = f"{SENTENCE}\n{SENTENCE}\n"
    assert command("init", "--passphrase", "--data", str(tmp_path / "typed"), typed=typed)[0] == 0
    assert command("init", "--passphrase", "--data", str(tmp_path / "x"), typed="short\nshort\n")[0] == 1
    secret = tmp_path / "secret"
    secret.write_text(SENTENCE)
    secret.chmod(0o600)
    monkeypatch.setenv("CLINICMESH_UNLOCK", f"file:{secret}")
    assert command("init", "--data", str(tmp_path / "mounted"))[0] == 0

    for name in ("typed", "mounted"):
        keystore = Keystore.load(tmp_path / name / "keys")
        assert keystore.protected and keystore.locked
        keystore.unlock(SENTENCE)


def test_a_demonstration_says_that_it_is_one(tmp_path: Path) -> None:
    """Without a passphrase, in so many words."""
    assert command("init", "--unprotected", "--data", str(tmp_path))[0] == 0
    assert not Keystore.load(tmp_path / "keys").protected


@pytest.mark.parametrize("waits", ["keyring", "file:no/such/file"])
def test_open_keys_wait_for_no_passphrase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: str
) -> None:
    """It said that the node starts locked, and then that it does not start."""
    assert command("init", "--unprotected", "--data", str(tmp_path))[0] == 0
    monkeypatch.setenv("CLINICMESH_UNLOCK", waits)
    code, said = command("run", "--data", str(tmp_path))

    assert (code, "keys-unprotected" in said, "starts locked" in said) == (1, True, False)
    assert said.index("`clinicmesh passphrase`, then `clinicmesh run --passphrase`") > 0


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[LocalNode]:
    with LocalNode(tmp_path / "cloud") as cloud:
        cloud.init()
        cloud.start()
        yield cloud


@pytest.mark.parametrize(
    ("roles", "runs"),
    [((Role.CARRY,), True), ((Role.CARRY, Role.FORWARD), False), ((Role.CARRY, Role.INGEST), False)],
    ids=["courier", "forwarder", "clinic"],
)
def test_only_who_opens_nothing_runs_with_open_keys(
    cloud: LocalNode, tmp_path: Path, roles: tuple[Role, ...], runs: bool
) -> None:
    """A courier starts by itself after a power cut, and a thief reads nothing on it."""
    said = cloud.ask("POST", "/api/v1/admin/invitations", {"roles": [role.value for role in roles]})
    with RealNode(tmp_path / "laptop", unprotected=False) as laptop:
        laptop.join(said["code"], cloud.mesh_address)
        assert _keys(laptop) is (Level.GOOD if runs else Level.BAD)
        if runs:
            laptop.start()
            return
        with pytest.raises(AssertionError):
            laptop.start()
        assert "keys-unprotected" in laptop.out.read_text()
        laptop.kill()

        Keystore.load(laptop.home.keys).protect(SENTENCE)
        assert _keys(laptop) is Level.GOOD
        laptop.start()
        assert laptop.get("/api/v1/status")["locked"]
        assert "clinicmesh unlock" in laptop.out.read_text()


def _keys(node: RealNode) -> Level:
    """Return what the doctor says of the keys."""
    found = examine(node.home, Settings.load(node.folder))
    return next(one.level for one in found if one.code == "keys")
