"""Sources, uploads, rules and extractions as messages, and back."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from aimass.v1 import extractions_pb2, rules_pb2
from aimass.v1 import sources_pb2 as pb
from aimass.v1 import uploads_pb2 as up
from services.data.extractions import domain as extractions
from services.data.extractions import events as extraction_events
from services.data.extractions.domain import Counts, Extraction, State
from services.data.extractions.wire import extraction_to_wire
from services.data.reading.crawls import CrawlSource
from services.data.reading.kinds import (
    Compiled,
    Definition,
    FileFormat,
    FileRule,
    FilesSource,
    JsonRule,
    RegexRule,
    RuleColumn,
    RuleDefinition,
    SqlRule,
    SqlSource,
)
from services.data.reading.topics import KafkaSource, LostRecords, TopicFormat
from services.data.rules import wire as rules
from services.data.rules.domain import Refused, Rule, RuleVersion, RuleView, Trial
from services.data.rules.events import rule_changed
from services.data.schema import ColumnType
from services.data.sources import wire as sources
from services.data.sources.domain import Source, Upload
from services.data.sources.events import source_changed
from services.kit.auth import Scope
from services.kit.errors import Code, Failure

NOW = datetime(2013, 1, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
ACME = Scope("acme")
DIGEST = "sha256:" + "0" * 64
COLUMNS = tuple(RuleColumn(kind.value, kind.value, kind, kind is ColumnType.DATE) for kind in ColumnType)
RUN = Extraction("e1", "r", 2, "s", "d", "data-1", NOW)


@pytest.mark.parametrize(
    "definition",
    [
        SqlSource("sqlite:///a.db", "t", "id"),
        FilesSource(FileFormat.CSV, "*.csv", delimiter=";", null_values=("NA", "")),
        FilesSource(FileFormat.CSV, "*.tsv", delimiter="\t"),
        FilesSource(FileFormat.JSON_LINES, "a.jsonl"),
        FilesSource(FileFormat.TEXT, upload_digest=DIGEST),
        FilesSource(FileFormat.TEXT, "*", record_start="x", record_lines=5, record_bytes=9, record_wait_seconds=7),
        KafkaSource(("a:1",), "t", TopicFormat.BYTES, lost_records=LostRecords.SKIP),
        CrawlSource(("https://a.example/",), "/x", 3, 100, 2**20, 2**32, 0.5, "me@a.example", True),
    ],
)
def test_a_source_crosses_the_wire_as_it_was_described(definition: Definition) -> None:
    message = sources.source_to_wire(Source("s", "words", definition, NOW, LATER, generation=3))
    described = pb.CreateSourceRequest(
        sql=message.sql if message.HasField("sql") else None,
        files=message.files if message.HasField("files") else None,
        kafka=message.kafka if message.HasField("kafka") else None,
        crawl=message.crawl if message.HasField("crawl") else None,
    )

    assert sources.definition_of(described) == definition
    assert (message.source, message.description, message.etag) == ("s", "words", "3")
    assert (message.create_time.ToDatetime(UTC), message.update_time.ToDatetime(UTC)) == (NOW, LATER)
    assert not message.HasField("delete_time")


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (pb.CreateSourceRequest(), "sql or files.* must be set"),
        (pb.UpdateSourceRequest(description="x"), "sql or files.* must be set"),
        (pb.PreviewSourceRequest(source="s"), "sql or files.* must be set"),
        (pb.CreateSourceRequest(files=pb.FilesSource(pattern="a")), "the format is not known"),
        (pb.CreateSourceRequest(files=pb.FilesSource(pattern="a", format=77)), "the format is not known"),  # type: ignore[arg-type]
    ],
)
def test_a_request_that_describes_nothing_is_refused(request_: Any, says: str) -> None:
    with pytest.raises(Failure, match=says) as caught:
        sources.definition_of(request_)
    assert caught.value.code is Code.INVALID_VALUE


def test_a_delimiter_that_is_not_said_is_a_comma() -> None:
    files = pb.FilesSource(pattern="a", format=pb.FILE_FORMAT_CSV)
    definition = sources.definition_of(pb.CreateSourceRequest(files=files))
    assert isinstance(definition, FilesSource)
    assert definition.delimiter == ","


@pytest.mark.parametrize(("digest", "state"), [("", up.UPLOAD_STATE_OPEN), (DIGEST, up.UPLOAD_STATE_COMMITTED)])
def test_an_upload_with_a_digest_is_committed(digest: str, state: Any) -> None:
    message = sources.upload_to_wire(Upload("u", 7, digest, NOW))
    assert (message.upload, message.committed_size, message.digest, message.state) == ("u", 7, digest, state)


def test_the_event_of_a_source_has_its_full_state_and_its_time() -> None:
    source = Source("s", "", SqlSource("sqlite:///a.db", "t", "id"), NOW, LATER, LATER, 4)
    event = source_changed(ACME, source)
    assert event.headers["ce_time"].startswith("2013-01-01T13:00:00")
    assert source.source in event.key


@pytest.mark.parametrize(
    "definition",
    [
        SqlRule("SELECT id FROM t"),
        SqlRule("SELECT id FROM t", COLUMNS),
        FileRule((*COLUMNS, RuleColumn("other", "a name", ColumnType.STRING))),
        JsonRule((RuleColumn("n", "$.a[0]['b c']", ColumnType.INT64, True),)),
        JsonRule((RuleColumn("n", "$.a[*].b", ColumnType.INT64, variant=True),), keep_empty=True),
        RegexRule("(?P<n>.)", (RuleColumn("m", "n", ColumnType.BOOL),)),
    ],
)
def test_a_rule_crosses_the_wire_as_it_was_said(definition: RuleDefinition) -> None:
    assert rules.definition_of(rules.definition_to_wire(definition)) == definition


def test_a_column_that_comes_from_its_own_name_does_not_say_so() -> None:
    same = rules.definition_to_wire(FileRule((RuleColumn("n", "n", ColumnType.BOOL),)))
    assert MessageToDict(same) == {"file": {"columns": [{"name": "n", "type": "COLUMN_TYPE_BOOL"}]}}


def test_a_rule_that_says_nothing_is_refused() -> None:
    with pytest.raises(Failure, match="the definition must be sql, file, "):
        rules.definition_of(rules_pb2.RuleDefinition())
    untyped = rules_pb2.RuleDefinition()
    untyped.json.columns.add(name="n")
    with pytest.raises(Failure, match="the column type must be set"):
        rules.definition_of(untyped)


def view(**changes: Any) -> RuleView:
    rule = replace(Rule("r", "s", "d", NOW, LATER), **changes)
    return RuleView(rule, RuleVersion(2, SqlRule("SELECT id FROM t"), Compiled(()), NOW))


def test_a_rule_shows_one_version_and_which_are_latest_and_active() -> None:
    message = rules.rule_to_wire(view(latest_version=3, active_version=1, generation=7))

    assert (message.rule, message.source, message.data_set) == ("r", "s", "d")
    assert (message.version, message.latest_version, message.active_version, message.etag) == (2, 3, 1, "7")
    assert message.definition.sql.sql == "SELECT id FROM t"
    assert not message.HasField("delete_time")


def test_the_event_of_a_rule_is_as_old_as_its_change() -> None:
    event = rule_changed(ACME, view(delete_time=LATER, generation=5))
    assert event.headers["ce_time"].startswith("2013-01-01T13:00:00")


def test_a_trial_shows_what_json_can_say() -> None:
    compiled = Compiled((RuleColumn("at", "at", ColumnType.TIMESTAMP, True), RuleColumn("n", "n", ColumnType.INT64)))
    trial = Trial(4, 1, ({"at": NOW, "n": 2**60},), (Refused("x", "n does not fit int64"),) * 3, compiled)
    message = rules.trial_to_wire(trial)

    assert (message.tried, message.accepted, message.coverage) == (4, 1, 0.25)
    assert MessageToDict(message.rows[0]) == {"at": "2013-01-01T12:00:00Z", "n": str(2**60)}
    assert [(column.name, column.nullable) for column in message.schema.columns] == [("at", False), ("n", True)]
    assert {(refused.record, refused.reason) for refused in message.refused} == {("x", "n does not fit int64")}


@pytest.mark.parametrize("state", State)
def test_every_state_of_an_extraction_has_its_name_on_the_wire(state: State) -> None:
    message = extraction_to_wire(replace(RUN, state=state))
    assert extractions_pb2.ExtractionState.Name(message.state) == f"EXTRACTION_STATE_{state.name}"
    assert (message.extraction, message.rule_version, message.operation) == ("e1", 2, "data-1")
    assert not message.HasField("end_time")


def test_an_extraction_that_succeeded_has_its_counts() -> None:
    done = extractions.succeeded(RUN, Counts(10, 7, 3, {}), 4, LATER)
    message = extraction_to_wire(done)

    assert (message.records_read, message.rows_accepted, message.rows_quarantined) == (10, 7, 3)
    assert (message.data_set_version, message.end_time.ToDatetime(UTC)) == (4, LATER)
    assert extraction_events.extraction_ended(ACME, done).headers["ce_time"].startswith("2013-01-01T13:00:00")


@pytest.mark.parametrize(("error", "state"), [("", State.CANCELLED), ("no disk", State.FAILED)])
def test_an_extraction_that_did_not_succeed_says_why_or_was_cancelled(error: str, state: State) -> None:
    after = extractions.ended(RUN, error, LATER)
    assert (after.state, after.error, after.end_time, after.data_set_version) == (state, error, LATER, 0)


def test_a_long_reason_is_cut_to_what_is_kept() -> None:
    assert len(extractions.ended(RUN, "x" * 5000, LATER).error) == 1000
