"""A database behind a service: one call, one transaction, in a thread of its own.

SQLite on a laptop, PostgreSQL in containers: the same code, another URL. A transaction sees the database as if no other
ran beside it. Where others do run beside it (PostgreSQL), one that cannot be fitted in between is run again, so the
work that is handed over must change nothing but the database.
"""

import asyncio
import itertools
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Column, ColumnElement, Dialect, MetaData, Table, and_, func, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import DateTime, String, TypeDecorator

from services.kit import tenancy
from services.kit.auth import Scope
from services.kit.db_sqlite import Sqlite
from services.kit.errors import Unavailable
from services.kit.transactions import Backend, Isolation, Once, Replay, Transaction, entered

if TYPE_CHECKING:
    from services.kit.tls import Credentials

__all__ = ["Database", "Once", "Replay", "UtcDateTime", "database_clock", "newest", "scoped", "upsert", "within"]
T = TypeVar("T")
_UNLUCKY = 4  # the try from which a transaction waits for its turn


class UtcDateTime(TypeDecorator[datetime]):
    """A time with zone UTC, also where the database forgets zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)) if value else None


def scoped(name: str, metadata: MetaData, *columns: Any) -> Table:
    """A table whose primary key begins with tenant and project."""
    first = [Column(part, String(63), primary_key=True) for part in ("tenant", "project")]
    return Table(name, metadata, *first, *columns)


def within(table: Table, scope: Scope) -> ColumnElement[bool]:
    """The condition that every statement on a scoped table carries."""
    return and_(table.c.tenant == scope.tenant, table.c.project == scope.project)


def upsert(connection: Connection, table: Table) -> Any:
    """An insert that can say what happens when a row is there already, in the words of this kind of database."""
    return import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert(table)


def database_clock(connection: Connection) -> datetime:
    """The database's time: all processes that lease see the same."""
    if connection.dialect.name == "sqlite":
        text = connection.execute(select(func.strftime("%Y-%m-%dT%H:%M:%f+00:00", "now"))).scalar_one()
        return datetime.fromisoformat(text)
    found: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    return found


class Database:
    """A pool of connections and the threads that use them."""

    def __init__(self, url: str, migrations: Path, threads: int = 8, credentials: "Credentials | None" = None) -> None:
        """Opens nothing yet; `start` does. `migrations` is the folder of the service's Alembic revisions.

        A server that the URL says TLS for is shown the certificate of `credentials`.
        """
        self.url, self._migrations, self.near = url, migrations, url.startswith("sqlite")
        self._backend: Backend = Sqlite(url) if self.near else _far(url, threads, credentials)
        self._turn = threading.Lock()  # transactions that met conflicts several times run one by one
        self._threads = ThreadPoolExecutor(self._backend.threads, thread_name_prefix="db")
        self.underway, self.threads = set[asyncio.Future[Any]](), self._backend.threads  # what runs or waits

    async def start(self) -> None:
        """Takes the file's lock and brings the schema up to date. Raises unavailable."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self._open)

    def _open(self) -> None:
        try:
            self._backend.open()
            if (behind := self._revision() != newest(self._migrations)) or not self.near:
                with self._backend.migrating() as connection:
                    if behind:
                        from services.kit.migrations import bring_up  # costs a quarter of a second; few starts need it

                        bring_up(connection, self._migrations)
                    self._backend.finish(connection)
        except DBAPIError as error:
            raise self._backend.failure_of(error, None) or error from error

    def _revision(self) -> str:
        try:
            with self._backend.engine.connect() as connection:
                return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or "")
        except DBAPIError:  # the table is not there: the kind of error differs by database
            return ""

    async def run(self, work: Callable[[Connection], T], once: Once | None = None) -> T:
        """Runs `work` in one transaction: commits on return, rolls back on raise. It may be run more than once.

        With `once`, its row is claimed before and settled after in the same transaction; raises Replay on a repeat,
        and unavailable with a delay when the database is away or too busy.
        """
        return await self._do(work, Isolation.SERIALIZABLE, once)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """The same for work that only reads: cheaper, and blocks nobody."""
        return await self._do(work, Isolation.SNAPSHOT)

    async def write(self, work: Callable[[Connection], T], once: Once | None = None) -> T:
        """The same as `run` for statements that need nothing of each other, or lock what they read."""
        return await self._do(work, Isolation.READ_COMMITTED, once)

    async def ask(self, work: Callable[[Connection], T]) -> T:
        """The same for one statement on a table that is no tenant's: a third of the price of a transaction."""
        return await self._do(work, Isolation.AUTOCOMMIT)

    async def recall(self, once: Once | None) -> None:
        """Raises Replay when a keyed call has had its effect: asked before checks of a world that moved on since."""
        if once:
            await self.ask(once.recall)

    async def _do(self, work: Callable[[Connection], T], isolation: Isolation, once: Once | None = None) -> T:
        asked, loop = Transaction(work, isolation, once, tenancy.current()), asyncio.get_running_loop()
        try:
            # A copy of the context: events of the transaction go on with the caller's trace.
            future = loop.run_in_executor(self._threads, copy_context().run, self._transact, asked)
        except RuntimeError:
            raise Unavailable("the database is closed") from None
        self.underway.add(future)
        future.add_done_callback(self.underway.discard)
        return await self._backend.result(future, asked)

    def _transact(self, transaction: Transaction[T]) -> T:
        transaction.begun = True
        with ExitStack() as turn:
            for tries in itertools.count(1):
                if tries == _UNLUCKY:
                    turn.enter_context(self._turn)
                try:
                    return self._attempt(transaction)
                except DBAPIError as error:
                    if (pause := self._backend.pause(error, transaction, tries)) is None:
                        if failure := self._backend.failure_of(error, transaction):
                            raise failure from error
                        raise
                time.sleep(pause)
        raise AssertionError

    def _attempt(self, transaction: Transaction[T]) -> T:
        transaction.sent = transaction.claimed = False
        entered(transaction)
        with self._backend.connect(transaction) as connection, connection.begin():
            if transaction.once:
                transaction.once.claim(connection)
                transaction.claimed = True
            result = transaction.do(connection)
            if transaction.once:
                transaction.once.settle(connection, result)
            if transaction.given_up:
                raise Unavailable("the caller no longer waits for it")
            transaction.sent = True
        transaction.committed()
        return result

    def close(self) -> None:
        """Waits for what runs, closes the connections, frees the file."""
        self._threads.shutdown()
        self._backend.close()


def _far(url: str, threads: int, credentials: "Credentials | None") -> Backend:
    from services.kit.db_postgresql import Postgresql

    return Postgresql(url, threads, credentials)


def newest(migrations: Path) -> str:
    """The last revision in a folder of files named NNNN_what.py."""
    found = [m.group(1) for path in migrations.glob("*.py") if (m := re.match(r"(\d{4})_", path.name))]
    return max(found, default="")
