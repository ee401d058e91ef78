from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect

import services.inference.app
import services.registry.app  # noqa: F401 - the apps know every table
from services.inference import database as inference
from services.kit.migrations import downgrade, upgrade
from services.registry import database as registry

SERVICES = {"registry": registry, "inference": inference}


@pytest.mark.parametrize("name", SERVICES)
def test_a_migrated_database_is_what_the_code_says(db_url: str, name: str) -> None:
    engine = create_engine(db_url)
    folder = Path(SERVICES[name].__file__ or "").parent / "migrations"
    upgrade(engine, folder)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), SERVICES[name].schema.metadata) == []

    downgrade(engine, folder, "base")
    assert set(inspect(engine).get_table_names()) <= {"alembic_version"}
    engine.dispose()
