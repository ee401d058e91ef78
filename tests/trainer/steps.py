"""What tests of the trainer ask and await."""

import asyncio
from typing import Any

from google.protobuf.duration_pb2 import Duration

from aimass.v1 import jobs_pb2 as pb
from aimass.v1 import operations_pb2 as opb
from aimass.v1 import runs_pb2 as rpb
from aimass.v1 import workers_pb2 as wpb
from aimass.v1.features_pb2 import RowRange
from aimass.v1.jobs_pb2_grpc import JobsStub
from aimass.v1.operations_pb2_grpc import OperationsStub
from aimass.v1.runs_pb2_grpc import RunsStub
from aimass.v1.workers_pb2_grpc import WorkersStub
from tests.support.house import House, until

TREES = pb.LightGbm(rounds=20)


def spec(**values: Any) -> pb.JobSpec:
    """A job that takes a second; a boosted one unless another estimator is named."""
    ranges = {"train": RowRange(column="month", to=9), "evaluate": RowRange(column="month", **{"from": 10})}
    estimator = {} if "logistic_regression" in values else {"lightgbm": TREES}
    return pb.JobSpec(**{"model": "late", "feature_set": "late", **ranges, **estimator, **values})


async def submit(house: House, tenant: str = "acme", **values: Any) -> pb.Job:
    """Queues a job; returns it as it stands."""
    jobs = house.stub(JobsStub, "trainer", tenant=tenant)
    operation = await jobs.SubmitJob(pb.SubmitJobRequest(spec=spec(**values)))
    job: pb.Job = await get(house, operation.resource.removeprefix("jobs/"), tenant)
    return job


async def get(house: House, job: str, tenant: str = "acme") -> Any:
    return await house.stub(JobsStub, "trainer", tenant=tenant).GetJob(pb.GetJobRequest(job=job))


async def ended(house: House, operation: str, service: str = "trainer") -> Any:
    wait = opb.WaitOperationRequest(operation=operation, timeout=Duration(seconds=50))
    return await house.stub(OperationsStub, service).WaitOperation(wait, timeout=60)


async def trained(house: House, **values: Any) -> Any:
    """The job when it has ended."""
    job = await submit(house, **values)
    await ended(house, job.operation)
    return await get(house, job.job)


async def stage(house: House, job: pb.Job) -> str:
    """Of the job's operation; nothing while the job does not run."""
    if (await get(house, job.job)).state != pb.JOB_STATE_RUNNING:
        return ""
    asked = opb.GetOperationRequest(operation=job.operation)
    found: opb.Operation = await house.stub(OperationsStub, "trainer").GetOperation(asked)
    return found.stage


async def waits_for(house: House, job: pb.Job, what: str) -> None:
    """Returns when the job says that it waits for that."""

    async def waits() -> bool:
        await asyncio.sleep(0.1)
        return await stage(house, job) == f"waiting for {what}"

    await until(waits)


async def succeeds_at_once(house: House, job: pb.Job) -> None:
    """The job ends well, and needs no second attempt."""
    await ended(house, job.operation)
    done = await get(house, job.job)
    assert (done.state, done.attempt) == (pb.JOB_STATE_SUCCEEDED, 1), done.error


async def run_of(house: House, job: pb.Job) -> Any:
    return await house.stub(RunsStub, "trainer").GetRun(rpb.GetRunRequest(run=job.run))


async def download(house: House, run: str, name: str, offset: int = 0, tenant: str = "acme") -> bytes:
    request = rpb.DownloadRunArtifactRequest(run=run, artifact=name, offset=offset)
    stub = house.stub(RunsStub, "trainer", tenant=tenant)
    return b"".join([piece.data async for piece in stub.DownloadRunArtifact(request)])


def workers(house: House, tenant: str = "system") -> Any:
    return house.stub(WorkersStub, "trainer", tenant=tenant)


async def lease(house: House, worker: str = "w") -> Any:
    """The next job for a worker of the test's own, or None."""
    reply = await workers(house).LeaseJob(wpb.LeaseJobRequest(worker=worker, wait=Duration(nanos=10_000_000)))
    return reply.lease if reply.HasField("lease") else None


def held(lease: wpb.Lease) -> dict[str, Any]:
    """What a report on a lease carries."""
    return {"tenant": lease.tenant, "project": lease.project, "job": lease.job, "fence": lease.fence}
