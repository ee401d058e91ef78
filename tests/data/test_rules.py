from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict

from aimass.v1 import rules_pb2 as pb
from aimass.v1.data_events_pb2 import RuleChanged
from aimass.v1.rules_pb2_grpc import RulesStub
from services.kit.errors import Code
from tests.data import places
from tests.data.sourced import sourced
from tests.support.house import House, house
from tests.support.refused import refused

INT64, DOUBLE, STRING, TIMESTAMP = (
    "COLUMN_TYPE_INT64",
    "COLUMN_TYPE_DOUBLE",
    "COLUMN_TYPE_STRING",
    "COLUMN_TYPE_TIMESTAMP",
)
SQL = {"sql": {"sql": "SELECT id, carrier AS airline, dep_delay FROM flights"}}
CSV = {
    "file": {
        "columns": [
            {"name": "temp", "type": DOUBLE, "required": True},
            {"name": "at", "from": "hour", "type": TIMESTAMP},
        ]
    }
}
JSON = {
    "json": {
        "columns": [{"name": "tailnum", "type": STRING}, {"name": "engines", "from": "$.engine.count", "type": INT64}]
    }
}
LOG = {"regex": {"pattern": r"(?P<method>[A-Z]+) (?P<status>\d{3})", "columns": [{"name": "status", "type": INT64}]}}


def definition(what: dict[str, Any]) -> pb.RuleDefinition:
    return ParseDict(what, pb.RuleDefinition())


def create(rule: str, source: str, what: dict[str, Any], data_set: str = "") -> pb.CreateRuleRequest:
    return pb.CreateRuleRequest(rule=rule, source=source, data_set=data_set, definition=definition(what))


def write_all(home: Path) -> None:
    places.flights(home)
    places.write(home, "weather.csv", "temp,hour\n1.5,2013-01-01 10:00:00\nwarm,2013-01-01 11:00:00\n,\n2\n")
    places.write(home, "planes.jsonl", '{"tailnum": "N1", "engine": {"count": 2}}\n[1]\n{"tailnum": "N2"}\n')
    places.write(home, "access.log", "GET 200\nGET teapot\nPOST 503\n")


SOURCES = {
    "db": {"sql": {"url": "sqlite:///flights.db", "table": "flights", "cursor": "id"}},
    "csv": {"files": {"pattern": "weather.csv", "format": "FILE_FORMAT_CSV"}},
    "jsonl": {"files": {"pattern": "planes.jsonl", "format": "FILE_FORMAT_JSON_LINES"}},
    "log": {"files": {"pattern": "access.log", "format": "FILE_FORMAT_TEXT"}},
}


@pytest.fixture
async def running(home: Path) -> AsyncIterator[House]:
    write_all(home)
    async with sourced(home, SOURCES) as running:
        yield running


async def test_a_rule_is_read_back_as_it_was_said_and_told(running: House, rules: Any) -> None:
    made = await rules.CreateRule(create("flights_raw", "db", SQL))

    assert made == await rules.GetRule(pb.GetRuleRequest(rule="flights_raw"))
    assert made.definition == definition(SQL)
    assert (made.version, made.active_version, made.data_set, made.etag) == (1, 0, "flights_raw", "1")
    (told,) = await running.heard(RuleChanged)
    assert (told.rule, told.generation) == (made, 1)


@pytest.mark.parametrize(("source", "what"), [("db", SQL), ("csv", CSV), ("jsonl", JSON), ("log", LOG)])
async def test_every_kind_of_rule_is_kept(rules: Any, source: str, what: dict[str, Any]) -> None:
    made = await rules.CreateRule(create("r", source, what))
    assert made.definition == definition(what)


@pytest.mark.parametrize(
    ("source", "what", "tried", "accepted", "reason", "row"),
    [
        ("db", SQL, 5, 5, None, {"id": 1.0, "airline": "UA", "dep_delay": 0.5}),
        ("csv", CSV, 4, 1, "temp does not fit double", {"temp": 1.5, "at": "2013-01-01T10:00:00Z"}),
        ("jsonl", JSON, 3, 2, "the line is not a JSON object", {"tailnum": "N1", "engines": 2.0}),
        ("log", LOG, 3, 2, "the line does not match", {"status": 200.0}),
    ],
)
async def test_a_test_shows_coverage_rows_and_refusals(
    rules: Any, source: str, what: dict[str, Any], tried: int, accepted: int, reason: str | None, row: dict[str, Any]
) -> None:
    await rules.CreateRule(create("r", source, what))
    trial = await rules.TestRule(pb.TestRuleRequest(rule="r"))

    assert (trial.tried, trial.accepted, trial.coverage) == (tried, accepted, accepted / tried)
    assert MessageToDict(trial.rows[0]) == row
    assert reason is None or reason in [refusal.reason for refusal in trial.refused]
    assert len(trial.schema.columns) == len(row)


async def test_a_refused_record_is_shown_as_it_was_read(rules: Any) -> None:
    await rules.CreateRule(create("r", "csv", CSV))
    trial = await rules.TestRule(pb.TestRuleRequest(rule="r"))

    assert {(r.record, r.reason) for r in trial.refused} == {
        ('{"temp": "warm", "hour": "2013-01-01 11:00:00"}', "temp does not fit double"),
        ('{"temp": "", "hour": ""}', "temp is missing"),
        ("2", "the record has another number of fields than the header"),
    }


async def test_a_test_says_what_each_column_finds(rules: Any) -> None:
    await rules.CreateRule(create("csv", "csv", CSV))
    await rules.CreateRule(create("log", "log", LOG | {"regex": LOG["regex"] | {"pattern": r"(?P<status>.*)"}}))
    trials = [await rules.TestRule(pb.TestRuleRequest(rule=name)) for name in ("csv", "log")]

    # Of four lines of the file one has another number of fields, so that nothing is known of its columns.
    assert [[(c.name, c.values, c.missing, c.misfits) for c in trial.columns] for trial in trials] == [
        [("temp", 1, 1, 1), ("at", 2, 1, 0)],
        [("status", 0, 0, 3)],
    ]
    assert trials[0].columns[1].coverage == 2 / 4


async def test_a_test_tries_no_more_than_it_is_told(rules: Any) -> None:
    await rules.CreateRule(create("r", "db", SQL))

    assert (await rules.TestRule(pb.TestRuleRequest(rule="r", records=2))).tried == 2
    assert (await refused(rules.TestRule(pb.TestRuleRequest(rule="r", records=10_001)))).code is Code.INVALID_VALUE
    assert (await refused(rules.TestRule(pb.TestRuleRequest(rule="r", version=2)))).code is Code.UNKNOWN_VERSION


async def test_versions_stay_and_one_is_active(running: House, rules: Any) -> None:
    await rules.CreateRule(create("r", "db", SQL))
    wider = {"sql": {"sql": "SELECT * FROM flights"}}
    second = await rules.CreateRuleVersion(pb.CreateRuleVersionRequest(rule="r", definition=definition(wider)))
    active = await rules.ActivateRule(pb.ActivateRuleRequest(rule="r", version=1))

    assert (second.version, second.latest_version, second.active_version) == (2, 2, 0)
    assert (active.active_version, active.etag) == (1, "3")
    assert active == await rules.ActivateRule(pb.ActivateRuleRequest(rule="r", version=1))
    assert (await rules.GetRule(pb.GetRuleRequest(rule="r", version=1))).definition == definition(SQL)
    assert [told.generation for told in await running.heard(RuleChanged, 3)] == [1, 2, 3]


async def test_activation_needs_a_version_and_keeps_to_an_etag(rules: Any) -> None:
    await rules.CreateRule(create("r", "db", SQL))

    unknown = await refused(rules.ActivateRule(pb.ActivateRuleRequest(rule="r", version=2)))
    assert (unknown.code, unknown.detail) == (Code.UNKNOWN_VERSION, "r has no version 2")
    stale = await refused(rules.ActivateRule(pb.ActivateRuleRequest(rule="r", version=1, etag="7")))
    assert stale.code is Code.ETAG_MISMATCH


async def test_a_deleted_rule_is_hidden_and_comes_back(running: House, rules: Any) -> None:
    await rules.CreateRule(create("r", "db", SQL))
    seen = running.stub(RulesStub, "data", if_match="1")

    assert (await seen.DeleteRule(pb.DeleteRuleRequest(rule="r"))).HasField("delete_time")
    assert (await refused(rules.GetRule(pb.GetRuleRequest(rule="r")))).code is Code.NOT_FOUND
    assert not (await rules.ListRules(pb.ListRulesRequest())).rules
    assert len((await rules.ListRules(pb.ListRulesRequest(show_deleted=True))).rules) == 1
    assert not (await rules.UndeleteRule(pb.UndeleteRuleRequest(rule="r"))).HasField("delete_time")


async def test_rules_are_listed_by_name_with_their_newest_version(rules: Any) -> None:
    for name in ("c", "a", "b"):
        await rules.CreateRule(create(name, "db", SQL))
    await rules.CreateRuleVersion(pb.CreateRuleVersionRequest(rule="a", definition=definition(SQL)))

    first = await rules.ListRules(pb.ListRulesRequest(page_size=2))
    second = await rules.ListRules(pb.ListRulesRequest(page_size=2, page_token=first.next_page_token))
    assert [(r.rule, r.version) for r in (*first.rules, *second.rules)] == [("a", 2), ("b", 1), ("c", 1)]


async def test_a_data_set_is_written_by_one_rule(rules: Any) -> None:
    await rules.CreateRule(create("a", "db", SQL, data_set="flights"))

    failure = await refused(rules.CreateRule(create("b", "db", SQL, data_set="flights")))
    assert (failure.code, failure.detail) == (Code.ALREADY_EXISTS, "the data set flights is written by the rule a")
    assert (await refused(rules.CreateRule(create("a", "db", SQL)))).detail == "the rule a exists already"


async def test_another_tenant_does_not_see_a_rule(running: House, rules: Any) -> None:
    await rules.CreateRule(create("r", "db", SQL))
    other = running.stub(RulesStub, "data", tenant="umbrella", if_match="1")

    for call in (
        other.GetRule(pb.GetRuleRequest(rule="r")),
        other.TestRule(pb.TestRuleRequest(rule="r")),
        other.ActivateRule(pb.ActivateRuleRequest(rule="r", version=1)),
        other.CreateRuleVersion(pb.CreateRuleVersionRequest(rule="r", definition=definition(SQL))),
        other.DeleteRule(pb.DeleteRuleRequest(rule="r")),
        other.UndeleteRule(pb.UndeleteRuleRequest(rule="r")),
        other.CreateRule(create("mine", "db", SQL)),
    ):
        assert (await refused(call)).code is Code.NOT_FOUND


async def test_repeats_make_one_rule_and_one_version(running: House, home: Path) -> None:
    keyed = running.stub(RulesStub, "data", idempotency_key="k")
    made = await keyed.CreateRule(create("r", "db", SQL))
    extended = await keyed.CreateRuleVersion(pb.CreateRuleVersionRequest(rule="r", definition=definition(SQL)))
    (places.folder(home) / "flights.db").unlink()

    assert await keyed.CreateRule(create("r", "db", SQL)) == made
    again = await keyed.CreateRuleVersion(pb.CreateRuleVersionRequest(rule="r", definition=definition(SQL)))
    assert (again, again.latest_version) == (extended, 2)


async def test_a_restart_keeps_rules(home: Path) -> None:
    write_all(home)
    async with sourced(home, {"db": SOURCES["db"]}) as running:
        made = await running.stub(RulesStub, "data").CreateRule(create("r", "db", SQL))
    async with house(home, "data") as running:
        assert await running.stub(RulesStub, "data").GetRule(pb.GetRuleRequest(rule="r")) == made


@pytest.mark.parametrize(
    ("source", "what", "code", "says"),
    [
        ("db", {}, Code.INVALID_VALUE, "the definition must be sql, "),
        ("csv", SQL, Code.INVALID_VALUE, "a sql rule needs a sql source"),
        ("log", CSV, Code.INVALID_VALUE, "needs files of format csv"),
        ("db", LOG, Code.INVALID_VALUE, "needs files of format text"),
        ("db", {"sql": {"sql": "DELETE FROM flights"}}, Code.SQL_NOT_ALLOWED, "delete is not allowed"),
        ("db", {"sql": {"sql": "SELECT carrier FROM flights"}}, Code.INVALID_VALUE, "must select the cursor column id"),
        ("db", {"sql": {"sql": "SELECT id, tail FROM flights"}}, Code.INVALID_VALUE, "the table has no column tail"),
        (
            "db",
            {"sql": {"sql": "SELECT id, id + 1 AS n FROM flights"}},
            Code.INVALID_VALUE,
            "n is computed: say its type",
        ),
        (
            "log",
            {"regex": {**LOG["regex"], "pattern": r"(?P<status>(a)\1)"}},
            Code.PATTERN_UNSUPPORTED,
            "not supported",
        ),
        ("log", {"regex": {**LOG["regex"], "pattern": "(?P<code>a)"}}, Code.INVALID_VALUE, "has no group status"),
        (
            "jsonl",
            {"json": {"columns": [{"name": "a", "from": "$..a", "type": INT64}]}},
            Code.INVALID_VALUE,
            "character 2",
        ),
        ("csv", {"file": {"columns": [{"name": "a"}]}}, Code.INVALID_VALUE, "type must be set"),
        ("csv", {"file": {"columns": [{"name": "a", "type": INT64}] * 2}}, Code.INVALID_VALUE, "a is there twice"),
        ("nowhere", SQL, Code.NOT_FOUND, "there is no source nowhere"),
    ],
)
async def test_a_rule_that_cannot_be_is_refused(
    rules: Any, source: str, what: dict[str, Any], code: Code, says: str
) -> None:
    failure = await refused(rules.CreateRule(create("r", source, what)))
    assert failure.code is code
    assert says in failure.detail
