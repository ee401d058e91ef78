import asyncio
from pathlib import Path

from services.kit.db import Database
from tests.kit.conftest import MIGRATION


async def test_databases_of_one_process_are_brought_up_to_date_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "0001_kit.py").write_text(MIGRATION)
    databases = [Database(f"sqlite:///{tmp_path}/{index}.db", tmp_path) for index in range(4)]

    await asyncio.gather(*(database.start() for database in databases))

    for database in databases:
        database.close()
