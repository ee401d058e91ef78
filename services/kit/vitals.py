"""Gauges of a process: connections and their breakers, databases, outboxes, lag on the bus; and its readiness."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from datetime import datetime

from services.kit.app import App, Runtime
from services.kit.errors import Failure
from services.kit.member import Member
from services.kit.telemetry import gauge

log = logging.getLogger(__name__)
_EVERY = 15.0  # seconds between queries of databases; what is in memory is read at each scrape
_LOOK, _PATIENCE = 0.02, 3.0  # seconds: between looks whether a service is ready, and in all
Values = Iterator[tuple[Sequence[str], float]]


class Vitals:
    """The gauges of one process, registered from `show` to `hide`."""

    def __init__(self, runtime: Runtime, apps: Mapping[str, App]) -> None:
        self._runtime, self._apps = runtime, apps
        self._hide: list[Callable[[], None]] = []
        # By service: how many events wait in the outbox, and the time of the oldest.
        self._backlog: dict[str, tuple[int, datetime | None]] = {}
        self._lag: dict[str, int] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.started = False

    def ready(self, name: str) -> bool:
        """Whether a service of this process can answer now."""
        return self.started and not self._runtime.draining and self._apps[name].ready()

    async def until_ready(self, name: str) -> None:
        """Waits until a service can answer, at most three seconds."""
        for _ in range(int(_PATIENCE / _LOOK)):
            if self.started and self._apps[name].ready():
                return
            await asyncio.sleep(_LOOK)

    def all_ready(self) -> bool:
        """Whether all services can answer now."""
        return self.started and self._runtime.ready()

    def show(self) -> None:
        """Registers the gauges."""
        gauges: Sequence[tuple[str, str, Sequence[str], Callable[[], Values]]] = (
            ("instances", "Instances of other services, by state.", ("service", "state"), self._instances),
            ("calls_underway", "Calls to other services in flight.", ("service",), self._calls),
            ("database_calls", "Transactions that run or wait for a thread.", ("service",), self._database_calls),
            ("database_threads", "Transactions that can run at the same time.", ("service",), self._database_threads),
            ("outbox_events", "Events that wait in the outbox, counted up to 10000.", ("service",), self._depths),
            ("outbox_age_seconds", "Age of the oldest event in the outbox.", ("service",), self._ages),
            ("bus_lag_events", "Events that a consumer group has not committed.", ("group",), self._lags),
            ("tasks", "Tasks of the event loop.", (), self._tasks),
            ("ready", "Whether a service can answer: 1 or 0.", ("service",), self._readiness),
        )
        self._hide = [gauge(f"aimass_{name}", text, labels, read) for name, text, labels, read in gauges]

    def hide(self) -> None:
        """Unregisters the gauges."""
        while self._hide:
            self._hide.pop()()

    async def run(self) -> None:
        """Shows the gauges until it is cancelled; queries databases from time to time."""
        self._loop = asyncio.get_running_loop()
        self.show()
        try:
            while True:
                try:
                    await self.look()
                except Failure as failure:
                    log.info("gauges of databases are stale: %s", failure)
                await asyncio.sleep(_EVERY)
        finally:
            self.hide()

    async def look(self) -> None:
        """Queries the databases and the bus now. Raises unavailable, and then keeps the old values."""
        for name, app in self._apps.items():
            if app.schema and app.database:
                count, oldest = await app.database.read(app.schema.outbox.backlog)
                self._backlog[name] = count, _time(oldest)
        self._lag = await self._runtime.bus.lag()

    def _instances(self) -> Values:
        for pool in tuple(self._runtime.directory.pools):
            states = Counter(_state(member, pool.ejected) for member in tuple(pool.members))
            for state in ("closed", "half_open", "open", "away", "ill", "ejected"):
                yield (pool.service, state), states[state]

    def _calls(self) -> Values:
        for pool in tuple(self._runtime.directory.pools):
            yield (pool.service,), sum(member.load for member in tuple(pool.members))

    def _database_calls(self) -> Values:
        return (((name,), len(app.database.underway)) for name, app in self._apps.items() if app.database)

    def _database_threads(self) -> Values:
        return (((name,), app.database.threads) for name, app in self._apps.items() if app.database)

    def _tasks(self) -> Values:
        if self._loop:
            yield (), len(asyncio.all_tasks(self._loop))

    def _depths(self) -> Values:
        return (((name,), count) for name, (count, _) in tuple(self._backlog.items()))

    def _ages(self) -> Values:
        now = time.time()
        for name, (_, oldest) in tuple(self._backlog.items()):
            yield (name,), max(0.0, now - oldest.timestamp()) if oldest else 0.0

    def _lags(self) -> Values:
        return (((group,), count) for group, count in tuple(self._lag.items()))

    def _readiness(self) -> Values:
        return (((name,), float(self.ready(name))) for name in self._apps)


def _state(member: Member, ejected: Container[Member]) -> str:
    if not member.connected:
        return "away"
    if not member.well:
        return "ill"
    return "ejected" if member in ejected else member.breaker.shown.value


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
