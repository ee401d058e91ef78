import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.json_format import ParseDict

from aimass.v1 import extractions_pb2 as pb
from aimass.v1 import operations_pb2, rules_pb2, uploads_pb2
from aimass.v1.data_events_pb2 import ExtractionEnded
from aimass.v1.extractions_pb2_grpc import ExtractionsStub
from aimass.v1.operations_pb2_grpc import OperationsStub
from aimass.v1.rules_pb2_grpc import RulesStub
from aimass.v1.sources_pb2_grpc import SourcesStub
from services.kit.errors import Code
from tests.data import places
from tests.data.extracting import FLIGHTS, FLIGHTS_SOURCE, WEATHER, WEATHER_SOURCE, Tenant, append
from tests.support.house import House, house, until
from tests.support.refused import refused


@pytest.fixture
async def running(home: Path) -> AsyncIterator[House]:
    async with house(home, "data") as running:
        yield running


@pytest.fixture
def tenant(running: House) -> Tenant:
    return Tenant(running)


async def test_a_table_becomes_a_version_and_only_new_rows_the_next(tenant: Tenant, home: Path) -> None:
    places.flights(home, rows=5)
    await tenant.rule("flights", FLIGHTS_SOURCE, FLIGHTS)

    first = await tenant.extract("flights")
    nothing = await tenant.extract("flights")
    places.flights(home, rows=2, first=6)
    second = await tenant.extract("flights")

    assert (first.records_read, first.rows_accepted, first.data_set, first.data_set_version) == (5, 5, "flights", 1)
    assert (nothing.records_read, nothing.data_set_version) == (0, 0)
    assert (second.records_read, second.data_set_version) == (2, 2)
    assert [row["id"] for row in await tenant.rows("flights")] == [1, 2, 3, 4, 5, 6, 7]
    assert (await tenant.rows("flights", 1))[0] == {"id": 1, "carrier": "UA", "dep_delay": 0.5}
    assert len(await tenant.rows("flights", 1)) == 5
    (told,) = [e for e in await tenant.house.heard(ExtractionEnded, 3) if e.extraction.data_set_version == 2]
    assert told.extraction == second


async def test_no_run_begins_on_a_disk_as_full_as_it_may_be_and_rows_are_read_there(home: Path) -> None:
    places.flights(home, rows=5)
    async with house(home, "data") as running:
        await Tenant(running).rule("flights", FLIGHTS_SOURCE, FLIGHTS)
        await Tenant(running).extract("flights")
    async with house(home, "data", AIMASS_DISK_PERCENT="0") as running:
        failure, rows = await refused(Tenant(running).begin("flights")), await Tenant(running).rows("flights")

    assert (failure.code, len(rows)) == (Code.STORAGE_FULL, 5)


async def test_a_version_says_where_it_came_from(tenant: Tenant, home: Path) -> None:
    places.flights(home)
    await tenant.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
    await tenant.extract("flights")

    parents = [(parent.kind, parent.name, parent.version) for parent in (await tenant.version("flights")).parents]
    assert parents == [("source", "flights", 0), ("rule", "flights", 1)]


async def test_files_are_read_from_where_they_ended_by_whole_lines(tenant: Tenant, home: Path) -> None:
    jfk = places.write(home, "weather/JFK.csv", "origin,temp\nJFK,1\nJFK,NA\nJFK,9")
    await tenant.rule("weather", WEATHER_SOURCE, WEATHER)

    assert (await tenant.extract("weather")).rows_accepted == 2
    append(jfk, "9\nJFK,3\n")
    places.write(home, "weather/LGA.csv", "temp,origin\n4,LGA\n")
    assert (await tenant.extract("weather")).rows_accepted == 3
    assert (await tenant.extract("weather")).data_set_version == 0
    rows = [(row["origin"], row["temp"]) for row in await tenant.rows("weather")]
    assert rows == [("JFK", 1), ("JFK", None), ("JFK", 99), ("JFK", 3), ("LGA", 4)]


async def test_rotated_and_replaced_files_are_known(tenant: Tenant, home: Path) -> None:
    log = places.write(home, "logs/a.log", "GET 200\n")
    columns = [{"name": "status", "type": "COLUMN_TYPE_INT64"}]
    source = {"files": {"pattern": "logs/a.log*", "format": "FILE_FORMAT_TEXT"}}
    await tenant.rule("log", source, {"regex": {"pattern": r"GET (?P<status>\d+)", "columns": columns}})
    await tenant.extract("log")

    log.rename(log.with_suffix(".log.1"))
    log.write_text("GET 404\nGET 500\n")
    assert (await tenant.extract("log")).rows_accepted == 2
    log.write_text("GET 1\n")
    done = await tenant.ended((await tenant.begin("log")).operation)

    assert (
        done.message
        == "1 rows of 1 records, 0 quarantined; logs/a.log is another file than before and was read from its start"
    )
    assert [row["status"] for row in await tenant.rows("log")] == [200, 404, 500, 1]


async def test_broken_records_go_to_quarantine_with_their_reasons(tenant: Tenant, home: Path) -> None:
    places.write(home, "weather/JFK.csv", 'origin,temp\nJFK,1\nJFK,warm\n,2\nJFK\n"JFK","3"\n')
    await tenant.rule("weather", WEATHER_SOURCE, WEATHER)
    done = await tenant.extract("weather")

    assert (done.records_read, done.rows_accepted, done.rows_quarantined) == (5, 2, 3)
    wrong = "the record has another number of fields than the header"
    assert sorted(await tenant.quarantine("weather", 1)) == sorted(
        [
            ("JFK", wrong, "weather/JFK.csv:5"),
            ('{"origin": "JFK", "temp": "warm"}', "temp does not fit double", "weather/JFK.csv:3"),
            ('{"origin": "", "temp": "2"}', "origin is missing", "weather/JFK.csv:4"),
        ]
    )
    quality = (await tenant.version("weather")).quality
    assert dict(quality.quarantined) == {wrong: 1, "temp does not fit double": 1, "origin is missing": 1}


async def test_json_records_are_taken_apart_by_path(tenant: Tenant, home: Path) -> None:
    places.write(home, "planes.jsonl", '{"tail": "N1", "engine": {"n": 2}}\n{"tail": "N2"}\nnot json\n')
    columns = [
        {"name": "tail", "type": "COLUMN_TYPE_STRING"},
        {"name": "engines", "from": "$.engine.n", "type": "COLUMN_TYPE_INT64"},
    ]
    source = {"files": {"pattern": "planes.jsonl", "format": "FILE_FORMAT_JSON_LINES"}}
    await tenant.rule("planes", source, {"json": {"columns": columns}})

    assert (await tenant.extract("planes")).rows_quarantined == 1
    assert await tenant.rows("planes") == [{"tail": "N1", "engines": 2}, {"tail": "N2", "engines": None}]


async def test_an_uploaded_file_becomes_a_data_set_with_its_last_line(tenant: Tenant) -> None:
    data = b"code,name\nJFK,Kennedy\nLGA,La Guardia"
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    sources = tenant.stub(SourcesStub)
    upload = (await sources.CreateSourceUpload(uploads_pb2.CreateUploadRequest())).upload
    await sources.WriteSourceUpload(uploads_pb2.WriteUploadRequest(upload=upload, body=HttpBody(data=data)))
    await sources.CommitSourceUpload(uploads_pb2.CommitUploadRequest(upload=upload, digest=digest))
    columns = [{"name": name, "type": "COLUMN_TYPE_STRING"} for name in ("code", "name")]
    source = {"files": {"upload_digest": digest, "format": "FILE_FORMAT_CSV"}}
    await tenant.rule("airports", source, {"file": {"columns": columns}})

    assert (await tenant.extract("airports")).rows_accepted == 2
    assert (await tenant.extract("airports")).data_set_version == 0
    assert (await tenant.rows("airports"))[1] == {"code": "LGA", "name": "La Guardia"}


async def test_a_rule_without_an_active_version_is_not_run(tenant: Tenant, home: Path) -> None:
    places.flights(home)
    await tenant.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
    definition = ParseDict(FLIGHTS, rules_pb2.RuleDefinition())
    await tenant.stub(RulesStub).CreateRule(
        rules_pb2.CreateRuleRequest(rule="idle", source="flights", definition=definition)
    )

    failure = await refused(tenant.begin("idle"))
    assert (failure.code, failure.detail) == (Code.FAILED_PRECONDITION, "idle has no active version")
    assert (await refused(tenant.begin("none"))).code is Code.NOT_FOUND


async def test_a_version_may_add_columns_but_not_change_a_type(tenant: Tenant, home: Path) -> None:
    places.flights(home, rows=1)
    await tenant.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
    await tenant.extract("flights")
    places.flights(home, rows=1, first=2)

    await activate(tenant, 2, {"sql": {"sql": "SELECT id, carrier, dep_delay, time_hour FROM flights"}})
    await tenant.extract("flights")
    text = [{"name": "dep_delay", "type": "COLUMN_TYPE_STRING"}]
    await activate(tenant, 3, {"sql": {"sql": "SELECT id, dep_delay FROM flights", "columns": text}})
    failure = await refused(tenant.begin("flights"))

    assert [row["time_hour"] for row in await tenant.rows("flights")] == [None, "2013-01-01 02:00:00"]
    assert failure.code is Code.FAILED_PRECONDITION
    assert failure.detail == "the column dep_delay of flights holds double, the new rows have string"


async def activate(tenant: Tenant, version: int, rule: dict[str, Any]) -> None:
    rules, definition = tenant.stub(RulesStub), ParseDict(rule, rules_pb2.RuleDefinition())
    await rules.CreateRuleVersion(rules_pb2.CreateRuleVersionRequest(rule="flights", definition=definition))
    await rules.ActivateRule(rules_pb2.ActivateRuleRequest(rule="flights", version=version))


async def test_one_extraction_of_a_rule_runs_at_a_time_and_a_repeat_is_the_same(tenant: Tenant, home: Path) -> None:
    places.flights(home)
    await tenant.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
    begun = await tenant.begin("flights", idempotency_key="k")

    assert (await refused(tenant.begin("flights"))).code is Code.IN_PROGRESS
    assert await tenant.begin("flights", idempotency_key="k") == begun
    await tenant.ended(begun.operation)
    assert await tenant.begin("flights", idempotency_key="k") == begun
    found = (await tenant.stub(ExtractionsStub).ListExtractions(pb.ListExtractionsRequest())).extractions
    assert len(found) == 1


async def test_a_cancelled_extraction_leaves_nothing(tenant: Tenant, home: Path) -> None:
    places.flights(home, rows=200_000)
    await tenant.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
    begun = await tenant.begin("flights")
    request = operations_pb2.CancelOperationRequest(operation=begun.operation)
    await tenant.stub(OperationsStub).CancelOperation(request)

    done = await tenant.ended(begun.operation)
    assert done.state == operations_pb2.OPERATION_STATE_CANCELLED
    (found,) = (
        await tenant.stub(ExtractionsStub).ListExtractions(pb.ListExtractionsRequest(rule="flights"))
    ).extractions
    assert found.state == pb.EXTRACTION_STATE_CANCELLED
    assert (await refused(tenant.version("flights"))).code in (Code.NOT_FOUND, Code.UNKNOWN_VERSION)
    assert not list((home / "tables").rglob("*.parquet"))
    assert (await tenant.extract("flights")).rows_accepted == 200_000


async def test_a_source_that_has_gone_fails_the_extraction_with_a_reason(tenant: Tenant, home: Path) -> None:
    path = places.flights(home)
    await tenant.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
    path.unlink()
    done = await tenant.ended((await tenant.begin("flights")).operation)

    assert (done.state, done.error.code) == (operations_pb2.OPERATION_STATE_FAILED, "invalid_value")
    assert done.error.detail == "there is no flights.db"
    (found,) = (await tenant.stub(ExtractionsStub).ListExtractions(pb.ListExtractionsRequest())).extractions
    assert (found.state, found.error) == (pb.EXTRACTION_STATE_FAILED, "there is no flights.db")
    places.flights(home)
    assert (await tenant.extract("flights")).rows_accepted == 5


async def test_extractions_are_listed_newest_first_and_are_their_tenants(tenant: Tenant, home: Path) -> None:
    places.flights(home)
    await tenant.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
    made = [(await tenant.extract("flights")).extraction for _ in range(2)]
    stub, other = tenant.stub(ExtractionsStub), tenant.house.stub(ExtractionsStub, "data", tenant="umbrella")

    first = await stub.ListExtractions(pb.ListExtractionsRequest(page_size=1))
    second = await stub.ListExtractions(pb.ListExtractionsRequest(page_size=1, page_token=first.next_page_token))
    assert [e.extraction for e in (*first.extractions, *second.extractions)] == made[::-1]
    assert not (await stub.ListExtractions(pb.ListExtractionsRequest(rule="other"))).extractions
    assert not (await other.ListExtractions(pb.ListExtractionsRequest())).extractions
    assert (await refused(other.GetExtraction(pb.GetExtractionRequest(extraction=made[0])))).code is Code.NOT_FOUND
    assert (await refused(other.RunExtraction(pb.RunExtractionRequest(rule="flights")))).code is Code.NOT_FOUND
    assert (await stub.GetExtraction(pb.GetExtractionRequest(extraction=made[0]))).extraction == made[0]


async def test_a_run_that_ended_while_it_was_taken_up_is_not_done_again(tenant: Tenant, home: Path) -> None:
    """Who looks for unfinished runs may read one whose doer ends it and gives it back at that moment."""
    places.flights(home, rows=5)
    await tenant.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
    api: Any = tenant.house.runtime.apps["data"].rpc["aimass.v1.Extractions"]
    first = await tenant.extract("flights")
    runner, begun = api._extractions._runner, await tenant.begin("flights")  # which finds nothing new
    ((scope, found),) = await runner._store.unfinished()
    await tenant.ended(begun.operation)
    await until(lambda: not runner._running)
    before = await runner._store.get(scope, found.extraction)
    runner.begin(scope, found)
    await asyncio.wait([runner._stoppable[found.operation]])

    assert await runner._store.get(scope, found.extraction) == before
    last = await tenant.extract("flights")
    told = [event.extraction.extraction for event in await tenant.house.heard(ExtractionEnded, 3)]
    assert told == [first.extraction, found.extraction, last.extraction]
