"""Pushed records: checked, stored once by their id before they are acknowledged, and extracted."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from aimass.v1 import rules_pb2
from aimass.v1 import sources_pb2 as pb
from aimass.v1.rules_pb2_grpc import RulesStub
from aimass.v1.sources_pb2_grpc import SourcesStub
from services.kit.errors import Code
from tests.data import places
from tests.data.extracting import Tenant
from tests.data.rule_sets import STRING, wanted
from tests.support.house import House, house
from tests.support.refused import refused

ORDERS = {
    "pushed": {
        "record_id": "order",
        "columns": [
            {"name": "total", "type": "COLUMN_TYPE_DOUBLE"},
            {"name": "at", "type": "COLUMN_TYPE_TIMESTAMP", "nullable": True},
        ],
    }
}
RULE = {
    "json": {
        "columns": [
            {"name": "order", "type": "COLUMN_TYPE_STRING", "required": True},
            {"name": "total", "type": "COLUMN_TYPE_DOUBLE"},
            {"name": "town", "from": "$.to.town", "type": "COLUMN_TYPE_STRING"},
        ]
    }
}


@pytest.fixture
async def running(home: Path) -> AsyncIterator[House]:
    async with house(home, "data") as running:
        yield running


@pytest.fixture
async def tenant(running: House) -> Tenant:
    tenant = Tenant(running)
    await tenant.rule("orders", ORDERS, RULE)
    return tenant


def order(number: Any, **more: Any) -> dict[str, Any]:
    return {"order": number, "total": 1.5, "to": {"town": "Bern"}, **more}


async def push(tenant: Tenant, *records: dict[str, Any], source: str = "orders") -> tuple[int, int]:
    request = ParseDict({"source": source, "records": records}, pb.PushRecordsRequest())
    done = await tenant.stub(SourcesStub).PushRecords(request)
    return done.stored, done.repeated


async def test_records_are_stored_previewed_tested_and_extracted_once(tenant: Tenant) -> None:
    assert await push(tenant, order("a"), order("b", extra=[1, {"x": None}])) == (2, 0)
    assert (await tenant.extract("orders")).rows_accepted == 2
    assert await push(tenant, order("b", extra=[1, {"x": None}]), order("c"), order("c")) == (1, 2)
    assert (await tenant.extract("orders")).rows_accepted == 1
    assert (await tenant.extract("orders")).records_read == 0
    shown = await tenant.stub(SourcesStub).PreviewSource(pb.PreviewSourceRequest(source="orders", records=2))
    assert [record["order"] for record in shown.records] == ["a", "b"]
    assert [column.name for column in shown.schema.columns][:2] == ["total", "at"]
    trial = await tenant.stub(RulesStub).TestRule(rules_pb2.TestRuleRequest(rule="orders"))
    assert [row["town"] for row in trial.rows] == ["Bern"] * 3
    source = await tenant.stub(SourcesStub).GetSource(pb.GetSourceRequest(source="orders"))
    assert source.pushed == ParseDict(ORDERS["pushed"], pb.PushedSource())


@pytest.mark.parametrize(
    ("records", "says"),
    [
        ([], "/records"),
        ([order("a"), order("b", total="much")], "/records/1/total"),
        ([order("a"), {"order": "b"}], "/records/1/total"),
        ([order("a", at="soon")], "/records/0/at"),
        ([{"total": 1.0}], "/records/0/order"),
        ([order("")], "/records/0/order"),
        ([order(True)], "/records/0/order"),
        ([order("x" * 257)], "/records/0/order"),
        ([order(1.5)], "/records/0/order"),
        ([order("a"), order("a", total=2.5)], "/records/1/order"),
        ([order("a", text="x" * 2**20)], "/records/0"),
        ([order(str(n)) for n in range(1001)], "/records"),
    ],
)
async def test_what_does_not_fit_is_refused_with_its_place_and_nothing_is_stored(
    tenant: Tenant, records: list[dict[str, Any]], says: str
) -> None:
    failure = await refused(push(tenant, *records))
    assert (failure.code, failure.violations[0].pointer) == (Code.INVALID_VALUE, says)
    assert (await tenant.extract("orders")).records_read == 0


async def test_an_id_with_other_content_is_refused_and_nothing_is_stored(tenant: Tenant) -> None:
    await push(tenant, order("a"))
    failure = await refused(push(tenant, order("b"), order("a", total=2.5)))
    assert (failure.code, failure.detail) == (Code.ALREADY_EXISTS, "the record a is there with other content")
    assert (await tenant.extract("orders")).records_read == 1


async def test_many_push_at_once_and_every_record_is_there_once(tenant: Tenant) -> None:
    pushes = [push(tenant, *(order(f"{n}-{m}") for m in range(20)), order("all")) for n in range(12)]
    done = await asyncio.gather(*pushes, tenant.begin("orders"))
    await tenant.ended(done[-1].operation)
    assert sum(one[0] for one in done[:-1]) == 241
    await tenant.extract("orders")
    assert (await tenant.extract("orders")).records_read == 0
    trial = await tenant.stub(RulesStub).TestRule(rules_pb2.TestRuleRequest(rule="orders"))
    assert trial.coverage == 1.0


async def test_records_are_there_after_a_start(home: Path, tenant: Tenant) -> None:
    async with house(home / "other", "data") as first:
        one = Tenant(first)
        await one.rule("orders", ORDERS, RULE)
        assert await push(one, order("a")) == (1, 0)
    async with house(home / "other", "data") as again:
        assert await push(Tenant(again), order("a"), order("b")) == (1, 1)
        assert (await Tenant(again).extract("orders")).records_read == 2
        assert not list((home / "other" / "pushed").iterdir())


async def test_another_tenant_and_another_kind_are_not_pushed_to(running: House, tenant: Tenant, home: Path) -> None:
    places.flights(home)
    sql = pb.SqlSource(url="sqlite:///flights.db", table="flights", cursor="id")
    await tenant.stub(SourcesStub).CreateSource(pb.CreateSourceRequest(source="table", sql=sql))
    assert (await refused(push(tenant, order("a"), source="table"))).code is Code.FAILED_PRECONDITION
    request = ParseDict({"source": "orders", "records": [order("a")]}, pb.PushRecordsRequest())
    other = running.stub(SourcesStub, "data", tenant="umbrella")
    assert (await refused(other.PushRecords(request))).code is Code.NOT_FOUND
    reader = running.stub(SourcesStub, "data", "sources.get", "sources.upload")
    assert (await refused(reader.PushRecords(request))).code is Code.FORBIDDEN


async def test_a_description_is_checked(tenant: Tenant) -> None:
    for pushed in (
        {},
        {"record_id": "a", "columns": [{"name": "b"}]},
        {"record_id": "a", "columns": [{"name": "b", "type": 1}, {"name": "B", "type": 1}]},
    ):
        request = ParseDict({"source": "x", "pushed": pushed}, pb.CreateSourceRequest())
        assert (await refused(tenant.stub(SourcesStub).CreateSource(request))).code is Code.INVALID_VALUE


async def test_pushed_records_have_rule_sets_and_rules_inside_rules(running: House) -> None:
    tenant = Tenant(running)
    inner = {"from": "$.note", "regex": {"pattern": r"(?P<by>\w+):.*", "columns": [{"name": "by", "type": STRING}]}}
    noted = {"json": {"columns": [{"name": "order", "type": STRING}], "inner": [inner]}}
    rest = {"json": {"columns": [{"name": "order", "type": STRING}]}}
    await tenant.rule_set("shop", ORDERS, wanted("noted", noted), wanted("rest", rest))
    await push(tenant, order("a", note="ada: late"), order("b", note="?"), source="shop")
    run = await tenant.extract_set("shop")

    assert [result.rows for result in run.results] == [1, 1]
    assert await tenant.rows("noted") == [{"order": "a", "by": "ada"}]
    assert await tenant.rows("rest") == [{"order": "b"}]
    await push(tenant, order("c", note="bo: early"), source="shop")
    assert [result.rows for result in (await tenant.extract_set("shop")).results] == [1, 0]
