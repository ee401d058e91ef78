"""Rows of a tenant, dropped from every table that has tenants, and nobody else's."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, LargeBinary, MetaData, String, func, insert, select

from services.kit import tenancy
from services.kit.db import Database, scoped
from services.kit.forgetting import dropping
from tests.kit.conftest import migrations

METADATA = MetaData()
TOLD = scoped(
    "told",
    METADATA,
    Column("name", String(63), primary_key=True),
    Column("row", Integer, primary_key=True, autoincrement=False),
    Column("words", LargeBinary),
)
OWED = scoped("owed", METADATA, Column("name", String(63), primary_key=True))
TABLES = """
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = "0002", "0001", None, None
def key(*names): return [sa.Column(name, sa.String(63), primary_key=True) for name in ("tenant", "project", *names)]
def upgrade():
    row = sa.Column("row", sa.Integer, primary_key=True, autoincrement=False)
    op.create_table("told", *key("name"), row, sa.Column("words", sa.LargeBinary))
    op.create_table("owed", *key("name"))
def downgrade(): op.drop_table("owed"), op.drop_table("told")
"""


@pytest.fixture
async def db(db_url: str, tmp_path: Path) -> AsyncIterator[Database]:
    made = await opened(db_url, tmp_path)
    yield made
    made.close()


async def opened(url: str, folder: Path) -> Database:
    revisions = migrations(folder)
    (revisions / "0002_told.py").write_text(TABLES)
    made = Database(url, revisions)
    await made.start()
    return made


async def fill(db: Database, tenant: str, count: int) -> None:
    rows = [{"tenant": tenant, "project": "default", "name": f"r-{n}"} for n in range(count)]
    told = [{**row, "row": 0, "words": b"told in confidence"} for row in rows]
    with tenancy.everybody():
        await db.run(lambda connection: connection.execute(insert(TOLD), told) and None)
        await db.run(lambda connection: connection.execute(insert(OWED), rows) and None)


async def counts(db: Database, tenant: str) -> list[int]:
    asked = [select(func.count()).where(table.c.tenant == tenant) for table in (OWED, TOLD)]
    with tenancy.everybody():
        return await db.read(lambda connection: [connection.execute(query).scalar_one() for query in asked])


async def test_all_rows_of_a_tenant_go_and_those_of_others_stay(db: Database) -> None:
    await fill(db, "gone", 11_000)  # more than one transaction takes
    await fill(db, "stays", 3)

    await dropping(db, METADATA)(["gone"])

    assert await counts(db, "gone") == [0, 0]
    assert await counts(db, "stays") == [3, 3]


async def test_tables_that_are_kept_keep_their_rows(db: Database) -> None:
    await fill(db, "gone", 2)

    await dropping(db, METADATA, ["owed"])(["gone"])

    assert await counts(db, "gone") == [2, 0]


async def test_the_bytes_of_dropped_rows_are_not_left_in_the_file(tmp_path: Path) -> None:
    made = await opened(f"sqlite:///{tmp_path}/told.db", tmp_path)
    await fill(made, "gone", 100)
    await dropping(made, METADATA)(["gone"])
    made.close()

    assert b"told in confidence" not in (tmp_path / "told.db").read_bytes()
