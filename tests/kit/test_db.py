import asyncio
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Column, MetaData, String, insert, select, update
from sqlalchemy.engine import Connection

from services.kit.auth import Scope
from services.kit.db import Database, UtcDateTime, database_clock, newest, scoped, within
from services.kit.errors import Code, Failure

METADATA = MetaData()
THING = scoped("thing", METADATA, Column("name", String(63), primary_key=True), Column("time", UtcDateTime))
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
async def things(db: Database) -> Database:
    await db.run(lambda connection: METADATA.create_all(connection))
    return db


def put(connection: Connection, tenant: str, name: str = "a", time: datetime = NOON) -> None:
    connection.execute(insert(THING).values(tenant=tenant, project="default", name=name, time=time))


async def test_a_transaction_is_all_or_nothing(things: Database) -> None:
    def work(connection: Connection) -> None:
        put(connection, "acme")
        raise KeyError("no")

    with pytest.raises(KeyError):
        await things.run(work)
    assert await things.run(lambda c: c.execute(select(THING)).all()) == []


async def test_a_scope_sees_its_own_rows(things: Database) -> None:
    for tenant in ("acme", "other"):
        await things.run(partial(put, tenant=tenant))

    found = await things.run(lambda c: c.execute(select(THING).where(within(THING, Scope("acme")))).all())
    assert [row.tenant for row in found] == ["acme"]


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5))])
async def test_times_come_back_in_utc(things: Database, zone: timezone) -> None:
    await things.run(lambda c: put(c, "acme", time=NOON.astimezone(zone)))

    row = (await things.run(lambda c: c.execute(select(THING)).all()))[0]
    assert row.time == NOON
    assert row.time.tzinfo is UTC


async def test_transactions_do_not_mix(things: Database) -> None:
    await asyncio.gather(*(things.run(partial(put, tenant="acme", name=f"n{n}")) for n in range(20)))

    assert len(await things.run(lambda c: c.execute(select(THING)).all())) == 20


def test_the_newest_revision_is_the_highest_number(tmp_path: Path) -> None:
    for name in ("0001_a.py", "0010_b.py", "0002_c.py", "notes.py"):
        (tmp_path / name).touch()

    assert newest(tmp_path) == "0010"


async def test_who_only_reads_sees_what_was_written(things: Database) -> None:
    await things.run(partial(put, tenant="acme"))

    assert len(await things.read(lambda c: c.execute(select(THING)).all())) == 1


async def test_the_clock_of_the_database_is_this_ones(db: Database) -> None:
    apart = await db.read(database_clock) - datetime.now(UTC)

    assert abs(apart.total_seconds()) < 1


async def test_counters_that_many_raise_at_once_miss_none(things: Database) -> None:
    await things.run(partial(put, tenant="acme", time=NOON))

    def raise_it(connection: Connection) -> None:
        time = connection.execute(select(THING.c.time)).scalar_one()
        assert time
        connection.execute(update(THING).values(time=time + timedelta(seconds=1)))

    await asyncio.gather(*(things.run(raise_it) for _ in range(30)))

    assert (await things.read(lambda c: c.execute(select(THING.c.time)).scalar_one())) == NOON + timedelta(seconds=30)


async def test_of_many_who_make_what_is_not_there_one_does(things: Database) -> None:
    def make(connection: Connection) -> bool:
        if connection.execute(select(THING)).first():
            return False
        put(connection, "acme")
        return True

    assert sorted(await asyncio.gather(*(things.run(make) for _ in range(20)))) == [False] * 19 + [True]


async def test_a_database_that_was_closed_is_away(db: Database) -> None:
    db.close()

    with pytest.raises(Failure, match="closed") as caught:
        await db.read(database_clock)
    assert caught.value.code is Code.UNAVAILABLE
