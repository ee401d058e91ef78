"""The migrations make the tables that the stores speak of, and take them back."""

import importlib
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect

from services.data.database import schema
from services.kit import migrations

FOLDER = Path(__file__).parents[2] / "services" / "data" / "migrations"
SLICES = ("sources", "rules", "extractions", "datasets", "features", "pipelines")


def test_a_migrated_database_is_what_the_stores_say(db_url: str) -> None:
    for name in SLICES:
        importlib.import_module(f"services.data.{name}.store")
    engine = create_engine(db_url)
    migrations.upgrade(engine, FOLDER)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []

    migrations.downgrade(engine, FOLDER, "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()
