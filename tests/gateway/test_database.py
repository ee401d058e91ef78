from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect

from services.gateway import app, database
from services.kit.migrations import downgrade, upgrade

FOLDER = Path(database.__file__).parent / "migrations"


def test_a_migrated_database_is_what_the_tables_say(db_url: str) -> None:
    assert "api_key" in database.schema.metadata.tables, app.__name__  # the app imports every table
    engine = create_engine(db_url)
    upgrade(engine, FOLDER)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        assert compare_metadata(context, database.schema.metadata) == []
    engine.dispose()


def test_migrations_go_both_ways(db_url: str) -> None:
    engine = create_engine(db_url)
    upgrade(engine, FOLDER)
    downgrade(engine, FOLDER, "base")
    left = set(inspect(engine).get_table_names())
    upgrade(engine, FOLDER)
    engine.dispose()

    assert left == {"alembic_version"}
