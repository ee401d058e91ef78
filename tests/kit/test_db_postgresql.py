"""What is PostgreSQL's own: a server that can be away, and others on the same database."""

import asyncio
import logging
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.engine import Connection, make_url

from aimass.v1.access_pb2 import GetTenantRequest, Tenant
from services.kit.db import Database, Replay
from services.kit.errors import Code, Failure
from services.kit.idempotency import Keyed
from services.kit.schema import Schema
from tests.kit.conftest import migrations, now
from tests.support import servers
from tests.support.lines import Line
from tests.support.refused import refused

pytestmark = pytest.mark.far


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return migrations(tmp_path)


@pytest.fixture
async def db(folder: Path) -> AsyncIterator[Database]:
    made = Database(servers.database(servers.address("postgres")), folder)
    await made.start()
    yield made
    made.close()


@pytest.fixture
async def other(db: Database, folder: Path) -> AsyncIterator[Database]:
    """Another process's way to the same database."""
    made = Database(db.url, folder, threads=2)
    await made.start()
    yield made
    made.close()


def note(schema: Schema, event: str, connection: Connection) -> str:
    """Writes a row that can be counted."""
    connection.execute(insert(schema.inbox.table).values(event=event, time=now()))
    return event


async def noted(db: Database, schema: Schema) -> int:
    return await db.read(lambda c: int(c.execute(select(func.count()).select_from(schema.inbox.table)).scalar_one()))


def keyed(schema: Schema) -> Keyed:
    return schema.keys.once("ann", "k", GetTenantRequest(tenant="a"), now(), lambda found: Tenant(tenant=found))


async def test_who_holds_what_another_wants_is_waited_for(db: Database, other: Database, schema: Schema) -> None:
    held, go = threading.Event(), threading.Event()

    def slow(connection: Connection) -> str:
        note(schema, "e", connection)
        held.set()
        go.wait(10)
        return "made"

    first = asyncio.create_task(db.run(slow, keyed(schema)))
    await asyncio.to_thread(held.wait, 10)
    second = asyncio.create_task(other.run(partial(note, schema, "e"), keyed(schema)))
    await asyncio.sleep(0.3)
    go.set()

    assert await first == "made"
    with pytest.raises(Replay) as replay:
        await second
    assert Tenant.FromString(replay.value.reply).tenant == "made"


async def test_a_repeat_of_what_takes_long_is_in_progress(db: Database, other: Database, schema: Schema) -> None:
    go = threading.Event()

    def slow(connection: Connection) -> str:
        go.wait(20)
        return "made"

    first = asyncio.create_task(db.run(slow, keyed(schema)))
    await asyncio.sleep(0.2)
    failure = await refused(other.run(lambda c: "again", keyed(schema)))
    go.set()

    assert (failure.code, failure.retry_after) == (Code.IN_PROGRESS, 1)
    assert await first == "made"


async def test_work_that_waits_too_long_for_a_connection_is_refused(other: Database) -> None:
    held = [asyncio.create_task(other.run(lambda c: time.sleep(2.5))) for _ in range(2)]
    await asyncio.sleep(0.1)
    began = time.monotonic()
    failure = await refused(other.run(lambda c: None))

    assert (failure.code, failure.retry_after) == (Code.UNAVAILABLE, 1)
    assert time.monotonic() - began < 2
    await asyncio.gather(*held)


async def test_connections_that_the_server_ended_are_replaced(db: Database, other: Database, schema: Schema) -> None:
    await asyncio.gather(*(db.run(lambda c: time.sleep(0.05)) for _ in range(8)))
    end = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE usename = current_user AND pid <> pg_backend_pid()"
    )
    await other.run(lambda c: c.execute(end) and None)
    await asyncio.gather(*(db.run(partial(note, schema, f"e{number}")) for number in range(20)))

    assert await noted(db, schema) == 20


async def test_what_does_not_fit_is_the_callers_mistake(db: Database, schema: Schema) -> None:
    for event in ("x" * 37, "nul\0"):
        failure = await refused(db.run(partial(note, schema, event)))
        assert failure.code is Code.INVALID_VALUE
        assert "INSERT" not in failure.detail


async def test_a_statement_that_takes_too_long_is_ended(db: Database) -> None:
    def sleep(connection: Connection) -> None:
        connection.execute(text("SET LOCAL statement_timeout = 100"))
        connection.execute(text("SELECT pg_sleep(5)"))

    failure = await refused(db.run(sleep))

    assert (failure.code, failure.detail) == (Code.UNAVAILABLE, "the database took too long")


async def test_every_connection_is_bounded_and_keeps_what_it_says(db: Database) -> None:
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "synchronous_commit")
    found = await db.read(lambda c: [c.execute(text(f"SHOW {name}")).scalar() for name in names])

    assert found == ["30s", "3s", "10s", "on"]


async def test_a_line_that_breaks_before_the_commit_costs_a_second_try(folder: Path, schema: Schema) -> None:
    async with broken(folder, b"INSERT INTO inbox") as (db, line):
        tries: list[int] = []

        def work(connection: Connection) -> str:
            tries.append(1)
            return note(schema, "e", connection)

        assert await db.run(work) == "e"
        assert (len(tries), await noted(db, schema)) == (2, 1)
        assert not line.cut


async def test_work_whose_commit_found_no_answer_is_not_run_again(folder: Path, schema: Schema) -> None:
    async with broken(folder, b"COMMIT") as (db, _):
        failure = await refused(db.run(partial(note, schema, "e")))

        assert (failure.code, failure.retry_after) == (Code.UNAVAILABLE, 1)
        assert await noted(db, schema) == 1


async def test_a_keyed_effect_whose_commit_found_no_answer_is_found_again(folder: Path, schema: Schema) -> None:
    async with broken(folder, b"COMMIT") as (db, _):
        with pytest.raises(Replay) as replay:
            await db.run(partial(note, schema, "e"), keyed(schema))

        assert Tenant.FromString(replay.value.reply).tenant == "e"
        assert await noted(db, schema) == 1


class broken:  # noqa: N801 - reads as a function
    """A database behind a line that breaks once, at some bytes."""

    def __init__(self, folder: Path, cut: bytes) -> None:
        where = make_url(servers.database(servers.address("postgres")))
        self._line, self._cut = Line(where.host or "", where.port or 0), cut
        url = where.set(port=self._line.port).render_as_string(hide_password=False)
        self._db = Database(url, folder)

    async def __aenter__(self) -> tuple[Database, Line]:
        await self._db.start()
        self._line.cut = self._cut
        return self._db, self._line

    async def __aexit__(self, *_: object) -> None:
        self._db.close()
        self._line.close()


async def test_a_start_without_the_server_says_so_and_nothing_more(folder: Path) -> None:
    made = Database("postgresql+psycopg://somebody:verysecret@127.0.0.1:1/data", folder)
    failure = await refused(made.start())
    made.close()

    assert (failure.code, failure.detail) == (Code.UNAVAILABLE, "the database cannot be reached")


@pytest.fixture
def server() -> Iterator[servers.Program]:
    """A server of the test's own, to be killed."""
    servers.address("postgres")  # skips where there is none
    # Not in a folder of pytest's, which are root's only: the server may run as another user.
    with tempfile.TemporaryDirectory(prefix="aimass-far-") as folder:
        try:
            program = servers.make("postgres", Path(folder) / "server").start()
        except servers.Missing as missing:
            pytest.skip(str(missing))
        yield program
        program.end()


Trouble = Callable[[servers.Program], None]


def stop_and_start(server: servers.Program) -> None:
    server.stop()


def killed(server: servers.Program) -> None:
    server.kill()


def frozen(server: servers.Program) -> None:
    server.freeze()


def back(server: servers.Program) -> None:
    server.thaw()
    if not server.process or server.process.poll() is not None:
        server.start()


@pytest.mark.parametrize("trouble", [killed, frozen, stop_and_start])
async def test_a_server_that_is_away_under_writes(
    trouble: Trouble, server: servers.Program, folder: Path, schema: Schema, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing acknowledged is lost, refusals come within a second, and two seconds after it is back all is well."""
    caplog.set_level(logging.CRITICAL)
    db = Database(servers.database(server.address), folder)
    await db.start()
    acknowledged, refusals = set[str](), list[tuple[Failure, float]]()
    ended = asyncio.Event()

    async def write(name: str) -> None:
        number = 0
        while not ended.is_set():
            event, began = f"{name}-{number}", time.monotonic()
            try:
                acknowledged.add(await db.run(partial(note, schema, event)))
            except Failure as failure:
                refusals.append((failure, time.monotonic() - began))
                await asyncio.sleep(0.02)
            number += 1

    writing = [asyncio.create_task(write(f"w{number}")) for number in range(16)]
    await asyncio.sleep(0.7)
    before = len(acknowledged)
    await asyncio.to_thread(trouble, server)
    await asyncio.sleep(3)
    during = len(refusals)
    await asyncio.to_thread(back, server)
    again, mark = time.monotonic(), len(acknowledged)
    while len(acknowledged) == mark and time.monotonic() - again < 10:
        await asyncio.sleep(0.01)
    recovered = time.monotonic() - again
    await asyncio.sleep(0.5)
    ended.set()
    await asyncio.gather(*writing)
    kept = await db.read(lambda c: set(c.execute(select(schema.inbox.table.c.event)).scalars()))
    db.close()

    assert before
    assert during
    assert acknowledged <= kept
    assert {(failure.code, failure.retry_after) for failure, _ in refusals} == {(Code.UNAVAILABLE, 1)}
    assert max(seconds for _, seconds in refusals) < 1.0
    assert recovered < 2.0
