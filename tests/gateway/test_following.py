"""What a gateway holds of a table is read when it has changed, and only then."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from services.gateway.following import POLL, Following
from services.kit.errors import Unavailable
from tests.support.house import until


class Changing:
    """A table that another gateway changes."""

    def __init__(self, near: bool = False) -> None:
        self.revision, self.reads, self.held, self.away = 1, 0, 0, False
        self.slow = asyncio.Event()
        self.slow.set()
        self.following = Following("rows", near, self._revision, self._load)

    async def _revision(self) -> int:
        if self.away:
            raise Unavailable("the database is away")
        return self.revision

    async def _load(self) -> None:
        if self.away:
            raise Unavailable("the database is away")
        self.reads, found = self.reads + 1, self.revision
        await self.slow.wait()
        self.held = found

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        watching = asyncio.create_task(self.following.watch())
        try:
            yield
        finally:
            watching.cancel()


async def test_each_change_is_read_once_whether_an_event_or_a_poll_tells_of_it() -> None:
    table = Changing()
    await table.following.start()
    async with table.watched():
        await asyncio.sleep(2.5 * POLL)
        assert (table.reads, table.held) == (1, 1), "the start has read it"
        table.revision = 2
        await table.following.reload()
        assert (table.reads, table.held) == (2, 2), "an event came first"
        await asyncio.sleep(2.5 * POLL)
        assert table.reads == 2, "the poll found nothing else"
        table.revision = 3
        await until(lambda: table.held == 3)
        assert table.reads == 3, "no event came"


async def test_a_change_while_the_table_is_read_is_read_as_well() -> None:
    table = Changing()
    table.slow.clear()
    starting = asyncio.create_task(table.following.start())
    await until(lambda: table.reads == 1)
    table.revision = 2
    table.slow.set()
    await starting
    assert table.held == 1
    async with table.watched():
        await until(lambda: table.held == 2)


async def test_what_is_held_stays_while_the_database_is_away(caplog: pytest.LogCaptureFixture) -> None:
    table = Changing()
    await table.following.start()
    table.away, table.revision = True, 2
    with pytest.raises(Unavailable):
        await table.following.start()
    async with table.watched():
        await table.following.reload()
        await asyncio.sleep(2.5 * POLL)
        assert table.held == 1
        assert [record.getMessage() for record in caplog.records] == ["rows stay as they were: the database is away"], (
            "said once"
        )
        table.away = False
        await until(lambda: table.held == 2)


async def test_a_database_of_this_process_alone_is_not_asked_whether_it_has_changed() -> None:
    table = Changing(near=True)
    await table.following.start()
    async with asyncio.timeout(1):
        await table.following.watch()
    table.revision = 2
    await table.following.reload()
    assert (table.reads, table.held) == (2, 2)
