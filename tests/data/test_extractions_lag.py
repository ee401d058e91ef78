"""How far a rule or a rule set has read its source, and what lies behind that."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict

from aimass.v1 import extractions_pb2 as pb
from aimass.v1 import sources_pb2
from aimass.v1.extractions_pb2_grpc import ExtractionsStub
from aimass.v1.sources_pb2_grpc import SourcesStub
from services.kit.errors import Code
from tests.data import places
from tests.data.extracting import Tenant
from tests.data.rule_sets import wanted
from tests.support.house import house
from tests.support.refused import refused

PUSHED = {"pushed": {"record_id": "order"}}
ORDERS = {"json": {"columns": [{"name": "order", "type": "COLUMN_TYPE_STRING"}]}}


@pytest.fixture
async def tenant(home: Path) -> AsyncIterator[Tenant]:
    places.flights(home)
    async with house(home, "data") as running:
        yield Tenant(running)


async def push(tenant: Tenant, source: str, *orders: str) -> None:
    records = [{"order": order} for order in orders]
    request = ParseDict({"source": source, "records": records}, sources_pb2.PushRecordsRequest())
    await tenant.stub(SourcesStub).PushRecords(request)


async def cursor(tenant: Tenant, rule: str) -> Any:
    return await tenant.stub(ExtractionsStub).GetCursor(pb.GetCursorRequest(rule=rule))


async def test_pushed_records_that_were_not_extracted_are_counted(tenant: Tenant) -> None:
    await tenant.rule("orders", PUSHED, ORDERS)
    await push(tenant, "orders", "a", "b", "c")
    before = await cursor(tenant, "orders")
    assert (before.source, before.unit, before.lag) == ("orders", pb.LAG_UNIT_RECORDS, 3)
    assert not before.HasField("update_time")
    assert not before.cursor.fields
    done = await tenant.extract("orders")
    await push(tenant, "orders", "d")
    after = await cursor(tenant, "orders")
    assert MessageToDict(after.cursor) == {"after": 3.0}
    assert [(part.position, part.end, part.lag) for part in after.parts] == [(3, 4, 1)]
    assert after.update_time == done.end_time


async def test_a_rule_set_has_a_cursor_of_its_own(tenant: Tenant) -> None:
    await tenant.rule_set("office", PUSHED, wanted("orders", ORDERS))
    await push(tenant, "office", "a", "b")
    stub = tenant.stub(ExtractionsStub)
    assert (await stub.GetRuleSetCursor(pb.GetRuleSetCursorRequest(rule_set="office"))).lag == 2
    await tenant.extract_set("office")
    assert (await stub.GetRuleSetCursor(pb.GetRuleSetCursorRequest(rule_set="office"))).lag == 0


async def test_a_cursor_is_of_a_rule_of_this_project(tenant: Tenant) -> None:
    await tenant.rule("orders", PUSHED, ORDERS)
    stub = Tenant(tenant.house, "other").stub(ExtractionsStub)
    assert (await refused(stub.GetCursor(pb.GetCursorRequest(rule="orders")))).code is Code.NOT_FOUND
    request = pb.GetRuleSetCursorRequest(rule_set="orders")
    assert (await refused(tenant.stub(ExtractionsStub).GetRuleSetCursor(request))).code is Code.NOT_FOUND
