"""A database by URL: SQLite as it has to be set up, migrations, and one way in to read and one to write."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Generic, TypeVar

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import (
    URL,
    Connection,
    Double,
    Engine,
    cast,
    create_engine,
    event,
    extract,
    func,
    inspect,
    literal_column,
    make_url,
    select,
    text,
)
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.pool import ConnectionPoolEntry

from anymask.errors import DataError, InputError, MissingPackageError, OutputError

_CONNECTIONS = 16
_WAIT_SECONDS = 30.0
_TOGETHER = 32
"""The most pieces of work that are written in one transaction."""

_LOCK = 0x616E796D61736B
"""PostgreSQL's advisory lock that is held while tables are made, so that two processes that open it at once take
turns.
"""

T = TypeVar("T")


class DatabaseUnavailable(OutputError):
    """The database did not answer: it is down, the network is, or its disk is full. Trying again later may help."""


class Database:
    """Transactions on a database whose tables are made, or brought up to date, when it is opened.

    SQLite runs in WAL mode with full synchronisation: what was committed is on the disk, whatever becomes of the
    process. Its one writer at a time is chosen by a lock here, and among processes by SQLite itself.

    Raises:
        DataError: the database was made by a newer version, or is none of ours.
        InputError: the URL is none.
        MissingPackageError: its driver is missing.
        OutputError: it cannot be opened or written to.
    """

    def __init__(self, url: str | URL) -> None:
        self.url = checked_url(url)
        self._is_sqlite = self.url.get_backend_name() == "sqlite"
        self._writer = threading.Lock()
        self._queue = threading.Lock()
        self._waiting: list[_Waiting[Any]] = []
        self._has_leader = False
        self._engine = _engine(self.url) if self._is_sqlite else _served_engine(self.url)
        # SQLite's transactions see one state anyway.
        snapshot = {} if self._is_sqlite else {"isolation_level": "REPEATABLE READ"}
        self._snapshots = self._engine.execution_options(**snapshot)
        try:
            with self.writing() as connection:
                _migrate(connection, self._name)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a transaction that sees one state of the database throughout."""
        with self._said_plainly(), self._snapshots.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a transaction that writes; it is on the disk when the block ends, or undone if the block fails."""
        if not self._is_sqlite:
            with self._said_plainly(), self._engine.begin() as connection:
                yield connection
            return
        with self._writer, self._transaction() as connection:
            yield connection

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run work in a transaction and return its result once that is on the disk; if it fails it is undone.

        On SQLite what comes while another transaction is written goes together with the next, each in a savepoint: so
        the disk is waited for once, not for each.
        """
        if not self._is_sqlite:
            with self.writing() as connection:
                return work(connection)
        mine = _Waiting(work)
        with self._queue:
            self._waiting.append(mine)
            if not self._has_leader:
                self._has_leader = True
                mine.turn.set()
        mine.turn.wait()
        if not mine.is_done:  # this thread is the one that writes, for itself and for who came meanwhile
            self._lead()
        with self._said_plainly():
            return mine.result()

    def _lead(self) -> None:
        """Write what waits, and let the first that came afterwards write next."""
        with self._writer:
            with self._queue:
                batch, self._waiting = self._waiting[:_TOGETHER], self._waiting[_TOGETHER:]
            try:
                self._write_together(batch)
            finally:
                with self._queue:
                    self._has_leader = bool(self._waiting)
                    if self._waiting:
                        self._waiting[0].turn.set()

    def _write_together(self, batch: Sequence[_Waiting[Any]]) -> None:
        try:
            with self._transaction() as connection:
                for each in batch:
                    each.run(connection)
        except Exception as error:  # the disk is full: nothing of the transaction is there
            for each in batch:
                each.error = each.error or error
        for each in batch:
            each.is_done = True
            each.turn.set()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """Give SQLite's one transaction that writes; the writer's lock is held by the caller."""
        with self._said_plainly(), self._engine.connect() as connection:
            connection = connection.execution_options(writes=True)
            with connection.begin():
                yield connection

    def now(self, connection: Connection) -> float:
        """Return the database's own time, in seconds since 1970: the one clock that all workers share."""
        return float(connection.execute(select(_now(self._is_sqlite))).scalar_one())

    @property
    def skips_locked(self) -> bool:
        """Whether rows that another transaction holds can be passed over: on PostgreSQL."""
        return not self._is_sqlite

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @property
    def _name(self) -> str:
        return str(self.url.database if self._is_sqlite else self.url.render_as_string(hide_password=True))

    @contextmanager
    def _said_plainly(self) -> Iterator[None]:
        """Turn the database's own failures, such as a full disk, into OutputError."""
        try:
            yield
        except SQLAlchemyError as error:
            reason = getattr(error, "orig", None) or error
            kind = DatabaseUnavailable if _may_pass(error) else OutputError
            raise kind(f"{self._name}: the database does not answer ({' '.join(str(reason).split())})") from error


class _Waiting(Generic[T]):
    """Work that waits to be written, and what became of it."""

    def __init__(self, work: Callable[[Connection], T]) -> None:
        self._work = work
        self._results: list[T] = []
        self.error: Exception | None = None
        self.is_done = False
        self.turn = threading.Event()
        """Set when the work is done, or when its thread should do it."""

    def run(self, connection: Connection) -> None:
        """Do the work; if it fails, undo it alone."""
        try:
            with connection.begin_nested():
                self._results.append(self._work(connection))
        except Exception as error:
            self.error = error

    def result(self) -> T:
        """Return the result, or raise what the work raised."""
        if self.error is not None:
            raise self.error
        return self._results[0]


def sqlite_url(path: Path) -> URL:
    """Return the URL of an SQLite file."""
    return URL.create("sqlite", database=str(path))


def checked_url(url: str | URL) -> URL:
    """Return a URL of a kind of database that serves, with its driver; raises InputError."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InputError(f"{str(url)!r} is no URL of a database; postgresql://user@host/name is one") from error
    name = parsed.get_backend_name()
    if name not in ("sqlite", "postgresql"):
        raise InputError(f"{name}: projects are kept in sqlite or postgresql, in no other database")
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    try:
        parsed.get_dialect().import_dbapi()
    except (ImportError, NoSuchModuleError) as error:
        raise MissingPackageError(
            f"the driver of {parsed.drivername} is missing: pip install 'anymask[postgres]'"
        ) from error
    return parsed


def _may_pass(error: SQLAlchemyError) -> bool:
    """Whether a failure is the server's or the disk's, not the statement's."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return isinstance(error, OperationalError | InterfaceError)


def _now(is_sqlite: bool) -> Any:
    if is_sqlite:
        return literal_column("(julianday('now') - 2440587.5) * 86400.0")
    return cast(extract("epoch", func.clock_timestamp()), Double)


def _served_engine(url: URL) -> Engine:
    """Return an engine for a database with a server: a connection that broke is found out before it is used."""
    return create_engine(
        url,
        pool_pre_ping=True,
        pool_size=_CONNECTIONS,
        max_overflow=-1,
        isolation_level="READ COMMITTED",
        connect_args={"connect_timeout": 5},
    )


def _engine(url: URL) -> Engine:
    engine = create_engine(url, pool_size=_CONNECTIONS, max_overflow=-1, connect_args={"timeout": _WAIT_SECONDS})

    @event.listens_for(engine, "connect")
    def _set_up(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # the driver begins no transactions by itself
        cursor = connection.cursor()
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that reads first and writes later could find another writer in between, and would have to fail.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _migrate(connection: Connection, name: str) -> None:
    """Bring the tables up to date; raises DataError for a database of a newer version or of another program."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    with as_file(files("anymask.engine.store") / "migrations") as folder:
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        config.attributes["connection"] = connection
        found = set(inspect(connection).get_table_names())
        current = None
        if "alembic_version" in found:
            current = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        elif found:
            raise DataError(f"{name}: is a database, but no project of anymask")
        scripts = ScriptDirectory.from_config(config)
        try:
            if current is not None:
                scripts.get_revision(current)
        except CommandError as error:
            raise DataError(f"{name}: was made by a newer version of anymask; open it with that one") from error
        if current != scripts.get_current_head():
            command.upgrade(config, "head")


class Conflict(DataError):
    """A change was based on a revision that is no longer the current one; `revision` is."""

    def __init__(self, what: str, base_revision: int, revision: int) -> None:
        super().__init__(
            f"{what} is at revision {revision}, the change was made on revision {base_revision}: "
            "take the current state and make the change again"
        )
        self.revision = revision


RETRY_SECONDS = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0


def retry(
    call: Callable[[], T],
    *,
    seconds: float = RETRY_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> T:
    """Return what `call` returns, calling again for `seconds` while the database cannot be reached.

    A commit whose answer was lost is made twice then: `call` has to be one that counts once. Raises DatabaseUnavailable
    after that time, and whatever else `call` raises at once.
    """
    end, pause = clock() + seconds, _FIRST_PAUSE
    while True:
        try:
            return call()
        except DatabaseUnavailable:
            if clock() + pause > end:
                raise
        sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
