"""A consistent snapshot of a stack's six databases: every event is either still in its outbox or has had its effects.

First all consumers catch up, while events go on. Then the relays are paused for some seconds, while writes go on. When
the consumers have read all that was published, a snapshot of each database is opened. If nothing was published
meanwhile, each event that has left an outbox has been handled, so the bus need not be backed up.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from sqlalchemy import MetaData, text
from sqlalchemy.engine import Connection

from services.kit.errors import Failure, Unavailable
from services.kit.leases import Leases
from services.kit.outbox import PARTITIONS
from services.kit.space import Space
from services.kit.stack.copy_postgresql import session
from services.kit.stack.offsets_kafka import Offsets, counted
from services.kit.stack.settings import Stack
from services.kit.timestamps import uuid7
from services.kit.tls import Credentials

_NAMES = tuple(f"outbox/{number}" for number in range(PARTITIONS))
_LEASE = 10.0  # seconds until relays go on by themselves after a backup was killed
_PAUSE = 0.2
_LOGS = "logs "  # what `Offsets.behind` begins its sentence on the log centre with


@contextmanager
def snapshot(
    stack: Stack, asked: Offsets, seconds: float = 30.0, most: float = 300.0
) -> Iterator[Mapping[str, Connection]]:
    """A connection to each database, in a transaction that sees the snapshot. `asked` is of the stack's bus.

    Raises unavailable when consumers do not catch up: when the backlog has not shrunk for `seconds`, after `most`
    seconds in all, or when `seconds` do not suffice once the relays are paused.
    """
    with ExitStack() as seen:
        with _explained(stack.space), asked.asking() as offsets, ExitStack() as held:
            _caught_up(offsets, Patience(seconds, most))
            pauses = [held.enter_context(_paused(url, stack.credentials)) for url in stack.databases.values()]
            found = _rest(stack, seen, offsets, pauses, Patience(seconds, seconds))
        yield found


@contextmanager
def _explained(space: Space) -> Iterator[None]:
    """Adds to a failure of the log centre to read that its disk is full, where that is the cause."""
    try:
        yield
    except Unavailable as failure:
        try:
            space.check()
        except Failure as full:
            if failure.detail.startswith(_LOGS):
                raise Unavailable(f"{failure.detail}: {full.detail}") from None
        raise


class Patience:
    """How long a backlog is waited for: as long as it shrinks."""

    def __init__(self, seconds: float, most: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Up to `seconds` without shrinking, `most` in all."""
        self._seconds, self._clock, self._least = seconds, clock, float("inf")
        self._until, self._end = clock() + seconds, clock() + most

    def ended(self, left: int) -> bool:
        """Whether to give up, with `left` unread events."""
        now = self._clock()
        if 0 < left < self._least:
            self._least, self._until = left, now + self._seconds
        return now > min(self._until, self._end)


def _caught_up(offsets: Offsets, patience: Patience) -> None:
    """Waits until what is on the bus now has been read, telemetry as well, so that relays need not be paused for it."""
    ends = offsets.ends()
    while late := offsets.behind(ends):
        _wait(late, patience)


def _wait(late: Mapping[str, int], patience: Patience) -> None:
    if patience.ended(sum(late.values())):
        raise Unavailable(next(iter(late), "events are published without a pause"))
    time.sleep(_PAUSE)


def _rest(
    stack: Stack, seen: ExitStack, offsets: Offsets, pauses: "list[_Pause]", patience: Patience
) -> Mapping[str, Connection]:
    while True:
        for pause in pauses:
            pause.hold()
        ends = counted(offsets.ends())
        late = offsets.behind(ends)
        if not late:
            with ExitStack() as looks:
                found = {
                    service: looks.enter_context(_seen(url, stack.credentials))
                    for service, url in stack.databases.items()
                }
                if counted(offsets.ends()) == ends:
                    seen.push(looks.pop_all())
                    return found
        _wait(late, patience)


@contextmanager
def _seen(url: str, credentials: Credentials | None) -> Iterator[Connection]:
    with session(url, "REPEATABLE READ", credentials) as connection:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        connection.execute(text("SELECT 1 FROM lease LIMIT 1"))  # the first statement takes the snapshot
        yield connection


class _Pause:
    """Pauses the relays of one database by taking their leases."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._owner, self._leases = connection, f"backup-{uuid7()}", Leases(MetaData())

    def hold(self) -> None:
        self._leases.take(self._connection, _NAMES, self._owner, _LEASE, seize=True)
        self._connection.commit()

    def end(self) -> None:
        self._leases.free(self._connection, _NAMES, self._owner)
        self._connection.commit()


@contextmanager
def _paused(url: str, credentials: Credentials | None) -> Iterator[_Pause]:
    with session(url, "READ COMMITTED", credentials) as connection:
        pause = _Pause(connection)
        pause.hold()
        try:
            yield pause
        finally:
            pause.end()
