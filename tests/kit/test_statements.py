"""Statements that are made once, and asked in a transaction and alone."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, LargeBinary, MetaData, String, Table, insert, select

from services.kit import tenancy
from services.kit.auth import Scope
from services.kit.db import Database, UtcDateTime, scoped
from services.kit.statements import Claim, Many, one
from tests.support.servers import address, database

METADATA = MetaData()
THING = scoped("thing", METADATA, Column("thing", String(63), primary_key=True), Column("colour", String(10)))
MANY = scoped(
    "entry",
    METADATA,
    Column("entry", String(63), primary_key=True),
    Column("rows", Integer),
    Column("content", LargeBinary),
    Column("time", UtcDateTime),
)
SEEN = Table("seen", METADATA, Column("name", String(10), primary_key=True), Column("by", String(10)))
FIND = one(THING, "thing")
MIGRATION = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0001", None

def upgrade():
    key = [sa.Column(name, sa.String(63), primary_key=True) for name in ("tenant", "project", "thing")]
    op.create_table("thing", *key, sa.Column("colour", sa.String(10)))
    key[2] = sa.Column("entry", sa.String(63), primary_key=True)
    more = sa.Column("rows", sa.Integer), sa.Column("content", sa.LargeBinary)
    op.create_table("entry", *key, *more, sa.Column("time", sa.DateTime(timezone=True)))
    op.create_table("seen", sa.Column("name", sa.String(10), primary_key=True), sa.Column("by", sa.String(10)))
"""


@pytest.fixture(params=[pytest.param("near"), pytest.param("far", marks=pytest.mark.far)])
async def db(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    (tmp_path / "0001_things.py").write_text(MIGRATION)
    url = f"sqlite:///{tmp_path}/x.db" if request.param == "near" else database(address("postgres"))
    made = Database(url, tmp_path)
    await made.start()
    yield made
    made.close()


async def test_a_row_is_found_by_its_scope_and_name_and_by_no_other(db: Database) -> None:
    rows = [
        {"tenant": tenant, "project": "default", "thing": thing, "colour": f"{tenant}{thing}"}
        for tenant in ("acme", "rival")
        for thing in ("a", "b")
    ]
    await db.run(lambda c: c.execute(insert(THING), rows) and None)

    asked = {**Scope("acme")._asdict(), "thing": "b"}
    assert await db.read(lambda c: [row.colour for row in c.execute(FIND, asked)]) == ["acmeb"]


async def test_a_row_is_claimed_once_and_stays_as_it_was(db: Database) -> None:
    claim = Claim(SEEN)
    assert await db.run(lambda c: claim.first(c, {"name": "x", "by": "one"}))
    assert not await db.run(lambda c: claim.first(c, {"name": "x", "by": "two"}))
    assert await db.run(lambda c: claim.first(c, {"name": "y", "by": "two"}))

    assert await db.read(lambda c: sorted(tuple(row) for row in c.execute(SEEN.select()))) == [
        ("x", "one"),
        ("y", "two"),
    ]


async def test_a_statement_that_is_asked_alone_is_kept(db: Database) -> None:
    await db.ask(lambda c: c.execute(insert(SEEN), {"name": "x", "by": "one"}) and None)

    assert await db.ask(lambda c: c.execute(SEEN.select()).one().by) == "one"


@pytest.mark.far
async def test_one_that_is_asked_alone_sees_no_row_of_a_tenant(tmp_path: Path) -> None:
    (tmp_path / "0001_things.py").write_text(MIGRATION)
    db = Database(database(address("postgres")), tmp_path)
    await db.start()
    row = {"tenant": "acme", "project": "default", "thing": "a", "colour": "red"}
    await db.run(lambda c: c.execute(insert(THING), row) and None)

    with tenancy.of("acme"):
        assert await db.ask(lambda c: c.execute(THING.select()).all()) == []
        assert len(await db.read(lambda c: c.execute(THING.select()).all())) == 1
    db.close()


async def test_many_rows_are_added_once_each_and_come_out_as_they_were(db: Database) -> None:
    new, at = Many(MANY), datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    rows: list[tuple[Any, ...]] = [
        ("acme", "risk", "a", 1, b"one", at),
        ("acme", "risk", "b", None, b"", at + timedelta(hours=1)),
        ("acme", "other", "a", 3, None, None),
    ]
    with tenancy.of("acme"):
        for given in (rows[:2], [], [*rows, ("acme", "risk", "b", 7, b"later", at)]):
            await db.run(lambda connection, given=given: new.add(connection, given))  # type: ignore[misc]
        found = await db.read(lambda connection: connection.execute(select(MANY)).all())

    assert sorted(map(tuple, found), key=lambda row: row[1:3]) == sorted(rows, key=lambda row: row[1:3])
