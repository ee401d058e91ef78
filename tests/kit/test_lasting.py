"""Work that goes on for ever begins again when it fails, later and later, and ends when it is over."""

import asyncio
from pathlib import Path

import pytest

from services.kit import lasting as module
from services.kit.app import Runtime
from services.kit.lasting import lasting


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST", 0.001)


class Work:
    """Fails so many times, and is over then."""

    def __init__(self, fails: int) -> None:
        self.fails, self.begun = fails, 0

    async def __call__(self) -> None:
        self.begun += 1
        if self.begun <= self.fails:
            raise KeyError("nobody has foreseen it")


async def test_work_that_fails_begins_again_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    work = Work(3)
    async with asyncio.timeout(10):
        await lasting(work)

    assert work.begun == 4
    said = [record for record in caplog.records if "begins again" in record.message]
    assert [record.args for record in said] == [(0.001,), (0.002,), (0.004,)]
    assert "nobody has foreseen it" in caplog.text


async def test_work_that_is_over_is_over() -> None:
    work = Work(0)
    await lasting(work)

    assert work.begun == 1


async def test_pauses_are_bounded(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "_LONGEST", 0.002)
    async with asyncio.timeout(10):
        await lasting(Work(5))

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


async def test_what_a_process_keeps_up_begins_again(tmp_path: Path) -> None:
    runtime = Runtime(["data"], {"AIMASS_HOME": str(tmp_path)})
    done, tries = asyncio.Event(), 0

    async def work() -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise KeyError("nobody has foreseen it")
        done.set()

    runtime.keep_up(work)
    async with asyncio.timeout(10):
        await done.wait()
    await runtime.stop_tasks()
