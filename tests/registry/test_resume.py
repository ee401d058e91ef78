"""What a release comes to when its process is killed, or nobody answers."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aimass.v1 import models_pb2, operations_pb2
from aimass.v1 import releases_pb2 as pb
from tests.support import models
from tests.support.house import house, until
from tests.support.tenants import Tenant, code_of

ROOT = Path(__file__).parents[2]
SUCCEEDED, FAILED = operations_pb2.OPERATION_STATE_SUCCEEDED, operations_pb2.OPERATION_STATE_FAILED


async def killed_at(home: Path, point: str) -> str:
    """Runs a registry that dies at a point of a promotion; returns the operation, if it got that far."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.registry.dying",
        str(home),
        point,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "sdk")])},
        stdout=subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == -signal.SIGKILL
    return output.decode().strip()


async def stage(tenant: Tenant, version: int) -> int:
    return int((await tenant.version("late", version)).stage)


async def test_a_version_that_was_wanted_for_nothing_is_free_after_a_kill(tmp_path: Path) -> None:
    await killed_at(tmp_path, "wanted")
    async with house(tmp_path, "registry") as running:
        acme = Tenant(running)

        assert (await acme.release("late")).serving.version == 1
        delete = models_pb2.DeleteModelVersionRequest(model="late", version=2)

        async def gone() -> bool:
            return await code_of(acme.models(if_match="*").DeleteModelVersion(delete)) == "ok"

        await until(gone)  # where several share a database, when the lease of the dead one is over


@pytest.mark.parametrize("point", ["begun", "followed"])
async def test_a_promotion_goes_on_after_a_kill(tmp_path: Path, point: str) -> None:
    operation = await killed_at(tmp_path, point)
    async with house(tmp_path, "registry") as running:
        acme = Tenant(running)
        release = await acme.release("late")
        assert (release.operation, release.desired.version, release.serving.version) == (operation, 2, 1)
        assert await stage(acme, 1) == models_pb2.STAGE_SERVING
        assert await code_of(acme.promote("late", 1)) == "in_progress"

        await acme.switch("late")

        assert (await acme.ended(operation)).state == SUCCEEDED
        assert await stage(acme, 2) == models_pb2.STAGE_SERVING
        assert await stage(acme, 1) == models_pb2.STAGE_RETIRED


async def test_what_a_gateway_said_before_a_kill_is_heard_after_it(tmp_path: Path) -> None:
    operation = await killed_at(tmp_path, "said")
    async with house(tmp_path, "registry") as running:
        acme = Tenant(running)

        assert (await acme.ended(operation)).state == SUCCEEDED
        assert (await acme.release("late")).serving.version == 2


async def test_a_change_that_nobody_applies_fails_and_the_old_version_serves(tmp_path: Path) -> None:
    async with house(tmp_path, "registry", AIMASS_REGISTRY_CHANGE_SECONDS="0.4") as running:
        acme = Tenant(running)
        await acme.add("late", models.logistic(), models.logistic(seed=1))
        await acme.serve("late", 1)

        ended = await acme.ended(await acme.promote("late", 2))

        assert (ended.state, ended.error.code) == (FAILED, "deadline_exceeded")
        assert ended.error.detail == "no gateway switched within 0.4 s"
        release = await acme.release("late")
        assert (release.state, release.serving.version) == (pb.RELEASE_STATE_SERVING, 1)
        assert await stage(acme, 2) == models_pb2.STAGE_CANDIDATE


async def test_a_change_has_its_full_time_again_after_a_restart(tmp_path: Path) -> None:
    async with house(tmp_path, "registry", AIMASS_REGISTRY_CHANGE_SECONDS="0.5") as running:
        acme = Tenant(running)
        await acme.add("late", models.logistic())
        operation = await acme.promote("late", 1)
    await asyncio.sleep(0.5)
    async with house(tmp_path, "registry", AIMASS_REGISTRY_CHANGE_SECONDS="60") as running:
        acme = Tenant(running)
        await asyncio.sleep(0.3)
        await acme.switch("late")

        assert (await acme.ended(operation)).state == SUCCEEDED


async def test_a_change_waits_for_as_many_gateways_as_there_are(tmp_path: Path) -> None:
    async with house(tmp_path, "registry", AIMASS_REGISTRY_GATEWAYS="2") as running:
        acme = Tenant(running)
        await acme.add("late", models.logistic())
        operation = await acme.promote("late", 1)
        await acme.switch("late", "gateway-1")
        await acme.switch("late", "gateway-1")
        await asyncio.sleep(0.2)
        assert (await acme.release("late")).operation == operation

        await acme.switch("late", "gateway-2")

        assert (await acme.ended(operation)).state == SUCCEEDED
