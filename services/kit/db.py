"""A database behind a service: one call, one transaction, in a thread of its own.

SQLite on a laptop, PostgreSQL in containers: the same code, another URL.
"""

import asyncio
import fcntl
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from sqlalchemy import (
    Column,
    ColumnElement,
    DateTime,
    Dialect,
    MetaData,
    String,
    Table,
    TypeDecorator,
    and_,
    create_engine,
    event,
    text,
)
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import OperationalError

from services.kit.auth import Scope
from services.kit.errors import Code, Failure, Unavailable

T = TypeVar("T")


class Once(Protocol):
    """Makes an effect happen once: an idempotency key or an event. Its row is written with the effect."""

    def claim(self, connection: Connection) -> None:
        """Raises Replay when the effect has happened."""

    def settle(self, connection: Connection, result: Any) -> None:
        """Keeps the answer for repeats."""


class Replay(Exception):
    """The effect has happened before; `reply` is what was answered then."""

    def __init__(self, reply: bytes) -> None:
        super().__init__("replayed")
        self.reply = reply


class UtcDateTime(TypeDecorator[datetime]):
    """A time with zone UTC, also where the database forgets zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value and value.tzinfo is None else value


def scoped(name: str, metadata: MetaData, *columns: Any) -> Table:
    """A table whose primary key begins with tenant and project."""
    first = [Column(part, String(63), primary_key=True) for part in ("tenant", "project")]
    return Table(name, metadata, *first, *columns)


def within(table: Table, scope: Scope) -> ColumnElement[bool]:
    """The condition that every statement on a scoped table carries."""
    return and_(table.c.tenant == scope.tenant, table.c.project == scope.project)


class Database:
    """A pool of connections and the threads that use them. SQLite has one of each, and a lock on its file."""

    def __init__(self, url: str, migrations: Path, threads: int = 8) -> None:
        """Opens nothing yet; `start` does. `migrations` is the folder of the service's Alembic revisions."""
        self.url, self._migrations = url, migrations
        self.near = url.startswith("sqlite")
        self._lock: IO[str] | None = None
        options: dict[str, Any] = (
            {"connect_args": {"check_same_thread": False}} if self.near else {"pool_size": threads}
        )
        self._engine = create_engine(url, **options)
        if self.near:
            event.listen(self._engine, "connect", _tune_sqlite)
            event.listen(self._engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        self._threads = ThreadPoolExecutor(1 if self.near else threads, thread_name_prefix="db")

    async def start(self) -> None:
        """Takes the file's lock and brings the schema up to date."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self._open)

    def _open(self) -> None:
        if self.near and (path := make_url(self.url).database):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._lock = open(f"{path}.lock", "w")  # noqa: SIM115 - held as long as the process lives
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise Unavailable(f"{path} is in use by another process") from None
        if self._revision() != newest(self._migrations):
            from services.kit.migrations import upgrade  # Alembic costs a quarter of a second; most starts need none

            upgrade(self._engine, self._migrations)

    def _revision(self) -> str:
        try:
            with self._engine.connect() as connection:
                return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or "")
        except Exception as error:  # the table is not there: the kind of error differs by database
            if isinstance(error, Failure):
                raise
            return ""

    async def run(self, work: Callable[[Connection], T], once: Once | None = None) -> T:
        """Runs `work` in one transaction: commits on return, rolls back on raise.

        With `once`, its row is claimed before and settled after in the same transaction; raises Replay on a repeat.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._transact, work, once)

    def _transact(self, work: Callable[[Connection], T], once: Once | None) -> T:
        try:
            with self._engine.begin() as connection:
                if once:
                    once.claim(connection)
                result = work(connection)
                if once:
                    once.settle(connection, result)
                return result
        except OperationalError as error:
            raise _named(error) from error

    def close(self) -> None:
        """Waits for what runs, closes the connections, frees the file."""
        self._threads.shutdown()
        self._engine.dispose()
        if self._lock:
            self._lock.close()


def newest(migrations: Path) -> str:
    """The last revision in a folder of files named NNNN_what.py."""
    found = [m.group(1) for path in migrations.glob("*.py") if (m := re.match(r"(\d{4})_", path.name))]
    return max(found, default="")


def _named(error: OperationalError) -> Failure:
    if "full" in str(error.orig):
        return Failure(Code.STORAGE_FULL, "the disk is full")
    return Unavailable("the database cannot be reached", retry_after=1)


def _tune_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy begins transactions, not the driver
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
        connection.execute(f"PRAGMA {pragma}")
