"""A source that changes how it writes: noticed, repaired from what is refused, activated if that was asked for."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from aimass.v1 import operations_pb2, rules_pb2
from aimass.v1 import repairs_pb2 as pb
from aimass.v1.repairs_pb2_grpc import RepairsStub
from aimass.v1.rules_pb2_grpc import RulesStub
from services.kit.errors import Code
from tests.data import places
from tests.data.extracting import Tenant, append
from tests.support.house import House, house, until
from tests.support.refused import code_of, refused

SOURCE = {"files": {"pattern": "served.log", "format": "FILE_FORMAT_TEXT"}}
RULE: dict[str, Any] = {
    "regex": {
        "pattern": r"(?P<at>\S+) INFO user=(?P<user>\S+) took=(?P<ms>[0-9]+)ms",
        "columns": [
            {"name": "at", "type": "COLUMN_TYPE_TIMESTAMP", "required": True},
            {"name": "user", "type": "COLUMN_TYPE_STRING", "required": True},
            {"name": "ms", "type": "COLUMN_TYPE_INT64", "required": True},
        ],
    }
}
USERS = ["anna", "boris", "chen", "dilek", "emma", "farid"]


def before(count: int) -> str:
    times = (f"2026-01-02T10:{n // 60 % 60:02}:{n % 60:02}Z" for n in range(count))
    said = (f"{time} INFO user={USERS[n % 6]} took={n % 300}ms" for n, time in enumerate(times))
    return "".join(f"{line}\n" for line in said)


def after(count: int) -> str:
    said = (f"[2026-01-03T10:00:{n % 60:02}Z] INFO served {USERS[n % 6]} in {n % 300} ms" for n in range(count))
    return "".join(f"{line}\n" for line in said)


@pytest.fixture
async def running(home: Path) -> AsyncIterator[House]:
    places.write(home, "served.log", before(300))
    async with house(home, "data") as running:
        await Tenant(running).rule("served", SOURCE, RULE)
        await Tenant(running).extract("served")
        yield running


@pytest.fixture
def tenant(running: House) -> Tenant:
    return Tenant(running)


@pytest.fixture
def log(home: Path) -> Path:
    return places.folder(home) / "served.log"


@pytest.fixture
def repairs(tenant: Tenant) -> Any:
    return tenant.stub(RepairsStub)


async def listed(repairs: Any) -> list[pb.Repair]:
    return list((await repairs.ListRepairs(pb.ListRepairsRequest(rule="served"))).repairs)


async def done(repairs: Any) -> pb.Repair:
    """The one repair, once it has ended."""

    async def ended() -> Any:
        found = await listed(repairs)
        return found and found[0].state != pb.REPAIR_STATE_RUNNING

    await until(ended)
    (repair,) = await listed(repairs)
    return repair


async def test_a_format_that_changes_is_noticed_and_a_repair_proposed(tenant: Tenant, repairs: Any, log: Path) -> None:
    well = await repairs.GetRuleHealth(pb.GetRuleHealthRequest(rule="served"))
    append(log, after(100))
    broken = await tenant.extract("served")
    repair = await done(repairs)
    ill = await repairs.GetRuleHealth(pb.GetRuleHealthRequest(rule="served"))

    assert (well.version, well.records, well.refused, well.drifted) == (1, 300, 0, False)
    assert (broken.rows_quarantined, ill.drifted, ill.records) == (100, True, 300)
    assert (repair.state, repair.version, repair.repaired_version) == (pb.REPAIR_STATE_PROPOSED, 1, 2)
    assert (repair.records, repair.taken, repair.tested, repair.right) == (100, 100, 50, 50)
    assert {column.column for column in repair.columns} == {"at", "user", "ms"}
    rule = await tenant.stub(RulesStub).GetRule(rules_pb2.GetRuleRequest(rule="served"))
    assert (rule.latest_version, rule.active_version) == (2, 1)
    assert rule.definition.regex.pattern == RULE["regex"]["pattern"]


async def test_what_is_certain_is_activated_when_that_was_asked_for(tenant: Tenant, repairs: Any, log: Path) -> None:
    policy = pb.REPAIR_POLICY_ACTIVATE
    assert (await repairs.SetRepairPolicy(pb.SetRepairPolicyRequest(rule="served", policy=policy))).policy == policy
    append(log, after(100))
    await tenant.extract("served")
    repair = await done(repairs)
    append(log, after(50) + before(10))
    next_run = await tenant.extract("served")
    health = await repairs.GetRuleHealth(pb.GetRuleHealthRequest(rule="served"))

    assert repair.state == pb.REPAIR_STATE_ACTIVATED, repair.reason
    assert (next_run.rule_version, next_run.rows_accepted, next_run.rows_quarantined) == (2, 60, 0)
    assert (health.version, health.drifted, health.records) == (2, False, 60)
    rows = await tenant.rows("served")
    assert rows[300] == {"at": "2026-01-03T10:00:00Z", "user": "anna", "ms": 0}


async def test_nothing_is_done_where_nothing_is_to_be_done(tenant: Tenant, repairs: Any, log: Path) -> None:
    await repairs.SetRepairPolicy(pb.SetRepairPolicyRequest(rule="served", policy=pb.REPAIR_POLICY_NONE))
    append(log, after(100))
    await tenant.extract("served")

    assert (await repairs.GetRuleHealth(pb.GetRuleHealthRequest(rule="served"))).drifted
    assert await listed(repairs) == []


async def test_a_repair_can_be_asked_for(tenant: Tenant, repairs: Any, log: Path) -> None:
    operation = await repairs.RepairRule(pb.RepairRuleRequest(rule="served"))
    nothing = await tenant.ended(operation.operation)
    append(log, "noise of the night\n" * 20)
    await tenant.extract("served")
    other = await tenant.ended((await repairs.RepairRule(pb.RepairRuleRequest(rule="served"))).operation)

    assert nothing.state == other.state == operations_pb2.OPERATION_STATE_SUCCEEDED
    found = [pb.Repair.FromString(each.response.value) for each in (nothing, other)]
    assert [repair.state for repair in found] == [pb.REPAIR_STATE_NOT_FOUND] * 2
    assert [repair.records for repair in found] == [0, 20]
    assert [repair.repair for repair in await listed(repairs)] == [found[1].repair, found[0].repair]


async def test_a_repair_goes_on_after_the_service_has_stopped(home: Path) -> None:
    places.write(home, "served.log", before(300))
    async with house(home, "data") as running:
        await Tenant(running).rule("served", SOURCE, RULE)
        await Tenant(running).extract("served")
        append(places.folder(home) / "served.log", after(100))
        await Tenant(running).extract("served")
    async with house(home, "data") as running:
        repair = await done(Tenant(running).stub(RepairsStub))

    assert (repair.state, repair.repaired_version) == (pb.REPAIR_STATE_PROPOSED, 2)


@pytest.mark.parametrize("policy", [pb.REPAIR_POLICY_UNSPECIFIED, 99])
async def test_a_policy_must_be_one(repairs: Any, policy: Any) -> None:
    request = pb.SetRepairPolicyRequest(rule="served", policy=policy)

    assert await code_of(repairs.SetRepairPolicy(request)) == Code.INVALID_VALUE


async def test_rules_that_are_not_there_have_no_health(repairs: Any) -> None:
    calls = [
        repairs.GetRuleHealth(pb.GetRuleHealthRequest(rule="gone")),
        repairs.SetRepairPolicy(pb.SetRepairPolicyRequest(rule="gone", policy=pb.REPAIR_POLICY_NONE)),
        repairs.RepairRule(pb.RepairRuleRequest(rule="gone")),
        repairs.ListRepairs(pb.ListRepairsRequest(rule="gone")),
    ]

    assert [(await refused(call)).code for call in calls] == [Code.NOT_FOUND] * 4


async def test_patterns_of_a_rule_have_its_required_groups(tenant: Tenant) -> None:
    definition = rules_pb2.RuleDefinition()
    definition.regex.pattern = "(?P<a>x)"
    definition.regex.columns.add(name="a", type="COLUMN_TYPE_STRING", required=True)
    definition.regex.more_patterns.append("(?P<b>y)")
    request = rules_pb2.CreateRuleVersionRequest(rule="served", definition=definition)
    failure = await refused(tenant.stub(RulesStub).CreateRuleVersion(request))

    assert (failure.code, "more_patterns[0] has no group a" in failure.detail) == (Code.INVALID_VALUE, True)
