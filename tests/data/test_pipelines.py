"""Pipelines through their RPCs, with real children."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from aimass.v1 import datasets_pb2, operations_pb2
from aimass.v1 import pipelines_pb2 as pb
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.operations_pb2_grpc import OperationsStub
from aimass.v1.pipelines_pb2_grpc import PipelinesStub
from services.kit.errors import Code, Failure
from tests.data.tables import add
from tests.support.house import House, house, until
from tests.support.refused import code_of

RAW = {
    "id": [1, 2, 3, 4],
    "origin": ["JFK", "EWR", "JFK", "LGA"],
    "hour": [5, 6, 5, 7],
    "delay": [20.0, None, 3.0, 1.0],
    "distance": [100, 200, -1, 300],
}
LATER = {"id": [5, 6], "origin": ["JFK", "EWR"], "hour": [5, 6], "delay": [30.0, None], "distance": [1, 2]}
WEATHER = {"origin": ["JFK", "EWR"], "hour": [5, 6], "temp": [39.0, 41.0]}
JOIN = """
    SELECT r.id, r.origin, r.delay, r.distance, w.temp, CASE WHEN r.delay > 15 THEN 1 ELSE 0 END AS late
    FROM raw AS r LEFT JOIN weather AS w ON r.origin = w.origin AND r.hour = w.hour
"""
FLIGHTS = pb.PipelineStep(
    data_set="flights",
    sql=JOIN,
    inputs=["raw", "weather"],
    quarantine=[pb.RowCondition(reason="negative", expression="distance < 0")],
    exclude=[pb.RowCondition(reason="cancelled", expression="delay IS NULL")],
    cursor="id",
)
COUNTS = pb.PipelineStep(
    data_set="counts",
    sql="SELECT origin, count(*) AS n FROM flights GROUP BY origin ORDER BY origin",
    inputs=["flights"],
)
SLOW = pb.PipelineStep(
    data_set="slow",
    sql="SELECT count(*) AS n FROM raw AS a " + " ".join(f"JOIN raw AS {x} ON {x}.id >= 0" for x in "bcd"),
    inputs=["raw"],
)


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, "data") as running:
        yield running


@pytest.fixture
def stub(home: House) -> Any:
    return home.stub(PipelinesStub, "data")


async def create(home: House, *steps: pb.PipelineStep, name: str = "derive") -> pb.Pipeline:
    request = pb.CreatePipelineRequest(pipeline=name, steps=steps)
    made: pb.Pipeline = await home.stub(PipelinesStub, "data").CreatePipeline(request)
    return made


async def ended(home: House, operation: str) -> operations_pb2.Operation:
    request = operations_pb2.WaitOperationRequest(operation=operation)
    found: operations_pb2.Operation = await home.stub(OperationsStub, "data").WaitOperation(request, timeout=60)
    assert found.HasField("end_time")
    return found


async def run(home: House, name: str = "derive", **metadata: str) -> list[tuple[str, int, int]]:
    """Runs a pipeline to its end: data set, version, rows of each output."""
    begun = await home.stub(PipelinesStub, "data", **metadata).RunPipeline(pb.RunPipelineRequest(pipeline=name))
    operation = await ended(home, begun.operation)
    assert operation.state == operations_pb2.OPERATION_STATE_SUCCEEDED, operation.error
    found = pb.PipelineRun()
    assert operation.response.Unpack(found)
    return [(output.data_set, output.version, output.rows) for output in found.outputs]


async def rows(home: House, name: str, version: int = 0) -> list[dict[str, Any]]:
    request = datasets_pb2.ReadRowsRequest(data_set=name, version=version)
    return [dict(row) for row in (await home.stub(DataSetsStub, "data").ReadRows(request)).rows]


async def version(home: House, name: str, number: int = 0) -> datasets_pb2.DataSetVersion:
    request = datasets_pb2.GetDataSetVersionRequest(data_set=name, version=number)
    found: datasets_pb2.DataSetVersion = await home.stub(DataSetsStub, "data").GetDataSetVersion(request)
    return found


def left_behind(home: House, name: str) -> list[Path]:
    """What lies in a table's folder; a run that ended without a version is swept just after its end is told."""
    return list((home.runtime.home / "tables" / "acme" / "default" / name).glob("*"))


async def test_steps_write_versions_and_later_runs_add_only_new_rows(home: House) -> None:
    await add(home, "raw", RAW, append=True)
    await add(home, "weather", WEATHER)
    await create(home, FLIGHTS, COUNTS)

    assert await run(home) == [("flights", 1, 2), ("counts", 1, 2)]
    assert await rows(home, "flights") == [
        {"id": 1, "origin": "JFK", "delay": 20, "distance": 100, "temp": 39, "late": 1},
        {"id": 4, "origin": "LGA", "delay": 1, "distance": 300, "temp": None, "late": 0},
    ]
    first = await version(home, "flights")
    assert (dict(first.quality.quarantined), dict(first.quality.excluded)) == ({"negative": 1}, {"cancelled": 1})
    assert [(node.name, node.version) for node in first.parents] == [("raw", 1), ("weather", 1)]

    await add(home, "raw", LATER, append=True)
    assert await run(home) == [("flights", 2, 1), ("counts", 2, 2)]
    assert [row["id"] for row in await rows(home, "flights")] == [1, 4, 5]
    assert [row["id"] for row in await rows(home, "flights", 1)] == [1, 4]
    second = await version(home, "flights")
    assert (dict(second.quality.excluded), second.rows_added) == ({"cancelled": 1}, 1)
    assert [(node.name, node.version) for node in second.parents] == [("flights", 1), ("raw", 2), ("weather", 1)]
    request = datasets_pb2.ListQuarantineRequest(data_set="flights", version=1)
    (broken,) = (await home.stub(DataSetsStub, "data").ListQuarantine(request)).rows
    assert (broken.reason, broken.origin) == ("negative", "flights:3")
    assert '"distance":-1' in broken.record


async def test_what_was_excluded_once_is_not_seen_again(home: House) -> None:
    await add(home, "raw", {"id": [1, 2], "delay": [1.0, None]}, append=True)
    step = pb.PipelineStep(
        data_set="out", sql="SELECT * FROM raw", inputs=["raw"], cursor="id", exclude=FLIGHTS.exclude
    )
    await create(home, step)

    assert await run(home) == [("out", 1, 1)]
    assert await run(home) == [("out", 1, 0)]


async def test_the_same_versions_give_the_same_version(home: House) -> None:
    await add(home, "raw", RAW)
    await add(home, "weather", WEATHER)
    step = pb.PipelineStep(data_set="joined", sql=JOIN + "ORDER BY distance DESC", inputs=["raw", "weather"])
    await create(home, step)
    await run(home)
    await run(home)

    assert [row["distance"] for row in await rows(home, "joined")] == [300, 200, 100, -1]
    assert (await version(home, "joined", 1)).digest == (await version(home, "joined", 2)).digest


async def test_a_step_that_cannot_be_taken_fails_the_run(home: House) -> None:
    await add(home, "raw", RAW)
    step = pb.PipelineStep(data_set="a", sql="SELECT hour FROM raw", inputs=["raw"], cursor="hour")
    await create(home, step)
    begun = await home.stub(PipelinesStub, "data").RunPipeline(pb.RunPipelineRequest(pipeline="derive"))
    operation = await ended(home, begun.operation)

    assert operation.state == operations_pb2.OPERATION_STATE_FAILED
    assert operation.error.code == "failed_precondition"
    assert operation.error.detail == "a: the cursor hour of a has a value twice"
    await until(lambda: not left_behind(home, "a"))


async def test_a_cursor_may_be_a_time_a_date_or_a_text(home: House) -> None:
    def raw(number: int) -> pa.Table:
        at = datetime(2013, 1, number, 1, 0, 0, 500, tzinfo=UTC)
        return pa.table({"id": [f"it's {number}"], "t": [at], "d": [at.date()]})

    await add(home, "raw", raw(1), append=True)
    names = {"texts": "id", "times": "t", "dates": "d"}
    steps = [
        pb.PipelineStep(data_set=name, sql=f"SELECT {cursor} FROM raw", inputs=["raw"], cursor=cursor)
        for name, cursor in names.items()
    ]
    await create(home, *steps)
    await run(home)
    await add(home, "raw", raw(2), append=True)

    assert await run(home) == [("texts", 2, 1), ("times", 2, 1), ("dates", 2, 1)]
    assert [row["d"] for row in await rows(home, "dates")] == ["2013-01-01", "2013-01-02"]


async def test_an_input_without_a_version_is_named(home: House, stub: Any) -> None:
    await add(home, "raw", RAW)
    await create(home, FLIGHTS)

    with pytest.raises(Failure, match="the input weather has no version yet") as caught:
        await stub.RunPipeline(pb.RunPipelineRequest(pipeline="derive"))
    assert caught.value.code is Code.FAILED_PRECONDITION


async def test_a_run_is_cancelled_and_only_one_runs_at_a_time(home: House, stub: Any) -> None:
    await add(home, "raw", {"id": list(range(1, 3000))})
    await create(home, SLOW)
    begun = await stub.RunPipeline(pb.RunPipelineRequest(pipeline="derive"))
    assert await code_of(stub.RunPipeline(pb.RunPipelineRequest(pipeline="derive"))) is Code.IN_PROGRESS
    await asyncio.sleep(0.2)
    operations = home.stub(OperationsStub, "data")
    await operations.CancelOperation(operations_pb2.CancelOperationRequest(operation=begun.operation))

    assert (await ended(home, begun.operation)).state == operations_pb2.OPERATION_STATE_CANCELLED
    await until(lambda: not left_behind(home, "slow"))
    again = await stub.RunPipeline(pb.RunPipelineRequest(pipeline="derive"))
    await operations.CancelOperation(operations_pb2.CancelOperationRequest(operation=again.operation))
    assert (await ended(home, again.operation)).state == operations_pb2.OPERATION_STATE_CANCELLED


async def test_a_stopped_process_is_told_of_no_cancel(tmp_path: Path) -> None:
    async with house(tmp_path, "data") as home:
        schema = home.runtime.apps["data"].schema
        assert schema
        assert schema.operations.on_cancel
    assert not schema.operations.on_cancel


async def test_a_repeated_call_has_one_effect_and_one_answer(home: House) -> None:
    await add(home, "raw", RAW)
    keyed = home.stub(PipelinesStub, "data", idempotency_key="k")
    step = pb.PipelineStep(data_set="out", sql="SELECT id FROM raw", inputs=["raw"])
    request = pb.CreatePipelineRequest(pipeline="derive", steps=[step])
    assert await keyed.CreatePipeline(request) == await keyed.CreatePipeline(request)

    first = await keyed.RunPipeline(pb.RunPipelineRequest(pipeline="derive"))
    await ended(home, first.operation)
    assert await keyed.RunPipeline(pb.RunPipelineRequest(pipeline="derive")) == first
    assert (await version(home, "out")).version == 1
    other = pb.CreatePipelineRequest(pipeline="derive", description="other", steps=[step])
    assert await code_of(keyed.CreatePipeline(other)) is Code.KEY_REUSED


async def test_a_pipeline_comes_back_as_it_was_made(home: House, stub: Any) -> None:
    made = await create(home, FLIGHTS, COUNTS)

    assert list(made.steps) == [FLIGHTS, COUNTS]
    assert await stub.GetPipeline(pb.GetPipelineRequest(pipeline="derive")) == made
    assert await code_of(create(home, COUNTS)) is Code.ALREADY_EXISTS


async def test_pipelines_are_listed_by_name(home: House, stub: Any) -> None:
    for name in ("b", "c", "a"):
        await create(home, COUNTS, name=name)
    first = await stub.ListPipelines(pb.ListPipelinesRequest(page_size=2))
    second = await stub.ListPipelines(pb.ListPipelinesRequest(page_size=2, page_token=first.next_page_token))

    assert [found.pipeline for found in (*first.pipelines, *second.pipelines)] == ["a", "b", "c"]


async def test_a_deleted_pipeline_is_gone_until_it_is_brought_back(home: House, stub: Any) -> None:
    made = await create(home, COUNTS)
    wrong = home.stub(PipelinesStub, "data", if_match='"7"').DeletePipeline(pb.DeletePipelineRequest(pipeline="derive"))
    assert await code_of(wrong) is Code.ETAG_MISMATCH
    right = home.stub(PipelinesStub, "data", if_match=f'"{made.etag}"')
    gone = await right.DeletePipeline(pb.DeletePipelineRequest(pipeline="derive"))

    assert await right.DeletePipeline(pb.DeletePipelineRequest(pipeline="derive")) == gone
    assert await code_of(stub.GetPipeline(pb.GetPipelineRequest(pipeline="derive"))) is Code.NOT_FOUND
    assert await code_of(stub.RunPipeline(pb.RunPipelineRequest(pipeline="derive"))) is Code.NOT_FOUND
    assert await code_of(create(home, COUNTS)) is Code.ALREADY_EXISTS
    assert len((await stub.ListPipelines(pb.ListPipelinesRequest(show_deleted=True))).pipelines) == 1
    back = await stub.UndeletePipeline(pb.UndeletePipelineRequest(pipeline="derive"))
    assert (back.steps, back.HasField("delete_time")) == (made.steps, False)


async def test_another_tenant_finds_nothing(home: House) -> None:
    await create(home, COUNTS)
    foreign = home.stub(PipelinesStub, "data", tenant="other", if_match='"1"')

    for call in (
        foreign.GetPipeline(pb.GetPipelineRequest(pipeline="derive")),
        foreign.RunPipeline(pb.RunPipelineRequest(pipeline="derive")),
        foreign.DeletePipeline(pb.DeletePipelineRequest(pipeline="derive")),
        foreign.UndeletePipeline(pb.UndeletePipelineRequest(pipeline="derive")),
    ):
        assert await code_of(call) is Code.NOT_FOUND
    assert not (await foreign.ListPipelines(pb.ListPipelinesRequest())).pipelines


async def test_a_wrong_step_is_refused_with_its_place(home: House) -> None:
    wrong = pb.PipelineStep(data_set="x", sql="SELECT * FROM other", inputs=["raw"])
    with pytest.raises(Failure, match=r"steps\.1\.sql: the query reads other") as caught:
        await create(home, COUNTS, wrong)
    assert caught.value.code is Code.SQL_NOT_ALLOWED
    assert [v.pointer for v in caught.value.violations] == ["/steps/1/sql"]

    wrong = pb.PipelineStep(
        data_set="x", sql="SELECT 1", inputs=["raw"], exclude=[pb.RowCondition(reason="a", expression="1;2")]
    )
    with pytest.raises(Failure, match=r"steps\.0\.exclude\.0\.expression: exactly one statement"):
        await create(home, wrong)
