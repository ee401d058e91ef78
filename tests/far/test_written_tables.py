"""Results in tables of a real PostgreSQL: typed, whole or not at all, once, and one writer after the other."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from google.protobuf.json_format import ParseDict

from aimass.v1 import exports_pb2 as pb
from aimass.v1 import operations_pb2
from aimass.v1 import sources_pb2 as sources
from aimass.v1.exports_pb2_grpc import ExportsStub
from aimass.v1.sources_pb2_grpc import SourcesStub
from tests.data.tables import add
from tests.data.test_exports_written import ROWS
from tests.data.test_partitions import ended
from tests.far.test_postgres_sources import PASSWORD, TABLE, run, source
from tests.support.house import House, house
from tests.support.servers import address, database

pytestmark = pytest.mark.far
APPEND, REPLACE, UPSERT = pb.WRITE_MODE_APPEND, pb.WRITE_MODE_REPLACE, pb.WRITE_MODE_UPSERT


@pytest.fixture
def url() -> str:
    found = database(address("postgres"))
    run(found, TABLE, f"ALTER ROLE CURRENT_USER PASSWORD '{PASSWORD}'")
    user, _, rest = found.partition("@")
    return f"{user.rpartition(':')[0]}:{PASSWORD}@{rest}"


@pytest.fixture
async def home(tmp_path: Path, url: str) -> AsyncIterator[House]:
    async with house(tmp_path, "data", AIMASS_EGRESS_ALLOW="127.0.0.1", AIMASS_DISK_PERCENT="100") as running:
        asked = ParseDict({"source": "own", **source(url)}, sources.CreateSourceRequest())
        await running.stub(SourcesStub, "data").CreateSource(asked)
        await add(running, "rows", ROWS)
        yield running


async def begin(home: House, **said: Any) -> str:
    usual: dict[str, Any] = {"source": "own", "table": "answers", "mode": APPEND, "data_set": "rows"}
    return str((await home.stub(ExportsStub, "data").WriteTable(pb.WriteTableRequest(**usual | said))).operation)


async def write(home: House, **said: Any) -> operations_pb2.Operation:
    return await ended(home, await begin(home, **said))


def done(operation: operations_pb2.Operation) -> int:
    found = pb.WriteTableResponse()
    assert operation.state == operations_pb2.OPERATION_STATE_SUCCEEDED, operation.error
    assert operation.response.Unpack(found)
    return int(found.rows)


async def test_a_version_becomes_a_table_with_its_types(home: House, url: str) -> None:
    assert done(await write(home)) == 2
    kinds = run(
        url, "SELECT data_type FROM information_schema.columns WHERE table_name = 'answers' ORDER BY ordinal_position"
    )
    assert [kind for (kind,) in kinds] == [
        "bigint", "text", "double precision", "boolean", "date", "timestamp with time zone",
    ]  # fmt: skip
    assert run(url, "SELECT * FROM answers ORDER BY id") == [tuple(row.values()) for row in ROWS.to_pylist()]


async def test_rows_are_changed_by_their_key_and_replaced(home: House, url: str) -> None:
    await add(home, "numbers", {"id": [1, 2], "n": [10, 20]})
    done(await write(home, data_set="numbers", mode=UPSERT, key=["id"]))
    await add(home, "numbers", {"id": [2, 3], "n": [21, 31]})
    done(await write(home, data_set="numbers", mode=UPSERT, key=["id"]))
    upserted = run(url, "SELECT * FROM answers ORDER BY id")
    done(await write(home, data_set="numbers", mode=REPLACE))

    assert upserted == [(1, 10), (2, 21), (3, 31)]
    assert run(url, "SELECT * FROM answers ORDER BY id") == [(2, 21), (3, 31)]


async def test_what_fails_leaves_the_table_as_it_was_and_shows_no_value(home: House, url: str) -> None:
    run(url, "CREATE TABLE answers (id integer, carrier integer)", "INSERT INTO answers VALUES (7, 8)")
    await add(home, "words", {"id": [1], "carrier": ["a-secret-word"]})
    failed = await write(home, data_set="words", mode=REPLACE)

    assert failed.state == operations_pb2.OPERATION_STATE_FAILED
    assert "a value does not fit a column of answers" in str(failed.error)
    assert "secret" not in str(failed)
    assert run(url, "SELECT * FROM answers") == [(7, 8)]


async def test_two_that_replace_a_table_leave_the_rows_of_one(home: House, url: str) -> None:
    await add(home, "left", {"side": ["left"] * 5000})
    await add(home, "right", {"side": ["right"] * 5000})
    names = [await begin(home, data_set=side, mode=REPLACE) for side in ("left", "right")]
    for name in names:
        assert done(await ended(home, name)) == 5000

    ((sides, rows),) = run(url, "SELECT count(DISTINCT side), count(*) FROM answers")
    assert (sides, rows) == (1, 5000)


async def test_the_first_two_tables_of_a_schema_may_be_written_at_once(home: House, url: str) -> None:
    await add(home, "numbers", {"n": list(range(50_000))})
    names = [await begin(home, data_set="numbers", table=table) for table in ("one", "other")]
    for name in names:
        assert done(await ended(home, name)) == 50_000

    assert run(url, "SELECT (SELECT count(*) FROM one), (SELECT count(*) FROM other)") == [(50_000, 50_000)]
    assert run(url, "SELECT count(*) FROM aimass_writes") == [(2,)]


async def test_a_table_that_somebody_holds_is_waited_for_and_cancelling_writes_nothing(home: House, url: str) -> None:
    run(url, "CREATE TABLE answers (id bigint, carrier text, delay float8, late boolean, day date, at timestamptz)")
    with psycopg.connect(url.replace("+psycopg", "")) as holder:
        holder.execute("LOCK TABLE answers IN ACCESS EXCLUSIVE MODE")
        name = await begin(home)
        await asyncio.sleep(7)  # longer than a lock is waited for
        holder.rollback()
    assert done(await ended(home, name)) == 2
    assert run(url, "SELECT count(*) FROM answers") == [(2,)]
