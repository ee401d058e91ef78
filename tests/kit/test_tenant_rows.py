"""Rows of a tenant, dropped from every table that has tenants, and nobody else's."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select

from services.kit import tenancy
from services.kit.db import Database
from services.kit.tenant_rows import dropping
from services.logs.database import open_database, schema
from services.logs.monitors.store import outcomes, predictions
from tests.support.servers import address, database

_TOLD = b"told in confidence"
BOTH = [pytest.param("near"), pytest.param("far", marks=pytest.mark.far)]


@pytest.fixture(params=BOTH)
async def db(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    made = open_database(database(address("postgres")) if request.param == "far" else "", tmp_path)
    await made.start()
    yield made
    made.close()


async def fill(db: Database, tenant: str, count: int) -> None:
    here = {"tenant": tenant, "project": "default", "model": "late", "time": datetime.now(UTC)}
    told = [{**here, "request_id": f"r-{n}", "row": 0, "value": 1.0} for n in range(count)]
    made = [{**here, "request_id": f"r-{n}", "version": 1, "rows": 1, "scores": _TOLD} for n in range(count)]
    with tenancy.everybody():
        await db.run(lambda connection: connection.execute(insert(outcomes), told) and None)
        await db.run(lambda connection: connection.execute(insert(predictions), made) and None)


async def counts(db: Database, tenant: str) -> list[int]:
    asked = [select(func.count()).where(table.c.tenant == tenant) for table in (outcomes, predictions)]
    with tenancy.everybody():
        return await db.read(lambda connection: [connection.execute(query).scalar_one() for query in asked])


async def test_all_rows_of_a_tenant_go_and_those_of_others_stay(db: Database) -> None:
    await fill(db, "gone", 11_000)  # more than one transaction takes
    await fill(db, "stays", 3)

    await dropping(db, schema.metadata)(["gone"])

    assert await counts(db, "gone") == [0, 0]
    assert await counts(db, "stays") == [3, 3]


async def test_tables_that_are_kept_keep_their_rows(db: Database) -> None:
    await fill(db, "gone", 2)

    await dropping(db, schema.metadata, ["outcome"])(["gone"])

    assert await counts(db, "gone") == [2, 0]


async def test_the_bytes_of_dropped_rows_are_not_left_in_the_file(tmp_path: Path) -> None:
    made = open_database("", tmp_path)
    await made.start()
    await fill(made, "gone", 100)
    await dropping(made, schema.metadata)(["gone"])
    made.close()

    assert b"told in confidence" not in (tmp_path / "logs.db").read_bytes()
