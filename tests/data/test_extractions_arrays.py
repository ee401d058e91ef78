"""Documents whose arrays are taken apart, through the doors of the service: rows, quarantine, rule sets, restarts."""

import json
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict

from aimass.v1 import rules_pb2
from aimass.v1.rules_pb2_grpc import RulesStub
from services.kit.errors import Code
from tests.data import places
from tests.data.extracting import Tenant, append
from tests.data.rule_sets import INT64, STRING, wanted
from tests.support.house import house
from tests.support.refused import code_of

SOURCE = {"files": {"pattern": "orders.jsonl", "format": "FILE_FORMAT_JSON_LINES"}}


def columns(**said: str) -> list[dict[str, Any]]:
    return [{"name": name, "from": path, "type": INT64 if name == "n" else STRING} for name, path in said.items()]


LINES = {"json": {"columns": columns(order="$.id", sku="$.lines[*].sku", n="$.lines[*].n")}}


def orders(*found: dict[str, Any]) -> str:
    return "".join(json.dumps(one) + "\n" for one in found)


A = {"id": "a", "lines": [{"sku": "x", "n": 1}, {"sku": "y"}], "tags": ["new", "red"]}
B: dict[str, Any] = {"id": "b", "lines": []}
C = {"id": "c", "lines": [{"sku": "x", "n": 1}, {"sku": "y", "n": "many"}]}
D = {"id": "d", "lines": "none", "tags": "red"}
E = {"id": "e", "lines": [{"sku": "z", "n": 5}]}


async def test_each_element_becomes_a_row_once_over_restarts(home: Path) -> None:
    log = places.write(home, "orders.jsonl", orders(A, B, C, D))
    async with house(home, "data") as running:
        tenant = Tenant(running)
        await tenant.rule("lines", SOURCE, LINES)
        first = await tenant.extract("lines")
    append(log, orders(E))
    async with house(home, "data") as running:
        tenant = Tenant(running)
        second, nothing = await tenant.extract("lines"), await tenant.extract("lines")
        rows = await tenant.rows("lines")
        aside = await tenant.quarantine("lines", 1)
        other = await code_of(Tenant(running, "other").begin("lines"))

    assert (first.records_read, first.rows_accepted, first.rows_quarantined) == (4, 2, 2)
    assert (second.records_read, second.rows_accepted, nothing.records_read) == (1, 1, 0)
    assert [(row["order"], row["sku"], row.get("n")) for row in rows] == [
        ("a", "x", 1),
        ("a", "y", None),
        ("e", "z", 5),
    ]
    assert [(json.loads(record), reason, origin) for record, reason, origin in aside] == [
        (C, "n does not fit int64", "orders.jsonl:3"),
        (D, "$.lines is not an array", "orders.jsonl:4"),
    ]
    assert other is Code.NOT_FOUND


async def test_a_test_counts_records_and_the_rows_of_its_columns(home: Path) -> None:
    places.write(home, "orders.jsonl", orders(A, B, C, D))
    async with house(home, "data") as running:
        await Tenant(running).rule("lines", SOURCE, {"json": {**LINES["json"], "keep_empty": True}})
        trial = await running.stub(RulesStub, "data").TestRule(rules_pb2.TestRuleRequest(rule="lines"))
        made = await running.stub(RulesStub, "data").GetRule(rules_pb2.GetRuleRequest(rule="lines"))

    assert (trial.tried, trial.accepted, trial.coverage) == (4, 2, 0.5)
    assert [MessageToDict(row)["sku"] for row in trial.rows] == ["x", "y", None]
    counts = [(one.name, one.values, one.missing, one.misfits, round(one.coverage, 2)) for one in trial.columns]
    assert counts == [("order", 5, 0, 0, 0.83), ("sku", 4, 1, 0, 0.67), ("n", 2, 2, 1, 0.33)]
    assert made.definition.json.keep_empty


async def test_a_set_makes_a_table_of_each_array(home: Path) -> None:
    places.write(home, "orders.jsonl", orders(A, B, C, D, E))
    tags = {"json": {"columns": columns(order="$.id", tag="$.tags[*]")}}
    head = {"json": {"columns": columns(order="$.id")}}
    async with house(home, "data") as running:
        tenant = Tenant(running)
        rules = [wanted("orders", head), wanted("lines", LINES), wanted("tags", tags)]
        await tenant.rule_set("shop", SOURCE, *rules, match="RULE_MATCH_ALL")
        await tenant.extract_set("shop")
        found = {name: await tenant.rows(name) for name in ("orders", "lines", "tags")}

    assert [row["order"] for row in found["orders"]] == list("abcde")
    assert [(row["order"], row["sku"]) for row in found["lines"]] == [("a", "x"), ("a", "y"), ("e", "z")]
    assert [(row["order"], row["tag"]) for row in found["tags"]] == [("a", "new"), ("a", "red")]
