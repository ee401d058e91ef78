"""Jobs as a client app sees them: real data, a real worker, real children."""

import io
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
import pytest_asyncio

from aimass.v1 import jobs_pb2 as pb
from aimass.v1 import operations_pb2 as opb
from aimass.v1 import runs_pb2 as rpb
from aimass.v1.features_pb2 import RowRange
from aimass.v1.jobs_pb2_grpc import JobsStub
from aimass.v1.operations_pb2_grpc import OperationsStub
from aimass.v1.runs_pb2_grpc import RunsStub
from aimass.v1.trainer_events_pb2 import JobChanged, TrainingSucceeded
from services.kit import graphs
from services.kit.digests import digest_of
from services.kit.errors import Code
from tests.support.house import House, house, until
from tests.support.refused import refused
from tests.trainer.steps import download, ended, get, run_of, spec, submit, trained

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    home = Path(shutil.copytree(filled, tmp_path_factory.mktemp("jobs") / "home"))
    async with house(home, "data", "trainer") as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def job(running: House) -> pb.Job:
    """A boosted job that has succeeded."""
    found: pb.Job = await trained(running, seed=7)
    return found


async def test_a_job_ends_with_its_versions_pinned(running: House, job: pb.Job) -> None:
    operation = await ended(running, job.operation)
    answer = pb.Job()
    operation.response.Unpack(answer)

    assert job.state == pb.JOB_STATE_SUCCEEDED, job.error
    assert (job.spec.feature_set_version, job.spec.data_set_version) == (1, 1)
    assert (answer.job, answer.manifest_digest, operation.progress) == (job.job, job.manifest_digest, 1.0)


async def test_a_run_has_parameters_metrics_and_files(running: House, job: pb.Job) -> None:
    run = await run_of(running, job)

    assert run.state == pb.JOB_STATE_SUCCEEDED
    assert run.parameters["estimator"] == "lightgbm"
    assert (run.parameters["feature_set"], run.parameters["data_set"]) == ("late@1", "flights@1")
    assert run.metrics["auc"] > 0.65
    assert 0.1 < run.metrics["base_rate"] < 0.4
    assert {file.name for file in run.artifacts} == {
        "card.md",
        "environment.json",
        "evaluation.arrow",
        "evaluation.json",
        "manifest.json",
        "model.onnx",
    }


async def test_the_loss_of_every_round_is_kept_and_paged(running: House, job: pb.Job) -> None:
    runs = running.stub(RunsStub, "trainer")
    ask: dict[str, Any] = {"run": job.run, "metric": "train_log_loss", "page_size": 15}
    first = await runs.ListMetricPoints(rpb.ListMetricPointsRequest(**ask))
    rest = await runs.ListMetricPoints(rpb.ListMetricPointsRequest(**ask, page_token=first.next_page_token))

    points = [*first.points, *rest.points]
    assert [point.step for point in points] == list(range(1, 21))
    assert points[-1].value < points[0].value
    assert not rest.next_page_token


async def test_the_stored_probabilities_are_the_files_own_bit_for_bit(running: House, job: pb.Job) -> None:
    model, rows = await download(running, job.run, "model.onnx"), await download(running, job.run, "evaluation.arrow")
    table = pa.ipc.open_file(io.BytesIO(rows)).read_all()
    session = graphs.open_session(model)
    columns: dict[str, Any] = {
        "carrier": table["carrier"].fill_null("").to_numpy(zero_copy_only=False)[:, None],
        "hour": table["hour"].to_numpy().astype(np.float64)[:, None],
        "temp": table["temp"].fill_null(float("nan")).to_numpy()[:, None],
    }

    together = session.run(None, columns)[0]
    alone = [session.run(None, {n: v[i : i + 1] for n, v in columns.items()})[0] for i in range(100)]
    assert together.tobytes() == table["probability"].to_numpy().tobytes()
    assert np.concatenate(alone).tobytes() == together[:100].tobytes()
    assert table.column_names == ["id", "carrier", "hour", "temp", "late", "probability"]
    assert table["id"].to_pylist() == sorted(table["id"].to_pylist())
    assert set(table["late"].to_pylist()) == {0, 1}


async def test_the_manifest_names_files_signature_and_origin(running: House, job: pb.Job) -> None:
    content = orjson.loads(data := await download(running, job.run, "manifest.json"))

    assert digest_of(data) == job.manifest_digest
    assert [file["name"] for file in content["files"]] == [
        "card.md",
        "environment.json",
        "evaluation.json",
        "model.onnx",
    ]
    assert content["signature"]["inputs"][0] == {"name": "carrier", "datatype": "BYTES", "shape": [-1, 1]}
    assert content["signature"]["outputs"] == [{"name": "probability", "datatype": "FP32", "shape": [-1, 1]}]
    assert content["signature"]["batch_invariant"]
    assert (content["job"], content["feature_set"], content["data_set"]) == (job.job, "late@1", "flights@1")


async def test_the_success_is_told_once_with_everything_a_version_needs(running: House, job: pb.Job) -> None:
    events = [event for event in await running.heard(TrainingSucceeded) if event.job.job == job.job]

    assert len(events) == 1
    assert events[0].manifest_digest == job.manifest_digest
    assert events[0].signature.batch_invariant
    assert events[0].signature.checked_on.startswith("onnxruntime ")
    assert events[0].environment["lightgbm"]
    assert events[0].card.startswith("# late\n")
    assert (events[0].feature_set, events[0].data_set) == ("late@1", "flights@1")
    assert "evaluation.arrow" not in [file.name for file in events[0].artifacts]


async def test_every_change_of_state_is_told_in_order(running: House, job: pb.Job) -> None:
    events = [event for event in await running.heard(JobChanged, 3) if event.job.job == job.job]

    assert [event.job.state for event in events] == [
        pb.JOB_STATE_QUEUED,
        pb.JOB_STATE_RUNNING,
        pb.JOB_STATE_SUCCEEDED,
    ]
    assert [event.generation for event in events] == [1, 2, 3]


async def test_the_same_seed_gives_the_same_file(running: House, job: pb.Job) -> None:
    again = await trained(running, seed=7)

    files = [{file.name: file.digest for file in (await run_of(running, found)).artifacts} for found in (job, again)]
    assert files[0]["model.onnx"] == files[1]["model.onnx"]


async def test_logistic_regression_is_measured_from_its_file_too(running: House) -> None:
    job = await trained(running, logistic_regression=pb.LogisticRegression())
    run = await run_of(running, job)

    assert job.state == pb.JOB_STATE_SUCCEEDED, job.error
    assert run.metrics["auc"] > 0.7
    assert run.metrics["train_loss"] < 0.6


async def test_a_download_goes_on_where_it_stopped(running: House, job: pb.Job) -> None:
    whole = await download(running, job.run, "card.md")

    assert await download(running, job.run, "card.md", offset=10) == whole[10:]
    assert (await refused(download(running, job.run, "card.md", offset=10**6))).code is Code.WRONG_OFFSET
    assert (await refused(download(running, job.run, "secret"))).code is Code.NOT_FOUND


async def test_a_repeat_by_key_is_one_job(running: House) -> None:
    jobs = running.stub(JobsStub, "trainer", idempotency_key="twice")
    request = pb.SubmitJobRequest(spec=spec(model="twice"))
    first, second = await jobs.SubmitJob(request), await jobs.SubmitJob(request)
    listed = await jobs.ListJobs(pb.ListJobsRequest(model="twice"))

    assert first == second
    assert len(listed.jobs) == 1
    await ended(running, first.operation)


async def test_lists_are_newest_first_by_model_and_paged(running: House, job: pb.Job) -> None:
    jobs, runs = running.stub(JobsStub, "trainer"), running.stub(RunsStub, "trainer")
    first = await jobs.ListJobs(pb.ListJobsRequest(model="late", page_size=1))
    second = await jobs.ListJobs(pb.ListJobsRequest(model="late", page_size=1, page_token=first.next_page_token))
    listed = await runs.ListRuns(rpb.ListRunsRequest(model="late"))

    assert first.jobs[0].job > second.jobs[0].job
    assert job.run in [run.run for run in listed.runs]
    assert not (await runs.ListRuns(rpb.ListRunsRequest(model="other"))).runs


@pytest.mark.parametrize(
    ("values", "code", "says"),
    [
        ({"feature_set": "none"}, Code.NOT_FOUND, "there is no feature set none"),
        ({"feature_set_version": 9}, Code.UNKNOWN_VERSION, "late has no version 9"),
        ({"data_set_version": 9}, Code.UNKNOWN_VERSION, "flights has no version 9"),
        (
            {"train": RowRange(column="carrier")},
            Code.INVALID_VALUE,
            "must be a numeric column of flights; carrier is not",
        ),
        ({"evaluate": RowRange(column="month")}, Code.INVALID_VALUE, "no rows in common with train"),
        ({"max_attempts": 99}, Code.INVALID_VALUE, "spec.max_attempts must be between 1 and 10"),
        ({"lightgbm": None}, Code.INVALID_VALUE, "must name an estimator"),
        ({"model": "No Name"}, Code.INVALID_NAME, "spec.model must be a name"),
    ],
)
async def test_a_job_that_cannot_be_is_refused_at_once(
    running: House, values: dict[str, Any], code: Code, says: str
) -> None:
    failure = await refused(running.stub(JobsStub, "trainer").SubmitJob(pb.SubmitJobRequest(spec=spec(**values))))

    assert failure.code is code
    assert says in failure.detail


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"train": RowRange(column="month", to=-1)}, "there are no rows to train on"),
        ({"evaluate": RowRange(column="id", **{"from": 10.0**9})}, "there are no rows to evaluate on"),
        ({"evaluate": RowRange(column="id", to=1)}, "all rows to evaluate on have the same late"),
    ],
)
async def test_data_that_cannot_be_learnt_from_fails_the_job_once_with_the_reason(
    running: House, values: dict[str, Any], says: str
) -> None:
    job = await trained(running, **values)
    operation = await ended(running, job.operation)

    assert (job.state, job.error, job.attempt) == (pb.JOB_STATE_FAILED, says, 1)
    assert (operation.error.code, operation.error.detail) == ("failed_precondition", says)


async def test_a_job_that_takes_too_long_is_stopped(running: House) -> None:
    job = await trained(running, lightgbm=pb.LightGbm(rounds=10_000), timeout_seconds=1)

    assert (job.state, job.attempt) == (pb.JOB_STATE_FAILED, 1)
    assert job.error == "the work took longer than 1 s"


@pytest.mark.parametrize("how", ["job", "operation"])
async def test_a_running_job_stops_within_two_seconds(running: House, how: str) -> None:
    job = await submit(running, lightgbm=pb.LightGbm(rounds=10_000))
    await until(lambda: _training(running, job.job))
    started = running.runtime.now()

    if how == "job":
        await running.stub(JobsStub, "trainer").CancelJob(pb.CancelJobRequest(job=job.job))
    else:
        request = opb.CancelOperationRequest(operation=job.operation)
        await running.stub(OperationsStub, "trainer").CancelOperation(request)
    operation = await ended(running, job.operation)

    assert (running.runtime.now() - started).total_seconds() < 2
    assert operation.state == opb.OPERATION_STATE_CANCELLED
    assert operation.cancel_requested
    assert (await get(running, job.job)).state == pb.JOB_STATE_CANCELLED
    assert (await run_of(running, job)).state == pb.JOB_STATE_CANCELLED


async def _training(running: House, job: str) -> bool:
    found = await get(running, job)
    return bool(found.stage == "training" and found.progress > 0.2)


async def test_an_ended_job_is_hidden_and_comes_back(running: House, job: pb.Job) -> None:
    jobs = running.stub(JobsStub, "trainer")
    stale = running.stub(JobsStub, "trainer", if_match='"1"').DeleteJob(pb.DeleteJobRequest(job=job.job))
    assert (await refused(stale)).code is Code.ETAG_MISMATCH
    assert (await refused(jobs.DeleteJob(pb.DeleteJobRequest(job=job.job)))).code is Code.ETAG_REQUIRED

    etag = running.stub(JobsStub, "trainer", if_match=f'"{job.etag}"')
    await etag.DeleteJob(pb.DeleteJobRequest(job=job.job))
    assert (await refused(get(running, job.job))).code is Code.NOT_FOUND
    shown = await jobs.ListJobs(pb.ListJobsRequest(show_deleted=True, page_size=1000))
    hidden = await jobs.ListJobs(pb.ListJobsRequest(page_size=1000))
    assert len(shown.jobs) == len(hidden.jobs) + 1

    await jobs.UndeleteJob(pb.UndeleteJobRequest(job=job.job))
    assert (await get(running, job.job)).state == pb.JOB_STATE_SUCCEEDED


async def test_another_tenant_finds_nothing(running: House, job: pb.Job) -> None:
    other = running.stub(JobsStub, "trainer", tenant="rival", if_match='"1"')
    runs = running.stub(RunsStub, "trainer", tenant="rival")
    asked = [
        other.GetJob(pb.GetJobRequest(job=job.job)),
        other.CancelJob(pb.CancelJobRequest(job=job.job)),
        other.DeleteJob(pb.DeleteJobRequest(job=job.job)),
        other.UndeleteJob(pb.UndeleteJobRequest(job=job.job)),
        other.SubmitJob(pb.SubmitJobRequest(spec=spec())),
        runs.GetRun(rpb.GetRunRequest(run=job.run)),
        runs.ListMetricPoints(rpb.ListMetricPointsRequest(run=job.run, metric="auc")),
        download(running, job.run, "model.onnx", tenant="rival"),
    ]

    assert {(await refused(call)).code for call in asked} == {Code.NOT_FOUND}
    assert not (await other.ListJobs(pb.ListJobsRequest())).jobs
    assert not (await runs.ListRuns(rpb.ListRunsRequest())).runs
