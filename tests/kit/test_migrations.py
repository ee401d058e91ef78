import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, inspect

from services.kit.db import Database
from services.kit.migrations import downgrade, upgrade
from tests.kit.conftest import MIGRATION


@pytest.fixture
def engine(db_url: str) -> Iterator[Engine]:
    made = create_engine(db_url)
    yield made
    made.dispose()


async def test_databases_of_one_process_are_brought_up_to_date_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "0001_kit.py").write_text(MIGRATION)
    databases = [Database(f"sqlite:///{tmp_path}/{index}.db", tmp_path) for index in range(4)]

    await asyncio.gather(*(database.start() for database in databases))

    for database in databases:
        database.close()


def test_a_schema_goes_up_and_down(tmp_path: Path, engine: Engine) -> None:
    (tmp_path / "0001_kit.py").write_text(MIGRATION)
    upgrade(engine, tmp_path)
    there = set(inspect(engine).get_table_names())
    downgrade(engine, tmp_path, "base")
    left = set(inspect(engine).get_table_names())

    assert {"outbox", "inbox", "operation", "idempotency_key", "lease"} <= there
    assert left == {"alembic_version"}
