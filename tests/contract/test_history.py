"""What a node has taken in before: recognised by keyed digests, which say nothing to anybody else."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.errors import Locked
from node.store import history
from node.store.database import Database
from node.store.history import Had, History

KEY = bytes(range(32))
UID, ONE, OTHER = "2.25.100200300", "ab" * 32, "cd" * 32


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "state.db")
    yield opened
    opened.close()


def keep(database: Database, study: str, images: list[tuple[str, str]]) -> None:
    note = History(database, lambda: KEY).noting(study, images)
    with database.write() as session:
        note(session)


def test_the_same_images_are_recognised_and_others_under_their_number(database: Database) -> None:
    """A disc that is handed in twice is told; one that was edited in between is told otherwise."""
    keep(database, UID, [(f"{UID}.1", ONE), (f"{UID}.2", ONE)])
    had = History(database, lambda: KEY).had

    assert had(UID, [(f"{UID}.1", ONE), (f"{UID}.2", OTHER), (f"{UID}.3", ONE)]) == Had(same=1, other=1)
    assert had("2.25.1", [(f"{UID}.1", ONE)]) == Had()
    keep(database, UID, [(f"{UID}.2", OTHER)])
    assert had(UID, [(f"{UID}.2", ONE), (f"{UID}.2", OTHER)]) == Had(same=2)


def test_nothing_of_an_image_can_be_read_in_it(database: Database, tmp_path: Path) -> None:
    """A UID names a device and often a day; without the key the rows say how many images, no more."""
    keep(database, UID, [(f"{UID}.1", ONE)])
    other_node = History(database, lambda: bytes(32))
    database.close()
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())

    assert UID.encode() not in written
    assert bytes.fromhex(ONE) not in written
    assert ONE.encode() not in written
    assert other_node.had(UID, [(f"{UID}.1", ONE)]) == Had()


def test_a_locked_node_waits_with_it(database: Database) -> None:
    """To forget to recognise would be worse than to wait for the passphrase."""

    def locked() -> bytes:
        raise Locked("locked")

    with pytest.raises(Locked):
        History(database, locked).had(UID, [])


def test_the_oldest_are_forgotten_first(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that runs for ten years must not fill its disk with digests."""
    monkeypatch.setattr(history, "IMAGE_LIMIT", 5)
    for study in ("2.25.1", "2.25.2", "2.25.3"):
        keep(database, study, [(f"{study}.{n}", ONE) for n in range(2)])
    keep(database, "2.25.4", [(f"2.25.4.{n}", ONE) for n in range(7)])
    had = History(database, lambda: KEY).had

    assert [had(study, [(f"{study}.1", ONE)]).same for study in ("2.25.1", "2.25.2", "2.25.3", "2.25.4")] == [
        *(0, 0, 0, 1)
    ]
