"""A field of documents that moves, where a rule does without it: noticed by rows without a value, and found again."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from aimass.v1 import repairs_pb2 as pb
from aimass.v1.repairs_pb2_grpc import RepairsStub
from tests.data import places
from tests.data.extracting import Tenant, append
from tests.support.house import House, house, until

USERS = ["anna", "boris", "chen", "dilek", "emma", "farid"]
RULE: dict[str, Any] = {
    "json": {
        "columns": [
            {"name": "n", "type": "COLUMN_TYPE_INT64", "from": "$.n", "required": True},
            {"name": "user", "type": "COLUMN_TYPE_STRING", "from": "$.user"},
            {"name": "note", "type": "COLUMN_TYPE_STRING", "from": "$.note"},
        ]
    }
}


def before(count: int) -> str:
    return "".join(json.dumps({"n": n, "user": USERS[n % 6]}) + "\n" for n in range(count))


def after(count: int) -> str:
    return "".join(json.dumps({"n": n, "client": {"user": USERS[n % 6], "age": n % 60}}) + "\n" for n in range(count))


@pytest.fixture(params=[False, True], ids=["source", "landed"])
async def running(home: Path, request: pytest.FixtureRequest) -> AsyncIterator[House]:
    places.write(home, "served.jsonl", before(300))
    source = {"files": {"pattern": "served.jsonl", "format": "FILE_FORMAT_JSON_LINES"}, "landed": request.param}
    async with house(home, "data") as running:
        await Tenant(running).rule("served", source, RULE)
        run = await Tenant(running).extract("served")
        assert run.records_landed == (300 if request.param else 0)
        yield running


async def test_a_field_that_moves_is_noticed_and_found(running: House, home: Path) -> None:
    tenant, repairs = Tenant(running), Tenant(running).stub(RepairsStub)
    await repairs.SetRepairPolicy(pb.SetRepairPolicyRequest(rule="served", policy=pb.REPAIR_POLICY_ACTIVATE))
    well = await repairs.GetRuleHealth(pb.GetRuleHealthRequest(rule="served"))
    append(places.folder(home) / "served.jsonl", after(100))
    blind = await tenant.extract("served")

    async def ended() -> bool:
        found = (await repairs.ListRepairs(pb.ListRepairsRequest(rule="served"))).repairs
        return bool(found) and found[0].state != pb.REPAIR_STATE_RUNNING

    await until(ended)
    (repair,) = (await repairs.ListRepairs(pb.ListRepairsRequest(rule="served"))).repairs
    append(places.folder(home) / "served.jsonl", after(40))
    again = await tenant.extract("served")
    health = await repairs.GetRuleHealth(pb.GetRuleHealthRequest(rule="served"))

    columns = {one.column: one for one in well.columns}
    assert (columns["user"].rows, columns["user"].missing, columns["note"].missing) == (300, 0, 300)
    assert not any(one.drifted for one in well.columns)
    assert well.column_limit > well.limit
    assert (blind.rows_accepted, blind.rows_quarantined) == (100, 0)
    assert (repair.state, repair.records, repair.taken) == (pb.REPAIR_STATE_ACTIVATED, 100, 100), repair.reason
    assert [(one.column, getattr(one, "from")) for one in repair.columns] == [("user", "$.client.user")]
    assert (again.rule_version, health.version, health.drifted) == (2, 2, False)
    rows = await tenant.rows("served")
    assert [row["user"] for row in (rows[0], rows[300], rows[401])] == ["anna", None, "boris"]


async def test_it_is_found_after_runs_that_had_nothing_to_read(running: House, home: Path) -> None:
    tenant, repairs = Tenant(running), Tenant(running).stub(RepairsStub)
    await repairs.SetRepairPolicy(pb.SetRepairPolicyRequest(rule="served", policy=pb.REPAIR_POLICY_NONE))
    append(places.folder(home) / "served.jsonl", after(100))
    assert [(await tenant.extract("served")).records_read for _ in range(3)] == [100, 0, 0]
    await tenant.ended((await repairs.RepairRule(pb.RepairRuleRequest(rule="served"))).operation)

    (repair,) = (await repairs.ListRepairs(pb.ListRepairsRequest(rule="served"))).repairs
    assert (repair.state, repair.records, repair.taken) == (pb.REPAIR_STATE_PROPOSED, 100, 100), repair.reason


async def test_a_field_that_is_gone_is_not_found(running: House, home: Path) -> None:
    tenant, repairs = Tenant(running), Tenant(running).stub(RepairsStub)
    append(places.folder(home) / "served.jsonl", "".join(json.dumps({"n": n}) + "\n" for n in range(100)))
    await tenant.extract("served")

    async def ended() -> bool:
        found = (await repairs.ListRepairs(pb.ListRepairsRequest(rule="served"))).repairs
        return bool(found) and found[0].state != pb.REPAIR_STATE_RUNNING

    await until(ended)
    (repair,) = (await repairs.ListRepairs(pb.ListRepairsRequest(rule="served"))).repairs
    health = await repairs.GetRuleHealth(pb.GetRuleHealthRequest(rule="served"))

    assert (repair.state, repair.repaired_version) == (pb.REPAIR_STATE_NOT_FOUND, 0)
    assert "user: not found elsewhere in records that lack them" in repair.reason
    assert (health.drifted, [one.column for one in health.columns if one.drifted]) == (True, ["user"])
