"""The database of a node: one SQLite file in WAL mode, one writing connection, many reading ones.

Called by the modules of `node.store` that turn rows into values. SQLite 3.7.0 to 3.51.2 may lose a commit
when two connections race a commit against a checkpoint (sqlite.org/wal.html#walresetbug); therefore
exactly one connection writes and checkpoints, guarded by a lock, and readers never do either.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool, StaticPool
from sqlmodel import Session, create_engine

from node.errors import DiskFull, StoreDamaged, StoreTooNew
from node.store.tables import Row

SCHEMA_VERSION = 1
BUSY_MS = 5_000

_EVERY_CONNECTION = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA secure_delete=ON",
    "PRAGMA foreign_keys=ON",
    f"PRAGMA busy_timeout={BUSY_MS}",
    "PRAGMA fullfsync=ON",  # macOS: fsync alone does not reach the disk; without effect elsewhere
    "PRAGMA checkpoint_fullfsync=ON",
    "PRAGMA trusted_schema=OFF",
    "PRAGMA temp_store=MEMORY",  # no row in a temporary file
)
_WRITER = ("PRAGMA wal_autocheckpoint=1000",)
_READER = ("PRAGMA query_only=ON", "PRAGMA wal_autocheckpoint=0")

_DAMAGE = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Database:
    """The SQLite file at `path`; created, with all tables of `node.store.tables`, if it is not there.

    Rows stay readable after their session has ended. Safe to use from many threads.

    Raises:
        StoreTooNew: a newer version of the program wrote the file.
        StoreDamaged: SQLite cannot read or write the file.
        DiskFull: there is no room; nothing was written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._writing_thread: int | None = None
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite gives -wal and -shm the same mode
        self._writer = create_engine(
            "sqlite://", creator=self._connect_writer, poolclass=StaticPool, hide_parameters=True
        )
        self._readers = create_engine(
            "sqlite://",
            creator=self._connect_reader,
            poolclass=QueuePool,
            pool_size=8,
            max_overflow=-1,
            hide_parameters=True,
        )
        _begin_with(self._writer, "BEGIN IMMEDIATE")
        _begin_with(self._readers, "BEGIN")
        try:
            self._prepare()
        except BaseException:
            self._writer.dispose()
            raise

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Give a session whose changes are durable when the block ends, or undone if it raises.

        One thread writes at a time; the others wait. Keep the block short, and do nothing slow inside.

        Raises:
            RuntimeError: this thread is already inside `write()`.
            DiskFull: nothing was written.
            StoreDamaged: SQLite reported an I/O error or a malformed file.
        """
        with self._alone(), _plain_errors(), _session(self._writer) as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Give a session that sees one moment of the database and cannot change it.

        Raises:
            StoreDamaged: SQLite reported an I/O error or a malformed file.
        """
        with _plain_errors(), _session(self._readers) as session:
            yield session

    def checkpoint(self) -> bool:
        """Move the write-ahead log into the file and empty it: then deleted rows are gone from the disk.

        Returns False if a reader was in the way: call it again later.
        """
        with self._alone(), _plain_errors():
            connection = self._writer.raw_connection()
            try:
                cursor = connection.cursor()
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                row = cursor.fetchone()
                cursor.close()
            finally:
                connection.close()
        return row is not None and row[0] == 0

    def close(self) -> None:
        """Close all connections, the writer last, so that it alone does the closing checkpoint."""
        with self._alone():
            self._readers.dispose()
            self._writer.dispose()

    def _prepare(self) -> None:
        with self.write() as session:
            connection = session.connection()
            found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            if found > SCHEMA_VERSION:
                raise StoreTooNew(f"the database has version {found}, this program knows {SCHEMA_VERSION}")
            Row.metadata.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA_VERSION}")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the writer's lock; a thread that has it already would wait for itself for ever."""
        if self._writing_thread == threading.get_ident():
            raise RuntimeError("this thread is writing already")
        with self._lock:
            self._writing_thread = threading.get_ident()
            try:
                yield
            finally:
                self._writing_thread = None

    def _connect_writer(self) -> sqlite3.Connection:
        return self._connect(_WRITER)

    def _connect_reader(self) -> sqlite3.Connection:
        return self._connect(_READER)

    def _connect(self, pragmas: tuple[str, ...]) -> sqlite3.Connection:
        # isolation_level=None: pysqlite would otherwise begin late, and not at all before a SELECT;
        # transactions are begun by the hook of _begin_with.
        connection = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000
        )
        try:
            for pragma in (*_EVERY_CONNECTION, *pragmas):
                connection.execute(pragma).close()
        except BaseException:
            connection.close()
            raise
        return connection


def _session(engine: Engine) -> Session:
    return Session(engine, expire_on_commit=False)


def _begin_with(engine: Engine, statement: str) -> None:
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    event.listen(engine, "begin", begin)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Turn SQLite's errors into the node's, without statements or values."""
    try:
        yield
    except DBAPIError as error:
        plain = _translated(error.orig)
        if plain is None:
            raise
        raise plain from None
    except sqlite3.Error as error:
        plain = _translated(error)
        if plain is None:
            raise
        raise plain from None


def _translated(error: BaseException | None) -> DiskFull | StoreDamaged | None:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return None
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_FULL:
        return DiskFull("no room for the database")
    if primary in _DAMAGE:
        return StoreDamaged(f"SQLite error {code}")
    return None
