"""SQLite: the database of a laptop."""

import asyncio
import fcntl
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, TypeVar

from sqlalchemy import create_engine, event
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import DBAPIError, OperationalError

from services.kit.errors import Code, Failure, Unavailable
from services.kit.transactions import Transaction

T = TypeVar("T")


class Sqlite:
    """One file, one connection, one thread, and a lock on the file."""

    threads = 1

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock: IO[str] | None = None
        self.engine = create_engine(url, connect_args={"check_same_thread": False}, hide_parameters=True)
        event.listen(self.engine, "connect", _tune_sqlite)
        event.listen(self.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))

    def open(self) -> None:
        if path := make_url(self._url).database:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._lock = open(f"{path}.lock", "w")  # noqa: SIM115 - held as long as the process lives
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise Unavailable(f"{path} is in use by another process") from None

    def migrating(self) -> AbstractContextManager[Connection]:
        return self.engine.begin()

    def finish(self, connection: Connection) -> None:
        """Nothing: who has the file has everybody's rows."""

    def connect(self, transaction: Transaction[Any]) -> AbstractContextManager[Connection]:
        return self.engine.connect()

    def pause(self, error: DBAPIError, transaction: Transaction[Any], tries: int) -> float | None:
        return None

    def failure_of(self, error: DBAPIError, transaction: Transaction[Any] | None) -> Failure | None:
        if not isinstance(error, OperationalError):
            return None
        if "full" in str(error.orig):
            return Failure(Code.STORAGE_FULL, "the disk is full")
        return Unavailable("the database cannot be reached", retry_after=1)

    async def result(self, future: "asyncio.Future[T]", transaction: Transaction[T]) -> T:
        return await future

    def close(self) -> None:
        self.engine.dispose()
        if self._lock:
            self._lock.close()


def _tune_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy begins transactions, not the driver
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
        connection.execute(f"PRAGMA {pragma}")
