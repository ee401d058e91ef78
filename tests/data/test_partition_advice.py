"""Advice about partitions through its RPCs: from queries, from data alone, and what it must not tell."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from aimass.v1 import datasets_pb2, operations_pb2
from aimass.v1 import partitions_pb2 as pb
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.operations_pb2_grpc import OperationsStub
from aimass.v1.partitions_pb2_grpc import PartitionsStub
from services.data.partition_advice import noting
from services.data.partition_advice.history import Asked, Kind
from services.kit.errors import Code
from tests.data.tables import SCOPE, add
from tests.support.house import House, house, until
from tests.support.refused import refused

ROWS = 150_000


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, "data") as running:
        yield running


def flights(rows: int = ROWS) -> pa.Table:
    rng = np.random.default_rng(5)
    carrier = pa.array([f"carrier {number}" for number in rng.integers(0, 12, rows)])
    return pa.table({"id": rng.permutation(rows), "carrier": carrier, "delay": rng.normal(size=rows)})


async def ask(home: House, sql: str, times: int = 1) -> datasets_pb2.QueryDataSetsResponse:
    request = datasets_pb2.QueryDataSetsRequest(sql=sql, tables=[datasets_pb2.QueryTable(data_set="flights")])
    for _ in range(times):
        found: datasets_pb2.QueryDataSetsResponse = await home.stub(DataSetsStub, "data").QueryDataSets(request)
    return found


async def ended(home: House, name: str) -> operations_pb2.Operation:
    stub = home.stub(OperationsStub, "data")

    async def done() -> operations_pb2.Operation | None:
        found: operations_pb2.Operation = await stub.GetOperation(operations_pb2.GetOperationRequest(operation=name))
        return found if found.HasField("end_time") else None

    found: operations_pb2.Operation = await until(done, 60)
    assert found.state == operations_pb2.OPERATION_STATE_SUCCEEDED, found.error
    return found


async def advised(home: House, **asked: Any) -> pb.PartitionAdvice:
    stub = home.stub(PartitionsStub, "data")
    operation = await stub.AdvisePartitions(pb.AdvisePartitionsRequest(data_set="flights", **asked))
    found = pb.PartitionAdvice()
    assert (await ended(home, operation.operation)).response.Unpack(found)
    return found


async def data_set(home: House) -> datasets_pb2.DataSet:
    stub = home.stub(DataSetsStub, "data")
    found: datasets_pb2.DataSet = await stub.GetDataSet(datasets_pb2.GetDataSetRequest(data_set="flights"))
    return found


def remembered(home: House) -> Any:
    """What the running service remembers of queries."""
    return home.runtime.apps["data"].rpc["aimass.v1.Partitions"]._advice._history


async def history(home: House) -> list[Asked]:
    found: list[Asked] = await remembered(home).asked(SCOPE, "flights")
    return found


async def test_advice_follows_the_queries_and_is_taken_as_it_is(home: House) -> None:
    await add(home, "flights", flights())
    await ask(home, "SELECT sum(delay) AS late FROM flights WHERE carrier = 'carrier 3'", 3)
    before = await ask(home, "SELECT sum(delay) AS late FROM flights WHERE carrier = 'carrier 4'", 3)
    found = await advised(home)

    assert list(found.partitioning.fields) == ["carrier"], found.reasons
    assert (found.queries, found.data_set_version, found.undivided.files) == (6, 1, 1)
    assert found.reasons[0].startswith("Of 6 queries, newer ones counting more: 100% carrier equal to a value.")
    assert found.seconds_saved > 0.001
    assert found.bytes_saved > found.undivided.bytes * 0.5
    assert found.choice.partitioning == found.partitioning
    assert {tuple(each.partitioning.fields) for each in found.alternatives}
    assert found.tried > 5

    etag, stub = (await data_set(home)).etag, home.stub(PartitionsStub, "data")
    request = pb.RepartitionDataSetRequest(data_set="flights", partitioning=found.partitioning)
    operation = await stub.RepartitionDataSet(request, metadata=[("if-match", etag)])
    await ended(home, operation.operation)
    after = await ask(home, "SELECT sum(delay) AS late FROM flights WHERE carrier = 'carrier 4'")
    assert before.rows[0]["late"] == pytest.approx(after.rows[0]["late"])
    assert (after.reads[0].files_read, before.reads[0].files_read) == (1, 1)
    assert after.reads[0].files > 3
    again = await advised(home)
    assert again.partitioning == found.partitioning or again.current.seconds < 1.1 * again.choice.forecast.seconds
    assert again.current.bytes_read < found.current.bytes_read * 0.5


async def test_without_queries_it_is_told_what_is_supposed(home: House) -> None:
    rows = flights(600_000)
    await add(home, "flights", rows)
    found = await advised(home)

    assert found.queries == 0
    assert found.reasons[0].startswith("No query of it is known. Supposed is that half of them")
    assert list(found.partitioning.fields) == ["carrier"], found.reasons
    assert 4 <= found.choice.forecast.partitions <= 64


async def test_little_data_is_not_divided(home: House) -> None:
    await add(home, "flights", flights(300))
    await ask(home, "SELECT id FROM flights WHERE carrier = 'carrier 3'", 3)
    found = await advised(home)

    assert not found.HasField("partitioning")
    assert found.bytes_saved == 0
    assert "which does not pay" in found.reasons[1]


async def test_a_data_set_without_rows_or_columns_to_divide_by_is_not_divided(home: House) -> None:
    await add(home, "flights", pa.table({"id": pa.array([], pa.int64())}))
    assert not (await advised(home)).HasField("partitioning")


async def test_masked_columns_are_named_by_no_advice(home: House) -> None:
    await add(home, "flights", flights())
    await ask(home, "SELECT sum(delay) AS late FROM flights WHERE carrier = 'carrier 3'", 8)
    mask = datasets_pb2.MaskColumnsRequest(data_set="flights", columns=["Carrier"])
    await home.stub(DataSetsStub, "data").MaskColumns(mask, metadata=[("if-match", (await data_set(home)).etag)])
    found = await advised(home)

    assert "carrier 3" not in str(found)
    ways = [found.partitioning, *(each.partitioning for each in found.alternatives)]
    assert not any("carrier" in way.fields for way in ways)
    assert "carrier: masked, so its values cannot divide the rows." in found.reasons


async def test_what_is_remembered_has_no_values_and_goes_with_the_data_set(home: House) -> None:
    await add(home, "flights", flights(2_000))
    await ask(home, "SELECT id FROM flights WHERE carrier = 'secret' AND id BETWEEN 100 AND 350", 2)
    await ask(home, "SELECT * FROM flights WHERE carrier IN ('a', 'b', 'c', 'd')")
    found = {tuple((test.column, test.kind, test.step) for test in asked.shape): asked for asked in await history(home)}

    both = found[(("carrier", Kind.EQUAL, 0), ("id", Kind.RANGE, 3))]
    among = found[(("carrier", Kind.AMONG, 2),)]
    assert (both.counts.queries, round(both.counts.columns, 3), among.counts.columns) == (2, 1.333, 1.0)
    assert (both.counts.files_read, both.counts.files, both.counts.bytes_read) == (2, 2, both.counts.bytes)
    assert "secret" not in str(found)
    assert "350" not in str(found)

    stub = home.stub(DataSetsStub, "data")
    etag = (await data_set(home)).etag
    await ask(home, "SELECT id FROM flights")  # still waits to be stored when the data set is gone
    await stub.DeleteDataSet(datasets_pb2.DeleteDataSetRequest(data_set="flights"), metadata=[("if-match", etag)])
    assert await history(home) == []
    await stub.UndeleteDataSet(datasets_pb2.UndeleteDataSetRequest(data_set="flights"))
    assert await history(home) == []


async def test_what_comes_when_enough_waits_is_not_remembered_and_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noting, "_MOST", 1)
    monkeypatch.setattr(noting, "_EVERY", 3600.0)
    others = [datasets_pb2.QueryTable(data_set="others")]
    async with house(tmp_path, "data") as home:
        await add(home, "others", {"id": [1]})
        await add(home, "flights", flights(10))
        request = datasets_pb2.QueryDataSetsRequest(sql="SELECT id FROM others", tables=others)
        await home.stub(DataSetsStub, "data").QueryDataSets(request)
        await ask(home, "SELECT id FROM flights")

        assert await history(home) == []
        await ask(home, "SELECT id FROM flights")
        assert [asked.counts.queries for asked in await history(home)] == [1]


async def test_what_was_asked_is_there_after_a_restart(tmp_path: Path) -> None:
    async with house(tmp_path, "data") as home:
        await add(home, "flights", flights(100))
        await ask(home, "SELECT id FROM flights WHERE id = 7")
    async with house(tmp_path, "data") as home:
        assert [asked.counts.queries for asked in await history(home)] == [1]


async def test_bad_input_is_refused(home: House) -> None:
    stub = home.stub(PartitionsStub, "data")

    async def failure(data_set: str, **said: Any) -> Any:
        return await refused(stub.AdvisePartitions(pb.AdvisePartitionsRequest(data_set=data_set, **said)))

    assert (await failure("none")).code is Code.NOT_FOUND
    layout = pb.Partitioning(strategy=pb.PARTITION_STRATEGY_HASH, fields=["id"], count=4)
    request = pb.RepartitionDataSetRequest(data_set="empty", partitioning=layout, create=True)
    await ended(home, (await stub.RepartitionDataSet(request, metadata=[("if-match", "*")])).operation)
    assert (await failure("empty")).code is Code.FAILED_PRECONDITION
    await add(home, "flights", flights(10))
    assert (await failure("flights", cpu_seconds=-1)).violations[0].pointer == "/cpu_seconds"


async def test_advice_that_is_cancelled_ends(home: House) -> None:
    await add(home, "flights", flights())
    stub = home.stub(PartitionsStub, "data")
    operation = await stub.AdvisePartitions(pb.AdvisePartitionsRequest(data_set="flights"))
    await asyncio.sleep(0.1)
    cancel = operations_pb2.CancelOperationRequest(operation=operation.operation)
    await home.stub(OperationsStub, "data").CancelOperation(cancel)
    request = operations_pb2.GetOperationRequest(operation=operation.operation)
    found = await home.stub(OperationsStub, "data").GetOperation(request)
    assert found.state == operations_pb2.OPERATION_STATE_CANCELLED


async def test_advice_is_made_after_a_restart(tmp_path: Path) -> None:
    async with house(tmp_path, "data") as home:
        await add(home, "flights", flights(2_000))
        stub = home.stub(PartitionsStub, "data")
        operation = await stub.AdvisePartitions(pb.AdvisePartitionsRequest(data_set="flights"))
    async with house(tmp_path, "data") as home:
        assert (await ended(home, operation.operation)).response.Is(pb.PartitionAdvice.DESCRIPTOR)
