"""A transaction as it is asked for, and what each kind of database has to do for it."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import Engine
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from services.kit.errors import Failure

T = TypeVar("T")


class Once(Protocol):
    """Makes an effect happen once: an idempotency key or an event. Its row is written with the effect."""

    def recall(self, connection: Connection) -> None:
        """Raises Replay when the effect has happened; changes nothing."""

    def claim(self, connection: Connection) -> None:
        """The same, and takes the effect on when it has not."""

    def settle(self, connection: Connection, result: Any) -> None:
        """Keeps the answer for repeats."""


class Replay(Exception):
    """The effect has happened before; `reply` is what was answered then."""

    def __init__(self, reply: bytes) -> None:
        super().__init__("replayed")
        self.reply = reply


class Isolation(Enum):
    """What a transaction sees of those beside it, in PostgreSQL's words."""

    # As if it were alone: it may decide by what it reads.
    SERIALIZABLE = "SERIALIZABLE"
    # One moment of the database; changes nothing.
    SNAPSHOT = "REPEATABLE READ READ ONLY"
    # Each statement its own moment: for statements that need nothing of each other, or lock what they read.
    READ_COMMITTED = "READ COMMITTED"
    # One statement, which is a transaction by itself: on tables that are no tenant's, of others it sees no row.
    AUTOCOMMIT = ""


@dataclass
class Transaction(Generic[T]):
    """A transaction that is asked for, and how far it is."""

    do: Callable[[Connection], T]
    isolation: Isolation
    once: Once | None
    tenant: str
    begun: bool = False  # a thread has taken it up
    claimed: bool = False  # `once` is not a repeat
    sent: bool = False  # the commit is on its way: its outcome is not known until it is answered
    then: list[Callable[[], None]] = field(default_factory=list)  # done once it is committed
    given_up: bool = False  # its caller has been told that it failed: it must not be committed

    def committed(self) -> None:
        """Does what was to be done then."""
        for do in self.then:
            do()


_current: ContextVar["Transaction[Any] | None"] = ContextVar("transaction", default=None)


def entered(transaction: Transaction[Any]) -> None:
    """Says which transaction the rest of this context runs."""
    transaction.then.clear()
    _current.set(transaction)


def once_committed(tell: Callable[[], None]) -> None:
    """Does something when the transaction that is under way is committed, and not if it is not; at once if none is."""
    if transaction := _current.get():
        transaction.then.append(tell)
    else:
        tell()


class Backend(Protocol):
    """What each kind of database does in its own way."""

    engine: Engine
    threads: int

    def open(self) -> None:
        """Takes what no other process may have. Raises unavailable."""

    def migrating(self) -> AbstractContextManager[Connection]:
        """A transaction that changes the schema, one at a time."""

    def finish(self, connection: Connection) -> None:
        """Puts on the schema what every table must have; a second time changes nothing."""

    def connect(self, transaction: Transaction[Any]) -> AbstractContextManager[Connection]:
        """A connection for a transaction."""

    def pause(self, error: DBAPIError, transaction: Transaction[Any], tries: int) -> float | None:
        """Seconds until it may be run again; None: it must not."""

    def failure_of(self, error: DBAPIError, transaction: Transaction[Any] | None) -> Failure | None:
        """What its caller, or who opens the database, is told; None: a bug."""

    async def result(self, future: "asyncio.Future[T]", transaction: Transaction[T]) -> T:
        """What comes of it, or unavailable when nothing does in time."""

    def close(self) -> None:
        """Closes the connections."""
