"""Statements that are made once, and asked in a transaction and alone."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Column, MetaData, String, Table, insert

from services.kit import tenancy
from services.kit.auth import Scope
from services.kit.db import Database, scoped
from services.kit.statements import Claim, one
from tests.support.servers import address, database

METADATA = MetaData()
THING = scoped("thing", METADATA, Column("thing", String(63), primary_key=True), Column("colour", String(10)))
SEEN = Table("seen", METADATA, Column("name", String(10), primary_key=True), Column("by", String(10)))
FIND = one(THING, "thing")
MIGRATION = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0001", None

def upgrade():
    key = [sa.Column(name, sa.String(63), primary_key=True) for name in ("tenant", "project", "thing")]
    op.create_table("thing", *key, sa.Column("colour", sa.String(10)))
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
