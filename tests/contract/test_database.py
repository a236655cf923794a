"""The database keeps what it said it kept, forgets what it was told to forget, and fails cleanly."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlmodel import Session

from node.errors import DiskFull, StoreDamaged, StoreTooNew
from node.store.database import Database

EXPECTED = {
    "journal_mode": "wal",
    "synchronous": 2,
    "secure_delete": 1,
    "foreign_keys": 1,
    "busy_timeout": 5000,
    "trusted_schema": 0,
    "temp_store": 2,
}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "node.db")
    with made.write() as session:
        session.connection().exec_driver_sql("CREATE TABLE thing (n INTEGER PRIMARY KEY, what TEXT)")
    yield made
    made.close()


def add(session: Session, n: int, what: str = "") -> None:
    session.connection().execute(text("INSERT INTO thing VALUES (:n, :what)"), {"n": n, "what": what})


def numbers(database: Database) -> list[int]:
    with database.read() as session:
        return list(session.connection().execute(text("SELECT n FROM thing ORDER BY n")).scalars())


def pragma(session: Session, name: str) -> object:
    return session.connection().exec_driver_sql(f"PRAGMA {name}").scalar_one()


def test_every_connection_is_durable_and_erases_what_it_deletes(database: Database) -> None:
    """Defaults differ from build to build; a reader opened later must not be weaker than the first."""
    with database.write() as session:
        assert {name: pragma(session, name) for name in EXPECTED} == EXPECTED
        assert (pragma(session, "query_only"), pragma(session, "wal_autocheckpoint")) == (0, 1000)
    with database.read() as one, database.read() as two:
        for session in (one, two):
            assert {name: pragma(session, name) for name in EXPECTED} == EXPECTED
            assert (pragma(session, "query_only"), pragma(session, "wal_autocheckpoint")) == (1, 0)


def test_a_write_that_fails_leaves_nothing(database: Database) -> None:
    """A half-written entry would be announced, or swept, on half the truth."""
    with pytest.raises(KeyError), database.write() as session:
        add(session, 1)
        session.connection().exec_driver_sql("CREATE TABLE other (n INTEGER)")
        raise KeyError

    assert numbers(database) == []
    with database.read() as session:
        tables = session.connection().exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'")
        assert "other" not in tables.scalars().all()


def test_a_select_inside_a_write_sees_a_locked_database(database: Database, tmp_path: Path) -> None:
    """Read, then decide, then write must be one step: BEGIN IMMEDIATE comes before the first SELECT."""
    stranger = sqlite3.connect(tmp_path / "node.db", timeout=0, isolation_level=None)
    with database.write() as session:
        session.connection().exec_driver_sql("SELECT 1 FROM thing").all()
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            stranger.execute("BEGIN IMMEDIATE")
    stranger.execute("BEGIN IMMEDIATE")
    stranger.close()


def test_readers_cannot_write(database: Database) -> None:
    """One writer alone commits and checkpoints, or SQLite's WAL-reset bug may lose a commit."""
    with pytest.raises(DBAPIError, match="readonly"), database.read() as session:
        add(session, 1)

    assert numbers(database) == []


def test_a_reader_sees_one_moment(database: Database) -> None:
    """A queue page that mixes two moments shows studies that never were."""
    with database.read() as session:
        before = session.connection().exec_driver_sql("SELECT count(*) FROM thing").scalar_one()
        with database.write() as writing:
            add(writing, 1)
        after = session.connection().exec_driver_sql("SELECT count(*) FROM thing").scalar_one()

    assert (before, after, numbers(database)) == (0, 0, [1])


def test_deleted_rows_are_gone_from_every_file_after_a_checkpoint(database: Database, tmp_path: Path) -> None:
    """A sealed name that was erased must not lie in the database's free pages or its log."""
    marker = "canary-of-erasure"
    with database.write() as session:
        for n in range(200):
            add(session, n, marker * 50)
    assert marker.encode() in b"".join(p.read_bytes() for p in tmp_path.iterdir())
    assert database.checkpoint()
    with database.write() as session:
        session.connection().exec_driver_sql("DELETE FROM thing")

    assert database.checkpoint()

    assert marker.encode() not in b"".join(p.read_bytes() for p in tmp_path.iterdir())
    assert (tmp_path / "node.db-wal").stat().st_size == 0


def test_a_checkpoint_says_that_a_reader_was_in_the_way(database: Database) -> None:
    """Erasing is reported only when it happened."""
    with database.write() as session:
        add(session, 1)
        session.connection().exec_driver_sql("PRAGMA busy_timeout=10")
    with database.read() as session:
        session.connection().exec_driver_sql("SELECT * FROM thing").all()
        with database.write() as writing:
            add(writing, 2)
        assert not database.checkpoint()

    assert database.checkpoint()


def test_two_writers_take_turns(database: Database) -> None:
    """Jobs and requests write at the same time; none may fail for it."""

    def work(start: int) -> None:
        for n in range(start, start + 25):
            with database.write() as session:
                add(session, n)

    threads = [threading.Thread(target=work, args=(k * 100,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(numbers(database)) == 100


def test_a_thread_that_writes_inside_a_write_is_told(database: Database) -> None:
    """Waiting for oneself would stop the node for ever."""
    with database.write(), pytest.raises(RuntimeError), database.write():
        pass
    with database.write() as session:
        add(session, 1)

    assert numbers(database) == [1]


def test_a_full_disk_is_named_and_nothing_is_half_written(database: Database) -> None:
    """The operator is told to make room; the request may be tried again."""
    with database.write() as session:
        pages = pragma(session, "page_count")
        session.connection().exec_driver_sql(f"PRAGMA max_page_count={pages}")

    with pytest.raises(DiskFull) as refused, database.write() as session:
        add(session, 1)
        add(session, 2, "canary" * 10_000)

    assert "canary" not in str(refused.value) and refused.value.__cause__ is None
    assert numbers(database) == []


def test_an_error_does_not_quote_values(database: Database) -> None:
    """SQLAlchemy's errors show the parameters of a statement unless told otherwise."""
    with pytest.raises(IntegrityError) as refused, database.write() as session:
        add(session, 1)
        add(session, 1, "canary")

    assert "canary" not in str(refused.value)


def test_a_file_that_is_no_database_is_named_damaged(tmp_path: Path) -> None:
    """A torn file must stop the node, not be written over."""
    path = tmp_path / "node.db"
    path.write_bytes(b"not a database at all " * 100)

    with pytest.raises(StoreDamaged):
        Database(path)

    assert path.read_bytes().startswith(b"not a database")


def test_a_database_of_a_newer_program_is_left_alone(tmp_path: Path) -> None:
    """An old program would write rows that the new one cannot read."""
    path = tmp_path / "node.db"
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version=9999")
    raw.close()

    with pytest.raises(StoreTooNew):
        Database(path)


def test_the_files_are_for_the_owner_only(database: Database, tmp_path: Path) -> None:
    """Other accounts of a shared laptop must not copy the queue."""
    with database.write() as session:
        add(session, 1)

    if os.name == "posix":
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


CHILD = """
import sys
from pathlib import Path
from sqlalchemy import text
from node.store.database import Database
database = Database(Path(sys.argv[1]))
for n in range(100_000):
    with database.write() as session:
        session.connection().execute(text("INSERT INTO thing VALUES (:n, '')"), {"n": n})
    print(n, flush=True)
"""


def test_a_killed_process_loses_nothing_that_was_committed(database: Database, tmp_path: Path) -> None:
    """A laptop that is switched off keeps every acknowledged study."""
    database.close()
    path = tmp_path / "node.db"
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    said = [int(child.stdout.readline()) for _ in range(50)]
    child.send_signal(signal.SIGKILL)
    said += [int(line) for line in child.stdout if line.endswith("\n")]
    child.wait(10)
    child.stdout.close()

    reopened = Database(path)
    found = numbers(reopened)
    reopened.close()

    assert found[: len(said)] == said
    assert len(found) <= len(said) + 1
