"""Joins that are found between a table, delimited files and JSON, through the contract."""

import json
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
from tests.data.sourced import sourced
from tests.support.house import House
from tests.support.refused import refused

KINDS = {
    "customers": {"sql": {"url": "sqlite:///shop.db", "table": "customers", "cursor": "id"}},
    "orders": {"files": {"pattern": "orders.csv", "format": "FILE_FORMAT_CSV"}},
    "visits": {"files": {"pattern": "visits.jsonl", "format": "FILE_FORMAT_JSON_LINES"}},
    "log": {"files": {"pattern": "some.log", "format": "FILE_FORMAT_TEXT"}},
    "wide": {"files": {"pattern": "wide.jsonl", "format": "FILE_FORMAT_JSON_LINES"}},
}


def write_all(home: Path) -> None:
    with sqlite3.connect(places.folder(home) / "shop.db") as connection:
        connection.execute("CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, photo BLOB)")
        rows = [(n, f"N {n % 7}", b"\0") for n in range(1, 301)]
        connection.executemany("INSERT INTO customers VALUES (?, ?, ?)", rows)
    connection.close()
    orders = [f"o-{n},{n % 290 + 1 if n % 50 else 9999},{n % 9}" for n in range(600)]
    places.write(home, "orders.csv", "\n".join(["order_no,customer_id,quantity", *orders]) + "\n")
    visits = [{"order": f"o-{n * 3}", "inner": {"a": 1}, "long" * 99: n} for n in range(150)]
    places.write(home, "visits.jsonl", "".join(json.dumps(visit) + "\n" for visit in visits))
    places.write(home, "some.log", "a line\n")
    wide = {f"{'n' * 120}{m}": "\N{GRINNING FACE}" * 60 for m in range(300)}
    places.write(
        home, "wide.jsonl", "".join(json.dumps({k: f"{v}{n}" for k, v in wide.items()}) + "\n" for n in range(8))
    )


@pytest.fixture
async def running(home: Path) -> AsyncIterator[House]:
    write_all(home)
    async with sourced(home, KINDS) as running:
        yield running


async def discover(rules: Any, *sources: str, records: int = 0) -> pb.DiscoverJoinsResponse:
    found: pb.DiscoverJoinsResponse = await rules.DiscoverJoins(
        pb.DiscoverJoinsRequest(sources=sources, records=records)
    )
    return found


async def test_keys_and_joins_of_sources_of_several_kinds_are_found(running: House, rules: Any) -> None:
    found = await discover(rules, "customers", "orders", "visits")

    keys = {(key.source, key.column) for key in found.keys}
    joins = {(join.source, join.column): join for join in found.joins}
    assert {("customers", "id"), ("orders", "order_no")} <= keys
    assert set(joins) == {("orders", "customer_id"), ("visits", "order")}
    join = joins["orders", "customer_id"]
    assert (join.key_source, join.key_column, list(join.counter_examples)) == ("customers", "id", ["9999"])
    assert join.coverage == 588 / 600
    assert join.precision_low < join.precision < join.precision_high
    assert join.sql == ('SELECT * FROM "orders" LEFT JOIN "customers" ON "orders"."customer_id" = "customers"."id"')
    assert (await running.heard(WorkEnded))[0].work.kind == "discovery"


async def test_what_was_not_read_is_said(rules: Any) -> None:
    found = await discover(rules, "customers", "orders", records=100)

    assert "customers has more records than were read" in found.joins[0].reason


async def test_an_answer_about_wide_documents_is_a_message(rules: Any) -> None:
    found = await discover(rules, "wide")

    assert len(found.keys) == 200
    assert found.ByteSize() < SIZE


@pytest.mark.parametrize(
    ("sources", "records", "code", "pointer"),
    [
        (["orders", "log"], 0, Code.INVALID_VALUE, "/sources"),
        (["orders"], -1, Code.INVALID_VALUE, "/records"),
        (["orders"], 20_001, Code.INVALID_VALUE, "/records"),
        (["orders", "nothing"], 0, Code.NOT_FOUND, ""),
    ],
)
async def test_what_cannot_be_compared_is_refused(
    rules: Any, sources: list[str], records: int, code: Code, pointer: str
) -> None:
    failure = await refused(discover(rules, *sources, records=records))

    assert failure.code is code
    assert [one.pointer for one in failure.violations] == ([pointer] if pointer else [])
