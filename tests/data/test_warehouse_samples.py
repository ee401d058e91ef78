"""What has landed, looked at without its source: previews, tests of rules and of rule sets, discovery."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from aimass.v1 import rule_sets_pb2, rules_pb2, sources_pb2
from aimass.v1.rule_sets_pb2_grpc import RuleSetsStub
from aimass.v1.rules_pb2_grpc import RulesStub
from aimass.v1.sources_pb2_grpc import SourcesStub
from services.kit.errors import Code
from tests.data import places
from tests.data.extracting import FLIGHTS, FLIGHTS_SOURCE, WEATHER, WEATHER_SOURCE, Tenant
from tests.data.landing import LANDED, is_refused
from tests.data.rule_sets import LINES, LOGIN, SOURCES, WEIGHED, wanted
from tests.support.house import House, house
from tests.support.refused import refused

TEXT = sources_pb2.FILE_FORMAT_TEXT
OFFICE = {**SOURCES["office"], **LANDED}
TEST = rules_pb2.TestRuleRequest(rule="office", landed=True)
PREVIEW = sources_pb2.PreviewSourceRequest(source="office", landed=True)
DISCOVER = rules_pb2.DiscoverRulesRequest(source="office", landed=True)


@pytest.fixture
async def running(home: Path) -> AsyncIterator[House]:
    places.write(home, "office.log", LINES)
    async with house(home, "data") as running:
        yield running


@pytest.fixture
def tenant(running: House) -> Tenant:
    return Tenant(running)


def answered(found: Any) -> tuple[int, int, list[dict[str, Any]], list[tuple[str, str]]]:
    return found.tried, found.accepted, [dict(row) for row in found.rows], [(r.record, r.reason) for r in found.refused]


async def test_what_is_found_in_what_landed_is_what_was_found_in_the_source(tenant: Tenant, home: Path) -> None:
    await tenant.rule("office", OFFICE, WEIGHED)
    rules, sources = tenant.stub(RulesStub), tenant.stub(SourcesStub)
    before = await rules.TestRule(rules_pb2.TestRuleRequest(rule="office"))
    seen = await sources.PreviewSource(sources_pb2.PreviewSourceRequest(source="office"))
    found = await rules.DiscoverRules(rules_pb2.DiscoverRulesRequest(source="office"))
    await is_refused(rules.TestRule(TEST), Code.FAILED_PRECONDITION, "nothing of office has landed")
    await tenant.extract("office")
    (places.folder(home) / "office.log").unlink()

    assert (await refused(rules.TestRule(rules_pb2.TestRuleRequest(rule="office")))).code
    assert answered(await rules.TestRule(TEST)) == answered(before)
    again = await sources.PreviewSource(PREVIEW)
    assert (list(again.records), again.schema) == (list(seen.records), seen.schema)
    assert (await rules.DiscoverRules(DISCOVER)) == found
    some = await rules.TestRule(rules_pb2.TestRuleRequest(rule="office", landed=True, records=2))
    assert (some.tried, [row["parcel"] for row in some.rows]) == (2, ["P-4"]), "those that landed last"


async def test_rule_sets_and_other_kinds_are_tried_on_what_landed(tenant: Tenant, home: Path) -> None:
    await tenant.rule_set("office", OFFICE, wanted("weights"), wanted("logins", LOGIN))
    await tenant.extract_set("office")
    places.write(home, "weather/JFK.csv", "origin,temp\nJFK,39.0\n,1\nJFK,NA\n")
    places.flights(home, rows=5)
    await tenant.rule("weather", {**WEATHER_SOURCE, **LANDED}, WEATHER)
    await tenant.rule("flights", {**FLIGHTS_SOURCE, **LANDED}, FLIGHTS)
    stub, tests = tenant.stub(RulesStub), dict[str, Any]()
    for name in ("weather", "flights"):
        tests[name] = answered(await stub.TestRule(rules_pb2.TestRuleRequest(rule=name)))
        await tenant.extract(name)
    for path in (home / "import" / "acme").rglob("*.*"):
        path.unlink()

    set_test = rule_sets_pb2.TestRuleSetRequest(rule_set="office", landed=True)
    tried = await tenant.stub(RuleSetsStub).TestRuleSet(set_test)
    assert [(rule.rule, rule.accepted) for rule in tried.rules] == [("weights", 3), ("logins", 2)]
    for name, before in tests.items():
        assert answered(await stub.TestRule(rules_pb2.TestRuleRequest(rule=name, landed=True))) == before
    table = rules_pb2.DiscoverRulesRequest(source="flights", landed=True)
    await is_refused(stub.DiscoverRules(table), Code.INVALID_VALUE, "must not be set for a table")


async def test_what_landed_is_shown_to_who_may_read_it_and_sees_all_of_it(running: House, tenant: Tenant) -> None:
    await tenant.rule("office", OFFICE, WEIGHED)
    await tenant.extract("office")
    own = ("rules.test", "rules.discover", "sources.preview")
    asked = [
        (RulesStub, "TestRule", TEST),
        (RulesStub, "DiscoverRules", DISCOVER),
        (SourcesStub, "PreviewSource", PREVIEW),
    ]
    for kind, method, request in asked:
        for more, text in (((), "data_sets.read is not permitted"), (("data_sets.read",), "masked")):
            call = getattr(running.stub(kind, "data", *own, *more), method)(request)
            await is_refused(call, Code.FORBIDDEN, text)
        assert await getattr(running.stub(kind, "data", *own, "data_sets.read", "data_sets.unmask"), method)(request)
        other = getattr(running.stub(kind, "data", tenant="other"), method)(request)
        assert (await refused(other)).code is Code.NOT_FOUND

    plain = sources_pb2.PreviewSourceRequest(
        landed=True, files=sources_pb2.FilesSource(pattern="office.log", format=TEXT)
    )
    await is_refused(tenant.stub(SourcesStub).PreviewSource(plain), Code.INVALID_VALUE, "nothing of a description")


async def test_a_source_whose_records_do_not_land_has_none(tenant: Tenant) -> None:
    await tenant.rule("office", SOURCES["office"], WEIGHED)
    await tenant.extract("office")
    await is_refused(tenant.stub(RulesStub).TestRule(TEST), Code.FAILED_PRECONDITION, "nothing of office has landed")
