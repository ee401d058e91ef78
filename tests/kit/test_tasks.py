"""Background tasks: restarted when they fail, later and later, run once in each hour, and ended."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from services.kit import tasks
from services.kit.app import Runtime
from services.kit.errors import Unavailable
from tests.support.failing import Failing
from tests.support.house import until

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_FIRST", 0.001)


def pause_in(record: logging.LogRecord) -> float:
    """The seconds that a line about a restart names last."""
    return float(record.message.split()[-2])


async def test_work_that_fails_is_restarted_and_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    work = Failing(3)
    async with asyncio.timeout(10):
        await tasks.keep_running(work)

    assert work.begun == 4
    records = [record for record in caplog.records if "is restarted" in record.message]
    assert [pause_in(record) for record in records] == [0.001, 0.002, 0.004]
    assert "nobody has foreseen it" in caplog.text


async def test_work_that_is_over_is_over() -> None:
    work = Failing(0)
    await tasks.keep_running(work)

    assert work.begun == 1


async def test_pauses_are_bounded(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(tasks, "_LONGEST", 0.002)
    async with asyncio.timeout(10):
        await tasks.keep_running(Failing(5))

    pauses = [pause_in(record) for record in caplog.records if "is restarted" in record.message]
    assert pauses == [0.001, *[0.002] * 4]


async def test_work_that_is_cancelled_is_not_restarted() -> None:
    begun = asyncio.Event()

    async def wait() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(tasks.keep_running(wait))
    await begun.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_work_is_restarted_where_what_it_awaits_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    tries, over = 0, asyncio.get_running_loop().create_future()
    over.cancel()

    async def work() -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            await over

    async with asyncio.timeout(10):
        await tasks.keep_running(work)

    assert tries == 3
    assert "is restarted" in caplog.text


async def test_work_that_fails_when_it_is_cancelled_is_not_restarted() -> None:
    begun, tries = asyncio.Event(), 0

    async def work() -> None:
        nonlocal tries
        tries += 1
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("a library says it in its own words") from None

    task = asyncio.ensure_future(tasks.keep_running(work))
    await begun.wait()
    task.cancel()

    with pytest.raises(ConnectionError):
        await task
    assert tries == 1


async def test_what_a_process_keeps_running_is_restarted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    runtime = Runtime(["data"], {"AIMASS_HOME": str(tmp_path)})
    work = Failing(1)

    async def looks() -> None:
        await work()

    runtime.keep_running(partial(partial(looks)))
    async with asyncio.timeout(10):
        await work.done.wait()
    await runtime.stop_tasks()

    (message,) = [record.message for record in caplog.records if "is restarted" in record.message]
    assert ".looks failed" in message, "by the name of its function"


async def for_ever(lost: int = 0) -> None:
    """Loses so many cancellations."""
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if not lost:
                raise
            lost -= 1


@pytest.mark.parametrize("lost", [0, 1, 3])
async def test_a_task_ends_also_where_cancellations_are_lost(lost: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_PATIENCE", 0.01)
    task = asyncio.ensure_future(for_ever(lost))
    await asyncio.sleep(0)

    async with asyncio.timeout(10):
        await tasks.cancel(task)
    assert task.cancelled()


async def test_what_a_task_failed_with_is_said() -> None:
    async def fails() -> None:
        raise ValueError("of its own")

    task = asyncio.ensure_future(fails())
    await asyncio.wait({task})

    with pytest.raises(ValueError, match="of its own"):
        await tasks.cancel(task)


async def test_no_task_has_ended() -> None:
    await tasks.cancel(None)


async def test_who_waits_for_the_end_can_be_cancelled() -> None:
    stubborn = asyncio.ensure_future(for_ever(1))
    await asyncio.sleep(0)
    waiting = asyncio.ensure_future(tasks.cancel(stubborn))
    for _ in range(3):
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})

    assert waiting.cancelled()
    await tasks.cancel(stubborn)


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
    monkeypatch.setattr(tasks, "_LOOK", 0.001)
    clock = Clock()
    task = asyncio.ensure_future(tasks.every_hour(clock.work, clock.tell))
    await clock.looked()
    clock.now += timedelta(minutes=52)
    await clock.looked()
    clock.now += timedelta(minutes=1)
    await clock.looked()
    task.cancel()

    assert clock.done == [NOON, NOON + timedelta(hours=1)]


async def test_what_fails_is_tried_again_in_its_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_LOOK", 0.001)
    clock = Clock()
    clock.away = True
    task = asyncio.ensure_future(tasks.every_hour(clock.work, clock.tell))
    await clock.looked()
    clock.away = False
    await clock.looked()
    task.cancel()

    assert clock.done == [NOON]
