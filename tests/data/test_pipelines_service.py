"""Pipelines through their RPCs at the edges: fields, keys, races, runs that fail on the way and go on."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from aimass.v1 import datasets_pb2, operations_pb2
from aimass.v1 import pipelines_pb2 as pb
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.operations_pb2_grpc import OperationsStub
from aimass.v1.pipelines_pb2_grpc import PipelinesStub
from services.data.database import schema
from services.data.pipelines.domain import Output, Run, Step
from services.data.pipelines.store import Store
from services.data.pipelines.wire import run_to_wire
from services.kit.auth import Scope
from services.kit.errors import Code, Failure, NotFound
from tests.data.tables import SCOPE, add
from tests.support.house import House, house
from tests.support.refused import refused

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def home(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with house(tmp_path_factory.mktemp("pipelines"), "data") as running:
        await add(running, "raw", {"id": [1, 2, 3], "g": [1, 1, 2]}, append=True)
        yield running


def stub(home: House, **how: Any) -> Any:
    return home.stub(PipelinesStub, "data", **how)


def step(
    data_set: str, sql: str = "SELECT id FROM raw", inputs: tuple[str, ...] = ("raw",), **said: Any
) -> pb.PipelineStep:
    return pb.PipelineStep(data_set=data_set, sql=sql, inputs=inputs, **said)


async def create(home: House, name: str, *steps: pb.PipelineStep, **how: Any) -> Any:
    return await stub(home, **how).CreatePipeline(pb.CreatePipelineRequest(pipeline=name, steps=steps))


async def begin(home: House, name: str, **how: Any) -> str:
    return str((await stub(home, **how).RunPipeline(pb.RunPipelineRequest(pipeline=name))).operation)


async def ended(home: House, operation: str) -> operations_pb2.Operation:
    request = operations_pb2.WaitOperationRequest(operation=operation)
    found: operations_pb2.Operation = await home.stub(OperationsStub, "data").WaitOperation(request, timeout=60)
    assert found.HasField("end_time")
    return found


async def outputs(home: House, operation: str) -> list[tuple[str, int, int]]:
    found, run = await ended(home, operation), pb.PipelineRun()
    assert found.response.Unpack(run), found.error
    return [(output.data_set, output.version, output.rows) for output in run.outputs]


async def newest(home: House, name: str) -> int:
    request = datasets_pb2.GetDataSetRequest(data_set=name)
    return int((await home.stub(DataSetsStub, "data").GetDataSet(request)).latest_version)


def store(home: House) -> Store:
    database = home.runtime.apps["data"].database
    assert database
    return Store(database)


def condition(reason: str = "bad", expression: str = "id > 1") -> pb.RowCondition:
    return pb.RowCondition(reason=reason, expression=expression)


@pytest.mark.parametrize(
    ("steps", "code", "pointer"),
    [
        ([], Code.INVALID_VALUE, "/steps"),
        ([step(f"s{number}") for number in range(51)], Code.INVALID_VALUE, "/steps"),
        ([step("Out")], Code.INVALID_NAME, "/steps/0/data_set"),
        ([step("out", sql="")], Code.INVALID_VALUE, "/steps/0/sql"),
        ([step("out", sql="x" * 20_001)], Code.INVALID_VALUE, "/steps/0/sql"),
        ([step("out", inputs=())], Code.INVALID_VALUE, "/steps/0/inputs"),
        ([step("out", inputs=tuple(f"i{n}" for n in range(21)))], Code.INVALID_VALUE, "/steps/0/inputs"),
        ([step("out", inputs=("raw", "../x"))], Code.INVALID_NAME, "/steps/0/inputs/1"),
        ([step("out", inputs=("raw", "raw"))], Code.INVALID_VALUE, "/steps/0/inputs/1"),
        ([step("raw")], Code.INVALID_VALUE, "/steps/0/inputs/0"),
        ([step("out"), step("out")], Code.INVALID_VALUE, "/steps/1/data_set"),
        ([step("out", cursor="c" * 129)], Code.INVALID_VALUE, "/steps/0/cursor"),
        ([step("out", quarantine=[condition("no word")])], Code.INVALID_NAME, "/steps/0/quarantine/0/reason"),
        ([step("out", exclude=[condition(), condition()])], Code.INVALID_VALUE, "/steps/0/exclude/1/reason"),
        ([step("out", exclude=[condition(expression="")])], Code.INVALID_VALUE, "/steps/0/exclude/0/expression"),
        ([step("out", sql="SELECT * FROM other")], Code.SQL_NOT_ALLOWED, "/steps/0/sql"),
        ([step("out", sql="SELECT INTERVAL 'x' DAY AS a FROM raw")], Code.SQL_NOT_ALLOWED, "/steps/0/sql"),
        ([step("out", quarantine=[condition(expression="raw.id > 1")])], Code.SQL_NOT_ALLOWED,
         "/steps/0/quarantine/0/expression"),
        ([step("a"), step("b", exclude=[condition(), condition("c", "sum(id) > 1")])], Code.SQL_NOT_ALLOWED,
         "/steps/1/exclude/1/expression"),
    ],
)  # fmt: skip
async def test_a_step_that_cannot_be_is_named_by_its_place(
    home: House, steps: list[pb.PipelineStep], code: Code, pointer: str
) -> None:
    failure = await refused(create(home, "wrong", *steps))

    assert failure.code is code
    assert pointer in [violation.pointer for violation in failure.violations]
    assert (await refused(stub(home).GetPipeline(pb.GetPipelineRequest(pipeline="wrong")))).code is Code.NOT_FOUND


async def test_of_many_who_run_it_one_does(home: House) -> None:
    await create(home, "raced", step("raced-out"))
    found = await asyncio.gather(*(begin(home, "raced") for _ in range(5)), return_exceptions=True)
    begun = [answer for answer in found if isinstance(answer, str)]

    assert [failure.code for failure in found if isinstance(failure, Failure)] == [Code.IN_PROGRESS] * 4
    assert await outputs(home, begun[0]) == [("raced-out", 1, 3)]


async def test_of_many_who_run_it_with_one_key_all_hear_of_the_same_run(home: House) -> None:
    found = {await begin(home, "raced", idempotency_key="run") for _ in range(3)}

    assert len(found) == 1
    assert await outputs(home, found.pop()) == [("raced-out", 2, 3)]


async def test_what_failed_later_does_not_undo_what_was_done(home: House) -> None:
    second = step("broken", 'SELECT 1 / (id - id) AS x FROM "first-out"', ("first-out",))
    await create(home, "halfway", step("first-out", cursor="id"), second)
    operation = await ended(home, await begin(home, "halfway"))

    assert (operation.state, operation.error.code) == (operations_pb2.OPERATION_STATE_FAILED, "query_invalid")
    assert operation.error.detail.startswith("broken: the engine refuses the query")
    assert (await newest(home, "first-out"), await newest(home, "broken")) == (1, 0)


async def test_an_output_that_was_deleted_fails_the_run_with_a_word(home: House) -> None:
    await create(home, "gone", step("gone-out"))
    await add(home, "gone-out", {"id": [1]})
    data_sets = home.stub(DataSetsStub, "data", if_match="*")
    await data_sets.DeleteDataSet(datasets_pb2.DeleteDataSetRequest(data_set="gone-out"))
    operation = await ended(home, await begin(home, "gone"))

    assert operation.error.code == "failed_precondition"
    assert operation.error.detail == "the data set gone-out is deleted"


async def test_a_pipeline_that_is_deleted_while_it_runs_ends_its_run(home: House) -> None:
    await create(home, "leaving", step("leaving-out"))
    operation = await begin(home, "leaving")
    await stub(home, if_match='"1"').DeletePipeline(pb.DeletePipelineRequest(pipeline="leaving"))

    assert await outputs(home, operation) == [("leaving-out", 1, 3)]
    assert (await refused(begin(home, "leaving"))).code is Code.NOT_FOUND


async def test_a_run_that_has_ended_cannot_be_cancelled(home: House) -> None:
    operation = await begin(home, "raced", idempotency_key="run")
    request = operations_pb2.CancelOperationRequest(operation=operation)
    found = await home.stub(OperationsStub, "data").CancelOperation(request)

    assert found.state == operations_pb2.OPERATION_STATE_SUCCEEDED


async def begun(kept: Store, wanted: Run) -> Run:
    """A run that this process does."""
    run, _ = await kept.begin(SCOPE, wanted, None)
    await schema.tenure.take([run.operation])
    return run


async def test_nothing_is_recorded_for_a_run_that_has_ended(home: House) -> None:
    kept, now = store(home), home.runtime.now()
    wanted = Run("r-ended", "raced", "", "running", (), {}, (), now)
    run = await begun(kept, wanted)
    await kept.end(SCOPE, run.run, now, None)
    with pytest.raises(Failure, match="the run r-ended has ended") as caught:
        await kept.record_step(SCOPE, run.run, Output("raced-out", 1, 1), None, now, run_to_wire)

    assert caught.value.code is Code.CANCELLED
    await kept.end(SCOPE, run.run, now, Failure(Code.INTERNAL, "late"))
    assert (await kept.run(SCOPE, run.run)).state == "cancelled"
    with pytest.raises(NotFound, match="there is no run r-ended"):
        await kept.run(Scope("other"), run.run)
    assert await kept.unfinished() == []


async def test_a_run_that_another_process_has_by_now_is_ended_by_nobody_else(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, now, leases = store(home), home.runtime.now(), schema.tenure._leases
    wanted = Run("r-taken", "raced", "", "running", (Step("one", "", ("raw",)),), {"raw": 1}, (), now)
    with monkeypatch.context() as shared:
        shared.setattr(schema.operations.db, "near", False)  # so that there may be another process
        run = await begun(kept, wanted)
        await schema.operations.db.write(lambda c: leases.take(c, [run.operation], "other", 60, seize=True))
        recorded = kept.record_step(SCOPE, run.run, Output("one", 1, 1), None, now, run_to_wire)
        for late in (recorded, kept.end(SCOPE, run.run, now, None)):
            assert (await refused(late)).code is Code.FENCE_STALE

    assert (await kept.run(SCOPE, run.run)) == run
    await kept.end(SCOPE, run.run, now, None)


async def test_a_cursor_belongs_to_its_pipeline_and_its_step(home: House) -> None:
    kept, now = store(home), home.runtime.now()
    steps = (Step("one", "", ("raw",), cursor="id"), Step("two", "", ("raw",), cursor="id"))
    run = await begun(kept, Run("r-cursor", "raced", "", "running", steps, {"raw": 1}, (), now))
    assert await kept.cursor(SCOPE, run, steps[0]) is None
    await kept.record_step(SCOPE, run.run, Output("one", 1, 1), 2**63 - 1, now, run_to_wire)
    await kept.record_step(SCOPE, run.run, Output("two", 1, 1), "it's", now, run_to_wire)

    assert [await kept.cursor(SCOPE, run, one) for one in steps] == [2**63 - 1, "it's"]
    assert await kept.cursor(SCOPE, replace(run, pipeline="other"), steps[0]) is None
    assert await kept.cursor(Scope("other"), run, steps[0]) is None
    assert (await kept.run(SCOPE, run.run)).state == "succeeded"


async def test_a_step_that_saw_nothing_keeps_the_place_it_was_at(home: House) -> None:
    kept, now = store(home), home.runtime.now()
    steps = (Step("kept", "", ("raw",), cursor="id"),)
    for number, cursor in enumerate((7, None)):
        wanted = Run(f"r-kept-{number}", "raced", "", "running", steps, {"raw": 1}, (), now)
        run = await begun(kept, wanted)
        await kept.record_step(SCOPE, run.run, Output("kept", 1, 1), cursor, now, run_to_wire)

    assert await kept.cursor(SCOPE, run, steps[0]) == 7


async def test_two_projects_may_have_pipelines_of_one_name(home: House) -> None:
    await create(home, "named", step("out"))
    await create(home, "named", step("other-out"), project="other")
    ours = await stub(home).GetPipeline(pb.GetPipelineRequest(pipeline="named"))

    assert [found.data_set for found in ours.steps] == ["out"]
    assert (await refused(begin(home, "named", project="other"))).detail == "the input raw has no version yet"


async def test_undeleting_what_is_there_changes_nothing(home: House) -> None:
    made = await stub(home).GetPipeline(pb.GetPipelineRequest(pipeline="named"))

    assert await stub(home).UndeletePipeline(pb.UndeletePipelineRequest(pipeline="named")) == made
    failure = await refused(stub(home).UndeletePipeline(pb.UndeletePipelineRequest(pipeline="never")))
    assert (failure.code, failure.detail) == (Code.NOT_FOUND, "there is no pipeline never")
    assert (
        await refused(stub(home).DeletePipeline(pb.DeletePipelineRequest(pipeline="named")))
    ).code is Code.ETAG_REQUIRED
