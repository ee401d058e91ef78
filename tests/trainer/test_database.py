from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect

import services.trainer.app
from services.kit import migrations
from services.trainer.database import schema

FOLDER = Path(services.trainer.app.__file__).parent / "migrations"


def test_a_migrated_database_is_what_the_code_expects(db_url: str) -> None:
    engine = create_engine(db_url)
    migrations.upgrade(engine, FOLDER)
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), schema.metadata)
    engine.dispose()

    assert differences == []


def test_migrations_go_back(db_url: str) -> None:
    engine = create_engine(db_url)
    migrations.upgrade(engine, FOLDER)
    migrations.downgrade(engine, FOLDER, "base")
    tables = inspect(engine).get_table_names()
    engine.dispose()

    assert tables == ["alembic_version"]
