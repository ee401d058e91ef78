"""Extractions of rule sets: one reading, a table for each rule, a report, and what no rule takes."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from aimass.v1 import datasets_pb2, operations_pb2, rule_sets_pb2
from aimass.v1 import extractions_pb2 as pb
from aimass.v1.data_events_pb2 import ExtractionEnded
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.extractions_pb2_grpc import ExtractionsStub
from aimass.v1.rule_sets_pb2_grpc import RuleSetsStub
from services.kit.errors import Code
from tests.data import places
from tests.data.extracting import Tenant, append
from tests.data.rule_sets import ANY, INT64, LINES, LOGIN, SOURCES, STRING, WEIGHED, rule_set, wanted
from tests.support.house import House, house
from tests.support.refused import refused


@pytest.fixture
async def running(home: Path) -> AsyncIterator[House]:
    places.write(home, "office.log", LINES)
    async with house(home, "data") as running:
        yield running


@pytest.fixture
def tenant(running: House) -> Tenant:
    return Tenant(running)


def done(run: pb.Extraction) -> list[tuple[str, int, int]]:
    return [(result.rule, result.data_set_version, result.rows) for result in run.results]


async def test_each_record_goes_to_the_first_rule_that_takes_it(running: House, tenant: Tenant) -> None:
    await tenant.rule_set("office", SOURCES["office"], wanted("weighed"), wanted("logins", LOGIN, data_set="people"))
    run = await tenant.extract_set("office")

    assert (run.rule, run.rule_set, run.rule_set_version, run.data_set) == ("", "office", 1, "office")
    assert (run.records_read, run.rows_accepted, run.rows_quarantined) == (8, 5, 3)
    assert done(run) == [("weighed", 1, 3), ("logins", 1, 2)]
    assert [row["parcel"] for row in await tenant.rows("weighed")] == ["P-1", "P-3", "P-4"]
    assert await tenant.rows("people") == [{"who": "ada"}, {"who": "bo"}]
    assert await tenant.quarantine("office", 1) == [
        ("door opened", "no rule matches", "office.log:3"),
        ("parcel P-2 weighed 99999999999999999999 g", "weighed: grams does not fit int64", "office.log:4"),
        ("!", "no rule matches", "office.log:7"),
    ]
    (told,) = await running.heard(ExtractionEnded)
    assert told.extraction == run


async def test_the_report_has_a_row_for_each_run_and_rule(home: Path, tenant: Tenant) -> None:
    await tenant.rule_set("office", SOURCES["office"], wanted("weighed"), wanted("logins", LOGIN))
    first = await tenant.extract_set("office")
    append(places.folder(home) / "office.log", "cy signed in\n?\n")
    second = await tenant.extract_set("office")

    rows = await tenant.rows("office")
    names = ("extraction", "position", "rule", "rule_version", "rule_set_version", "records", "rows")
    assert [tuple(row[name] for name in names) for row in rows] == [
        (first.extraction, 1, "weighed", 1, 1, 8, 3),
        (first.extraction, 2, "logins", 1, 1, 8, 2),
        (second.extraction, 1, "weighed", 1, 1, 2, 0),
        (second.extraction, 2, "logins", 1, 1, 2, 1),
    ]
    # Who got nothing gets no version.
    assert done(second) == [("weighed", 0, 0), ("logins", 2, 1)]
    version = await tenant.version("logins", 2)
    assert {(parent.kind, parent.name, parent.version) for parent in version.parents} == {
        ("data_set", "logins", 1),
        ("source", "office", 0),
        ("rule", "logins", 1),
    }


async def test_nothing_new_is_no_version(home: Path, tenant: Tenant) -> None:
    await tenant.rule_set("office", SOURCES["office"], wanted("weighed"), wanted("logins", LOGIN))
    await tenant.extract_set("office")
    run = await tenant.extract_set("office")

    assert (run.data_set_version, run.records_read, done(run)) == (0, 0, [("weighed", 0, 0), ("logins", 0, 0)])
    assert (await tenant.version("office")).version == 1
    # Folders of runs that wrote nothing do not stay.
    assert not list((home / "tables").rglob(run.extraction))


async def test_with_all_a_record_becomes_a_row_of_each_rule_that_takes_it(tenant: Tenant) -> None:
    rules = (wanted("weighed"), wanted("logins", LOGIN), wanted("rest", ANY))
    await tenant.rule_set("office", SOURCES["office"], *rules, match="RULE_MATCH_ALL")
    run = await tenant.extract_set("office")

    assert done(run) == [("weighed", 1, 3), ("logins", 1, 2), ("rest", 1, 7)]
    assert (run.rows_accepted, run.rows_quarantined, run.records_overlapping) == (12, 1, 5)
    assert [(overlap.first, overlap.second, overlap.records) for overlap in run.overlaps] == [
        ("weighed", "rest", 3),
        ("logins", "rest", 2),
    ]


async def test_a_run_keeps_to_the_version_that_was_active_and_the_next_one_takes_the_new(
    home: Path, tenant: Tenant
) -> None:
    await tenant.rule_set("office", SOURCES["office"], wanted("weighed"))
    await tenant.extract_set("office")
    request = rule_sets_pb2.CreateRuleSetVersionRequest(rule_set="office")
    for said in (wanted("logins", LOGIN), wanted("weighed")):
        ParseDict(said, request.rules.add())
    sets = tenant.stub(RuleSetsStub)
    await sets.CreateRuleSetVersion(request)
    append(places.folder(home) / "office.log", "cy signed in\n")
    assert (await tenant.extract_set("office")).rows_quarantined == 1
    await sets.ActivateRuleSet(rule_sets_pb2.ActivateRuleSetRequest(rule_set="office", version=2))
    append(places.folder(home) / "office.log", "di signed in\n")
    run = await tenant.extract_set("office")

    assert (run.rule_set_version, done(run)) == (2, [("logins", 1, 1), ("weighed", 0, 0)])


async def test_files_and_documents_have_rule_sets_as_well(home: Path, tenant: Tenant) -> None:
    places.write(home, "t.csv", "kind,n,word\na,1,\nb,,x\nc,,\n")
    places.write(home, "t.jsonl", '{"n": 1}\n{"word": "x"}\n{}\n[]\n')

    def of(kind: str, name: str, column: str) -> dict[str, Any]:
        return wanted(f"{kind}-{name}", {kind: {"columns": [{"name": name, "type": column, "required": True}]}})

    for kind, form, pattern in (
        ("file", "FILE_FORMAT_CSV", "t.csv"),
        ("json", "FILE_FORMAT_JSON_LINES", "t.jsonl"),
    ):
        source = {"files": {"pattern": pattern, "format": form}}
        await tenant.rule_set(kind, source, of(kind, "n", INT64), of(kind, "word", STRING))
        run = await tenant.extract_set(kind)
        assert [result.rows for result in run.results] == [1, 1]
        assert await tenant.rows(f"{kind}-n") == [{"n": 1.0}]
    assert [reason for _, reason, _ in await tenant.quarantine("file", 1)] == ["file-n: n is missing"]
    assert [reason for _, reason, _ in await tenant.quarantine("json", 1)] == [
        "json-n: n is missing",
        "the line is not a JSON object",
    ]


async def test_a_rule_belongs_to_one_reading(tenant: Tenant) -> None:
    await tenant.rule("office", SOURCES["office"], WEIGHED)
    await tenant.extract("office")
    sets = tenant.stub(RuleSetsStub)
    failure = await refused(sets.CreateRuleSet(rule_set("all", {"rule": "office"}, data_set="reports")))
    assert (failure.code, "was extracted by itself" in failure.detail) == (Code.FAILED_PRECONDITION, True)

    await sets.CreateRuleSet(rule_set("all", wanted("weighed")))
    run = tenant.stub(ExtractionsStub)
    failure = await refused(run.RunExtraction(pb.RunExtractionRequest(rule="weighed")))
    assert failure.detail == "weighed belongs to the rule set all and runs in that only"
    failure = await refused(run.RunRuleSet(pb.RunRuleSetRequest(rule_set="all")))
    assert failure.detail == "all has no active version"


async def test_a_set_has_one_run_at_a_time_and_lists_its_own(tenant: Tenant) -> None:
    await tenant.rule_set("office", SOURCES["office"], wanted("weighed"))
    begun = await tenant.begin_set("office")
    failure = await refused(tenant.begin_set("office"))
    assert (failure.code, "of office is running" in failure.detail) == (Code.IN_PROGRESS, True)
    await tenant.ended(begun.operation)
    await tenant.extract_set("office")

    stub = tenant.stub(ExtractionsStub)
    listed = await stub.ListExtractions(pb.ListExtractionsRequest(rule_set="office"))
    assert [run.data_set_version for run in listed.extractions] == [0, 1]
    assert listed.extractions[1] == await stub.GetExtraction(
        pb.GetExtractionRequest(extraction=listed.extractions[1].extraction)
    )
    assert not (await stub.ListExtractions(pb.ListExtractionsRequest(rule_set="other"))).extractions


async def test_where_one_table_cannot_be_written_none_is_and_the_next_run_reads_all_again(tenant: Tenant) -> None:
    await tenant.rule_set("office", SOURCES["office"], wanted("weighed"), wanted("logins", LOGIN))
    data_sets = tenant.stub(DataSetsStub)
    begun = await tenant.begin_set("office")
    await tenant.ended(begun.operation)
    found = await data_sets.GetDataSet(datasets_pb2.GetDataSetRequest(data_set="logins"))
    metadata = (("if-match", found.etag),)
    await data_sets.DeleteDataSet(datasets_pb2.DeleteDataSetRequest(data_set="logins"), metadata=metadata)
    append(places.folder(tenant.house.runtime.home) / "office.log", "parcel P-9 weighed 1 g\ncy signed in\n")
    failed = await tenant.ended((await tenant.begin_set("office")).operation)

    assert failed.state == operations_pb2.OPERATION_STATE_FAILED
    assert failed.error.detail == "the data set logins is deleted"
    assert (await tenant.version("weighed")).version == 1
    await data_sets.UndeleteDataSet(datasets_pb2.UndeleteDataSetRequest(data_set="logins"))
    assert done(await tenant.extract_set("office")) == [("weighed", 2, 1), ("logins", 2, 1)]


async def test_a_type_that_a_table_has_otherwise_is_said_before_anything_is_read(tenant: Tenant) -> None:
    await tenant.rule_set("office", SOURCES["office"], wanted("weighed"), wanted("logins", LOGIN))
    await tenant.extract_set("office")
    other = {"regex": {"pattern": r"(?P<who>\d+)", "columns": [{"name": "who", "type": INT64}]}}
    request = rule_sets_pb2.CreateRuleSetVersionRequest(rule_set="office")
    ParseDict(wanted("logins", other), request.rules.add())
    sets = tenant.stub(RuleSetsStub)
    await sets.CreateRuleSetVersion(request)
    await sets.ActivateRuleSet(rule_sets_pb2.ActivateRuleSetRequest(rule_set="office", version=2))
    failure = await refused(tenant.begin_set("office"))

    assert failure.code is Code.FAILED_PRECONDITION
    assert failure.detail == "the column who of logins holds string, the new rows have int64"
