"""A job that ended well becomes a version, once."""

import asyncio
from pathlib import Path

import pytest

from aimass.v1 import models_pb2 as pb
from aimass.v1.artifacts_pb2 import DownloadArtifactRequest
from aimass.v1.jobs_pb2 import Job, JobSpec
from aimass.v1.trainer_events_pb2 import TrainingSucceeded
from aimass.v1.workers_pb2 import RunArtifact
from services.kit.digests import digest_of
from services.kit.timestamps import uuid7
from tests.support import models
from tests.support.house import house, until
from tests.support.tenants import Tenant, code_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def count(tenant: Tenant, model: str = "late") -> int:
    try:
        return int((await tenant.models().GetModel(pb.GetModelRequest(model=model))).latest_version)
    except Exception:
        return 0


async def test_a_version_keeps_what_the_trainer_said(acme: Tenant) -> None:
    job = await acme.trained(
        "late",
        models.logistic(),
        metrics={"auc": 0.68, "silent": float("nan")},
        environment={"lightgbm": "4.7.0"},
        card="# Late",
        feature_set="late@3",
        data_set="flights@2",
        labels={"risk": "high"},
    )
    await until(lambda: count(acme))
    made = await acme.version("late", 1)

    assert (made.job, made.run, made.stage, made.card) == (job, job, pb.STAGE_CANDIDATE, "# Late")
    assert (made.feature_set, made.data_set, dict(made.labels)) == ("late@3", "flights@2", {"risk": "high"})
    assert (dict(made.metrics), dict(made.environment)) == ({"auc": 0.68}, {"lightgbm": "4.7.0"})
    assert made.signature == models.signature(models.logistic())
    assert made.digest == digest_of(f"{made.files[0].digest} {job}".encode())


async def test_its_files_can_be_downloaded(acme: Tenant, other: Tenant) -> None:
    await acme.add("late", models.logistic())
    request = DownloadArtifactRequest(digest=digest_of(models.logistic()))
    pieces = [piece.data async for piece in acme.artifacts().DownloadArtifact(request)]

    assert b"".join(pieces) == models.logistic()

    async def by_another() -> None:
        [piece async for piece in other.artifacts().DownloadArtifact(request)]

    assert await code_of(by_another()) == "not_found"


async def test_a_job_makes_one_version_however_often_it_is_told(acme: Tenant) -> None:
    job = await acme.trained("late", models.logistic())
    await acme.trained("late", models.logistic(), job=job)
    await acme.trained("late", models.logistic(), job=job)
    await acme.trained("late", models.logistic(seed=2))
    await until(lambda: second(acme))

    versions = (await acme.models().ListModelVersions(pb.ListModelVersionsRequest(model="late"))).versions
    assert [version.version for version in versions] == [2, 1]
    assert versions[1].job == job


async def second(tenant: Tenant) -> bool:
    return await count(tenant) >= 2


async def test_jobs_and_uploads_count_together(acme: Tenant) -> None:
    await acme.register("late", models.logistic())
    await acme.trained("late", models.logistic(seed=1))
    await until(lambda: second(acme))

    assert await acme.register("late", models.logistic(seed=2)) == 3


async def test_a_version_of_a_deleted_model_stays_hidden_with_it(acme: Tenant) -> None:
    await acme.add("late", models.logistic())
    await acme.models(if_match="*").DeleteModel(pb.DeleteModelRequest(model="late"))
    await acme.trained("late", models.logistic(seed=1))
    await asyncio.sleep(0.2)
    assert await code_of(acme.version("late", 2)) == "not_found"

    await acme.models().UndeleteModel(pb.UndeleteModelRequest(model="late"))
    assert (await acme.version("late", 2)).version == 2


async def test_a_job_without_its_files_makes_nothing_and_others_go_on(acme: Tenant) -> None:
    digest = digest_of(b"nowhere")
    event = TrainingSucceeded(
        job=Job(job=uuid7(), spec=JobSpec(model="late")),
        manifest_digest=digest,
        artifacts=[RunArtifact(name="model.onnx", digest=digest)],
    )
    await acme.house.publish(event, "jobs", "j", tenant=acme.name)
    await acme.trained("early", models.logistic())

    await until(lambda: count(acme, "early"))
    assert await count(acme) == 0


async def test_a_job_told_before_a_restart_is_not_told_again_after_it(tmp_path: Path) -> None:
    async with house(tmp_path, "registry") as running:
        acme = Tenant(running)
        job = await acme.trained("late", models.logistic())
        await until(lambda: count(acme))
    async with house(tmp_path, "registry") as running:
        acme = Tenant(running)
        await acme.trained("late", models.logistic(), job=job)
        await acme.trained("late", models.logistic(seed=1))
        await until(lambda: second(acme))
        assert (await acme.version("late", 1)).job == job
        assert await code_of(acme.version("late", 3)) == "not_found"
