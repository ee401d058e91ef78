"""Tables of a real PostgreSQL as sources: every row once, whoever writes, and whatever becomes of the connection."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from google.protobuf.json_format import MessageToDict, MessageToJson, ParseDict

from aimass.v1 import extractions_pb2, rules_pb2
from aimass.v1 import sources_pb2 as pb
from aimass.v1.data_events_pb2 import SourceChanged
from aimass.v1.extractions_pb2_grpc import ExtractionsStub
from aimass.v1.rules_pb2_grpc import RulesStub
from aimass.v1.sources_pb2_grpc import SourcesStub
from services.data.reading import patience, select
from services.data.reading.connector_postgres import PostgresConnector
from services.data.reading.folders import Place
from services.data.reading.kinds import Compiled, SqlRule, SqlSource
from services.kit.errors import Code, Failure
from tests.data.extracting import Tenant
from tests.data.hostile import Pages
from tests.data.landing import LANDED, counts, replay
from tests.support.house import house
from tests.support.refused import refused
from tests.support.servers import address, database

pytestmark = pytest.mark.far
PASSWORD = "s3cret-words-of-a-source"
TABLE = """
    CREATE TABLE flights (
        id bigserial PRIMARY KEY, carrier text, delay numeric(6, 1), at timestamptz NOT NULL, raw jsonb
    );
    INSERT INTO flights (carrier, delay, at, raw)
    SELECT CASE WHEN n % 2 = 0 THEN 'UA' ELSE 'D''L' END, n / 2.0,
        '2013-01-01'::timestamptz + n / 3 * interval '1 s', '{"n": 1}'
    FROM generate_series(1, 50) n
"""
RULE = {"sql": {"sql": "SELECT id, carrier, delay, at FROM flights WHERE carrier LIKE 'U%' OR carrier = 'D''L'"}}


@pytest.fixture
def url() -> str:
    found = database(address("postgres"))
    run(found, TABLE, f"ALTER ROLE CURRENT_USER PASSWORD '{PASSWORD}'")
    user, _, rest = found.partition("@")
    return f"{user.rpartition(':')[0]}:{PASSWORD}@{rest}"


def run(url: str, *statements: str) -> Any:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        done: Any = None
        for statement in statements:
            done = connection.execute(statement.encode())
        return done.fetchall() if done.description else None


def source(url: str, cursor: str = "id", **more: Any) -> dict[str, Any]:
    """The description of a source, with the password apart."""
    user, _, rest = url.removeprefix("postgresql+psycopg://").partition("@")
    name, _, password = user.partition(":")
    sql = {"url": f"postgresql://{name}@{rest}", "table": "flights", "cursor": cursor, "password": password}
    return {"sql": {**sql, **more}}


@pytest.fixture
async def tenant(tmp_path: Path) -> AsyncIterator[Tenant]:
    async with house(tmp_path, "data", AIMASS_EGRESS_ALLOW="127.0.0.1") as running:
        yield Tenant(running)


async def test_a_table_is_previewed_tested_and_read_once(tenant: Tenant, url: str) -> None:
    described = source(url)
    shown = await tenant.stub(SourcesStub).PreviewSource(
        ParseDict({**described, "records": 2}, pb.PreviewSourceRequest())
    )
    assert dict(shown.records[0]) == {
        "id": 1, "carrier": "D'L", "delay": "0.5", "at": "2013-01-01 00:00:00Z", "raw": '{"n": 1}',
    }  # fmt: skip
    kinds = {column.name: column.type for column in shown.schema.columns}
    assert [kinds[name] for name in ("id", "carrier", "delay", "at")] == [2, 4, 3, 5]
    await tenant.rule("flights", described, RULE)
    trial = await tenant.stub(RulesStub).TestRule(rules_pb2.TestRuleRequest(rule="flights", records=10))
    assert (len(trial.rows), trial.coverage) == (10, 1.0)
    done = await tenant.extract("flights")
    assert (done.rows_accepted, done.rows_quarantined) == (50, 0)
    assert (await tenant.extract("flights")).records_read == 0
    run(url, "INSERT INTO flights (carrier, at) VALUES ('UA', 'infinity'), ('UA', '2013-01-01')")
    done = await tenant.extract("flights")
    assert (done.rows_accepted, done.rows_quarantined) == (1, 1)


async def test_rows_of_one_time_are_read_once_and_young_ones_later(tenant: Tenant, url: str) -> None:
    await tenant.rule("flights", source(url, "at", lag_seconds=15), RULE)
    run(url, "INSERT INTO flights (carrier, at) VALUES ('UA', now())")
    old = time.monotonic() + 15.5
    assert (await tenant.extract("flights")).records_read == 50
    run(url, "INSERT INTO flights (carrier, at) SELECT 'UA', '2013-01-01 00:00:16Z' FROM generate_series(1, 3)")
    assert (await tenant.extract("flights")).records_read == 3
    run(url, "UPDATE flights SET at = now() - interval '16 s' WHERE id = 1")
    assert (await tenant.extract("flights")).records_read == 1
    await asyncio.sleep(max(old - time.monotonic(), 0.0))
    assert (await tenant.extract("flights")).records_read == 1


async def test_rows_behind_a_cursor_are_counted_also_those_of_one_time(tenant: Tenant, url: str) -> None:
    await tenant.rule("flights", source(url, "at", lag_seconds=5), RULE)
    stub, asked = tenant.stub(ExtractionsStub), extractions_pb2.GetCursorRequest(rule="flights")
    assert (await stub.GetCursor(asked)).lag == 50
    await tenant.extract("flights")
    assert (await stub.GetCursor(asked)).lag == 0
    run(url, "INSERT INTO flights (carrier, at) SELECT 'UA', '2013-01-01 00:00:16Z' FROM generate_series(1, 3)")
    assert (await stub.GetCursor(asked)).lag == 3
    run(url, 'ALTER TABLE flights RENAME at TO "at 100%"')
    await tenant.rule("odd", source(url, "at 100%"), {"sql": {"sql": 'SELECT id, "at 100%" AS at FROM flights'}})
    await tenant.extract("odd")
    assert (await stub.GetCursor(extractions_pb2.GetCursorRequest(rule="odd"))).lag == 0


async def test_a_row_that_is_committed_late_is_not_lost(tenant: Tenant, url: str) -> None:
    """Its key is smaller than one that was there before it."""
    await tenant.rule("flights", source(url), RULE)
    late = psycopg.connect(url.replace("+psycopg", ""))
    late.execute("INSERT INTO flights (carrier, at) VALUES ('UA', '2013-01-01')")
    run(url, "INSERT INTO flights (carrier, at) VALUES ('UA', '2013-01-01')")
    end = threading.Timer(2.0, late.commit)
    end.start()

    assert (await tenant.extract("flights")).records_read == 52
    end.join()
    late.close()


async def test_a_connection_that_is_ended_is_made_again_and_no_row_is_lost(tenant: Tenant, url: str) -> None:
    run(url, "INSERT INTO flights (carrier, at) SELECT 'UA', '2013-01-01' FROM generate_series(1, 200000)")
    await tenant.rule("flights", source(url), RULE)
    kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'aimass'"
    begun, killed = await tenant.begin("flights"), 0
    for _ in range(100):
        killed += run(url, kill)[0][0]
        if killed >= 3:
            break
        await asyncio.sleep(0.2)
    done = await tenant.ended(begun.operation, 60)
    assert killed >= 3
    assert MessageToDict(done)["response"]["rowsAccepted"] == "200050"


def reading(url: str) -> tuple[PostgresConnector, Place, Compiled]:
    """What reads the table in a child."""
    described = source(url)["sql"]
    kept, place = SqlSource(**described), Place(Path("/"), (), "127.0.0.1", True, described["password"])
    connector = PostgresConnector(kept)
    return (
        connector,
        place,
        select.compile_select(SqlRule("SELECT id, carrier FROM flights"), kept, connector.look(place)),
    )


def test_a_table_that_is_larger_than_a_run_lasts_is_read_in_several(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "SHARE", 0.0)
    run(url, "INSERT INTO flights (carrier, at) SELECT 'UA', '2013-01-01' FROM generate_series(1, 99950)")
    connector, place, compiled = reading(url)
    found, cursor, notes = list[int](), dict[str, Any](), list[str]()
    while len(notes) == 0 or notes[-1] == patience.LEFT:
        pages = Pages(lambda: None)
        end = connector.read(place, compiled, cursor, pages, 60.0)
        found, cursor, notes = found + [row[0] for row in pages.rows], end.cursor, [*notes, *(end.notes or [""])]
    assert found == list(range(1, 100_001))
    assert len(notes) > 2


def test_a_table_that_loses_a_column_between_two_pages_ends_the_run_with_a_reason(url: str) -> None:
    run(url, "INSERT INTO flights (carrier, at) SELECT 'UA', '2013-01-01' FROM generate_series(1, 99950)")
    connector, place, compiled = reading(url)
    pages = Pages(lambda: run(url, "ALTER TABLE flights RENAME COLUMN carrier TO airline"))
    with pytest.raises(Failure, match='column "carrier" does not exist') as caught:
        connector.read(place, compiled, {}, pages, 60.0)
    assert caught.value.code is Code.INVALID_VALUE


async def test_the_password_is_stored_encrypted_and_shown_nowhere(tenant: Tenant, url: str, tmp_path: Path) -> None:
    await tenant.rule("flights", source(url), RULE)
    stub = tenant.stub(SourcesStub)
    shown = [
        await stub.GetSource(pb.GetSourceRequest(source="flights")),
        await stub.ListSources(pb.ListSourcesRequest()),
    ]
    shown += await tenant.house.heard(SourceChanged)
    await tenant.extract("flights")

    assert not any(PASSWORD in MessageToJson(message) for message in shown)
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"flights" in stored
    assert PASSWORD.encode() not in stored


async def test_a_password_is_for_one_server(tenant: Tenant, url: str) -> None:
    described = source(url)
    await tenant.stub(SourcesStub).CreateSource(ParseDict({"source": "flights", **described}, pb.CreateSourceRequest()))
    stub = tenant.stub(SourcesStub, if_match="*")
    without = {key: value for key, value in described["sql"].items() if key != "password"}
    same = ParseDict({"source": "flights", "sql": {**without, "cursor": "at"}}, pb.UpdateSourceRequest())
    assert (await stub.UpdateSource(same)).sql.cursor == "at"
    assert (await stub.PreviewSource(pb.PreviewSourceRequest(source="flights"))).records
    other = {**without, "url": without["url"].replace("127.0.0.1", "localhost")}
    failure = await refused(stub.UpdateSource(ParseDict({"source": "flights", "sql": other}, pb.UpdateSourceRequest())))
    assert failure.code is Code.EGRESS_DENIED
    other = {**without, "url": f"{without['url']}?sslmode=disable"}
    failure = await refused(stub.UpdateSource(ParseDict({"source": "flights", "sql": other}, pb.UpdateSourceRequest())))
    assert (failure.code, "refuses the user" in failure.detail) == (Code.FAILED_PRECONDITION, True)


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"password": "wrong"}, Code.FAILED_PRECONDITION, "refuses the user"),
        ({"table": "nothing"}, Code.INVALID_VALUE, "there is no table nothing"),
        ({"table": "pg_catalog.pg_stat_activity"}, Code.INVALID_VALUE, "there is no table"),
        ({"cursor": "nothing"}, Code.INVALID_VALUE, "flights has no column nothing"),
        ({"cursor": "carrier", "table": "loose"}, Code.INVALID_VALUE, "has no primary key of one column"),
        ({"cursor": "delay"}, Code.INVALID_VALUE, "is NULL in some rows"),
        ({"lag_seconds": -1}, Code.INVALID_VALUE, "lag_seconds must be between"),
    ],
)
async def test_what_cannot_be_read_is_said(
    tenant: Tenant, url: str, change: dict[str, Any], code: Code, says: str
) -> None:
    run(url, "CREATE TABLE loose (carrier text NOT NULL)", "UPDATE flights SET delay = NULL WHERE id = 2")
    described = source(url, **{"cursor": "id", **change})
    failure = await refused(
        tenant.stub(SourcesStub).CreateSource(ParseDict({"source": "a", **described}, pb.CreateSourceRequest()))
    )
    assert (failure.code, says in failure.detail) == (code, True), failure.detail


async def test_a_table_that_is_locked_is_not_waited_for(tenant: Tenant, url: str) -> None:
    with psycopg.connect(url.replace("+psycopg", "")) as lock:
        lock.execute("LOCK TABLE flights IN ACCESS EXCLUSIVE MODE")
        request = ParseDict(source(url), pb.PreviewSourceRequest())
        failure = await refused(tenant.stub(SourcesStub).PreviewSource(request))
        lock.rollback()
    assert (failure.code, failure.detail) == (Code.UNAVAILABLE, "the table flights is locked by somebody else")


async def test_a_landed_table_is_read_once_and_its_rows_are_made_again_without_the_server(
    tenant: Tenant, url: str
) -> None:
    plain = {"sql": {"sql": "SELECT id, carrier AS who, delay, at, raw FROM flights"}}
    await tenant.rule("direct", source(url), plain)
    await tenant.rule("flights", {**source(url), **LANDED}, plain)
    direct, landed = await tenant.extract("direct"), await tenant.extract("flights")
    assert counts(landed) == (50, 50, 50)
    assert (await tenant.version("flights")).digest == (await tenant.version("direct")).digest == direct.output_digest
    run(url, "INSERT INTO flights (carrier, at) VALUES ('UA', '2013-01-01')")
    assert counts(await tenant.extract("flights")) == (1, 1, 1)
    run(url, "DROP TABLE flights")
    one, other = await replay(tenant, "flights"), await replay(tenant, "flights")
    assert (counts(one), one.output_digest) == ((0, 51, 51), other.output_digest)
    assert [row["who"] for row in await tenant.rows("flights")][:2] == ["D'L", "UA"]


async def test_what_only_the_server_can_compute_is_refused_for_what_landed(tenant: Tenant, url: str) -> None:
    await tenant.rule("flights", {**source(url), **LANDED}, RULE)
    failure = await refused(tenant.begin("flights"))
    assert failure.code is Code.FAILED_PRECONDITION
    assert "selects columns and nothing else" in failure.detail
