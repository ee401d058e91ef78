"""Rules that are found: a source that nobody described gets rules that can be created, tried and run as they are."""

import json
import random
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from aimass.v1 import rules_pb2 as pb
from aimass.v1.data_events_pb2 import WorkEnded
from services.kit.errors import Code
from services.kit.rpc import SIZE
from tests.data import places
from tests.data.discovery.systems import SYSTEMS, corpus
from tests.data.sourced import sourced
from tests.support.house import House
from tests.support.refused import code_of, refused

KINDS = {
    "db": {"sql": {"url": "sqlite:///flights.db", "table": "flights", "cursor": "id"}},
    "odd_db": {"sql": {"url": "sqlite:///odd.db", "table": 'odd "table"', "cursor": "__id"}},
    "wide_db": {"sql": {"url": "sqlite:///odd.db", "table": "wide", "cursor": "id"}},
    "large_db": {"sql": {"url": "sqlite:///odd.db", "table": "large", "cursor": "id"}},
    "odd_csv": {"files": {"pattern": "odd.csv", "format": "FILE_FORMAT_CSV"}},
    "odd_jsonl": {"files": {"pattern": "odd.jsonl", "format": "FILE_FORMAT_JSON_LINES"}},
    "csv": {"files": {"pattern": "weather.csv", "format": "FILE_FORMAT_CSV"}},
    "jsonl": {"files": {"pattern": "planes.jsonl", "format": "FILE_FORMAT_JSON_LINES"}},
    "log": {"files": {"pattern": "parcels.log", "format": "FILE_FORMAT_TEXT"}},
    "nul": {"files": {"pattern": "nul.log", "format": "FILE_FORMAT_TEXT"}},
    "long": {"files": {"pattern": "long.log", "format": "FILE_FORMAT_TEXT"}},
    "many": {"files": {"pattern": "many.log", "format": "FILE_FORMAT_TEXT"}},
    "noise": {"files": {"pattern": "noise.log", "format": "FILE_FORMAT_TEXT"}},
    "empty": {"files": {"pattern": "empty.log", "format": "FILE_FORMAT_TEXT"}},
}
ODD = ["odd_db", "wide_db", "odd_csv", "odd_jsonl"]


def odd(home: Path) -> None:
    """Names and values of columns that no rule can have as they are."""
    with sqlite3.connect(places.folder(home) / "odd.db") as connection:
        columns = """__id INTEGER PRIMARY KEY, "" INT, "a""b" TEXT, "select" INT, picture BLOB, code TEXT,
            twice INT AS (__id * 2)"""
        connection.execute(f'CREATE TABLE "odd ""table""" ({columns})')
        rows = [(n, 1, "x", 2, b"\0\xff", "007") for n in range(1, 21)]
        connection.executemany('INSERT INTO "odd ""table""" VALUES (?, ?, ?, ?, ?, ?)', rows)
        wide = ", ".join(f"{'c' * 60}{n} INT" for n in range(600))
        connection.execute(f"CREATE TABLE wide ({wide}, id INTEGER PRIMARY KEY)")
        connection.execute("CREATE TABLE large (id INTEGER PRIMARY KEY, said TEXT)")
        connection.executemany("INSERT INTO large (said) VALUES (?)", [("\1" * 2**22,)] * 3)
        connection.executemany("INSERT INTO wide (id) VALUES (?)", [(n,) for n in range(9)])
    connection.close()
    header = ["__a", "_A", "", "b\0", "x" * 300, "$.c", "d e", *(f"f{n}" for n in range(600))]
    places.write(home, "odd.csv", "".join(",".join(row) + "\n" for row in [header, *[["1"] * len(header)] * 9]))
    inner: Any = {"k" * 100: {"l" * 100: {"m" * 100: 1}}, "a\0": 1, "it's": 1, "": 1}
    document = {"a_b": 1, "A_b": 2, "a": {"b": 3}, "a.b": 4, "__x": 5, **inner, **{f"f{n}": n for n in range(600)}}
    places.write(home, "odd.jsonl", (json.dumps(document) + "\n") * 9)


def write_all(home: Path) -> None:
    places.flights(home)
    odd(home)
    places.write(home, "weather.csv", "temp,hour,_id\n" + "1.5,2013-01-01 10:00:00,a\n" * 9 + "warm,,b\n")
    planes = [
        {
            "tailnum": f"N{n}",
            "engine": {"count": n % 3, "fuel type": "jet"},
            "legs": [1, 2],
            **({"age": n} if n % 2 else {}),
        }
        for n in range(20)
    ]
    places.write(home, "planes.jsonl", "".join(json.dumps(plane) + "\n" for plane in planes))
    places.write(home, "parcels.log", "".join(line + "\n" for line in corpus(SYSTEMS["parcels"], 1, 1000).lines))
    source = random.Random(1)
    noise = [" ".join(f"{source.getrandbits(40):x}" + "\0" * (n % 2) for n in range(30)) for _ in range(300)]
    places.write(home, "noise.log", "".join(line + "\n" for line in [*noise, "(" * 5000, "a" * 9000]))
    places.write(home, "nul.log", "".join(f"door {n}{' ' if n % 10 else chr(0)}opened\n" for n in range(100)))
    places.write(home, "long.log", "door 1 opened\n" * 40 + f"load 1.5 {'x' * 20_000}\n" * 3)
    places.write(home, "many.log", "".join(f"door {n} opened\n" for n in range(4000)))
    places.write(home, "empty.log", "")


@pytest.fixture
async def running(home: Path) -> AsyncIterator[House]:
    write_all(home)
    async with sourced(home, KINDS) as running:
        yield running


async def discover(rules: Any, source: str, records: int = 0) -> pb.DiscoverRulesResponse:
    found: pb.DiscoverRulesResponse = await rules.DiscoverRules(pb.DiscoverRulesRequest(source=source, records=records))
    return found


@pytest.mark.parametrize("source", ["db", "csv", "jsonl", "log", *ODD])
async def test_what_is_found_can_be_created_tried_and_used(rules: Any, source: str) -> None:
    best = (await discover(rules, source)).proposals[0]
    made = await rules.CreateRule(pb.CreateRuleRequest(rule=best.rule, source=source, definition=best.definition))
    trial = await rules.TestRule(pb.TestRuleRequest(rule=best.rule))

    assert made.definition == best.definition
    assert trial.accepted >= best.records - len(best.counter_examples)
    assert trial.rows[0] == best.rows[0]


async def test_each_message_of_a_log_gets_a_rule_with_evidence(rules: Any) -> None:
    found = await discover(rules, "log")

    assert found.sampled == 1000
    assert sum(proposal.records for proposal in found.proposals) + found.unexplained == 1000
    assert len(found.proposals) >= len(SYSTEMS["parcels"].messages) - 3  # those that are too rare, or say no value
    assert [p.records for p in found.proposals] == sorted((p.records for p in found.proposals), reverse=True)
    best = found.proposals[0]
    assert best.coverage == best.records / 1000
    assert best.precision_low < best.precision <= best.precision_high <= 1
    assert best.rows
    assert "lines of the form" in best.reason


async def test_values_of_documents_have_columns_also_inside(rules: Any) -> None:
    found, legs = (await discover(rules, "jsonl")).proposals
    columns = {column.name: column for column in found.definition.json.columns}

    assert getattr(columns["engine_fuel type"], "from") == "$.engine['fuel type']"
    assert (columns["tailnum"].required, columns["age"].required) == (True, False)
    assert "rules of their own for $.legs" in found.reason
    assert [(column.name, getattr(column, "from")) for column in legs.definition.json.columns] == [
        ("tailnum", "$.tailnum"),
        ("legs", "$.legs[*]"),
    ]


async def test_what_columns_are_about_is_said(rules: Any) -> None:
    found, _ = (await discover(rules, "jsonl")).proposals

    assert "; tailnum has another value in each record" in found.reason


async def test_what_does_not_fit_is_shown(rules: Any) -> None:
    (found,) = (await discover(rules, "csv")).proposals

    assert found.precision == 0.8
    assert [refused.reason for refused in found.counter_examples] == ["temp does not fit double"]


@pytest.mark.parametrize(
    ("source", "left", "names"),
    [
        ("odd_db", ["picture", "the one without a name"], ["id", 'a"b', "select", "code"]),
        ("odd_csv", ["the one without a name", "b\ufffd"], ["a", "A_2", "$.c", "d e", "f0"]),
        ("odd_jsonl", ["$['a\ufffd']", "it's"], ["a_b", "A_b_2", "a_b_3", "a.b", "x"]),
    ],
)
async def test_columns_that_no_rule_can_have_are_left_out(
    rules: Any, source: str, left: list[str], names: list[str]
) -> None:
    (found,) = (await discover(rules, source)).proposals

    said = getattr(found.definition, found.definition.WhichOneof("kind") or "").columns
    assert all(name in found.reason for name in left)
    assert [column.name for column in said][: len(names)] == names
    assert (len(said) <= 500, found.precision) == (True, 1)


async def test_a_table_is_selected_whole(rules: Any) -> None:
    (found,) = (await discover(rules, "db")).proposals

    assert found.definition.sql.sql.startswith('SELECT "id", ')
    assert found.coverage == 1


async def test_nothing_is_learnt_of_nothing(rules: Any) -> None:
    found = await discover(rules, "empty")

    assert (found.sampled, list(found.proposals), found.unexplained) == (0, [], 0)


async def test_what_follows_no_rule_is_left_to_people(rules: Any) -> None:
    found = await discover(rules, "noise")

    assert found.sampled == 302
    assert all(len(example) <= 8192 for example in found.examples)


async def test_lines_with_control_characters_have_rules_that_take_them(rules: Any) -> None:
    found = await discover(rules, "nul")

    assert ([proposal.records for proposal in found.proposals], found.unexplained) == ([90, 10], 0)
    second = found.proposals[1]
    made = pb.CreateRuleRequest(rule="nul", source="nul", definition=second.definition)
    assert "\\x00" in (await rules.CreateRule(made)).definition.regex.pattern
    assert (await rules.TestRule(pb.TestRuleRequest(rule="nul"))).accepted == 10


async def test_lines_that_are_too_long_to_be_tried_are_counted_one_by_one(rules: Any) -> None:
    found = await discover(rules, "long")

    assert ([proposal.records for proposal in found.proposals], found.unexplained) == ([40], 3)
    assert found.examples[0].startswith("load 1.5 xxx")


async def test_of_a_kind_with_very_many_lines_a_part_is_looked_at(rules: Any) -> None:
    (found,) = (await discover(rules, "many")).proposals

    assert (found.records, found.coverage, found.seen) == (4000, 1, 2000)
    assert "4000 lines" in found.reason
    assert "2000 of them" in found.reason


async def test_rows_that_are_too_large_to_be_shown_are_not(rules: Any) -> None:
    found = await discover(rules, "large_db")

    assert (found.sampled, found.unexplained, list(found.proposals[0].rows)) == (3, 0, [])
    assert found.ByteSize() < SIZE


async def test_fewer_records_may_be_looked_at(rules: Any) -> None:
    assert (await discover(rules, "log", records=10)).sampled == 10


@pytest.mark.parametrize("records", [-1, 20_001])
async def test_more_records_than_are_allowed_are_refused(rules: Any, records: int) -> None:
    failure = await refused(discover(rules, "log", records))

    assert (failure.code, failure.violations[0].pointer) == (Code.INVALID_VALUE, "/records")


async def test_an_unknown_source_is_refused(rules: Any) -> None:
    assert await code_of(discover(rules, "nothing")) is Code.NOT_FOUND


async def test_what_it_used_is_told_to_the_ledger(running: House, rules: Any) -> None:
    await discover(rules, "log", records=100)

    told = (await running.heard(WorkEnded))[0].work
    assert told.kind == "discovery"
    assert told.cpu_milliseconds > 0
