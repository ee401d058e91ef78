"""The tables of every service: its migrations make what its stores speak of, and take it back."""

import importlib
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import String, create_engine, inspect

import services
from services import SERVICES
from services.kit.migrations import downgrade, upgrade


def different(context: MigrationContext, _: Any, column: Any, found: Any, meant: Any) -> bool | None:
    """None: alembic compares them. SQLite does not know how long a text may be, so migrations leave it there."""
    texts = isinstance(found, String) and isinstance(meant, String)
    return False if texts and context.dialect.name == "sqlite" else None


@pytest.mark.parametrize("service", SERVICES)
def test_a_migrated_database_is_what_the_stores_say_and_goes_back(service: str, db_url: str) -> None:
    importlib.import_module(f"services.{service}.app")  # knows every store
    schema = importlib.import_module(f"services.{service}.database").schema
    folder = Path(services.__path__[0]) / service / "migrations"
    engine = create_engine(db_url)
    upgrade(engine, folder)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": different})
        assert compare_metadata(context, schema.metadata) == []

    downgrade(engine, folder, "base")
    left = inspect(engine).get_table_names()
    upgrade(engine, folder)
    engine.dispose()

    assert left == ["alembic_version"]
