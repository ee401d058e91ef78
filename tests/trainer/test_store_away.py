"""A training whose store goes away is neither lost nor done again."""

import asyncio
from pathlib import Path

import pytest

from aimass.v1 import jobs_pb2 as pb
from aimass.v1.operations_pb2 import GetOperationRequest, Operation
from aimass.v1.operations_pb2_grpc import OperationsStub
from tests.support.house import House, house, until
from tests.support.storages import own_server, settings
from tests.trainer.conftest import fill
from tests.trainer.steps import ended, get, submit

pytestmark = pytest.mark.far
ONE = {"AIMASS_TRAINER_WORKERS": "1"}


async def stage(running: House, job: pb.Job) -> str:
    """Of the job's operation."""
    found = await get(running, job.job)
    return "" if found.state != pb.JOB_STATE_RUNNING else (await _operation(running, job)).stage


async def _operation(running: House, job: pb.Job) -> Operation:
    stub = running.stub(OperationsStub, "trainer")
    found: Operation = await stub.GetOperation(GetOperationRequest(operation=job.operation))
    return found


@pytest.mark.parametrize("begun", [False, True], ids=["before it is fetched", "before it is kept"])
async def test_a_training_waits_for_its_store(tmp_path: Path, begun: bool) -> None:
    with own_server(tmp_path / "s3") as server:
        env = settings("far", server.address)
        await fill(tmp_path / "home", **env)
        async with house(tmp_path / "home", "data", "trainer", **ONE, **env) as running:
            if not begun:
                server.kill()
            job = await submit(running)
            if begun:
                await until(lambda: stage(running, job))
                server.kill()
            await until(lambda: _waits(running, job))
            server.start()
            await ended(running, job.operation)
            done = await get(running, job.job)

            assert (done.state, done.attempt) == (pb.JOB_STATE_SUCCEEDED, 1), done.error


async def _waits(running: House, job: pb.Job) -> bool:
    await asyncio.sleep(0.1)
    return await stage(running, job) == "waiting for the store"
