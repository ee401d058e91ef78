"""What a process shares: work beside requests."""

import asyncio
import base64
import re
from pathlib import Path

import pytest

from services.kit import app
from services.kit.app import Runtime


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(["data"], {"AIMASS_HOME": str(tmp_path)})


async def test_a_task_that_loses_a_cancellation_does_not_keep_a_process_from_stopping(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app, "_PATIENCE", 0.05)
    lost, started = list[int](), asyncio.Event()

    async def stubborn() -> None:
        while len(lost) < 2:
            try:
                started.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost.append(1)
        await asyncio.Event().wait()

    task = runtime.spawn(stubborn())
    await started.wait()
    await runtime.stop_tasks()

    assert task.cancelled()
    assert len(re.findall(r"still running: \S+\.stubborn\n", caplog.text)) == 2


async def test_stopping_waits_for_the_end_of_every_task(runtime: Runtime) -> None:
    ended = list[str]()

    async def work(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(name)

    for name in ("a", "b"):
        runtime.spawn(work(name))
    await asyncio.sleep(0)
    await runtime.stop_tasks()
    await runtime.stop_tasks()
    assert sorted(ended) == ["a", "b"]


@pytest.mark.parametrize(("far", "key", "told"), [(True, False, True), (True, True, False), (False, False, False)])
async def test_who_keeps_things_plain_in_a_bucket_is_told_so(
    far: bool, key: bool, told: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    env = {"AIMASS_HOME": str(tmp_path)}
    if far:  # nobody is there, and nobody is asked
        env |= {"AIMASS_BLOBS_URL": "s3://bucket?endpoint=http://127.0.0.1:1&region=us-east-1"}
        env |= {"AIMASS_BLOBS_ACCESS_KEY": "someone", "AIMASS_BLOBS_SECRET_KEY": "something"}
    if key:
        env["AIMASS_SECRETS_KEY"] = base64.b64encode(bytes(range(32))).decode()
    runtime = Runtime(["data"], env)
    runtime.start_upkeep(lambda: None)
    await runtime.stop_tasks()

    assert ("lies there plain: AIMASS_SECRETS_KEY" in caplog.text) is told


async def test_work_that_fails_is_logged(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError("broken")

    await asyncio.wait([runtime.spawn(fail())])
    await asyncio.sleep(0)
    assert ".fail failed" in caplog.text
