"""What is left of tenants whose keys are destroyed, dropped by each process: copies, rows, files that lay plain.

The store of keys says whose keys are destroyed, so a process that was away or was killed learns it as well. What was
dropped is dropped a second time with the next look, and again every hour: work that was under way may still have
written something.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from pathlib import Path

from sqlalchemy import MetaData, Table, delete, select, tuple_
from sqlalchemy.engine import Connection

from services.kit import tenancy
from services.kit.db import Database
from services.kit.disk import clear
from services.kit.errors import Failure

log = logging.getLogger(__name__)
Destroyed = Callable[[], Awaitable[Sequence[str]]]
Forget = Callable[[Sequence[str]], Awaitable[None]]
_LOOK = 60.0  # seconds between two looks into the store of keys
_AGAIN = 10.0  # seconds until what failed is tried again; doubled with each failure
_TWICE = 2  # times that each tenant is dropped between two full rounds
_LOOKS = 60  # looks between two full rounds, in which all tenants are dropped again
_ROWS = 5_000  # of one transaction: others must not wait for long


class Forgetting:
    """The task of a process that drops what it has of tenants whose keys are destroyed."""

    def __init__(self, destroyed: Destroyed) -> None:
        """`destroyed` lists the tenants whose keys are destroyed, in the whole installation."""
        self._destroyed = destroyed
        self._news: list[asyncio.Event] = []
        self._unanswered = ""  # why the last question failed; all parts ask, and only one logs it

    def wake(self) -> None:
        """Looks at once: keys have just been destroyed."""
        for news in self._news:
            news.set()

    async def run(self, forget: Iterable[Forget], every: float = _LOOK, again: float = _AGAIN) -> None:
        """Runs until it is cancelled. Each part is tried again by itself, so that one that is slow delays no other."""
        async with asyncio.TaskGroup() as group:
            for part in forget:
                self._news.append(news := asyncio.Event())
                group.create_task(self._drop(part, news, every, again))

    async def _drop(self, part: Forget, news: asyncio.Event, every: float, again: float) -> None:
        looks, pause, done = 0, again, Counter[str]()
        while True:
            news.clear()
            if looks % _LOOKS == 0:
                done.clear()
            looks += 1
            well = await self._look(part, done)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every if well else pause):
                    await news.wait()
            # A growing pause: each try drops all tenants again, not only the one that failed.
            pause = again if well else min(2 * pause, every)

    async def _look(self, part: Forget, done: Counter[str]) -> bool:
        found = list[str]()
        try:
            found = [name for name in await self._asked() if done[name] < _TWICE and tenancy.is_name(name)]
            if found:
                await part(found)
        except (Failure, OSError) as failure:
            if found:
                log.warning("what %s had is dropped later: %s", ", ".join(found), failure)
            return False
        except Exception:
            # A bug in one try must not end the task: the next one may succeed.
            log.exception("what %s had is dropped later", ", ".join(found))
            return False
        done.update(found)
        return True

    async def _asked(self) -> Sequence[str]:
        """The tenants whose keys are destroyed. Raises what the store of keys raises, which is logged once."""
        try:
            found = await self._destroyed()
        except (Failure, OSError) as failure:
            if self._unanswered != str(failure):
                self._unanswered = str(failure)
                log.warning("it cannot be seen whose keys are destroyed, and is asked again: %s", failure)
            raise
        self._unanswered = ""
        return found


def each(forget: Callable[[str], Awaitable[None]]) -> Forget:
    """Drops tenants one by one: tries all of them, then raises the last failure."""

    async def all_of(tenants: Sequence[str]) -> None:
        failed: Exception | None = None
        for tenant in tenants:
            try:
                await forget(tenant)
            except Exception as error:
                failed = error
        if failed:
            raise failed

    return all_of


def clearing(*folders: Path) -> Forget:
    """Drops the tenant's folder in each of these."""

    async def forget(tenant: str) -> None:
        for folder in folders:
            await asyncio.to_thread(clear, folder / tenant)

    return each(forget)


def dropping(db: Database, metadata: MetaData, kept: Collection[str] = ()) -> Forget:
    """Drops the tenant's rows from all tables that have a column `tenant`, except those whose names are `kept`."""
    tables = [table for table in metadata.tables.values() if "tenant" in table.c and table.name not in kept]

    async def forget(tenant: str) -> None:
        with tenancy.everybody():
            for table in tables:
                while await db.run(lambda connection, table=table: _drop_rows(connection, table, tenant)):  # type: ignore[misc]
                    pass

    return each(forget)


def _drop_rows(connection: Connection, table: Table, tenant: str) -> bool:
    """Whether there may be more."""
    key = list(table.primary_key)
    some = select(*key).where(table.c.tenant == tenant).limit(_ROWS)
    if connection.dialect.name == "sqlite":  # else the bytes stay in the file until others take their place
        connection.exec_driver_sql("PRAGMA secure_delete = ON")
    return connection.execute(delete(table).where(tuple_(*key).in_(some))).rowcount == _ROWS


async def nobody() -> Sequence[str]:
    """Where there are no keys, none are destroyed."""
    return ()


async def nothing(tenants: Sequence[str]) -> None:
    """Nothing is kept."""
