"""One moment of a stack: six databases in which every event is either waiting or has had its effects.

A backlog is waited for while events go on. Then what relays publish is held back for some seconds, while writes go on.
When everybody has read all that was published, the databases are looked at; if meanwhile nothing more was published,
each event that left an outbox before that has been handled, and a bus that is empty afterwards loses nothing.
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
from services.kit.stack.place import Stack
from services.kit.timestamps import uuid7
from services.kit.tls import Credentials

_NAMES = tuple(f"outbox/{number}" for number in range(PARTITIONS))
_LEASE = 10.0  # seconds until relays go on by themselves when a backup has died
_PAUSE = 0.2
_LOGS = "logs "  # how a sentence on what the log centre has not read begins


@contextmanager
def moment(
    stack: Stack, asked: Offsets, seconds: float = 30.0, most: float = 300.0
) -> Iterator[Mapping[str, Connection]]:
    """A connection to each database that sees it as it was. `asked` is of the stack's bus.

    Raises unavailable when events do not come to rest: when for so many seconds nobody has come nearer to having read
    what is there, or at `most`; then within `seconds`, while nothing is published, all of it.
    """
    with ExitStack() as seen:
        with _explained(stack.space), asked.asking() as offsets, ExitStack() as held:
            _caught_up(offsets, Patience(seconds, most))
            pauses = [held.enter_context(_paused(url, stack.credentials)) for url in stack.databases.values()]
            found = _rest(stack, seen, offsets, pauses, Patience(seconds, seconds))
        yield found


@contextmanager
def _explained(space: Space) -> Iterator[None]:
    """Says beside that the log centre does not read why it does not, where its disk is as full as it may be."""
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
    """How long a backlog is waited for: for as long as it becomes less."""

    def __init__(self, seconds: float, most: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`seconds` in which it may stay the same, `most` in all."""
        self._seconds, self._clock, self._least = seconds, clock, float("inf")
        self._until, self._end = clock() + seconds, clock() + most

    def ended(self, left: int) -> bool:
        """Whether it is over, with so many events that somebody has not read."""
        now = self._clock()
        if 0 < left < self._least:
            self._least, self._until = left, now + self._seconds
        return now > min(self._until, self._end)


def _caught_up(offsets: Offsets, patience: Patience) -> None:
    """Waits for what is there by now, telemetry as well, before anybody's events are held back for it."""
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
        connection.execute(text("SELECT 1 FROM lease LIMIT 1"))  # the moment is that of the first question
        yield connection


class _Pause:
    """The leases of one database's relays, in our hands."""

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
