"""One service's PostgreSQL database, to an archive and back: rows in COPY's text format, one file per table."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from services.kit.db import newest
from services.kit.db_postgresql_schema import finish
from services.kit.db_postgresql_tls import show
from services.kit.errors import Code, Failure, Unavailable
from services.kit.migrations import bring_up
from services.kit.tenancy import EVERYBODY
from services.kit.tls import Credentials

_MARK = "restored_from"  # a table that exists until the whole stack is restored
_REVISION = "alembic_version"
_SESSION = {
    "aimass.tenant": EVERYBODY,
    "client_encoding": "UTF8",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    # A restore that waits for a lock would block the running service behind it.
    "lock_timeout": "10s",
    "timezone": "UTC",
    "extra_float_digits": "1",
}
_OPTIONS = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "tcp_user_timeout": 30_000,
    "options": " ".join(f"-c {name}={value}" for name, value in _SESSION.items()),
}
_TABLES = text("""
    SELECT c.relname, array_agg(a.attname::text ORDER BY a.attnum)
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND a.attnum > 0
        AND NOT a.attisdropped AND a.attgenerated = ''
    GROUP BY c.relname ORDER BY c.relname
""")
_COUNTERS = text("SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = current_schema()")
Columns = dict[str, list[str]]


@contextmanager
def session(url: str, isolation: str, credentials: Credentials | None = None) -> Iterator[Connection]:
    """One connection and its transaction, which the caller commits. Raises unavailable, conflict for a lock."""
    engine = create_engine(url, poolclass=NullPool, connect_args=_OPTIONS, isolation_level=isolation)
    if credentials:
        show(engine, credentials)
    try:
        with engine.connect() as connection:
            yield connection
    except Exception as error:
        cause: Any = error.orig if isinstance(error, DBAPIError) else error
        if not isinstance(cause, engine.dialect.loaded_dbapi.Error):  # not the driver's: raised in the block
            raise
        if getattr(cause, "sqlstate", None) == "55P03":
            raise Failure(Code.CONFLICT, "a database is in use: stop the services") from error
        raise Unavailable(f"a database cannot be used: {str(cause).splitlines()[0]}") from error
    finally:
        engine.dispose()


def tables(connection: Connection) -> Columns:
    """The service's tables, with their columns in order."""
    found = {name: list(columns) for name, columns in connection.execute(_TABLES)}
    return {name: columns for name, columns in found.items() if name not in (_REVISION, _MARK)}


def counters(connection: Connection) -> dict[str, int]:
    """The last value of each sequence that has been used."""
    return {name: last for name, last in connection.execute(_COUNTERS) if last is not None}


def revision(connection: Connection) -> str:
    """The schema's revision; empty for an empty database."""
    there = connection.execute(text("SELECT to_regclass(:name)"), {"name": _REVISION}).scalar()
    found = connection.exec_driver_sql(f"SELECT version_num FROM {_REVISION}").scalar() if there else ""
    return str(found or "")


def dump(connection: Connection, table: str, columns: Iterable[str], out: BinaryIO) -> None:
    """Writes the rows of a table."""
    with _copy(connection, f"COPY {_target(table, columns)} TO STDOUT") as rows:
        for piece in rows:
            out.write(piece)


def load(connection: Connection, table: str, columns: Iterable[str], pieces: Iterable[bytes]) -> None:
    """Adds the rows that `dump` wrote."""
    with _copy(connection, f"COPY {_target(table, columns)} FROM STDIN") as rows:
        for piece in pieces:
            rows.write(piece)


def restored_from(connection: Connection) -> str:
    """The digest of the archive that this database was restored from, while the stack's restore is unfinished."""
    there = connection.execute(text("SELECT to_regclass(:name)"), {"name": _MARK}).scalar()
    return str(connection.exec_driver_sql(f"SELECT archive FROM {_MARK}").scalar()) if there else ""


def forget_restore(connection: Connection) -> None:
    """Drops the mark that `restored_from` reads."""
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {_MARK}")
    connection.commit()


def occupied(connection: Connection) -> str:
    """The name of a table with rows, except those that services write by starting and stopping; else empty."""
    for table in tables(connection):
        if table != "lease" and connection.exec_driver_sql(f'SELECT 1 FROM "{table}" LIMIT 1').first():
            return table
    return ""


class Filling:
    """Loads an archive's rows into an empty database, in the connection's transaction."""

    def __init__(self, connection: Connection, folder: Path, described: dict[str, Any]) -> None:
        """`folder` has the schema's migrations; `described` is what the archive says of this database."""
        self._connection, self._folder = connection, folder
        self._revision, self._tables, self._counters = described["revision"], described["tables"], described["counters"]

    def check(self) -> None:
        """Raises Failure when the rows do not fit: an unknown or another revision, or rows that are there."""
        if not list(self._folder.glob(f"{self._revision}_*.py")):
            raise Failure(Code.FAILED_PRECONDITION, f"needs a newer release: the archive has revision {self._revision}")
        if (there := revision(self._connection)) not in ("", self._revision):
            raise Failure(
                Code.FAILED_PRECONDITION,
                f"has revision {there}, the archive {self._revision}: drop it and create an empty one",
            )
        if table := occupied(self._connection):
            raise Failure(Code.ALREADY_EXISTS, f"is not empty: there are rows in {table}")

    def fill(self, pieces: Callable[[str], Iterable[bytes]], archive: str) -> None:
        """Loads every table, then migrates the schema to this release's. `pieces` gives the bytes of a table."""
        run = self._connection.exec_driver_sql
        bring_up(self._connection, self._folder, self._revision)
        finish(self._connection)
        if (there := tables(self._connection)) != self._tables:
            odd = sorted(table for table in there | self._tables if there.get(table) != self._tables.get(table))
            raise Failure(Code.FAILED_PRECONDITION, f"has another table {odd[0]} than the archive at {self._revision}")
        for table, columns in self._tables.items():
            # COPY FROM refuses row level security. The owner is exempt until it is forced again, before the commit.
            run(f'ALTER TABLE "{table}" NO FORCE ROW LEVEL SECURITY')
            run(f'DELETE FROM "{table}"')
            load(self._connection, table, columns, pieces(table))
        for name, last in self._counters.items():
            self._connection.execute(
                text("SELECT setval(CAST(:name AS regclass), :last)"), {"name": name, "last": last}
            )
        # Their owners are gone; fences must not start again.
        run("UPDATE lease SET owner = '', expire_time = clock_timestamp()")
        self._close(archive)

    def _close(self, archive: str) -> None:
        run = self._connection.exec_driver_sql
        for table, columns in self._tables.items():
            if "tenant" in columns:
                run(f'ALTER TABLE "{table}" FORCE ROW LEVEL SECURITY')
        if self._revision != newest(self._folder):
            bring_up(self._connection, self._folder)
        finish(self._connection)
        run(f"CREATE TABLE {_MARK} (archive text)")
        self._connection.execute(text(f"INSERT INTO {_MARK} VALUES (:archive)"), {"archive": archive})


def _target(table: str, columns: Iterable[str]) -> str:
    listed = '", "'.join(columns)
    return f'"{table}" ("{listed}")'


def _copy(connection: Connection, statement: str) -> Any:
    cursor: Any = connection.connection.cursor()
    return cursor.copy(statement)
