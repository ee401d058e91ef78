"""Registry and inference together: a promotion from its begin to answers. The gateway's part is said by the tests."""

import asyncio
from functools import partial
from pathlib import Path

import pytest

from aimass.v1 import engines_pb2 as pb
from aimass.v1 import operations_pb2
from aimass.v1.engines_pb2_grpc import EnginesStub
from aimass.v1.inference_events_pb2 import EngineChanged
from services.kit.digests import name_of
from services.kit.errors import Failure
from tests.support import models
from tests.support.house import House, house, until
from tests.support.tenants import Tenant, code_of, item

pytestmark = pytest.mark.asyncio(loop_scope="module")
SUCCEEDED, FAILED = operations_pb2.OPERATION_STATE_SUCCEEDED, operations_pb2.OPERATION_STATE_FAILED
READY = pb.ENGINE_STATE_READY


async def test_a_promoted_version_is_loaded_and_answers(acme: Tenant) -> None:
    await acme.register("late", models.logistic())
    ended = await acme.serve("late", 1)

    assert ended.state == SUCCEEDED
    (result,) = await acme.infer("late", 1, item([[0, 0, 0, 0]], request_id="r-1"))
    assert (result.request_id, result.HasField("failure")) == ("r-1", False)
    assert [(t.name, t.datatype, list(t.shape)) for t in result.outputs] == [("probability", "FP32", [1, 1])]
    assert result.outputs[0].raw == b"\x00\x00\x00\x3f"  # 0.5


async def test_a_version_that_is_not_loaded_is_not_found(acme: Tenant) -> None:
    await acme.add("late", models.logistic(), models.logistic(seed=1))
    await acme.serve("late", 1)

    with pytest.raises(Failure, match="late has no version 2 that is loaded"):
        await acme.infer("late", 2, item([[0, 0, 0, 0]]))
    assert await code_of(acme.infer("early", 1, item([[0]]))) == "not_found"


async def test_a_failed_load_keeps_the_old_version_serving(acme: Tenant) -> None:
    await acme.add("late", models.logistic(), models.logistic(seed=1))
    await acme.serve("late", 1)
    digest = (await acme.version("late", 2)).files[0].digest
    path = acme.house.runtime.home / "blobs" / name_of(acme.name, digest)
    path.chmod(0o644)
    path.write_bytes(b"damaged")

    ended = await acme.ended(await acme.promote("late", 2))

    assert (ended.state, ended.error.code) == (FAILED, "failed_precondition")
    assert "late version 2 does not load" in ended.error.detail
    assert "damaged" in ended.error.detail
    release = await acme.release("late")
    assert (release.serving.version, release.desired.version) == (1, 1)
    assert not (await acme.infer("late", 1, item([[0, 0, 0, 0]])))[0].HasField("failure")
    await until(lambda: only(acme, 1))


async def only(tenant: Tenant, *versions: int) -> bool:
    return await tenant.listed() == {("late", version): READY for version in versions}


async def test_a_graph_that_is_not_standard_is_not_loaded_even_when_the_trainer_says_so(acme: Tenant) -> None:
    await acme.add("late", models.logistic())
    digest = (await acme.version("late", 1)).files[0].digest
    path = acme.house.runtime.home / "blobs" / name_of(acme.name, digest)
    path.chmod(0o644)
    path.write_bytes(models.external())

    assert (await acme.ended(await acme.promote("late", 1))).state == FAILED
    await until(lambda: only(acme))


async def test_the_version_before_stays_loaded_and_older_ones_go(acme: Tenant) -> None:
    await acme.add("late", *(models.logistic(seed=seed) for seed in range(3)))
    for version in (1, 2, 3):
        await acme.serve("late", version)

    await until(lambda: only(acme, 2, 3))
    assert await code_of(acme.infer("late", 1, item([[0, 0, 0, 0]]))) == "not_found"


async def test_a_rollback_is_told_as_ready_at_once(acme: Tenant) -> None:
    await acme.add("late", models.logistic(), models.logistic(seed=1))
    await acme.serve("late", 1)
    await acme.serve("late", 2)
    operation = await acme.roll_back("late")
    generation = (await acme.release("late")).generation

    reader = await acme.house.runtime.bus.reader(["aimass.inference.v1"], f"test-{acme.name}")
    async with asyncio.timeout(5):
        while True:
            events = [EngineChanged.FromString(e.body) for e in await reader.poll(1000) if e.scope.tenant == acme.name]
            if any(e.generation == generation and e.engine.version == 1 for e in events):
                break
    await acme.switch("late")
    assert (await acme.ended(operation)).state == SUCCEEDED


async def test_a_withdrawn_model_is_kept_for_a_rollback_only(acme: Tenant) -> None:
    await acme.add("late", models.logistic(), models.logistic(seed=1))
    await acme.serve("late", 1)
    await acme.serve("late", 2)
    operation = await acme.withdraw("late")
    await acme.switch("late")
    assert (await acme.ended(operation)).state == SUCCEEDED

    await until(lambda: only(acme, 2))


async def test_requests_are_answered_without_a_gap_while_versions_change(acme: Tenant) -> None:
    await acme.add("late", models.logistic(), models.logistic(seed=1))
    await acme.serve("late", 1)
    current, answered, stop = 1, dict[int, int](), asyncio.Event()
    expected = dict[int, bytes]()

    async def caller() -> None:
        while not stop.is_set():
            version = current
            (result,) = await acme.infer("late", version, item([[1, 2, 3, 4]]))
            assert not result.HasField("failure")
            known = expected.setdefault(version, result.outputs[0].raw)
            assert result.outputs[0].raw == known
            answered[version] = answered.get(version, 0) + 1

    callers = [asyncio.ensure_future(caller()) for _ in range(8)]
    for version in (2, 1, 2, 1):
        operation = await acme.promote("late", version)
        await until(partial(acme.is_ready, "late", version))
        current = version
        await acme.switch("late")
        assert (await acme.ended(operation)).state == SUCCEEDED
    stop.set()
    await asyncio.gather(*callers)

    assert set(answered) == {1, 2}
    assert expected[1] != expected[2]


async def test_a_version_goes_only_when_its_calls_have_ended(acme: Tenant) -> None:
    slow = models.slow(steps=100_000)
    await acme.add("late", slow, models.logistic(), models.logistic(seed=1))
    await acme.serve("late", 1)
    calls = [asyncio.ensure_future(acme.infer("late", 1, item([[1]]))) for _ in range(4)]
    await asyncio.sleep(0.01)
    await acme.serve("late", 2)
    await acme.serve("late", 3)

    for (result,) in await asyncio.gather(*calls):
        assert not result.HasField("failure")
    await until(lambda: only(acme, 2, 3))


async def test_another_tenant_has_no_engines_and_no_answers(acme: Tenant, other: Tenant) -> None:
    await acme.add("late", models.logistic())
    await acme.serve("late", 1)

    assert await other.listed() == {}
    assert await code_of(other.infer("late", 1, item([[0, 0, 0, 0]]))) == "not_found"


async def test_engines_are_listed_a_page_at_a_time(acme: Tenant) -> None:
    for model in ("b", "a"):
        await acme.add(model, models.logistic())
        await acme.serve(model, 1)
    first = await acme.engines().ListEngines(pb.ListEnginesRequest(page_size=1))
    token = first.next_page_token
    second = await acme.engines().ListEngines(pb.ListEnginesRequest(page_size=1, page_token=token))

    assert [engine.model for engine in (*first.engines, *second.engines)] == ["a", "b"]
    assert first.engines[0].HasField("ready_time")
    assert not second.next_page_token


async def test_the_snapshot_has_all_tenants_and_is_for_the_platform(pair: House, acme: Tenant) -> None:
    await acme.add("late", models.logistic())
    await acme.serve("late", 1)
    stub = pair.stub(EnginesStub, "inference", tenant="system")
    reply = await stub.SnapshotEngines(pb.SnapshotEnginesRequest())

    assert reply.instance == pair.runtime.instance
    assert (acme.name, "late", 1) in [(e.tenant, e.engine.model, e.engine.version) for e in reply.engines]
    assert await code_of(acme.engines().SnapshotEngines(pb.SnapshotEnginesRequest())) == "forbidden"


async def test_what_serves_is_loaded_again_after_a_restart(tmp_path: Path) -> None:
    async with house(tmp_path, "registry", "inference") as running:
        acme = Tenant(running)
        await acme.add("late", models.logistic(), models.logistic(seed=1))
        await acme.serve("late", 1)
        before = await acme.infer("late", 1, item([[1, 2, 3, 4]]))
        operation = await acme.promote("late", 2)
    async with house(tmp_path, "registry", "inference") as running:
        acme = Tenant(running)
        await until(running.runtime.ready)
        assert await acme.infer("late", 1, item([[1, 2, 3, 4]])) == before
        # The change that was under way goes on.
        await until(lambda: acme.is_ready("late", 2))
        await acme.switch("late")
        assert (await acme.ended(operation)).state == SUCCEEDED


async def test_without_a_registry_it_is_not_ready(tmp_path: Path, free_port: int) -> None:
    nowhere = f"static:registry=127.0.0.1:{free_port}"
    async with house(tmp_path, "inference", AIMASS_DISCOVERY_URL=nowhere) as running:
        await asyncio.sleep(0.2)

        assert not running.runtime.ready()
        assert await Tenant(running).listed() == {}
