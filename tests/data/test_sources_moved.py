"""Sources that change after rules were made on them: what was made goes on, or says why it cannot."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from aimass.v1 import operations_pb2, rules_pb2
from aimass.v1 import sources_pb2 as pb
from aimass.v1.rules_pb2_grpc import RulesStub
from aimass.v1.sources_pb2_grpc import SourcesStub
from services.kit.errors import Code
from tests.data import places
from tests.data.extracting import FLIGHTS, FLIGHTS_SOURCE, WEATHER, WEATHER_SOURCE, Tenant
from tests.support.house import House, house
from tests.support.refused import refused

SQL = pb.SqlSource(url="sqlite:///flights.db", table="flights", cursor="id")
TEXT = pb.FilesSource(pattern="a.log", format=pb.FILE_FORMAT_TEXT)


@pytest.fixture
async def running(home: Path) -> AsyncIterator[House]:
    places.flights(home)
    places.write(home, "a.log", "line\n")
    places.write(home, "weather/JFK.csv", "origin,temp\nJFK,1\n")
    async with house(home, "data") as running:
        yield running


@pytest.fixture
def tenant(running: House) -> Tenant:
    return Tenant(running)


async def move(tenant: Tenant, source: str, **to: Any) -> None:
    await tenant.stub(SourcesStub, if_match="*").UpdateSource(pb.UpdateSourceRequest(source=source, **to))


async def renew(tenant: Tenant, rule: str, definition: dict[str, Any], version: int) -> None:
    made = ParseDict(definition, rules_pb2.RuleDefinition())
    stub = tenant.stub(RulesStub)
    await stub.CreateRuleVersion(rules_pb2.CreateRuleVersionRequest(rule=rule, definition=made))
    await stub.ActivateRule(rules_pb2.ActivateRuleRequest(rule=rule, version=version))


async def test_a_rule_is_not_run_on_another_kind_of_source(tenant: Tenant) -> None:
    await tenant.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
    await tenant.rule("weather", WEATHER_SOURCE, WEATHER)
    await move(tenant, "flights", files=TEXT)
    await move(tenant, "weather", files=TEXT)

    for rule, says in (("flights", "a sql rule needs a sql source"), ("weather", "needs files of format csv")):
        for call in (tenant.begin(rule), tenant.stub(RulesStub).TestRule(rules_pb2.TestRuleRequest(rule=rule))):
            failure = await refused(call)
            assert failure.code is Code.FAILED_PRECONDITION
            assert failure.detail.startswith(f"the source {rule} has changed: ")
            assert says in failure.detail


async def test_another_database_with_the_same_table_is_read_from_its_start(tenant: Tenant, home: Path) -> None:
    await tenant.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
    await tenant.extract("flights")
    (places.folder(home) / "flights.db").rename(places.folder(home) / "moved.db")
    places.flights(home, rows=2, first=50)
    await move(tenant, "flights", sql=pb.SqlSource(url="sqlite:///moved.db", table="flights", cursor="id"))

    assert (await tenant.extract("flights")).rows_accepted == 5


async def test_another_table_or_cursor_needs_another_version(tenant: Tenant, home: Path) -> None:
    with sqlite3.connect(places.folder(home) / "flights.db") as connection:
        connection.execute("CREATE TABLE other (id INTEGER PRIMARY KEY, carrier TEXT UNIQUE NOT NULL, dep_delay REAL)")
        connection.execute("INSERT INTO other VALUES (1, '-', 0.5), (2, '', 1.5)")
    connection.close()
    await tenant.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
    other = pb.SqlSource(url="sqlite:///flights.db", table="other", cursor="carrier")
    await move(tenant, "flights", sql=other)
    done = await tenant.ended((await tenant.begin("flights")).operation)
    assert (done.state, done.error.code) == (operations_pb2.OPERATION_STATE_FAILED, "failed_precondition")

    await renew(tenant, "flights", {"sql": {"sql": "SELECT * FROM other"}}, 2)
    assert (await tenant.extract("flights")).rows_accepted == 2
    assert [row["carrier"] for row in await tenant.rows("flights")] == ["", "-"]


async def test_a_run_reads_what_its_source_was_when_it_began(tenant: Tenant) -> None:
    await tenant.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
    begun = await tenant.begin("flights")
    await move(tenant, "flights", files=TEXT)
    done = await tenant.ended(begun.operation)
    assert done.state == operations_pb2.OPERATION_STATE_SUCCEEDED
    assert (await tenant.version("flights")).rows == 5


async def test_nothing_runs_on_a_deleted_source(tenant: Tenant) -> None:
    await tenant.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
    await tenant.stub(SourcesStub, if_match="*").DeleteSource(pb.DeleteSourceRequest(source="flights"))
    definition = ParseDict(FLIGHTS, rules_pb2.RuleDefinition())

    for call in (
        tenant.begin("flights"),
        tenant.stub(RulesStub).TestRule(rules_pb2.TestRuleRequest(rule="flights")),
        tenant.stub(RulesStub).CreateRuleVersion(
            rules_pb2.CreateRuleVersionRequest(rule="flights", definition=definition)
        ),
        tenant.stub(SourcesStub).PreviewSource(pb.PreviewSourceRequest(source="flights")),
    ):
        failure = await refused(call)
        assert (failure.code, failure.detail) == (Code.NOT_FOUND, "there is no source flights")


async def test_a_deleted_rule_does_not_run_and_goes_on_when_it_is_back(tenant: Tenant, home: Path) -> None:
    await tenant.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
    await tenant.extract("flights")
    rules = tenant.stub(RulesStub, if_match="*")
    await rules.DeleteRule(rules_pb2.DeleteRuleRequest(rule="flights"))
    places.flights(home, rows=1, first=6)
    assert (await refused(tenant.begin("flights"))).code is Code.NOT_FOUND

    await rules.UndeleteRule(rules_pb2.UndeleteRuleRequest(rule="flights"))
    assert (await tenant.extract("flights")).rows_accepted == 1


async def test_a_column_without_a_type_is_not_taken_for_text(tenant: Tenant, home: Path) -> None:
    with sqlite3.connect(places.folder(home) / "flights.db") as connection:
        connection.execute("CREATE TABLE made AS SELECT id, dep_delay * 2 AS twice FROM flights")
        connection.execute("CREATE UNIQUE INDEX made_id ON made (id)")
    connection.close()
    made = {"sql": {"url": "sqlite:///flights.db", "table": "made", "cursor": "id"}}
    star = {"sql": {"sql": "SELECT * FROM made"}}
    failure = await refused(tenant.rule("made", made, star))
    assert failure.detail == "the table gives the column twice no type: say its type in columns"

    shown = await tenant.stub(SourcesStub).PreviewSource(pb.PreviewSourceRequest(source="made"))
    suggested = {column.name: column.type for column in shown.schema.columns}["twice"]
    rule = ParseDict(star, rules_pb2.RuleDefinition())
    rule.sql.columns.add(name="twice", type=suggested)
    stub = tenant.stub(RulesStub)
    await stub.CreateRule(rules_pb2.CreateRuleRequest(rule="made", source="made", definition=rule))
    await stub.ActivateRule(rules_pb2.ActivateRuleRequest(rule="made", version=1))
    await tenant.extract("made")
    assert [row["twice"] for row in await tenant.rows("made")] == [1.0, 2.0, 3.0, 4.0, 5.0]


async def test_projects_of_a_tenant_share_files_and_nothing_else(running: House, tenant: Tenant) -> None:
    other = Tenant(running, "other")
    for each in (tenant, other):
        await each.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
    assert (await tenant.extract("flights")).rows_accepted == 5
    assert (await other.extract("flights")).rows_accepted == 5
    assert (await other.version("flights")).version == 1
    await other.stub(SourcesStub, if_match="*").DeleteSource(pb.DeleteSourceRequest(source="flights"))
    await tenant.stub(SourcesStub).GetSource(pb.GetSourceRequest(source="flights"))
