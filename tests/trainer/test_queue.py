"""The queue with workers of the test's own: fences, fairness, silence, and what a completion must bring."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from aimass.v1 import jobs_pb2 as pb
from aimass.v1 import runs_pb2 as rpb
from aimass.v1 import workers_pb2 as wpb
from aimass.v1.jobs_pb2_grpc import JobsStub
from aimass.v1.runs_pb2_grpc import RunsStub
from aimass.v1.trainer_events_pb2 import TrainingSucceeded
from aimass.v1.workers_pb2_grpc import WorkersStub
from services.kit.auth import Principal, Scope
from services.kit.db import database_clock
from services.kit.errors import Code
from services.trainer.jobs import domain
from services.trainer.jobs.domain import Inputs, Job, JobSpec, LightGbm, RowRange
from services.trainer.jobs.store import Store
from tests.support.house import House, house, until
from tests.support.refused import refused
from tests.trainer.steps import ended, get, held, lease, run_of, submit, workers

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    home = Path(shutil.copytree(filled, tmp_path_factory.mktemp("queue") / "home"))
    quick = {"AIMASS_TRAINER_WORKERS": "0", "AIMASS_TRAINER_LEASE_SECONDS": "1"}
    async with house(home, "data", "trainer", **quick) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def empty(running: House) -> AsyncIterator[None]:
    """Leaves no job in the queue for the next test."""
    yield
    jobs = running.stub(JobsStub, "trainer")
    for job in (await jobs.ListJobs(pb.ListJobsRequest(page_size=1000))).jobs:
        await jobs.CancelJob(pb.CancelJobRequest(job=job.job))
    while found := await lease(running):
        await workers(running).FailJob(wpb.FailJobRequest(**held(found), cancelled=True))


async def leased(running: House, **values: Any) -> Any:
    await submit(running, **values)
    found = await lease(running)
    assert found
    return found


async def package(running: House) -> tuple[str, list[wpb.RunArtifact]]:
    """The digest of a manifest and the files that it names."""
    blobs, files = running.runtime.blobs, []
    for name, data in (("model.onnx", b"a model"), ("card.md", b"# late\n")):
        files.append(wpb.RunArtifact(name=name, digest=await blobs.put("acme", data), size=len(data)))
    content = {
        "files": [{"name": f.name, "digest": f.digest, "size": f.size, "media_type": ""} for f in files],
        "signature": {"inputs": [], "outputs": [], "batch_invariant": True, "checked_on": "here"},
        "environment": {},
        "metrics": {"auc": 0.7},
    }
    return await blobs.put("acme", orjson.dumps(content)), files


async def test_a_lease_says_everything_that_a_worker_needs(running: House) -> None:
    found = await leased(running, seed=3)

    assert (found.tenant, found.project, found.fence) == ("acme", "default", 1)
    assert (found.spec.seed, found.spec.data_set_version, found.spec.lightgbm.rounds) == (3, 1, 20)
    assert [column.name for column in found.inputs.columns] == ["carrier", "hour", "temp"]
    assert found.inputs.graph_digest.startswith("sha256:")
    assert (found.inputs.label, found.inputs.key, found.inputs.data_set) == ("late", "id", "flights")


async def test_a_queued_job_says_what_it_waits_for(running: House) -> None:
    first, second, third = [await submit(running) for _ in range(3)]

    assert [job.waiting_for for job in (first, second, third)] == [
        "a free worker",
        "one job before it",
        "2 jobs before it",
    ]
    assert (await get(running, first.job)).attempt == 0


async def test_nothing_to_do_is_an_empty_answer(running: House) -> None:
    assert await lease(running) is None


async def test_a_waiting_worker_gets_a_job_as_soon_as_it_is_there(running: House) -> None:
    request = wpb.LeaseJobRequest(worker="w")
    request.wait.FromSeconds(10)
    waiting = asyncio.ensure_future(workers(running).LeaseJob(request))
    await asyncio.sleep(0.05)
    job = await submit(running)

    assert (await asyncio.wait_for(waiting, 0.5)).lease.job == job.job


async def test_jobs_are_leased_oldest_first(running: House) -> None:
    jobs = [(await submit(running)).job for _ in range(3)]

    assert [(await lease(running)).job for _ in range(3)] == jobs


async def test_a_heartbeat_keeps_the_lease_and_shows_what_was_measured(running: House) -> None:
    found = await leased(running)
    points = [wpb.MetricPoint(metric="train_log_loss", step=step, value=1 / step) for step in (1, 2)]
    for _ in range(4):
        beat = wpb.HeartbeatRequest(**held(found), progress=0.5, stage="training", metrics=points)
        reply = await workers(running).Heartbeat(beat)
        await asyncio.sleep(0.4)
    job = await get(running, found.job)

    assert not reply.cancel
    assert (job.state, job.attempt, job.stage, job.progress) == (pb.JOB_STATE_RUNNING, 1, "training", 0.5)
    assert dict((await run_of(running, job)).metrics) == {"train_log_loss": 0.5}
    ask = rpb.ListMetricPointsRequest(run=job.run, metric="train_log_loss")
    listed = await running.stub(RunsStub, "trainer").ListMetricPoints(ask)
    assert [(point.step, point.value) for point in listed.points] == [(1, 1.0), (2, 0.5)]


async def test_a_silent_worker_loses_its_job_to_another_and_is_refused_afterwards(running: House) -> None:
    first = await leased(running)
    second = await until(lambda: lease(running, "other"), 5)

    assert (second.job, second.fence) == (first.job, first.fence + 1)
    digest, files = await package(running)
    late = [
        workers(running).Heartbeat(wpb.HeartbeatRequest(**held(first))),
        workers(running).FailJob(wpb.FailJobRequest(**held(first), reason="late")),
        workers(running).CompleteJob(wpb.CompleteJobRequest(**held(first), artifacts=files, manifest_digest=digest)),
    ]
    assert {(await refused(call)).code for call in late} == {Code.FENCE_STALE}
    assert (await get(running, first.job)).attempt == 2


async def test_a_job_whose_workers_all_fall_silent_fails_with_the_reason(running: House) -> None:
    found = await leased(running, max_attempts=1)
    operation = await ended(running, (await get(running, found.job)).operation)

    assert operation.error.detail == "the worker was lost (attempt 1 of 1)"
    assert (await get(running, found.job)).state == pb.JOB_STATE_FAILED


async def test_a_failed_attempt_is_tried_again_only_if_that_may_help(running: House) -> None:
    found = await leased(running)
    await workers(running).FailJob(wpb.FailJobRequest(**held(found), reason="died", retry=True))
    again = await get(running, found.job)
    assert (again.state, again.error) == (pb.JOB_STATE_QUEUED, "died")

    found = await lease(running)
    await workers(running).FailJob(wpb.FailJobRequest(**held(found), reason="no rows"))
    assert (await get(running, found.job)).state == pb.JOB_STATE_FAILED


async def test_a_completion_is_accepted_once(running: House) -> None:
    found = await leased(running)
    digest, files = await package(running)
    points = [wpb.MetricPoint(metric="auc", value=0.7)]
    request = wpb.CompleteJobRequest(**held(found), artifacts=files, metrics=points, manifest_digest=digest)
    for _ in range(3):
        await workers(running).CompleteJob(request)
    job = await get(running, found.job)
    run = await run_of(running, job)

    assert (job.state, job.manifest_digest, run.metrics["auc"]) == (pb.JOB_STATE_SUCCEEDED, digest, 0.7)
    assert [file.name for file in run.artifacts] == ["model.onnx", "card.md"]
    await asyncio.sleep(0.3)
    events = await running.heard(TrainingSucceeded)
    assert [event.job.job for event in events].count(found.job) == 1


async def test_a_completion_without_its_files_is_refused(running: House) -> None:
    found = await leased(running)
    digest, files = await package(running)
    gone = wpb.RunArtifact(name="model.onnx", digest=f"sha256:{'0' * 64}")
    wrong = [
        wpb.CompleteJobRequest(**held(found), artifacts=[gone], manifest_digest=digest),
        wpb.CompleteJobRequest(**held(found), artifacts=files, manifest_digest=gone.digest),
        wpb.CompleteJobRequest(**held(found), artifacts=files, manifest_digest=files[0].digest),
        wpb.CompleteJobRequest(**held(found), artifacts=files, manifest_digest="../../etc"),
    ]

    assert {(await refused(workers(running).CompleteJob(call))).code for call in wrong} == {Code.INVALID_VALUE}
    assert (await get(running, found.job)).state == pb.JOB_STATE_RUNNING


async def test_a_cancelled_queued_job_never_reaches_a_worker(running: House) -> None:
    job = await submit(running)
    jobs = running.stub(JobsStub, "trainer")
    first = await jobs.CancelJob(pb.CancelJobRequest(job=job.job))

    assert first.state == pb.JOB_STATE_CANCELLED
    assert await jobs.CancelJob(pb.CancelJobRequest(job=job.job)) == first
    assert await lease(running) is None


async def test_a_running_worker_hears_of_the_wish_to_cancel(running: House) -> None:
    found = await leased(running)
    await running.stub(JobsStub, "trainer").CancelJob(pb.CancelJobRequest(job=found.job))

    assert (await workers(running).Heartbeat(wpb.HeartbeatRequest(**held(found)))).cancel


async def test_only_the_platform_leases_and_nobody_reports_on_a_strangers_job(running: House) -> None:
    found = await leased(running)
    rival = workers(running, tenant="rival")

    assert (await refused(rival.LeaseJob(wpb.LeaseJobRequest(worker="w")))).code is Code.FORBIDDEN
    assert (await refused(rival.Heartbeat(wpb.HeartbeatRequest(**held(found))))).code is Code.NOT_FOUND
    without = running.runtime.metadata("trainer", Principal(Scope("system"), "service:trainer", ("jobs.get",)))
    stub: Any = WorkersStub(running.runtime.channel("trainer"))
    assert (await refused(stub.LeaseJob(wpb.LeaseJobRequest(worker="w"), metadata=without))).code is Code.FORBIDDEN


def job_of(name: str, running: House, model: str = "late") -> Any:
    ranges = (RowRange("month", None, 9), RowRange("month", 10, None))
    spec = JobSpec(model, "late", 1, 1, *ranges, LightGbm(10, 31, 0.1, 20))
    inputs = Inputs("flights", "sha256:0", (), (), "late", "id")
    return lambda operation: Job(name, spec, inputs, f"r-{name}", running.runtime.now(), operation)


async def test_a_tenant_with_many_jobs_does_not_keep_others_waiting(running: House) -> None:
    database = running.runtime.apps["trainer"].database
    assert database
    store = Store(database, lambda *_: None)
    for name in ("0-a", "0-b", "0-c"):
        await store.add(Scope("many"), job_of(name, running), "jobs", None)
    await store.add(Scope("few"), job_of("1-a", running), "jobs", None)

    order = [await store.lease("w", 60) for _ in range(4)]
    assert [found[1].job for found in order if found] == ["0-a", "1-a", "0-b", "0-c"]
    await store.release("w")
    for scope, name in ((Scope("few"), "1-a"), *((Scope("many"), name) for name in ("0-a", "0-b", "0-c"))):
        await store.change(scope, name, domain.cancel)


async def test_the_clock_of_leases_is_the_databases_own(running: House) -> None:
    database = running.runtime.apps["trainer"].database
    assert database
    apart = abs((await database.run(database_clock)) - running.runtime.now())
    assert apart.total_seconds() < 1
