"""Work of every hour: once in each, and again when it failed."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from services.kit import hourly
from services.kit.errors import Unavailable
from tests.support.house import until

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Clock:
    """Time as the test says, and work that is counted."""

    def __init__(self) -> None:
        self.now, self.looks = NOON + timedelta(minutes=7), 0
        self.done: list[datetime] = []
        self.away = False

    def tell(self) -> datetime:
        self.looks += 1
        return self.now

    async def work(self, hour: datetime) -> None:
        if self.away:
            raise Unavailable("the database is away")
        self.done.append(hour)

    async def looked(self, times: int = 3) -> None:
        before = self.looks
        await until(lambda: self.looks >= before + times)


async def test_each_hour_has_its_work_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hourly, "_LOOK", 0.001)
    clock = Clock()
    task = asyncio.ensure_future(hourly.every_hour(clock.work, clock.tell))
    await clock.looked()
    clock.now += timedelta(minutes=52)
    await clock.looked()
    clock.now += timedelta(minutes=1)
    await clock.looked()
    task.cancel()

    assert clock.done == [NOON, NOON + timedelta(hours=1)]


async def test_what_fails_is_tried_again_in_its_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hourly, "_LOOK", 0.001)
    clock = Clock()
    clock.away = True
    task = asyncio.ensure_future(hourly.every_hour(clock.work, clock.tell))
    await clock.looked()
    clock.away = False
    await clock.looked()
    task.cancel()

    assert clock.done == [NOON]
