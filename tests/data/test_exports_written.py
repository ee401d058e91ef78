"""Results in tables of databases of others: whole or not at all, once, for who may."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.protobuf.message import Message

from aimass.v1 import datasets_pb2 as data_sets
from aimass.v1 import exports_pb2 as pb
from aimass.v1 import operations_pb2, sources_pb2
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.exports_pb2_grpc import ExportsStub
from aimass.v1.operations_pb2_grpc import OperationsStub
from aimass.v1.sources_pb2_grpc import SourcesStub
from services.data.exports import runner
from services.data.exports.store import WriteStore
from services.kit import process
from services.kit.auth import Scope
from services.kit.errors import Code, Failure, Unavailable
from services.kit.process import Limits
from tests.data.tables import add
from tests.data.test_partitions import ended
from tests.support.house import House, house, until
from tests.support.refused import refused

APPEND, REPLACE, UPSERT = pb.WRITE_MODE_APPEND, pb.WRITE_MODE_REPLACE, pb.WRITE_MODE_UPSERT
ROWS = pa.table(
    {
        "id": [1, 2],
        "carrier": ["UA", None],
        "delay": [1.5, None],
        "late": [True, None],
        "day": [date(2026, 3, 1), None],
        "at": pa.array([datetime(2026, 3, 1, 12, tzinfo=UTC), None], pa.timestamp("us", "UTC")),
    }
)


@contextlib.asynccontextmanager
async def started(home: Path) -> AsyncIterator[House]:
    """A service with a database of the tenant's own and a data set."""
    folder = home / "import" / "acme"
    folder.mkdir(parents=True)
    connection = sqlite3.connect(folder / "own.db")
    connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    connection.close()
    async with house(home, "data", AIMASS_DISK_PERCENT="100") as running:
        sql = sources_pb2.SqlSource(url="sqlite:///own.db", table="orders", cursor="id")
        await running.stub(SourcesStub, "data").CreateSource(sources_pb2.CreateSourceRequest(source="own", sql=sql))
        await add(running, "flights", ROWS)
        yield running


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with started(tmp_path) as running:
        yield running


def rows(home: House, sql: str) -> list[Any]:
    connection = sqlite3.connect(home.runtime.home / "import" / "acme" / "own.db")
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def request(**said: Any) -> pb.WriteTableRequest:
    usual: dict[str, Any] = {"source": "own", "table": "flights", "mode": APPEND, "data_set": "flights"}
    return pb.WriteTableRequest(**usual | said)


async def begin(home: House, *permissions: str, tenant: str = "acme", once: str = "", **said: Any) -> str:
    more = {"idempotency_key": once} if once else {}
    stub = home.stub(ExportsStub, "data", *permissions, tenant=tenant, **more)
    return str((await stub.WriteTable(request(**said))).operation)


async def write(home: House, *permissions: str, **said: Any) -> int:
    operation, found = await ended(home, await begin(home, *permissions, **said)), pb.WriteTableResponse()
    assert operation.state == operations_pb2.OPERATION_STATE_SUCCEEDED, operation.error
    assert operation.response.Unpack(found)
    assert (found.source, found.table) == ("own", said.get("table", "flights"))
    return int(found.rows)


async def fails(home: House, **said: Any) -> str:
    operation = await ended(home, await begin(home, **said))
    assert operation.state == operations_pb2.OPERATION_STATE_FAILED
    return str(operation.error)


async def test_a_version_becomes_a_table_with_its_types(home: House) -> None:
    assert await write(home) == 2
    assert rows(home, "SELECT * FROM flights ORDER BY id") == [
        (1, "UA", 1.5, 1, "2026-03-01", "2026-03-01T12:00:00+00:00"),
        (2, None, None, None, None, None),
    ]
    kinds = [kind for _, _, kind, *_ in rows(home, "PRAGMA table_info(flights)")]
    assert kinds == ["INTEGER", "TEXT", "REAL", "BOOLEAN", "DATE", "TIMESTAMP"]


async def test_rows_are_added_replaced_or_changed_by_their_key(home: House) -> None:
    await add(home, "numbers", {"id": [1, 2], "n": [10, 20]})
    await write(home, table="n", data_set="numbers", mode=UPSERT, key=["id"])
    await add(home, "numbers", {"id": [2, 3], "n": [21, 31]})
    assert await write(home, table="n", data_set="numbers", mode=UPSERT, key=["id"]) == 2
    upserted = rows(home, "SELECT * FROM n ORDER BY id")
    assert await write(home, table="m", data_set="numbers", version=1) == 2
    await write(home, table="m", data_set="numbers")
    appended = rows(home, "SELECT * FROM m ORDER BY id, n")
    sql, tables = "SELECT sum(n) AS n, max(id) AS id FROM t", [data_sets.QueryTable(alias="t", data_set="numbers")]
    await write(home, table="m", data_set="", sql=sql, tables=tables, mode=REPLACE)

    assert upserted == [(1, 10), (2, 21), (3, 31)]
    assert appended == [(1, 10), (2, 20), (2, 21), (3, 31)]
    assert rows(home, "SELECT id, n FROM m") == [(3, 52)]


async def test_what_fails_leaves_the_table_as_it_was(home: House) -> None:
    await write(home)
    await add(home, "other", {"id": [7], "nosuch": ["x"]})
    await add(home, "keyless", {"id": [1, None]})
    await add(home, "late", pa.table({"day": pa.array([10**7], pa.int32()).cast(pa.date32())}))
    before = rows(home, "SELECT * FROM flights")

    assert "nosuch" in await fails(home, data_set="other", mode=REPLACE)
    assert "is NULL in some rows" in await fails(home, table="k", data_set="keyless", mode=UPSERT, key=["id"])
    assert "is no column" in await fails(home, table="k", mode=UPSERT, key=["nosuch"])
    assert "day is in no year" in await fails(home, table="k", data_set="late")
    assert "ON CONFLICT" in await fails(home, mode=UPSERT, key=["id"])  # the table has no such key
    assert rows(home, "SELECT * FROM flights") == before
    assert rows(home, "SELECT name FROM sqlite_master WHERE name = 'k'") == []


def work(home: House, folder: Path, count: int, operation: str, mode: str = "append") -> dict[str, Any]:
    """What the child is asked, as after a crash that left no trace of whether it had written."""
    path = folder / "rows.parquet"
    pq.write_table(pa.table({"id": range(count)}), path)
    return {
        "rows": {"files": [str(path)], "columns": [["id", "int64", True]], "hidden": []},
        "source": {"kind": "sql_source", "url": "sqlite:///own.db", "table": "orders", "cursor": "id"},
        "place": {"root": str(home.runtime.home / "import" / "acme"), "steps": ["own.db"]},
        "table": "t",
        "mode": mode,
        "key": [],
        "operation": operation,
        "seconds": 60,
        "max_bytes": 2**30,
    }


async def test_work_that_is_done_again_writes_once(home: House, tmp_path: Path) -> None:
    for operation in ("data-1", "data-1", "data-2"):
        done = await process.run("services.data.exports.write_work", work(home, tmp_path, 3, operation), Limits(60))
        assert done == {"rows": 3}

    assert rows(home, "SELECT count(*) FROM t") == [(6,)]


async def test_work_that_is_killed_leaves_the_rows_that_were_there(home: House, tmp_path: Path) -> None:
    module = "services.data.exports.write_work"
    await process.run(module, work(home, tmp_path, 3, "data-1"), Limits(60))
    under_way = asyncio.Event()

    async def tell(_: Any) -> None:
        under_way.set()
        await asyncio.Event().wait()

    asked = work(home, tmp_path, 300_000, "data-2", "replace")
    running = asyncio.ensure_future(process.run(module, asked, Limits(60), tell))
    await under_way.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert rows(home, "SELECT id FROM t ORDER BY id") == [(0,), (1,), (2,)]
    told = list[int]()

    async def hear(message: Any) -> None:
        told.append(message["rows"])

    assert await process.run(module, asked, Limits(60), hear) == {"rows": 300_000}
    assert 1 <= len(told) <= 61, "each word is a transaction"
    assert rows(home, "SELECT count(*) FROM t") == [(300_000,)]


async def test_a_write_that_a_stopped_service_left_is_taken_up_again(tmp_path: Path) -> None:
    async with started(tmp_path) as running:
        lock = sqlite3.connect(tmp_path / "import" / "acme" / "own.db", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")  # somebody writes, so that it waits
        name = await begin(running, once="k-1")
        assert await begin(running, once="k-1") == name
        await asyncio.sleep(0.5)
    lock.execute("ROLLBACK")
    lock.close()
    async with house(tmp_path, "data", AIMASS_DISK_PERCENT="100") as again:
        operation = await ended(again, name)
        assert operation.state == operations_pb2.OPERATION_STATE_SUCCEEDED, operation.error
        assert rows(again, "SELECT count(*) FROM flights") == [(2,)]


async def test_a_write_whose_rows_are_there_has_succeeded(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    finish, tries = WriteStore.finish, list[str]()

    async def late(store: WriteStore, scope: Scope, operation: str, answer: Message) -> None:
        tries.append(operation)
        if len(tries) == 1:
            cancel = operations_pb2.CancelOperationRequest(operation=operation)
            await home.stub(OperationsStub, "data").CancelOperation(cancel)
            raise Unavailable("the database is away")
        await finish(store, scope, operation, answer)

    monkeypatch.setattr(WriteStore, "finish", late)
    assert await write(home) == 2
    assert (len(tries), rows(home, "SELECT count(*) FROM flights")) == (2, [(2,)])


async def test_a_database_that_stays_locked_ends_the_write(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_PAUSES", ())
    path = home.runtime.home / "import" / "acme" / "own.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        operation = await ended(home, await begin(home))

    assert (operation.error.code, "is locked" in operation.error.detail) == ("failed_precondition", True)


async def test_the_source_can_be_read_after_a_write_was_cancelled(home: House) -> None:
    path = home.runtime.home / "import" / "acme" / "own.db"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO orders VALUES (7)")
    await add(home, "many", {"text": ["word " * 12] * 1_000_000})
    name = await begin(home, data_set="many")
    await until(lambda: path.stat().st_size > 4 * 2**20)  # it is in the file, and not in memory only
    await home.stub(OperationsStub, "data").CancelOperation(operations_pb2.CancelOperationRequest(operation=name))

    assert (await ended(home, name)).state == operations_pb2.OPERATION_STATE_CANCELLED
    seen = await home.stub(SourcesStub, "data").PreviewSource(sources_pb2.PreviewSourceRequest(source="own"))
    assert len(seen.records) == 1
    assert rows(home, "SELECT name FROM sqlite_schema WHERE name = 'flights'") == []


WRONG: list[tuple[dict[str, Any], Code]] = [
    ({"table": "a.b.c"}, Code.INVALID_VALUE),
    ({"table": 'x"; DROP TABLE orders'}, Code.INVALID_VALUE),
    ({"table": "sqlite_master"}, Code.INVALID_VALUE),
    ({"table": "aimass_writes"}, Code.INVALID_VALUE),
    ({"table": "Orders"}, Code.INVALID_VALUE),  # it is the source
    ({"table": "main.answers"}, Code.INVALID_VALUE),
    ({"mode": pb.WRITE_MODE_UNSPECIFIED}, Code.INVALID_VALUE),
    ({"mode": UPSERT}, Code.INVALID_VALUE),
    ({"key": ["id"]}, Code.INVALID_VALUE),
    ({"mode": UPSERT, "key": ["id", "id"]}, Code.INVALID_VALUE),
    ({"data_set": ""}, Code.INVALID_VALUE),
    ({"sql": "SELECT 1 AS a FROM flights"}, Code.INVALID_VALUE),
    ({"data_set": "nosuch"}, Code.NOT_FOUND),
    ({"version": 9}, Code.UNKNOWN_VERSION),
    ({"source": "nosuch"}, Code.NOT_FOUND),
    ({"source": "pushed"}, Code.FAILED_PRECONDITION),
]


async def test_what_cannot_be_written_is_refused_at_once(home: House) -> None:
    pushed = sources_pb2.PushedSource(record_id="id")
    await home.stub(SourcesStub, "data").CreateSource(sources_pb2.CreateSourceRequest(source="pushed", pushed=pushed))
    for said, code in WRONG:
        assert (await refused(begin(home, **said))).code is code, said
    drop: dict[str, Any] = {
        "data_set": "",
        "sql": "DROP TABLE t",
        "tables": [data_sets.QueryTable(alias="t", data_set="flights")],
    }
    assert (await refused(begin(home, **drop))).code is Code.SQL_NOT_ALLOWED


async def test_who_may_not_read_the_rows_or_write_there_cannot(home: House) -> None:
    assert (await refused(begin(home, "sources.export"))).code is Code.FORBIDDEN
    assert (await refused(begin(home, "data_sets.read"))).code is Code.FORBIDDEN
    assert (await refused(begin(home, tenant="other"))).code is Code.NOT_FOUND


async def test_a_right_on_a_branch_writes_nothing_without_that_on_its_data_set(home: House) -> None:
    branch = data_sets.BranchDataSetRequest(data_set="flights", branch="trial")
    await home.stub(DataSetsStub, "data").BranchDataSet(branch)
    right = "data_sets.read@data-sets/trial"

    assert (await refused(begin(home, "sources.export", right, data_set="trial"))).code is Code.FORBIDDEN
    assert await write(home, "sources.export", f"{right},data-sets/flights", data_set="trial") == 2


async def test_masked_columns_are_written_as_null(home: House) -> None:
    etag = (await home.stub(DataSetsStub, "data").GetDataSet(data_sets.GetDataSetRequest(data_set="flights"))).etag
    masks = data_sets.MaskColumnsRequest(data_set="flights", columns=["carrier"])
    await home.stub(DataSetsStub, "data", if_match=etag).MaskColumns(masks)
    await write(home, "sources.export", "data_sets.read")

    assert rows(home, "SELECT id, carrier FROM flights ORDER BY id") == [(1, None), (2, None)]


async def test_a_file_that_other_tenants_read_is_not_written(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    connection = sqlite3.connect(shared / "own.db")
    connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    connection.close()
    async with house(tmp_path / "home", "data", AIMASS_DATA_FILE_ROOTS=str(shared)) as running:
        sql = sources_pb2.SqlSource(url="sqlite:///own.db", table="orders", cursor="id")
        await running.stub(SourcesStub, "data").CreateSource(sources_pb2.CreateSourceRequest(source="own", sql=sql))
        await add(running, "flights", ROWS)
        with pytest.raises(Failure) as caught:
            await begin(running)
    assert caught.value.code is Code.EGRESS_DENIED
