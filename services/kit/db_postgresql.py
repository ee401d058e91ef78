"""PostgreSQL 15 or later: a database per service, shared by the service's processes. See decision 17."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, TransactionStatus
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import DataError, DBAPIError

from services.kit import db_postgresql_schema, tenancy
from services.kit.db_postgresql_pulse import Pulse
from services.kit.db_postgresql_tls import show
from services.kit.errors import Code, Failure, InvalidValue, Unavailable
from services.kit.transactions import Isolation, Transaction

if TYPE_CHECKING:
    from services.kit.tls import Credentials

T = TypeVar("T")
_BUSY = 0.8  # seconds that a transaction may wait for a thread and its connection
_PATIENCE = 0.25  # seconds of silence after which a server is asked whether it is there
_TRIES = 20
MIGRATION = 0x61696D617373  # the key of the advisory lock around changes of the schema
_SESSION = {
    "statement_timeout": "30s",
    "lock_timeout": "3s",
    # A process that stands still must not hold what others need.
    "idle_in_transaction_session_timeout": "10s",
    "synchronous_commit": "on",
    "timezone": "UTC",
    # A scan of a table conflicts with every write to it, a look into an index only with those near by. Without scans
    # estimates are so high that small queries would be compiled first.
    "enable_seqscan": "off",
    "random_page_cost": "1.1",
    "jit": "off",
}
_CONNECTION: dict[str, Any] = {
    # The driver begins nothing by itself: BEGIN and the tenant are one message.
    "autocommit": True,
    "connect_timeout": 2,
    # A server that has gone without a word is noticed within seconds.
    "keepalives": 1,
    "keepalives_idle": 3,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 4000,
    "options": " ".join(f"-c {name}={value}" for name, value in _SESSION.items()),
}
_BEGUN = "begun"  # where a connection keeps what the next transaction is, and whose
_FAITHFUL = ("40001", "40P01")  # the database has taken the transaction back, whatever it was about to do
_TAKEN = "23505"
_LOCKED = "55P03"


class Postgresql:
    """A pool with as many connections as threads: who has a thread has a connection."""

    def __init__(self, url: str, threads: int, credentials: "Credentials | None" = None) -> None:
        self.threads = threads
        where = make_url(url)
        self.engine = create_engine(
            where, connect_args=_CONNECTION, pool_size=threads, max_overflow=0, pool_timeout=_BUSY, hide_parameters=True
        )
        # The driver's own way around these two words costs as much as a statement, on either side of each transaction.
        self.engine.dialect.do_begin = _begin  # type: ignore[method-assign, assignment]
        self.engine.dialect.do_commit = _commit  # type: ignore[method-assign, assignment]
        if credentials:
            show(self.engine, credentials)
        self._pulse = Pulse(where.host or "", where.port or 5432)

    def open(self) -> None:
        """Takes nothing: others may use it too."""

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        # Who waited for the lock has to see what the one before has made.
        with self._connected(Isolation.READ_COMMITTED, tenancy.EVERYBODY) as connection, connection.begin():
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION})
            yield connection

    def finish(self, connection: Connection) -> None:
        db_postgresql_schema.finish(connection)

    def connect(self, transaction: Transaction[Any]) -> AbstractContextManager[Connection]:
        return self._connected(transaction.isolation, transaction.tenant)

    def _connected(self, isolation: Isolation, tenant: str) -> Connection:
        connection = self.engine.connect()
        connection.connection.info[_BEGUN] = isolation, tenant
        return connection

    def pause(self, error: DBAPIError, transaction: Transaction[Any], tries: int) -> float | None:
        state = _state(error)
        if transaction.given_up or tries >= _TRIES:
            return None
        if state in _FAITHFUL:
            return random.uniform(0, min(0.002 * 2**tries, 0.05))
        if state == _TAKEN and transaction.isolation is Isolation.SERIALIZABLE:
            # Somebody was quicker: run again, the transaction finds what that wrote. If it does not, it is a bug.
            return 0.0 if tries < 3 else None
        # A connection that broke before the commit was sent has committed nothing. After that nobody knows, and only
        # an effect that finds its own mark may be tried again.
        safe = not transaction.sent or transaction.once is not None or transaction.isolation is Isolation.SNAPSHOT
        return 0.0 if error.connection_invalidated and safe and tries < 2 else None

    def failure_of(self, error: DBAPIError, transaction: Transaction[Any] | None) -> Failure | None:
        state = _state(error)
        if state == _LOCKED and transaction and transaction.once and not transaction.claimed:
            return Failure(Code.IN_PROGRESS, "the same request is being worked on", retry_after=1)
        if state in (*_FAITHFUL, _LOCKED):
            return Unavailable("too many changes of the same thing at a time", retry_after=1)
        if state == "53100":
            return Failure(Code.STORAGE_FULL, "the disk is full")
        if state == "57014":
            return Unavailable("the database took too long", retry_after=1)
        if isinstance(error, DataError):
            return InvalidValue("a value is too long, too large or no text that can be kept")
        if not state or error.connection_invalidated or state[:2] in ("08", "28", "3D", "53", "57") or state == "25006":
            return Unavailable("the database cannot be reached", retry_after=1)
        return None

    async def result(self, future: "asyncio.Future[T]", transaction: Transaction[T]) -> T:
        loop = asyncio.get_running_loop()
        asked = loop.time()
        while not future.done():
            if self._pulse.missed and not await self._pulse.beats():
                raise self._given_up(future, transaction, "the database cannot be reached")
            try:
                await asyncio.wait({future}, timeout=_PATIENCE)
            except asyncio.CancelledError:
                future.cancel()
                raise
            if future.done():
                break
            if not transaction.begun and loop.time() - asked > _BUSY:
                raise self._given_up(future, transaction, "the database has too much to do")
            if not await self._pulse.beats():
                raise self._given_up(future, transaction, "the database cannot be reached")
        return future.result()

    def _given_up(self, future: "asyncio.Future[T]", transaction: Transaction[T], why: str) -> Failure:
        transaction.given_up = True
        future.cancel()
        return Unavailable(why, retry_after=1)

    def close(self) -> None:
        self.engine.dispose()


def _begin(connection: Any) -> None:
    """One message: the transaction, and whose it is."""
    isolation, tenant = connection.info.pop(_BEGUN, (Isolation.SERIALIZABLE, tenancy.EVERYBODY))
    if isolation is not Isolation.AUTOCOMMIT:
        tenant = tenant.replace("'", "''")
        _execute(connection, f"BEGIN ISOLATION LEVEL {isolation.value}; SET LOCAL aimass.tenant = '{tenant}'")


def _commit(connection: Any) -> None:
    if connection.driver_connection.pgconn.transaction_status != TransactionStatus.IDLE:
        _execute(connection, "COMMIT")


def _execute(connection: Any, statement: str) -> None:
    """Raises what the driver would."""
    result = connection.driver_connection.pgconn.exec_(statement.encode())
    if result.status != ExecStatus.COMMAND_OK:
        raise error_from_result(result)


def _state(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""
