"""What is SQLite's own: the file, its lock, the disk."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import insert, text
from sqlalchemy.engine import Connection

from services.kit.db import Database
from services.kit.errors import Code, Failure
from services.kit.schema import Schema
from tests.kit.conftest import migrations, now


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    made = Database(f"sqlite:///{tmp_path}/data.db", migrations(tmp_path))
    await made.start()
    yield made
    made.close()


async def test_commits_are_synced_to_the_disk(db: Database) -> None:
    found = await db.run(
        lambda c: (c.execute(text("PRAGMA synchronous")).scalar(), c.execute(text("PRAGMA journal_mode")).scalar())
    )

    assert found == (2, "wal")  # FULL


async def test_a_file_has_one_owner(db: Database, tmp_path: Path) -> None:
    other = Database(db.url, tmp_path / "migrations")

    with pytest.raises(Failure, match="in use by another process") as caught:
        await other.start()
    assert caught.value.code is Code.UNAVAILABLE
    other.close()


async def test_a_full_disk_is_said_so(db: Database, schema: Schema) -> None:
    await db.run(lambda c: c.execute(text("PRAGMA max_page_count = 40")) and None)

    def fill(connection: Connection) -> None:
        for number in range(2000):
            row = {"event": f"{number:036d}", "time": now()}
            connection.execute(insert(schema.inbox.table).values(row))

    with pytest.raises(Failure) as caught:
        await db.run(fill)
    assert caught.value.code is Code.STORAGE_FULL
