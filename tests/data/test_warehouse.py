"""Raw records land once, as they are; rows are made of what landed, now and again."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from aimass.v1 import datasets_pb2, operations_pb2, rules_pb2, sources_pb2
from aimass.v1 import extractions_pb2 as pb
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.extractions_pb2_grpc import ExtractionsStub
from aimass.v1.rules_pb2_grpc import RulesStub
from aimass.v1.sources_pb2_grpc import SourcesStub
from services.kit.errors import Code
from tests.data import places
from tests.data.extracting import FLIGHTS, FLIGHTS_SOURCE, WEATHER, WEATHER_SOURCE, Tenant, append
from tests.data.landing import LANDED, counts, is_refused, replay, replay_set, second_rule
from tests.data.rule_sets import LINES, LOGIN, SOURCES, STRING, WEIGHED, wanted
from tests.support.house import House, house

OFFICE = {**SOURCES["office"], **LANDED}
WEIGHINGS = 3


@pytest.fixture
async def running(home: Path) -> AsyncIterator[House]:
    places.write(home, "office.log", LINES)
    async with house(home, "data") as running:
        yield running


@pytest.fixture
def tenant(running: House) -> Tenant:
    return Tenant(running)


async def delete_source(tenant: Tenant, name: str) -> None:
    request = sources_pb2.DeleteSourceRequest(source=name)
    await tenant.stub(SourcesStub, if_match='"1"').DeleteSource(request)


async def test_records_land_as_they_are(tenant: Tenant, home: Path) -> None:
    await tenant.rule("office", OFFICE, WEIGHED)
    run = await tenant.extract("office")
    append(places.folder(home) / "office.log", "parcel P-5 weighed 1 g\n")
    second = await tenant.extract("office")

    assert (run.landed_data_set, counts(run), counts(second)) == ("landed_office", (8, 8, WEIGHINGS), (1, 1, 1))
    assert [(r.first_landed, r.last_landed) for r in (run, second)] == [(1, 8), (9, 9)]
    rows = await tenant.rows("landed_office")
    lines = [*LINES.splitlines(), "parcel P-5 weighed 1 g"]
    assert [row["record"] for row in rows] == lines
    assert [row["number"] for row in rows] == list(range(1, 10))
    assert [row["origin"] for row in rows] == [f"office.log:{n}" for n in range(1, 10)]
    assert [row["digest"] for row in rows] == [f"sha256:{hashlib.sha256(line.encode()).hexdigest()}" for line in lines]
    assert {(row["source"], row["kind"], row["reason"]) for row in rows} == {("office", "line", None)}
    assert len({row["time"] for row in rows}) == 2
    version = await tenant.version("landed_office")
    assert {(parent.kind, parent.name) for parent in version.parents} == {
        ("data_set", "landed_office"),
        ("source", "office"),
    }


async def test_a_source_lands_once_for_all_its_rules(tenant: Tenant) -> None:
    await tenant.rule("office", OFFICE, WEIGHED)
    await second_rule(tenant, "logins", "office", LOGIN)
    first, second = await tenant.extract("office"), await tenant.extract("logins")

    assert (counts(first), counts(second)) == ((8, 8, WEIGHINGS), (0, 8, 2))
    assert (await tenant.version("landed_office")).rows == 8


async def test_what_is_read_again_is_the_same_to_the_byte(tenant: Tenant, home: Path) -> None:
    await tenant.rule("office", OFFICE, WEIGHED)
    await tenant.extract("office")
    append(places.folder(home) / "office.log", "parcel P-5 weighed 1 g\n")
    await tenant.extract("office")
    before = await tenant.rows("office")
    one, other = await replay(tenant, "office"), await replay(tenant, "office")

    assert one.output_digest == other.output_digest == (await tenant.version("office")).digest
    assert (one.origin, counts(one), one.data_set_version) == (pb.EXTRACTION_ORIGIN_WAREHOUSE, (0, 9, 4), 3)
    assert await tenant.rows("office") == before
    assert await tenant.quarantine("office", 4) == [
        *await tenant.quarantine("office", 1),
        *await tenant.quarantine("office", 2),
    ]


async def test_a_replay_moves_no_reading_of_the_source_and_loses_nothing(tenant: Tenant, home: Path) -> None:
    await tenant.rule("office", OFFICE, WEIGHED)
    await tenant.extract("office")
    append(places.folder(home) / "office.log", "parcel P-5 weighed 1 g\n")
    await replay(tenant, "office")
    run = await tenant.extract("office")

    assert (counts(run), run.first_landed) == ((1, 1, 1), 9)
    assert [row["parcel"] for row in await tenant.rows("office")] == ["P-1", "P-3", "P-4", "P-5"]


async def test_behind_a_replay_of_a_part_the_next_run_goes_on_where_the_part_ends(tenant: Tenant, home: Path) -> None:
    await tenant.rule("office", OFFICE, WEIGHED)
    for text in ("", "parcel P-5 weighed 1 g\n", "parcel P-6 weighed 1 g\n"):
        append(places.folder(home) / "office.log", text)
        await tenant.extract("office")
    part = await replay(tenant, "office", landed={"first_version": 2, "last_version": 2})
    assert [row["parcel"] for row in await tenant.rows("office")] == ["P-5"]
    assert (part.first_landed, part.last_landed) == (9, 9)

    run = await tenant.extract("office")
    assert (counts(run), run.first_landed, run.last_landed) == ((0, 1, 1), 10, 10)
    assert [row["parcel"] for row in await tenant.rows("office")] == ["P-5", "P-6"]


async def test_a_time_says_what_landed_until_then(tenant: Tenant, home: Path) -> None:
    await tenant.rule("office", OFFICE, WEIGHED)
    await tenant.extract("office")
    append(places.folder(home) / "office.log", "parcel P-5 weighed 1 g\n")
    await tenant.extract("office")
    first, _, last = (row["time"] for row in (await tenant.rows("landed_office"))[0:9:4])

    assert counts(await replay(tenant, "office", landed={"last_time": first})) == (0, 8, 3)
    assert counts(await replay(tenant, "office", landed={"first_time": last})) == (0, 1, 1)
    late = {"first_time": "2100-01-01T00:00:00Z"}
    await is_refused(
        replay(tenant, "office", landed=late),
        Code.FAILED_PRECONDITION,
        "nothing of office has landed in these versions and times",
    )


async def test_a_data_set_beside_takes_the_rows_and_the_rule_goes_on_where_it_was(tenant: Tenant, home: Path) -> None:
    await tenant.rule("office", OFFICE, WEIGHED)
    await tenant.extract("office")
    aside = await replay(tenant, "office", aside=True)
    again = await replay(tenant, "office", aside=True)
    assert (aside.data_set, aside.data_set_version, again.data_set_version) == ("replayed_office", 1, 2)
    assert aside.output_digest == again.output_digest == (await tenant.version("office")).digest
    assert (await tenant.version("office")).version == 1

    append(places.folder(home) / "office.log", "parcel P-5 weighed 1 g\n")
    assert counts(await tenant.extract("office")) == (1, 1, 1)
    assert len(await tenant.rows("replayed_office")) == 3


async def test_a_new_version_of_a_rule_may_change_a_type_over_what_landed(tenant: Tenant) -> None:
    await tenant.rule("office", OFFICE, WEIGHED)
    await tenant.extract("office")
    definition: Any = {"regex": {**WEIGHED["regex"], "columns": [{"name": "grams", "type": STRING}]}}
    rules = tenant.stub(RulesStub)
    said = ParseDict(definition, rules_pb2.RuleDefinition())
    await rules.CreateRuleVersion(rules_pb2.CreateRuleVersionRequest(rule="office", definition=said))
    await rules.ActivateRule(rules_pb2.ActivateRuleRequest(rule="office", version=2))
    run = await replay(tenant, "office")

    assert (run.rule_version, counts(run)) == (2, (0, 8, 4))
    assert [row["grams"] for row in await tenant.rows("office")][1] == "99999999999999999999"


async def test_without_the_source_rows_can_still_be_made(tenant: Tenant, home: Path) -> None:
    await tenant.rule("office", OFFICE, WEIGHED)
    before = await tenant.extract("office")
    (places.folder(home) / "office.log").unlink()
    assert counts(await replay(tenant, "office")) == (0, 8, 3)
    await delete_source(tenant, "office")
    run = await replay(tenant, "office")

    assert (counts(run), run.output_digest) == ((0, 8, 3), before.output_digest)
    await is_refused(tenant.begin("office"), Code.NOT_FOUND, "there is no source office")


async def test_a_rule_set_is_read_again_and_all_its_tables_are_replaced(tenant: Tenant, home: Path) -> None:
    await tenant.rule_set("office", OFFICE, wanted("weighed"), wanted("logins", LOGIN))
    await tenant.extract_set("office")
    append(places.folder(home) / "office.log", "cy signed in\n")
    await tenant.extract_set("office")
    one, other = await replay_set(tenant, "office"), await replay_set(tenant, "office")

    assert one.output_digest == other.output_digest
    assert [(r.rule, r.rows) for r in one.results] == [("weighed", 3), ("logins", 3)]
    assert [r.digest for r in one.results] == [r.digest for r in other.results]
    assert [row["who"] for row in await tenant.rows("logins")] == ["ada", "bo", "cy"]
    part = await replay_set(tenant, "office", landed={"first_version": 2})
    assert [(r.rule, r.rows) for r in part.results] == [("weighed", 0), ("logins", 1)]
    assert await tenant.rows("weighed") == []
    # The reports of a set are what its runs did: they stay.
    assert len(await tenant.rows("office")) == 10


KINDS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "weather": (WEATHER_SOURCE, WEATHER, "fields"),
    "flights": (FLIGHTS_SOURCE, FLIGHTS, "row"),
    "late": (
        FLIGHTS_SOURCE,
        {
            "sql": {
                "sql": "SELECT id, lower(carrier) || '!' AS c, dep_delay * 2 AS d FROM flights WHERE dep_delay > 1",
                "columns": [{"name": "c", "type": STRING}, {"name": "d", "type": "COLUMN_TYPE_DOUBLE"}],
            }
        },
        "row",
    ),
    "planes": (
        SOURCES["planes"],
        {"json": {"columns": [{"name": "n", "from": "$.a.n", "type": "COLUMN_TYPE_DOUBLE", "required": True}]}},
        "document",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_made_of_landed_records_is_what_is_made_of_the_source(
    tenant: Tenant, home: Path, kind: str
) -> None:
    places.flights(home, rows=40)
    places.write(home, "weather/a.csv", "origin,temp\nJFK,1.5\nLGA,NA\n,3\nEWR,x\nbad\n")
    places.write(home, "weather/b.csv", "temp,origin,more\n2,JFK,1\n")
    places.write(home, "planes.jsonl", '{"a": {"n": 1.10}}\n{"a": {"n": 12345678901234567890}}\n{"b": 1}\n[1]\nno\n')
    source, rule, name = KINDS[kind]
    await tenant.rule("plain", source, rule)
    await tenant.rule("raw", {**source, **LANDED}, rule)
    plain, raw = await tenant.extract("plain"), await tenant.extract("raw")

    assert (await tenant.version("raw")).digest == (await tenant.version("plain")).digest
    assert await tenant.rows("raw") == await tenant.rows("plain")
    assert await tenant.quarantine("raw", 1) == await tenant.quarantine("plain", 1)
    assert (raw.rows_accepted, raw.rows_quarantined) == (plain.rows_accepted, plain.rows_quarantined)
    assert {row["kind"] for row in await tenant.rows("landed_raw")} == {name}


async def test_pushed_records_land_too(tenant: Tenant) -> None:
    rule = {"json": {"columns": [{"name": "n", "type": "COLUMN_TYPE_INT64"}]}}
    await tenant.rule("orders", {"pushed": {"record_id": "id"}, **LANDED}, rule)
    for first in (0, 3):
        records = [{"id": str(first + n), "n": first + n} for n in range(3)]
        request = ParseDict({"source": "orders", "records": records}, sources_pb2.PushRecordsRequest())
        await tenant.stub(SourcesStub).PushRecords(request)
        await tenant.extract("orders")

    assert [row["n"] for row in await tenant.rows("orders")] == list(range(6))
    assert [row["origin"] for row in await tenant.rows("landed_orders")] == [f"record {n}" for n in range(1, 7)]
    assert counts(await replay(tenant, "orders")) == (0, 6, 6)


async def test_bytes_and_numbers_that_json_has_not_come_back(tenant: Tenant, home: Path) -> None:
    import sqlite3

    with sqlite3.connect(places.folder(home) / "odd.db") as connection:
        connection.execute("CREATE TABLE odd (id INTEGER PRIMARY KEY, b BLOB, x REAL, n INTEGER)")
        connection.execute("INSERT INTO odd VALUES (1, x'00ff', 9e999, 9223372036854775807)")
    connection.close()
    source = {"sql": {"url": "sqlite:///odd.db", "table": "odd", "cursor": "id"}}
    columns = [{"name": "h", "type": STRING}, {"name": "x", "type": STRING}, {"name": "n", "type": "COLUMN_TYPE_INT64"}]
    rule = {"sql": {"sql": "SELECT id, hex(b) AS h, typeof(x) || (x > 1) AS x, n FROM odd", "columns": columns}}
    await tenant.rule("odd", {**source, **LANDED}, rule)
    await tenant.extract("odd")

    (row,) = await tenant.rows("odd")
    assert (row["h"], row["x"], int(row["n"])) == ("00FF", "real1", 9223372036854775807)


async def test_only_landings_write_where_records_land(tenant: Tenant, home: Path) -> None:
    await tenant.rule("office", OFFICE, WEIGHED)
    await tenant.extract("office")
    await tenant.extract("office")
    append(places.folder(home) / "office.log", "x\n")
    await tenant.extract("office")
    sets = tenant.stub(DataSetsStub)
    found = await sets.GetDataSet(datasets_pb2.GetDataSetRequest(data_set="landed_office"))
    assert (found.landed_from, list(found.masked_columns)) == ("office", ["record"])
    roll = datasets_pb2.RollBackDataSetRequest(data_set="landed_office", version=1)
    await is_refused(
        tenant.stub(DataSetsStub, if_match=f'"{found.etag}"').RollBackDataSet(roll),
        Code.FAILED_PRECONDITION,
        "raw records of office land in it",
    )

    await tenant.rule("other", SOURCES["office"], WEIGHED)
    said = ParseDict(WEIGHED, rules_pb2.RuleDefinition())
    request = rules_pb2.CreateRuleRequest(rule="thief", source="other", data_set="landed_office", definition=said)
    await tenant.stub(RulesStub).CreateRule(request)
    await tenant.stub(RulesStub).ActivateRule(rules_pb2.ActivateRuleRequest(rule="thief", version=1))
    done = await tenant.ended((await tenant.begin("thief")).operation)
    assert (done.state, done.error.code) == (operations_pb2.OPERATION_STATE_FAILED, "failed_precondition")
    assert "raw records of office land in it" in done.error.detail


async def test_records_that_would_land_where_something_else_writes_do_not(tenant: Tenant) -> None:
    await tenant.rule("landed_office", SOURCES["office"], WEIGHED)
    await tenant.extract("landed_office")
    await tenant.rule("office", OFFICE, WEIGHED)
    done = await tenant.ended((await tenant.begin("office")).operation)

    assert (done.error.code, (await tenant.version("landed_office")).version) == ("failed_precondition", 1)
    assert "landed_office cannot be written: something else writes it" in done.error.detail


async def test_raw_records_are_masked_until_somebody_says_otherwise(running: House, tenant: Tenant) -> None:
    await tenant.rule("office", OFFICE, WEIGHED)
    await tenant.extract("office")
    request = datasets_pb2.ReadRowsRequest(data_set="landed_office")
    found = await running.stub(DataSetsStub, "data", "data_sets.read").ReadRows(request)
    assert {row["record"] for row in found.rows} == {None}
    assert len(await tenant.rows("landed_office")) == 8


async def test_who_does_not_see_a_column_makes_no_copy_of_it(running: House, tenant: Tenant) -> None:
    await tenant.rule("office", OFFICE, WEIGHED)
    await tenant.extract("office")
    sets = tenant.stub(DataSetsStub)
    found = await sets.GetDataSet(datasets_pb2.GetDataSetRequest(data_set="office"))
    mask = datasets_pb2.MaskColumnsRequest(data_set="office", columns=["parcel"])
    await tenant.stub(DataSetsStub, if_match=f'"{found.etag}"').MaskColumns(mask)
    await is_refused(
        replay(tenant, "office", "extractions.run", aside=True), Code.FORBIDDEN, "columns of office are masked"
    )
    assert counts(await replay(tenant, "office")) == (0, 8, 3)

    delete = datasets_pb2.DeleteDataSetRequest(data_set="office")
    await tenant.stub(DataSetsStub, if_match="*").DeleteDataSet(delete)
    await is_refused(
        replay(tenant, "office", "extractions.run", aside=True), Code.FORBIDDEN, "columns of office are masked"
    )


async def test_landed_is_decided_before_the_first_extraction(running: House, tenant: Tenant) -> None:
    await tenant.rule("office", SOURCES["office"], WEIGHED)
    change = sources_pb2.UpdateSourceRequest(source="office", landed=True)
    changed = await tenant.stub(SourcesStub, if_match='"1"').UpdateSource(change)
    assert (changed.landed, changed.landed_data_set) == (True, "landed_office")
    await tenant.extract("office")
    change = ParseDict({"source": "office", "updateMask": "landed"}, sources_pb2.UpdateSourceRequest())
    await is_refused(
        tenant.stub(SourcesStub, if_match='"2"').UpdateSource(change),
        Code.FAILED_PRECONDITION,
        "office was extracted before",
    )


@pytest.mark.parametrize(
    ("asked", "code", "text"),
    [
        ({"origin": 7}, Code.INVALID_VALUE, "origin must be SOURCE or WAREHOUSE"),
        ({"landed": {"first_version": 1}}, Code.INVALID_VALUE, "landed is for origin WAREHOUSE"),
        ({"aside": True}, Code.INVALID_VALUE, "aside is for origin WAREHOUSE"),
        ({"origin": 2, "landed": {"first_version": -1}}, Code.INVALID_VALUE, "landed.first_version must be a version"),
        (
            {"origin": 2, "landed": {"first_version": 2, "last_version": 1}},
            Code.INVALID_VALUE,
            "must not be above last_version",
        ),
        ({"origin": 2, "landed": {"first_version": 9}}, Code.FAILED_PRECONDITION, "in these versions and times"),
        ({"origin": 2, "aside": True}, Code.ALREADY_EXISTS, "replayed_office is written by the rule replayed_office"),
        ({"origin": 2, "rule": "plain"}, Code.FAILED_PRECONDITION, "the records of plain do not land"),
        ({"origin": 2, "rule": "none"}, Code.NOT_FOUND, "none"),
    ],
)
async def test_what_cannot_be_read_again_is_refused_with_the_reason(
    tenant: Tenant, asked: dict[str, Any], code: Code, text: str
) -> None:
    await tenant.rule("office", OFFICE, WEIGHED)
    await tenant.rule("plain", SOURCES["office"], WEIGHED)
    await second_rule(tenant, "replayed_office", "office", WEIGHED)
    await tenant.extract("office")
    request = ParseDict({"rule": "office", **asked}, pb.RunExtractionRequest())
    await is_refused(tenant.stub(ExtractionsStub).RunExtraction(request), code, text)


async def test_before_anything_landed_nothing_can_be_read_again(tenant: Tenant) -> None:
    await tenant.rule("office", OFFICE, WEIGHED)
    await is_refused(replay(tenant, "office"), Code.FAILED_PRECONDITION, "nothing of office has landed yet")


async def test_a_source_with_a_long_name_has_no_room_for_what_lands(tenant: Tenant) -> None:
    request = ParseDict({"source": "s" * 57, **OFFICE}, sources_pb2.CreateSourceRequest())
    await is_refused(
        tenant.stub(SourcesStub).CreateSource(request), Code.INVALID_VALUE, "source must have at most 56 characters"
    )
    request.source = "s" * 56
    assert (await tenant.stub(SourcesStub).CreateSource(request)).landed_data_set == f"landed_{'s' * 56}"


async def test_tenants_and_projects_have_landings_of_their_own(running: House, home: Path, tenant: Tenant) -> None:
    other = Tenant(running, "other")
    for each in (tenant, other):
        await each.rule("office", OFFICE, WEIGHED)
    await tenant.extract("office")
    await is_refused(other.rows("landed_office"), Code.NOT_FOUND, "landed_office")
    assert counts(await other.extract("office")) == (8, 8, 3)


async def test_a_source_that_cannot_be_read_lands_nothing_and_the_next_run_does(tenant: Tenant, home: Path) -> None:
    places.write(home, "weather/a.csv", "origin,origin\nJFK,1.5\n")
    await tenant.rule("weather", {**WEATHER_SOURCE, **LANDED}, WEATHER)
    done = await tenant.ended((await tenant.begin("weather")).operation)
    assert done.state == operations_pb2.OPERATION_STATE_FAILED
    assert "names a column twice" in done.error.detail
    places.write(home, "weather/a.csv", "origin,temp\nJFK,1.5\n")
    assert counts(await tenant.extract("weather")) == (1, 1, 1)


async def test_what_of_a_deleted_landed_data_set_is_asked_for_is_refused(tenant: Tenant) -> None:
    await tenant.rule("office", OFFICE, WEIGHED)
    await tenant.extract("office")
    sets = tenant.stub(DataSetsStub)
    found = await sets.GetDataSet(datasets_pb2.GetDataSetRequest(data_set="landed_office"))
    delete = datasets_pb2.DeleteDataSetRequest(data_set="landed_office")
    await tenant.stub(DataSetsStub, if_match=f'"{found.etag}"').DeleteDataSet(delete)
    with pytest.raises(AssertionError, match="there is no data set landed_office"):
        await replay(tenant, "office")
    await sets.UndeleteDataSet(datasets_pb2.UndeleteDataSetRequest(data_set="landed_office"))
    assert counts(await replay(tenant, "office")) == (0, 8, 3)


async def test_a_run_makes_rows_of_so_many_records_and_the_next_one_goes_on(home: Path) -> None:
    places.write(home, "office.log", LINES)
    async with house(home, "data", AIMASS_DATA_LANDED_RECORDS_AT_ONCE="3") as running:
        tenant = Tenant(running)
        await tenant.rule("office", OFFICE, WEIGHED)
        begun = await tenant.begin("office")
        done = await tenant.ended(begun.operation)
        assert "5 landed records are left for the next run" in done.message
        read = [await tenant.extract("office") for _ in range(3)]

        assert [(run.records_landed, run.first_landed, run.last_landed) for run in read] == [
            (0, 4, 6),
            (0, 7, 8),
            (0, 0, 0),
        ]
        whole = await replay(tenant, "office", aside=True)
        assert (whole.records_read, await tenant.rows("replayed_office")) == (8, await tenant.rows("office"))


async def test_a_cursor_says_what_has_landed_and_what_the_rule_has_read(tenant: Tenant, home: Path) -> None:
    await tenant.rule("office", OFFICE, WEIGHED)
    await second_rule(tenant, "logins", "office", LOGIN)
    stub = tenant.stub(ExtractionsStub)

    async def told(rule: str) -> tuple[int, int, int]:
        found = await stub.GetCursor(pb.GetCursorRequest(rule=rule))
        return found.last_landed, found.last_read, found.lag

    size = len(LINES.encode())
    assert await told("office") == (0, 0, size)
    await tenant.extract("office")
    append(places.folder(home) / "office.log", "parcel P-5 weighed 1 g\n")
    assert (await told("office"), await told("logins")) == ((8, 8, 23), (8, 0, 23))
    await tenant.extract("logins")
    assert (await told("office"), await told("logins")) == ((9, 8, 0), (9, 9, 0))
