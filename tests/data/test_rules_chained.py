"""Rules inside rules: JSON at the end of a line, a pattern in a value of JSON, both in a column of a file."""

import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict

from aimass.v1 import rules_pb2 as pb
from aimass.v1.rules_pb2_grpc import RulesStub
from services.data.reading import extractor, vectors
from services.data.reading.extractor import Refusal
from services.data.reading.folders import Place
from services.data.reading.kinds import (
    FileFormat,
    FilesSource,
    compiled_from_json,
    compiled_to_json,
    rule_from_json,
    to_json,
)
from services.data.rules.compiling import compile_rule
from services.data.rules.wire import definition_of
from services.kit.errors import Code
from tests.data import places
from tests.data.extracting import Tenant
from tests.data.rule_sets import INT64, STRING, wanted
from tests.data.sourced import sourced
from tests.support.house import House
from tests.support.refused import refused


def column(name: str, kind: str = STRING, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **more}


ROUTE = {"pattern": r"(?P<method>[A-Z]+) (?P<path>\S*)", "columns": [column("method"), column("path")]}
PAYLOAD = {
    "columns": [column("user"), column("ms", INT64, required=True)],
    "inner": [{"from": "$.request", "regex": ROUTE}],
}
# A line with JSON at its end, in which a text has a form of its own.
LINE = {
    "regex": {
        "pattern": r"(?P<level>[A-Z]+)( (?P<payload>\{.*\}))?",
        "columns": [column("level")],
        "inner": [{"from": "payload", "json": PAYLOAD}],
    }
}
LINES = """INFO {"user": "ada", "ms": 3, "request": "GET /a"}
WARN {"user": "", "ms": 4}
INFO {"user": "bo"}
INFO {"ms": 5, "request": "nonsense"}
INFO {"ms": 6, "request": ["GET /"]}
INFO {broken}
INFO
nothing
"""
SOURCES = {
    "log": {"files": {"pattern": "app.log", "format": "FILE_FORMAT_TEXT"}},
    "csv": {"files": {"pattern": "app.csv", "format": "FILE_FORMAT_CSV", "null_values": ["NA"]}},
    "json": {"files": {"pattern": "app.jsonl", "format": "FILE_FORMAT_JSON_LINES"}},
}


@pytest.fixture
async def running(home: Path) -> AsyncIterator[House]:
    places.write(home, "app.log", LINES)
    places.write(home, "app.csv", 'id,payload\n1,"{""user"": ""NA"", ""ms"": 1}"\n2,NA\n3,[1]\n')
    documents = [{"id": 1, "o": {"user": "ada", "ms": 2}}, {"id": 2, "o": '{"ms": 3}'}, {"id": 3, "o": 4}]
    places.write(home, "app.jsonl", "".join(f"{json.dumps(document)}\n" for document in documents))
    async with sourced(home, SOURCES) as running:
        yield running


@pytest.fixture
def rules(running: House) -> Any:
    return running.stub(RulesStub, "data")


async def create(rules: Any, name: str, source: str, what: dict[str, Any]) -> pb.Rule:
    definition = ParseDict(what, pb.RuleDefinition())
    made: pb.Rule = await rules.CreateRule(pb.CreateRuleRequest(rule=name, source=source, definition=definition))
    return made


async def test_a_rule_with_rules_inside_is_read_back_as_it_was_said(rules: Any) -> None:
    made = await create(rules, "app", "log", LINE)
    assert made == await rules.GetRule(pb.GetRuleRequest(rule="app"))
    assert made.definition == ParseDict(LINE, pb.RuleDefinition())


async def test_the_columns_of_all_rules_are_one_row_and_who_does_not_take_its_text_says_so(rules: Any) -> None:
    await create(rules, "app", "log", LINE)
    trial = await rules.TestRule(pb.TestRuleRequest(rule="app"))

    assert [MessageToDict(row) for row in trial.rows] == [
        {"level": "INFO", "user": "ada", "ms": 3.0, "method": "GET", "path": "/a"},
        # An empty text is a value in JSON, though none in a group.
        {"level": "WARN", "user": "", "ms": 4.0, "method": None, "path": None},
    ]
    assert [(refused.record, refused.reason) for refused in trial.refused] == [
        ('INFO {"user": "bo"}', "ms is missing"),
        ('INFO {"ms": 5, "request": "nonsense"}', "$.request does not match"),
        ('INFO {"ms": 6, "request": ["GET /"]}', "$.request is no text"),
        ("INFO {broken}", "payload is not JSON"),
        ("INFO", "ms is missing"),
        ("nothing", "the line does not match"),
    ]
    assert [found.name for found in trial.schema.columns] == ["level", "user", "ms", "method", "path"]


async def test_columns_of_files_and_values_of_documents_have_rules_inside(rules: Any) -> None:
    inner = {"columns": [column("user"), column("ms", INT64)]}
    of_file = {"file": {"columns": [column("id", INT64)], "inner": [{"from": "payload", "json": inner}]}}
    of_json = {"json": {"columns": [column("id", INT64)], "inner": [{"from": "$.o", "json": inner}]}}
    await create(rules, "file", "csv", of_file)
    await create(rules, "json", "json", of_json)

    trial = await rules.TestRule(pb.TestRuleRequest(rule="file"))
    # What means nothing in the file is nothing; inside it is what it is.
    assert [MessageToDict(row) for row in trial.rows] == [
        {"id": 1.0, "user": "NA", "ms": 1.0},
        {"id": 2.0, "user": None, "ms": None},
    ]
    assert [refused.reason for refused in trial.refused] == ["payload is not a JSON object"]
    trial = await rules.TestRule(pb.TestRuleRequest(rule="json"))
    assert [MessageToDict(row) for row in trial.rows] == [
        {"id": 1.0, "user": "ada", "ms": 2.0},
        {"id": 2.0, "user": None, "ms": 3.0},
    ]
    assert [refused.reason for refused in trial.refused] == ["$.o is not a JSON object"]


async def test_what_cannot_be_inside_is_refused_with_its_reason(rules: Any) -> None:
    def line(**inner: Any) -> dict[str, Any]:
        return {"regex": {"pattern": "(?P<a>.*)", "columns": [column("a")], "inner": [inner]}}

    deep: dict[str, Any] = {"columns": [column("a5")]}
    for level in (4, 3, 2):
        deep = {"columns": [column(f"a{level}")], "inner": [{"from": "$.b", "json": deep}]}
    regex = {"pattern": "(?P<b>.)(", "columns": [column("b")]}
    cases = [
        (line(**{"from": "b", "json": {"columns": [column("b")]}}), Code.INVALID_VALUE, "the pattern has no group b"),
        (line(**{"from": "a", "json": {"columns": [column("A")]}}), Code.INVALID_VALUE, "the column A is there twice"),
        (line(**{"from": "a"}), Code.INVALID_VALUE, "the inner rule must be json or regex"),
        (line(**{"from": "a", "regex": regex}), Code.PATTERN_UNSUPPORTED, "the pattern is not supported"),
        (line(**{"from": "a", "json": deep}), Code.INVALID_VALUE, "more than 4 rules are inside each other"),
        (line(json={"columns": [column("b")]}), Code.INVALID_VALUE, "from must be set"),
        (
            line(**{"from": "a", "json": {"columns": [column("b", **{"from": "$["})]}}),
            Code.INVALID_VALUE,
            "the path $[ is not understood",
        ),
    ]
    for what, code, text in cases:
        failure = await refused(create(rules, "app", "log", what))
        assert (failure.code, text in failure.detail) == (code, True), failure


async def test_rules_of_a_set_have_rules_inside(running: House) -> None:
    tenant = Tenant(running)
    source = {"files": {"pattern": "app.log", "format": "FILE_FORMAT_TEXT"}}
    rest = {"regex": {"pattern": "(?P<text>.*)", "columns": [column("text")]}}
    await tenant.rule_set("apps", source, wanted("app", LINE), wanted("rest", rest))
    run = await tenant.extract_set("apps")

    assert [result.rows for result in run.results] == [2, 6]
    assert (await tenant.rows("app"))[0] == {"level": "INFO", "user": "ada", "ms": 3.0, "method": "GET", "path": "/a"}


@pytest.mark.parametrize("broken", [False, True])
def test_batches_give_what_single_records_give(broken: bool) -> None:
    rule = definition_of(ParseDict(LINE, pb.RuleDefinition()))
    source = FilesSource(FileFormat.TEXT, "*.log")
    compiled = compile_rule(rule, source, Place(Path("/"), ()))
    assert rule_from_json(json.loads(json.dumps(to_json(rule)))) == rule
    assert compiled_from_json(json.loads(json.dumps(compiled_to_json(compiled)))) == compiled
    chance, kinds = random.Random(1), LINES.splitlines()
    lines = chance.choices(kinds if broken else kinds[:2], k=500)
    ready = extractor.of(compiled, (), ())
    typed = vectors.extract(ready, lines)
    pieces = [list(zip(*(array.to_pylist() for array in piece), strict=True)) for piece in typed.pieces]

    single = [ready.row(line) for line in lines]
    assert [row for piece in pieces for row in piece] == [row for row in single if not isinstance(row, Refusal)]
    assert dict(typed.refused) == {place: row.reason for place, row in enumerate(single) if isinstance(row, Refusal)}
