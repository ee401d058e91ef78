"""The near worker against a queue that the test plays tricks on."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from aimass.v1 import jobs_pb2 as pb
from aimass.v1 import workers_pb2 as wpb
from services.kit.auth import Scope
from services.kit.blobs import Blobs, FolderBlobs
from services.kit.blobs_sealed import SealedBlobs
from services.kit.disk import on_disk
from services.kit.errors import Unavailable
from services.kit.process import Limits
from services.trainer.jobs import domain
from services.trainer.jobs.store import Store
from services.trainer.runner import Json, ProcessRunner, Progress, Runner
from services.trainer.workers.worker import Worker
from tests.support.house import House, house, until
from tests.trainer.steps import get, held, lease, submit, succeeds_at_once, trained, waits_for, workers

LONG = pb.LightGbm(rounds=10_000)


def children() -> list[psutil.Process]:
    try:
        return [p for p in psutil.Process(os.getpid()).children() if "services.trainer.work" in " ".join(p.cmdline())]
    except psutil.Error:  # one ended while it was looked at
        return []


@pytest.fixture
async def running(home: Path) -> AsyncIterator[House]:
    async with house(home, "data", "trainer", AIMASS_TRAINER_WORKERS="0") as found:
        yield found


class Filled(SealedBlobs):
    """A store whose disk is full until somebody makes room."""

    full = True

    async def adopt(self, tenant: str, file: Path) -> str:
        if self.full:
            with on_disk():
                await asyncio.to_thread(Path("/dev/full").write_bytes, b"x")
        return await super().adopt(tenant, file)


class Slow(FolderBlobs):
    """A store that says late that it cannot be reached."""

    asked = 0

    @contextlib.asynccontextmanager
    async def local(self, tenant: str, digest: str) -> AsyncIterator[Path]:
        self.asked += 1
        await asyncio.sleep(2)
        raise Unavailable("the object store does not answer in time")
        yield


class Lingering(ProcessRunner):
    """Takes its time to end what is cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.ending, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def run(self, request: Json, limits: Limits, progress: Progress) -> Json:
        self.begun.set()
        try:
            return await asyncio.Future()
        finally:
            self.ending.set()
            await self.ended.wait()


def worker(running: House, name: str = "mine", blobs: Blobs | None = None, runner: Runner | None = None) -> Worker:
    runtime = running.runtime

    def signed(service: str, scope: Scope, *permissions: str) -> Any:
        return runtime.as_service("trainer", service, scope, *permissions)

    chosen = blobs or runtime.blobs, runtime.mirrors, 0.1, 2, runner or ProcessRunner()
    return Worker(name, runtime.channel, signed, *chosen)


async def test_a_worker_whose_job_was_given_away_stops_and_says_nothing(running: House) -> None:
    database = running.runtime.apps["trainer"].database
    assert database
    working = asyncio.ensure_future(worker(running).run())
    job = await submit(running, lightgbm=LONG)
    await until(children)

    # Somebody decides that the worker is dead, and another one takes the job.
    store = Store(database, lambda *_: None)
    await store.change(Scope("acme"), job.job, domain.lost)
    taken = await lease(running, "other")
    assert (taken.job, taken.fence) == (job.job, 2)

    await until(lambda: not children(), 5)
    beat = await workers(running).Heartbeat(wpb.HeartbeatRequest(**held(taken), progress=0.1, stage="mine now"))
    assert not beat.cancel
    assert (await get(running, job.job)).attempt == 2
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_a_worker_that_is_stopped_while_a_job_that_was_given_away_ends_ends_as_well(running: House) -> None:
    database, runner = running.runtime.apps["trainer"].database, Lingering()
    assert database
    working = asyncio.ensure_future(worker(running, runner=runner).run())
    job = await submit(running, logistic_regression=pb.LogisticRegression())
    await runner.begun.wait()
    await Store(database, lambda *_: None).change(Scope("acme"), job.job, domain.lost)
    await runner.ending.wait()
    working.cancel()
    await asyncio.sleep(0)
    runner.ended.set()

    done, _ = await asyncio.wait([working], timeout=30)
    assert done
    assert working.cancelled()


async def test_a_worker_that_is_stopped_takes_its_child_along_and_goes_on_with_the_next_job(running: House) -> None:
    working = asyncio.ensure_future(worker(running).run())
    await submit(running, lightgbm=LONG)
    await until(children)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert not children()

    again = asyncio.ensure_future(worker(running, "again").run())
    job = await trained(running, logistic_regression=pb.LogisticRegression())
    assert job.state == pb.JOB_STATE_SUCCEEDED
    again.cancel()
    await asyncio.gather(again, return_exceptions=True)


async def test_a_worker_leaves_no_scratch_files(running: House) -> None:
    working = asyncio.ensure_future(worker(running).run())
    await trained(running, logistic_regression=pb.LogisticRegression())

    assert list(running.runtime.blobs.scratch("acme").iterdir()) == []
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_a_training_whose_disk_is_full_is_kept_when_there_is_room_again(running: House) -> None:
    storage = running.runtime.storage
    assert storage.keys
    blobs = Filled(FolderBlobs(running.runtime.home / "blobs"), storage.keys)
    working = asyncio.ensure_future(worker(running, blobs=blobs).run())
    job = await submit(running, logistic_regression=pb.LogisticRegression())
    await waits_for(running, job, "the store")
    blobs.full = False

    await succeeds_at_once(running, job)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    blobs.close()


async def test_a_training_waits_no_longer_than_it_may_take_for_a_store_that_is_slow_to_fail(running: House) -> None:
    blobs = Slow(running.runtime.home / "blobs")
    working = asyncio.ensure_future(worker(running, blobs=blobs).run())
    job = await trained(running, timeout_seconds=3)

    assert (job.state, job.error) == (pb.JOB_STATE_FAILED, "the store was away for 3 s")
    assert blobs.asked <= 2
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    blobs.close()


async def test_a_training_whose_graph_is_gone_fails_at_once(running: House) -> None:
    blobs = FolderBlobs(running.runtime.home / "elsewhere")  # where there is nothing
    working = asyncio.ensure_future(worker(running, blobs=blobs).run())
    job = await trained(running)

    assert (job.state, job.attempt) == (pb.JOB_STATE_FAILED, 1)
    assert job.error.startswith("there is no sha256:")
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    blobs.close()


async def test_two_workers_share_a_queue_and_no_job(running: House) -> None:
    working = [asyncio.ensure_future(worker(running, name).run()) for name in ("one", "two")]
    linear = {"logistic_regression": pb.LogisticRegression()}
    done = await asyncio.gather(*(trained(running, seed=seed, **linear) for seed in range(3)))

    assert [(job.state, job.attempt) for job in done] == [(pb.JOB_STATE_SUCCEEDED, 1)] * 3
    for task in working:
        task.cancel()
    await asyncio.gather(*working, return_exceptions=True)
