"""The second lock: a condition on the tenant that was forgotten shows nothing, on PostgreSQL."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Column, MetaData, String, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from services.kit import tenancy
from services.kit.auth import SYSTEM
from services.kit.db import Database, scoped
from tests.kit.conftest import MIGRATION
from tests.support import servers

METADATA = MetaData()
THING = scoped("thing", METADATA, Column("name", String(63), primary_key=True))
TABLE = """
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = "0002", "0001", None, None
def upgrade():
    scope = [sa.Column(part, sa.String(63), primary_key=True) for part in ("tenant", "project", "name")]
    op.create_table("thing", *scope)
def downgrade(): op.drop_table("thing")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001_kit.py").write_text(MIGRATION)
    (tmp_path / "0002_thing.py").write_text(TABLE)
    return tmp_path


@pytest.fixture
async def things(folder: Path) -> AsyncIterator[Database]:
    """A row of each of two tenants."""
    made = Database(servers.database(servers.address("postgres")), folder)
    await made.start()
    for tenant in ("acme", "other"):
        await put(made, tenant)
    yield made
    made.close()


async def put(db: Database, tenant: str) -> None:
    await db.run(lambda c: c.execute(insert(THING).values(tenant=tenant, project="default", name="a")) and None)


async def everything(db: Database) -> list[str]:
    """A query without a condition."""
    return await db.read(lambda c: list(c.execute(select(THING.c.tenant).order_by(THING.c.tenant)).scalars()))


@pytest.mark.far
async def test_a_forgotten_condition_shows_a_tenant_his_own_rows_only(things: Database) -> None:
    with tenancy.of("acme"):
        assert await everything(things) == ["acme"]


@pytest.mark.far
async def test_a_forgotten_condition_changes_nobody_elses_rows(things: Database) -> None:
    with tenancy.of("acme"):
        changed = await things.run(lambda c: c.execute(update(THING).values(name="b")).rowcount)

    assert changed == 1


@pytest.mark.far
async def test_nobody_writes_a_row_of_another_tenant(things: Database) -> None:
    with tenancy.of("acme"), pytest.raises(DBAPIError, match="row-level security"):
        await put(things, "third")


@pytest.mark.far
@pytest.mark.parametrize("tenant", [SYSTEM, tenancy.EVERYBODY])
async def test_the_platform_sees_all(things: Database, tenant: str) -> None:
    with tenancy.of(tenant):
        assert await everything(things) == ["acme", "other"]


@pytest.mark.far
@pytest.mark.parametrize("tenant", ["'; DROP TABLE thing; --", "o'neill", "\\", "", "acme' OR 'a' = 'a"])
async def test_a_tenants_name_is_never_read_as_sql(things: Database, tenant: str) -> None:
    with tenancy.of(tenant):
        assert await everything(things) == []


@pytest.mark.far
async def test_a_transaction_that_does_not_say_whose_it_is_sees_nothing(things: Database) -> None:
    found = await things.read(
        lambda c: c.execute(text("SET LOCAL aimass.tenant TO DEFAULT")) and c.execute(select(THING)).all()
    )

    assert found == []


@pytest.mark.far
async def test_the_next_transaction_of_a_connection_is_its_own_tenants(things: Database) -> None:
    for tenant in ("acme", "other") * 10:
        with tenancy.of(tenant):
            assert await everything(things) == [tenant]


@pytest.mark.far
async def test_a_table_that_lost_its_policy_has_it_after_a_start(things: Database, folder: Path) -> None:
    await things.run(lambda c: c.execute(text("ALTER TABLE thing NO FORCE ROW LEVEL SECURITY")) and None)
    again = Database(things.url, folder)
    await again.start()
    with tenancy.of("acme"):
        found = await everything(again)
    again.close()

    assert found == ["acme"]


@pytest.mark.far
async def test_a_role_that_no_policy_binds_is_warned_of(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    where = servers.address("postgres")
    powerful = f"{where.rpartition('/')[0]}/{servers.database(where).rpartition('/')[2]}"
    with caplog.at_level(logging.WARNING):
        made = Database(powerful, folder)
        await made.start()
        made.close()

    assert "row-level security" in caplog.text


async def test_work_for_a_tenant_ends_with_its_block() -> None:
    with tenancy.of("acme"):
        with tenancy.everybody():
            assert tenancy.current() == tenancy.EVERYBODY
        assert tenancy.current() == "acme"
    assert tenancy.current() == tenancy.EVERYBODY


async def test_a_stream_is_made_for_its_tenant_and_read_for_another() -> None:
    async def items() -> AsyncIterator[str]:
        for _ in range(3):
            yield tenancy.current()

    with tenancy.of("reader"):
        found = [(item, tenancy.current()) async for item in tenancy.each("maker", items())]

    assert found == [("maker", "reader")] * 3
