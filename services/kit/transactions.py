"""A transaction as it is asked for, and what a kind of database has to do for it."""

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


class Way(Enum):
    """What a transaction sees of those beside it, in PostgreSQL's words."""

    # As if it were alone: it may decide by what it reads.
    ALONE = "SERIALIZABLE"
    # One moment of the database; changes nothing.
    READING = "REPEATABLE READ READ ONLY"
    # Each statement its own moment: for statements that need nothing of each other, or lock what they read.
    EACH = "READ COMMITTED"
    # One statement, which is a transaction by itself: on tables that are no tenant's, of others it sees no row.
    ONE = ""


@dataclass
class Work(Generic[T]):
    """A transaction that is asked for, and how far it is."""

    do: Callable[[Connection], T]
    way: Way
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


_working: ContextVar["Work[Any] | None"] = ContextVar("work", default=None)


def working(work: Work[Any]) -> None:
    """Says which work the rest of this context does."""
    work.then.clear()
    _working.set(work)


def once_committed(tell: Callable[[], None]) -> None:
    """Does something when the transaction that is under way is committed, and not if it is not; at once if none is."""
    if work := _working.get():
        work.then.append(tell)
    else:
        tell()


class Kind(Protocol):
    """What a kind of database does in its own way."""

    engine: Engine
    threads: int

    def open(self) -> None:
        """Takes what no other process may have. Raises unavailable."""

    def migrating(self) -> AbstractContextManager[Connection]:
        """A transaction that changes the schema, one at a time."""

    def finish(self, connection: Connection) -> None:
        """Puts on the schema what every table must have; a second time changes nothing."""

    def connect(self, work: Work[Any]) -> AbstractContextManager[Connection]:
        """A connection for a transaction."""

    def pause(self, error: DBAPIError, work: Work[Any], tries: int) -> float | None:
        """Seconds until the work may be run again; None: it must not."""

    def named(self, error: DBAPIError, work: Work[Any] | None) -> Failure | None:
        """What a caller of work, or who opens the database, is told; None: a bug."""

    async def result(self, future: "asyncio.Future[T]", work: Work[T]) -> T:
        """What comes of work, or unavailable when nothing comes of it in time."""

    def close(self) -> None:
        """Closes the connections."""
