"""The handshake of a release; what inference and the gateway say is said by the tests."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from aimass.v1 import models_pb2, operations_pb2
from aimass.v1 import releases_pb2 as pb
from aimass.v1.engines_pb2 import ENGINE_STATE_READY, Engine
from aimass.v1.gateway_events_pb2 import ReleaseApplied
from aimass.v1.inference_events_pb2 import EngineChanged
from aimass.v1.operations_pb2_grpc import OperationsStub
from aimass.v1.registry_events_pb2 import ReleaseChanged
from aimass.v1.releases_pb2_grpc import ReleasesStub
from services.kit.errors import Failure
from tests.support import models
from tests.support.house import House, house, until
from tests.support.tenants import Tenant, code_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
SUCCEEDED, FAILED = operations_pb2.OPERATION_STATE_SUCCEEDED, operations_pb2.OPERATION_STATE_FAILED
CANCELLED = operations_pb2.OPERATION_STATE_CANCELLED


async def with_versions(tenant: Tenant, count: int) -> Tenant:
    await tenant.add("late", *(models.logistic(seed=seed) for seed in range(count)))
    return tenant


async def promoting(tenant: Tenant) -> tuple[str, int]:
    """Version 1 serves, and version 2 is on its way: its operation, and the release's generation."""
    await with_versions(tenant, 2)
    await tenant.serve("late", 1)
    return await tenant.promote("late", 2), (await tenant.release("late")).generation


async def stages(tenant: Tenant) -> list[str]:
    request = models_pb2.ListModelVersionsRequest(model="late", show_deleted=True)
    versions = (await tenant.models().ListModelVersions(request)).versions
    return [models_pb2.Stage.Name(version.stage)[6:].lower() for version in reversed(versions)]


async def test_a_promotion_serves_when_a_gateway_has_switched(acme: Tenant) -> None:
    await with_versions(acme, 1)
    operation = await acme.promote("late", 1)
    before = await acme.release("late")
    assert (before.state, before.operation, before.generation) == (pb.RELEASE_STATE_LOADING, operation, 1)
    assert (before.desired.version, before.HasField("serving")) == (1, False)

    await acme.switch("late")
    ended = await acme.ended(operation)

    assert (ended.state, ended.progress, ended.resource) == (SUCCEEDED, 1.0, "models/late")
    answer = pb.Release()
    assert ended.response.Unpack(answer)
    assert answer == await acme.release("late")
    assert (answer.state, answer.serving.version, answer.operation) == (pb.RELEASE_STATE_SERVING, 1, "")
    assert await stages(acme) == ["serving"]


async def test_a_release_says_enough_to_load_it(acme: Tenant) -> None:
    await acme.trained("late", models.logistic(), labels={"risk": "high"})
    await until(lambda: there(acme))
    await acme.serve("late", 1)
    version, serving = await acme.version("late", 1), (await acme.release("late")).serving

    assert (serving.digest, serving.model_digest) == (version.digest, version.files[0].digest)
    assert (serving.signature, dict(serving.labels)) == (version.signature, {"risk": "high"})


async def there(tenant: Tenant) -> bool:
    return await code_of(tenant.version("late", 1)) == "ok"


async def test_the_old_version_retires_and_a_rollback_brings_it_back(acme: Tenant) -> None:
    await with_versions(acme, 2)
    await acme.serve("late", 1)
    await acme.serve("late", 2)
    assert await stages(acme) == ["retired", "serving"]
    assert (await acme.release("late")).previous.version == 1

    operation = await acme.roll_back("late")
    await acme.switch("late")

    assert (await acme.ended(operation)).state == SUCCEEDED
    assert await stages(acme) == ["serving", "retired"]
    assert (await acme.release("late")).previous.version == 2


async def test_a_rollback_needs_a_version_that_served_before(acme: Tenant) -> None:
    await with_versions(acme, 1)
    assert await code_of(acme.roll_back("late")) == "not_found"
    await acme.serve("late", 1)

    assert await code_of(acme.roll_back("late")) == "failed_precondition"


async def test_a_withdrawn_model_serves_nothing_and_can_come_back(acme: Tenant) -> None:
    await with_versions(acme, 1)
    await acme.serve("late", 1)
    operation = await acme.withdraw("late")
    await acme.switch("late")

    assert (await acme.ended(operation)).state == SUCCEEDED
    release = await acme.release("late")
    assert (release.state, release.HasField("serving")) == (pb.RELEASE_STATE_WITHDRAWN, False)
    assert await stages(acme) == ["retired"]
    back = await acme.roll_back("late")
    await acme.switch("late")
    assert (await acme.ended(back)).state == SUCCEEDED
    assert (await acme.release("late")).serving.version == 1


async def test_nothing_to_withdraw_is_not_found(acme: Tenant) -> None:
    await with_versions(acme, 1)

    assert await code_of(acme.withdraw("late")) == "not_found"
    assert await code_of(acme.withdraw("early")) == "not_found"


async def test_one_change_at_a_time(acme: Tenant) -> None:
    await with_versions(acme, 2)
    await acme.promote("late", 1)

    assert await code_of(acme.promote("late", 2)) == "in_progress"
    assert await code_of(acme.promote("late", 1)) == "in_progress"
    assert await code_of(acme.withdraw("late")) == "in_progress"
    await acme.switch("late")
    await until(lambda: served(acme, 1))


async def served(tenant: Tenant, version: int) -> bool:
    return (await tenant.release("late")).serving.version == version


async def test_a_refused_promotion_leaves_its_version_free(acme: Tenant) -> None:
    await with_versions(acme, 2)
    await acme.promote("late", 1)
    await code_of(acme.promote("late", 2))
    deleting = acme.models(if_match="*")

    await deleting.DeleteModelVersion(models_pb2.DeleteModelVersionRequest(model="late", version=2))


async def test_promoting_what_serves_ends_at_once(acme: Tenant) -> None:
    await with_versions(acme, 1)
    await acme.serve("late", 1)
    generation = (await acme.release("late")).generation

    ended = await acme.ended(await acme.promote("late", 1))

    assert ended.state == SUCCEEDED
    assert (await acme.release("late")).generation == generation


async def test_a_repeat_is_one_promotion(acme: Tenant) -> None:
    await with_versions(acme, 2)
    first = await acme.promote("late", 1, idempotency_key="k")
    await acme.switch("late")
    await acme.ended(first)
    await acme.serve("late", 2)

    assert await acme.promote("late", 1, idempotency_key="k") == first
    assert (await acme.release("late")).serving.version == 2


async def test_a_repeated_rollback_and_a_repeated_withdrawal_are_one_each(acme: Tenant) -> None:
    await with_versions(acme, 2)
    await acme.serve("late", 1)
    await acme.serve("late", 2)
    stub, back = acme.releases(idempotency_key="k"), pb.RollbackReleaseRequest(model="late", reason="worse AUC")
    first = await stub.RollbackRelease(back)
    assert await stub.RollbackRelease(back) == first
    await acme.switch("late")
    await acme.ended(first.operation)
    assert await stub.RollbackRelease(back) == first
    assert (await acme.release("late")).reason == "worse AUC"

    away = pb.WithdrawReleaseRequest(model="late")
    second = await stub.WithdrawRelease(away)
    assert await stub.WithdrawRelease(away) == second
    await acme.switch("late")
    await acme.ended(second.operation)
    assert await stub.WithdrawRelease(away) == second
    other = pb.WithdrawReleaseRequest(model="late", reason="another request with the same key")
    assert await code_of(stub.WithdrawRelease(other)) == "key_reused"


async def test_a_rollback_that_a_promotion_came_before_is_a_conflict(
    acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    await with_versions(acme, 3)
    await acme.serve("late", 1)
    await acme.serve("late", 2)
    api: Any = acme.house.runtime.apps["registry"].rpc["aimass.v1.Releases"]
    find = api._releases._target

    async def overtaken(*asked: Any) -> Any:
        found = await find(*asked)
        monkeypatch.undo()
        await acme.serve("late", 3)  # so that 2 is the one before
        return found

    monkeypatch.setattr(api._releases, "_target", overtaken)

    assert await code_of(acme.roll_back("late")) == "conflict"
    assert (await acme.release("late")).serving.version == 3


@pytest.mark.parametrize("verb", ["promote", "roll_back", "withdraw"])
async def test_a_permission_is_needed(acme: Tenant, verb: str) -> None:
    stub = acme.releases("releases.get", "versions.get")
    calls = {
        "promote": lambda: stub.PromoteVersion(pb.PromoteVersionRequest(model="late", version=1)),
        "roll_back": lambda: stub.RollbackRelease(pb.RollbackReleaseRequest(model="late")),
        "withdraw": lambda: stub.WithdrawRelease(pb.WithdrawReleaseRequest(model="late")),
    }

    assert await code_of(calls[verb]()) == "forbidden"


async def test_a_promotion_can_ask_that_nothing_has_changed(acme: Tenant) -> None:
    await with_versions(acme, 2)
    await acme.serve("late", 1)
    etag, request = (await acme.release("late")).etag, pb.PromoteVersionRequest(model="late", version=2)

    request.etag = "99"
    assert await code_of(acme.releases().PromoteVersion(request)) == "etag_mismatch"
    request.etag = etag
    assert await code_of(acme.releases().PromoteVersion(request)) == "ok"


@pytest.mark.parametrize(("model", "version"), [("late", 9), ("early", 1)])
async def test_what_is_not_there_cannot_be_promoted(acme: Tenant, model: str, version: int) -> None:
    await with_versions(acme, 1)

    assert await code_of(acme.promote(model, version)) == "not_found"
    assert await code_of(acme.release(model)) == "not_found"


async def test_a_failed_load_keeps_the_old_version_serving(acme: Tenant) -> None:
    operation, generation = await promoting(acme)
    await acme.engine_failed("late", 2, generation, "out of memory")

    ended = await acme.ended(operation)

    assert (ended.state, ended.error.code) == (FAILED, "failed_precondition")
    assert ended.error.detail == "late version 2 does not load: out of memory"
    release = await acme.release("late")
    assert (release.state, release.serving.version, release.desired.version) == (pb.RELEASE_STATE_SERVING, 1, 1)
    assert (release.generation, release.reason) == (generation + 1, ended.error.detail)
    assert await stages(acme) == ["serving", "candidate"]


async def test_a_failure_of_another_generation_is_not_heard(acme: Tenant) -> None:
    operation, _ = await promoting(acme)
    await acme.engine_failed("late", 2, 1, "that was before")
    await acme.switch("late")

    assert (await acme.ended(operation)).state == SUCCEEDED


async def test_a_failure_of_another_version_is_not_heard(acme: Tenant) -> None:
    operation, generation = await promoting(acme)
    await acme.engine_failed("late", 1, generation, "it is lost")
    await acme.engine_failed("late", 2, generation, "out of memory")

    assert (await acme.ended(operation)).error.detail == "late version 2 does not load: out of memory"


async def test_a_cancelled_promotion_goes_back(acme: Tenant) -> None:
    await with_versions(acme, 2)
    await acme.serve("late", 1)
    operation = await acme.promote("late", 2)
    stub = acme.house.stub(OperationsStub, "registry", tenant=acme.name)

    await stub.CancelOperation(operations_pb2.CancelOperationRequest(operation=operation))

    assert (await acme.ended(operation)).state == CANCELLED
    assert (await acme.release("late")).desired.version == 1
    assert await stages(acme) == ["serving", "candidate"]


async def test_loading_is_told_as_progress(acme: Tenant) -> None:
    await with_versions(acme, 1)
    operation = await acme.promote("late", 1)
    engine = Engine(instance="i-1", model="late", version=1, state=ENGINE_STATE_READY)
    await acme.house.publish(EngineChanged(engine=engine, generation=1), "models", "late", tenant=acme.name)
    stub = acme.house.stub(OperationsStub, "registry", tenant=acme.name)

    async def told() -> bool:
        seen = await stub.GetOperation(operations_pb2.GetOperationRequest(operation=operation))
        return bool(seen.stage == "switching" and seen.message == "loaded by i-1")

    await until(told)
    await acme.switch("late")
    assert (await acme.ended(operation)).state == SUCCEEDED


async def test_what_serves_or_is_about_to_cannot_be_deleted(acme: Tenant) -> None:
    await with_versions(acme, 2)
    await acme.serve("late", 1)
    await acme.promote("late", 2)
    stub, one = acme.models(if_match="*"), models_pb2.DeleteModelVersionRequest(model="late", version=1)
    two = models_pb2.DeleteModelVersionRequest(model="late", version=2)

    assert await code_of(stub.DeleteModelVersion(one)) == "failed_precondition"
    assert await code_of(stub.DeleteModelVersion(two)) == "failed_precondition"
    assert await code_of(stub.DeleteModel(models_pb2.DeleteModelRequest(model="late"))) == "failed_precondition"
    await acme.switch("late")
    await until(lambda: served(acme, 2))
    assert await code_of(stub.DeleteModelVersion(one)) == "ok"
    assert await code_of(acme.roll_back("late")) == "not_found"


async def test_releases_are_listed_by_model(acme: Tenant) -> None:
    for model in ("b", "a", "c"):
        await acme.add(model, models.logistic())
        await acme.promote(model, 1)
    first = await acme.releases().ListReleases(pb.ListReleasesRequest(page_size=2))
    token = first.next_page_token
    second = await acme.releases().ListReleases(pb.ListReleasesRequest(page_size=2, page_token=token))

    assert [r.model for r in (*first.releases, *second.releases)] == ["a", "b", "c"]


async def test_another_tenant_finds_nothing(acme: Tenant, other: Tenant) -> None:
    await with_versions(acme, 1)
    operation = await acme.promote("late", 1)

    assert await code_of(other.release("late")) == "not_found"
    assert await code_of(other.promote("late", 1)) == "not_found"
    assert await code_of(other.roll_back("late")) == "not_found"
    assert await code_of(other.withdraw("late")) == "not_found"
    assert await code_of(other.ended(operation)) == "not_found"
    assert not (await other.releases().ListReleases(pb.ListReleasesRequest())).releases


async def test_what_one_tenant_says_moves_no_release_of_another(acme: Tenant, other: Tenant) -> None:
    await with_versions(acme, 1)
    await acme.promote("late", 1)
    await acme.house.publish(
        ReleaseApplied(instance="g", model="late", generation=1, version=1), "models", "late", tenant=other.name
    )
    await asyncio.sleep(0.1)

    assert (await acme.release("late")).state == pb.RELEASE_STATE_LOADING


async def test_the_snapshot_has_all_tenants_and_is_for_the_platform(
    registry: House, acme: Tenant, other: Tenant
) -> None:
    for tenant in (acme, other):
        await with_versions(tenant, 1)
        await tenant.promote("late", 1)
    stub = registry.stub(ReleasesStub, "registry", tenant="system")
    seen = {(found.tenant, found.project): found.release async for found in stub.SnapshotReleases(snapshot())}

    assert seen[acme.name, "default"] == await acme.release("late")
    assert seen[other.name, "default"] == await other.release("late")

    async def of_a_tenant() -> None:
        [found async for found in acme.releases().SnapshotReleases(snapshot())]

    assert await code_of(of_a_tenant()) == "forbidden"


def snapshot() -> pb.SnapshotReleasesRequest:
    return pb.SnapshotReleasesRequest()


async def test_promotions_and_rollbacks_by_four_callers_make_one_history(acme: Tenant) -> None:
    await with_versions(acme, 3)
    chance, accepted, done = random.Random(17), list[str](), asyncio.Event()

    async def caller() -> None:
        while len(accepted) < 30:
            try:
                back = chance.random() < 0.3
                accepted.append(await (acme.roll_back("late") if back else acme.promote("late", chance.randint(1, 3))))
            except Failure as failure:
                assert failure.code.text in ("in_progress", "failed_precondition", "not_found", "conflict")
                await asyncio.sleep(0)

    async def gateway() -> None:
        generation = 0
        while not done.is_set():
            try:
                release = await acme.release("late")
            except Failure:
                release = pb.Release()
            if release.operation and release.generation > generation:
                generation = release.generation
                await acme.switch("late")
            await asyncio.sleep(0)

    switching = asyncio.ensure_future(gateway())
    await asyncio.gather(*(caller() for _ in range(4)))
    ended = [await acme.ended(operation) for operation in accepted]
    done.set()
    await switching

    assert {operation.state for operation in ended} == {SUCCEEDED}
    last = pb.Release()
    newest = max(ended, key=lambda operation: int(_generation(operation)))
    assert newest.response.Unpack(last)
    assert await acme.release("late") == last
    assert (await stages(acme)).count("serving") == 1


def _generation(operation: operations_pb2.Operation) -> int:
    release = pb.Release()
    operation.response.Unpack(release)
    return release.generation


async def test_every_generation_is_told_in_order(tmp_path: Path) -> None:
    async with house(tmp_path, "registry") as running:
        acme = await with_versions(Tenant(running), 2)
        await acme.serve("late", 1)
        await acme.serve("late", 2)
        events = await running.heard(ReleaseChanged, 4)

    assert [event.generation for event in events] == [1, 2, 3, 4]
    assert [event.release.desired.version for event in events] == [1, 1, 2, 2]
    assert [event.release.serving.version for event in events] == [0, 1, 1, 2]
