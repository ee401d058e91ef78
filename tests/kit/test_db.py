import asyncio
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Column, MetaData, String, create_engine, insert, inspect, select, text
from sqlalchemy.engine import Connection

from services.kit.auth import Scope
from services.kit.db import Database, UtcDateTime, newest, scoped, within
from services.kit.errors import Code, Failure
from services.kit.migrations import downgrade, upgrade
from tests.kit.conftest import MIGRATION

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


async def test_commits_are_synced_to_the_disk(things: Database) -> None:
    found = await things.run(
        lambda c: (c.execute(text("PRAGMA synchronous")).scalar(), c.execute(text("PRAGMA journal_mode")).scalar())
    )

    assert found == (2, "wal")  # FULL


async def test_a_file_has_one_owner(db: Database, tmp_path: Path) -> None:
    other = Database(db.url, tmp_path / "migrations")

    with pytest.raises(Failure, match="in use by another process") as caught:
        await other.start()
    assert caught.value.code is Code.UNAVAILABLE
    other.close()


async def test_a_full_disk_is_said_so(things: Database) -> None:
    await things.run(lambda c: c.execute(text("PRAGMA max_page_count = 40")) and None)

    def fill(connection: Connection) -> None:
        for number in range(2000):
            put(connection, "acme", f"{number:063d}")

    with pytest.raises(Failure) as caught:
        await things.run(fill)
    assert caught.value.code is Code.STORAGE_FULL


def test_the_newest_revision_is_the_highest_number(tmp_path: Path) -> None:
    for name in ("0001_a.py", "0010_b.py", "0002_c.py", "notes.py"):
        (tmp_path / name).touch()

    assert newest(tmp_path) == "0010"


def test_a_schema_goes_up_and_down(tmp_path: Path) -> None:
    (tmp_path / "0001_kit.py").write_text(MIGRATION)
    engine = create_engine(f"sqlite:///{tmp_path}/a.db")
    upgrade(engine, tmp_path)
    there = set(inspect(engine).get_table_names())
    downgrade(engine, tmp_path, "base")
    left = set(inspect(engine).get_table_names())
    engine.dispose()

    assert {"outbox", "inbox", "operation", "idempotency_key"} <= there
    assert left == {"alembic_version"}


@pytest.mark.parametrize("service", ["gateway", "data", "trainer", "registry", "inference", "logs"])
def test_every_services_schema_goes_up_and_down(service: str, tmp_path: Path) -> None:
    folder = Path(__file__).parents[2] / "services" / service / "migrations"
    engine = create_engine(f"sqlite:///{tmp_path}/a.db")
    upgrade(engine, folder)
    downgrade(engine, folder, "base")
    upgrade(engine, folder)
    there = inspect(engine).get_table_names()
    engine.dispose()

    assert "outbox" in there
