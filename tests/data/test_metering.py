"""What long work uses of processors: bounded, kept through crashes, said once for whoever asked for it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Connection

from aimass.v1 import datasets_pb2 as data_sets
from aimass.v1 import operations_pb2
from aimass.v1 import pipelines_pb2 as pipelines
from aimass.v1.data_events_pb2 import Work, WorkEnded
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.extractions_pb2 import RunExtractionRequest
from aimass.v1.extractions_pb2_grpc import ExtractionsStub
from aimass.v1.operations_pb2_grpc import OperationsStub
from aimass.v1.pipelines_pb2_grpc import PipelinesStub
from services.data.database import schema
from services.data.metering import domain
from services.data.metering import service as metering
from services.data.metering.domain import CpuBudget
from services.data.metering.service import Metering
from services.kit import contract
from services.kit.auth import Scope
from services.kit.errors import Code, Failure
from services.kit.process import Limits
from tests.data import places
from tests.data.extracting import FLIGHTS, FLIGHTS_SOURCE, Tenant
from tests.data.killed import FIRST, SECOND
from tests.data.tables import add
from tests.data.test_pipelines_crash import finished, kill
from tests.support.house import House, house, until

SPINNING, SCOPE = "tests.data.spinning", Scope("acme")


@pytest.fixture
async def running(home: Path) -> AsyncIterator[House]:
    async with house(home, "data") as running:
        yield running


class Undertaking:
    """Work of an operation."""

    def __init__(self, running: House) -> None:
        database = running.runtime.apps["data"].database
        assert database
        self.running, self.database, self.name = running, database, ""

    async def begin(self, budget: CpuBudget) -> None:
        def work(connection: Connection) -> str:
            made = schema.operations.create(connection, SCOPE, "a/method", "things/one")
            metering.begin(connection, SCOPE, made.operation, "extraction", budget)
            return made.operation

        self.name = await self.database.run(work)

    async def run(self, seconds: float, **also: Any) -> None:
        """A child of a process of its own, as far as the database knows."""
        request = {"seconds": seconds, **also}
        await Metering(self.database).run(SCOPE, self.name, SPINNING, request, Limits())

    async def ended(self) -> Work:
        await self.database.run(lambda connection: schema.operations.end(connection, SCOPE, self.name))
        return (await self.running.heard(WorkEnded))[0].work


@pytest.fixture
def work(running: House) -> Undertaking:
    return Undertaking(running)


async def test_what_children_used_is_said_when_the_work_has_ended(work: Undertaking) -> None:
    await work.begin(CpuBudget("key:abcd1234"))
    await work.run(0.6)
    with pytest.raises(Failure):
        await work.run(0.6, dies=True)
    told = await work.ended()

    assert (told.operation, told.kind, told.principal) == (work.name, "extraction", "key:abcd1234")
    assert told.HasField("end_time")
    assert told.cpu_milliseconds >= 1000


async def test_work_ends_when_it_has_used_up_what_it_was_given_and_costs_no_more(work: Undertaking) -> None:
    await work.begin(CpuBudget("key:abcd1234", 1))
    with pytest.raises(Failure, match="has used up the processor time") as bounded:
        await work.run(600)
    with pytest.raises(Failure, match="has used up the processor time") as again:
        await work.run(600)

    assert (bounded.value.code, again.value.code) == (Code.LIMIT_EXCEEDED, Code.LIMIT_EXCEEDED)
    assert (await work.ended()).cpu_milliseconds == 1000


async def test_what_one_child_used_is_not_there_for_the_next(work: Undertaking) -> None:
    await work.begin(CpuBudget("key:abcd1234", 2))
    await work.run(1.5)
    with pytest.raises(Failure, match="has used up the processor time"):
        await work.run(600)

    assert (await work.ended()).cpu_milliseconds == 2000


async def test_what_runs_is_kept_while_it_runs(work: Undertaking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metering, "_KEEP", 0.05)
    await work.begin(CpuBudget("key:abcd1234"))
    running = asyncio.ensure_future(work.run(600))

    async def kept() -> bool:
        found = await Metering(work.database).usage(SCOPE, work.name)
        return bool(found and sum(found.children.values()) >= 300)

    await until(kept)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_work_that_never_began_costs_nothing(work: Undertaking) -> None:
    await work.begin(CpuBudget("key:abcd1234"))

    assert (await work.ended()).cpu_milliseconds == 0


async def test_what_nobody_ordered_is_not_said(work: Undertaking, running: House) -> None:
    made = await work.database.run(lambda connection: schema.operations.create(connection, SCOPE, "a/method", "b"))
    await work.database.run(lambda connection: schema.operations.end(connection, SCOPE, made.operation))
    await work.begin(CpuBudget("key:abcd1234"))

    assert (await work.ended()).operation == work.name


@pytest.mark.parametrize("seconds", [-1, 10**7 + 1])
async def test_no_more_can_be_ordered_than_makes_sense(running: House, home: Path, seconds: int) -> None:
    places.flights(home)
    tenant = Tenant(running)
    await tenant.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
    request = RunExtractionRequest(rule="flights", cpu_seconds=seconds)
    with pytest.raises(Failure, match="cpu_seconds must lie between 0 and") as caught:
        await tenant.stub(ExtractionsStub).RunExtraction(request)

    assert caught.value.code is Code.INVALID_VALUE


async def test_an_extraction_says_what_it_used_and_for_whom(running: House, home: Path) -> None:
    places.flights(home)
    tenant = Tenant(running)
    await tenant.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
    done = await tenant.extract("flights")
    told = (await running.heard(WorkEnded))[0].work

    assert (told.operation, told.kind, told.principal) == (done.operation, "extraction", "key:test")
    assert told.cpu_milliseconds > 0


async def test_a_pipeline_says_once_what_all_its_steps_used(running: House) -> None:
    await add(running, "raw", {"id": [1, 2, 3]}, append=True)
    stub = running.stub(PipelinesStub, "data")
    await stub.CreatePipeline(pipelines.CreatePipelineRequest(pipeline="derive", steps=[FIRST, SECOND]))
    begun = await stub.RunPipeline(pipelines.RunPipelineRequest(pipeline="derive"))
    await finished(running)
    told = (await running.heard(WorkEnded))[0].work

    assert (told.operation, told.kind) == (begun.operation, "pipeline")
    used = await children(running, begun.operation)
    assert told.cpu_milliseconds == sum(used) > 0
    assert len(used) == 2


TABLES = [data_sets.QueryTable(data_set="numbers")]
QUERY = data_sets.QueryDataSetsRequest(sql="SELECT count(*) AS n FROM numbers", tables=TABLES)
ENDLESS = " JOIN ".join(["SELECT count(*) AS n FROM numbers AS a", *(f"numbers AS {x} ON {x}.n >= 0" for x in "bcd")])


async def test_a_query_says_by_its_reservation_what_it_used(running: House) -> None:
    await add(running, "numbers", {"n": [1, 2, 3]})
    await running.stub(DataSetsStub, "data", reservation="0199").QueryDataSets(QUERY)
    await running.stub(DataSetsStub, "data").QueryDataSets(QUERY)
    first, other = [event.work for event in await running.heard(WorkEnded, 2)]

    assert (first.reservation, first.kind, first.principal, first.operation) == ("0199", "query", "key:test", "")
    assert len(other.reservation) == 36
    assert min(first.cpu_milliseconds, other.cpu_milliseconds) > 0


async def test_a_query_ends_when_it_has_used_up_what_it_was_given(running: House) -> None:
    await add(running, "numbers", {"n": list(range(3000))})
    request = data_sets.QueryDataSetsRequest(sql=ENDLESS, tables=TABLES, cpu_seconds=1)
    with pytest.raises(Failure, match="has used up the processor time") as caught:
        await running.stub(DataSetsStub, "data", reservation="0199").QueryDataSets(request)
    told = (await running.heard(WorkEnded))[0].work

    assert caught.value.code is Code.LIMIT_EXCEEDED
    assert (told.reservation, told.cpu_milliseconds) == ("0199", 1000)


async def test_what_was_used_before_a_kill_is_charged_with_what_came_after_it(tmp_path: Path) -> None:
    kill(tmp_path, "row")
    async with house(tmp_path, "data") as running:
        operation = await finished(running)
        told = (await running.heard(WorkEnded))[0].work
        used = await children(running, operation.operation)

        assert len(used) == 2
        assert told.cpu_milliseconds == sum(used)


async def test_work_that_is_cancelled_is_said(running: House, home: Path) -> None:
    places.flights(home, rows=20_000)
    tenant = Tenant(running)
    await tenant.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
    begun = await tenant.begin("flights")
    await tenant.stub(OperationsStub).CancelOperation(operations_pb2.CancelOperationRequest(operation=begun.operation))

    assert (await running.heard(WorkEnded))[0].work.operation == begun.operation


async def children(running: House, operation: str) -> list[int]:
    """What the children of an operation used."""
    database = running.runtime.apps["data"].database
    assert database
    found = await Metering(database).usage(SCOPE, operation)
    assert found
    return list(found.children.values())


def test_the_contract_says_what_a_query_may_use() -> None:
    says = contract.all_methods()["/aimass.v1.DataSets/QueryDataSets"].policy.reserves

    assert (says.cpu_seconds, says.cpu_seconds_unset, says.answers) == (
        "cpu_seconds",
        domain.DEFAULT_QUERY_SECONDS,
        True,
    )


@pytest.mark.parametrize("method", ["Extractions/RunExtraction", "Pipelines/RunPipeline", "FeatureSets/FitFeatureSet"])
def test_the_contract_says_what_holds_where_nothing_is_said(method: str) -> None:
    says = contract.all_methods()[f"/aimass.v1.{method}"].policy.reserves

    assert (says.cpu_seconds, says.cpu_seconds_unset) == ("cpu_seconds", domain.DEFAULT_SECONDS)
