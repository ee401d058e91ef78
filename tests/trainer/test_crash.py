"""Kills at chosen moments: the job goes on, ends once, and nothing is left behind."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from aimass.v1 import jobs_pb2 as pb
from aimass.v1.trainer_events_pb2 import TrainingSucceeded
from tests.support.house import House, databases, house, until
from tests.trainer.steps import ended, get, run_of, submit

LONG = pb.LightGbm(rounds=2500, leaves=4)  # some seconds
ROOT = Path(__file__).parents[2]


def children(pid: int) -> list[psutil.Process]:
    try:
        return [p for p in psutil.Process(pid).children() if "services.trainer.work" in " ".join(p.cmdline())]
    except psutil.Error:
        return []


def at_work(pid: int) -> list[psutil.Process]:
    """Children that have been there for a while: past their start, far from their end."""
    return [child for child in children(pid) if time.time() - child.create_time() > 0.8]


async def finished(running: House, job: pb.Job) -> pb.Job:
    """The job at its end; it must have succeeded, and told so once."""
    await ended(running, job.operation)
    found: pb.Job = await get(running, job.job)
    assert found.state == pb.JOB_STATE_SUCCEEDED, found.error
    run = await run_of(running, found)
    assert len({file.name for file in run.artifacts}) == len(run.artifacts) == 6
    await asyncio.sleep(0.3)
    told = await running.heard(TrainingSucceeded)
    assert [event.job.job for event in told] == [job.job]
    return found


async def test_a_killed_child_is_started_again(home: Path) -> None:
    async with house(home, "data", "trainer") as running:
        job = await submit(running, lightgbm=LONG)
        [child] = await until(lambda: at_work(os.getpid()))
        child.kill()

        await until(lambda: _waits_again(running, job.job))
        assert (await finished(running, job)).attempt == 2


async def _waits_again(running: House, job: str) -> bool:
    found = await get(running, job)
    return bool(found.attempt == 2 or found.error == "the training died")


@pytest.mark.parametrize("moment", ["starting", "training"])
async def test_a_killed_process_leaves_no_child_and_the_job_goes_on(home: Path, moment: str) -> None:
    async with house(home, "data", "trainer", AIMASS_TRAINER_WORKERS="0") as running:
        job = await submit(running, lightgbm=LONG)

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services", "data", "trainer"),
        cwd=ROOT,
        env={
            "AIMASS_HOME": str(home),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}:{ROOT}/sdk",
            **databases(home, ("data", "trainer")),
        },
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    look = children if moment == "starting" else at_work
    [child] = await until(lambda: look(process.pid), 20)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    await until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 5)

    async with house(home, "data", "trainer") as running:
        assert (await finished(running, job)).attempt == 2


async def test_a_stop_in_the_middle_is_taken_up_at_the_next_start(home: Path) -> None:
    async with house(home, "data", "trainer") as running:
        job = await submit(running, lightgbm=LONG)
        await until(lambda: at_work(os.getpid()))
    assert not children(os.getpid())

    async with house(home, "data", "trainer") as running:
        assert (await finished(running, job)).attempt == 2


async def test_the_trainer_waits_for_a_data_service_that_is_away(home: Path) -> None:
    """The queue is the trainer's own: a job that is in it outlives the data service."""
    async with house(home, "data", "trainer", AIMASS_TRAINER_WORKERS="0") as running:
        job = await submit(running)

    away = {"AIMASS_DISCOVERY_URL": "static:data=127.0.0.1:1"}
    async with house(home, "trainer", **away) as running:
        await until(lambda: _waits(running, job.job), 15)

    async with house(home, "data", "trainer") as running:
        await finished(running, job)


async def _waits(running: House, job: str) -> bool:
    found = await get(running, job)
    return bool(found.state == pb.JOB_STATE_RUNNING and found.stage == "waiting for the data service")
