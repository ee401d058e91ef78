"""Sources without an end, or that become others while they are read: cursors are right, and each row is there once."""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from aimass.v1 import extractions_pb2, operations_pb2
from aimass.v1.extractions_pb2_grpc import ExtractionsStub
from services.data.reading.connector_sql import SqlConnector
from services.data.reading.folders import Place
from services.data.reading.kinds import SqlRule, SqlSource
from services.data.reading.lines import Reader
from services.data.rules.compiling import compile_rule
from services.kit.errors import Code, Failure
from tests.data import places
from tests.data.extracting import FLIGHTS, FLIGHTS_SOURCE, Tenant
from tests.data.hostile import Pages
from tests.support.buckets import Bucket, Numbered
from tests.support.endpoints import Endpoints
from tests.support.house import house

COLUMN = {"name": "n", "type": "COLUMN_TYPE_INT64", "required": True}
CSV, JSON = {"file": {"columns": [COLUMN]}}, {"json": {"columns": [{**COLUMN, "from": "$.n"}]}}
LINES = {"regex": {"pattern": r"^(?P<n>\d+)$", "columns": [COLUMN]}}
SECONDS, MIB = 15, 640  # of a run


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with Bucket() as made:
        yield made


@pytest.fixture
async def tenant(home: Path) -> AsyncIterator[Tenant]:
    limits = {"AIMASS_DATA_EXTRACTION_SECONDS": str(SECONDS), "AIMASS_DATA_EXTRACTION_MEMORY_MIB": str(MIB)}
    async with house(home, "data", AIMASS_EGRESS_ALLOW="127.0.0.1", **limits) as running:
        yield Tenant(running)


async def test_an_object_of_ten_gigabytes_is_read_run_by_run_in_little_memory(tenant: Tenant, bucket: Bucket) -> None:
    size = 10 * 2**30
    bucket.objects["a.log"] = Numbered(size)
    await tenant.rule("a", bucket.files("a.log", "TEXT"), LINES)
    done = await tenant.ended((await tenant.begin("a")).operation)
    assert done.state == operations_pb2.OPERATION_STATE_SUCCEEDED, done.error
    assert "the rest of a.log is left for the next run, as its time has ended" in done.message
    rows = (await tenant.version("a")).rows
    found = await tenant.stub(ExtractionsStub).GetCursor(extractions_pb2.GetCursorRequest(rule="a"))
    assert (found.parts[0].position, found.lag) == (rows * 16, size - rows * 16)
    bucket.objects["a.log"] = Numbered(rows * 16 + 160)
    assert (await tenant.extract("a")).rows_accepted == 10
    version = await tenant.version("a")
    (column,) = version.quality.columns
    assert (version.rows, column.minimum, column.maximum) == (rows + 10, "0", str(rows + 9))
    assert column.mean == pytest.approx((rows + 9) / 2)


def test_a_line_without_an_end_is_not_looked_for_for_ever() -> None:
    class Endless:
        taken = 0

        def read(self, size: int) -> bytes:
            return bytes(size)

        def seek(self, *_: Any) -> int:
            return 0

        def readline(self, size: int) -> bytes:
            self.taken += size
            return bytes(size)

    file: Any = Endless()
    with pytest.raises(Failure, match="line 1 is longer than 1 GiB: it may be no text"):
        Reader(file).read(10)
    assert file.taken < 2**30 + 2**22


async def test_rows_of_an_object_with_other_columns_are_put_aside(tenant: Tenant, bucket: Bucket) -> None:
    bucket.objects |= {"a.csv": b"n\n1\n2\n", "b.csv": b"m;o\n3;4\n"}
    await tenant.rule("a", bucket.files("*.csv"), CSV)
    run = await tenant.extract("a")
    assert (run.rows_accepted, run.rows_quarantined) == (2, 1)
    assert await tenant.quarantine("a", 1) == [('{"m;o": "3;4"}', "n is missing", "b.csv:2")]
    bucket.objects["b.csv"] = b"m,n\n3,4\n"
    assert (await tenant.extract("a")).rows_accepted == 1
    assert [row["n"] for row in await tenant.rows("a")] == [1, 2, 4]


async def test_records_that_change_their_types_are_put_aside_one_by_one(tenant: Tenant) -> None:
    with Endpoints() as web:
        web.answers["/a"] = orjson.dumps([{"n": 1}, {"n": "x"}, {"m": 2}, [], {"n": 3}])
        await tenant.rule("a", web.files("/a"), JSON)
        run = await tenant.extract("a")
        assert (run.records_read, run.rows_accepted, run.rows_quarantined) == (5, 2, 3)
        assert (await tenant.extract("a")).records_read == 0


GONE = Code.FAILED_PRECONDITION, "t has no column v any more: add a version to the rule"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("ALTER TABLE t DROP COLUMN v", GONE),
        ("ALTER TABLE t RENAME COLUMN v TO w", GONE),
        ("DROP TABLE t", (Code.INVALID_VALUE, "a.db cannot be read: no such table: t")),
    ],
)
def test_a_table_that_changes_between_two_pages_ends_the_run_with_a_reason(
    tmp_path: Path, change: str, says: tuple[Code, str]
) -> None:
    def changed() -> None:
        with sqlite3.connect(tmp_path / "a.db") as other:
            other.execute(change)

    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, v TEXT)")
        connection.executemany("INSERT INTO t VALUES (?, 'x')", ((number,) for number in range(100_000)))
    source, place = SqlSource("sqlite:///a.db", "t", "n"), Place(tmp_path, ("a.db",))
    compiled = compile_rule(SqlRule("SELECT n, v FROM t"), source, place)
    with pytest.raises(Failure) as caught:
        SqlConnector(source).read(place, compiled, {}, Pages(changed), 20.0)
    assert (caught.value.code, caught.value.detail) == says


async def test_a_rule_reads_no_column_that_its_table_has_lost(tenant: Tenant, home: Path) -> None:
    """SQLite takes a quoted name that is no column for a text."""
    places.flights(home, rows=5)
    await tenant.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
    assert (await tenant.extract("flights")).rows_accepted == 5
    places.flights(home, rows=2, first=6)
    with sqlite3.connect(home / "import" / "acme" / "flights.db") as connection:
        connection.execute("ALTER TABLE flights RENAME COLUMN carrier TO airline")
    done = await tenant.ended((await tenant.begin("flights")).operation)
    assert done.error.detail == "flights has no column carrier any more: add a version to the rule"
    with sqlite3.connect(home / "import" / "acme" / "flights.db") as connection:
        connection.execute("ALTER TABLE flights RENAME COLUMN airline TO carrier")
    assert (await tenant.extract("flights")).rows_accepted == 2
