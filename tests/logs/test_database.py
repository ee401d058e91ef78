from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

import services.logs.app  # noqa: F401 - its stores make the tables known
from services.kit import migrations
from services.logs.database import schema

FOLDER = Path("services/logs/migrations")


def test_migrations_make_what_the_stores_expect_and_take_it_back(db_url: str) -> None:
    engine = create_engine(db_url)
    migrations.upgrade(engine, FOLDER)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []

    migrations.downgrade(engine, FOLDER, "base")
    migrations.upgrade(engine, FOLDER)
    engine.dispose()
