"""Work that goes on for ever begins again when it fails, later and later, and ends when it is over."""

import asyncio
from pathlib import Path

import pytest

from services.kit import lasting as module
from services.kit.app import Runtime
from services.kit.lasting import lasting
from tests.support.failing import Failing


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST", 0.001)


async def test_work_that_fails_begins_again_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    work = Failing(3)
    async with asyncio.timeout(10):
        await lasting(work)

    assert work.begun == 4
    said = [record for record in caplog.records if "begins again" in record.message]
    assert [record.args for record in said] == [(0.001,), (0.002,), (0.004,)]
    assert "nobody has foreseen it" in caplog.text


async def test_work_that_is_over_is_over() -> None:
    work = Failing(0)
    await lasting(work)

    assert work.begun == 1


async def test_pauses_are_bounded(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "_LONGEST", 0.002)
    async with asyncio.timeout(10):
        await lasting(Failing(5))

    said = [record.args for record in caplog.records if "begins again" in record.message]
    assert said == [(0.001,), *[(0.002,)] * 4]


async def test_work_that_is_cancelled_does_not_begin_again() -> None:
    begun = asyncio.Event()

    async def wait() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(lasting(wait))
    await begun.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_work_begins_again_where_what_it_waits_for_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    tries, over = 0, asyncio.get_running_loop().create_future()
    over.cancel()

    async def work() -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            await over

    async with asyncio.timeout(10):
        await lasting(work)

    assert tries == 3
    assert "begins again" in caplog.text


async def test_work_that_fails_when_it_is_cancelled_does_not_begin_again() -> None:
    begun, tries = asyncio.Event(), 0

    async def work() -> None:
        nonlocal tries
        tries += 1
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("a library says it in its own words") from None

    task = asyncio.ensure_future(lasting(work))
    await begun.wait()
    task.cancel()

    with pytest.raises(ConnectionError):
        await task
    assert tries == 1


async def test_what_a_process_keeps_up_begins_again(tmp_path: Path) -> None:
    runtime = Runtime(["data"], {"AIMASS_HOME": str(tmp_path)})
    work = Failing(1)

    async def looks() -> None:
        await work()

    runtime.keep_up(looks)
    async with asyncio.timeout(10):
        await work.done.wait()
    await runtime.stop_tasks()
