"""A data service that kills itself while it writes into a database of somebody else: HOME POINT."""

import asyncio
import sys
from pathlib import Path

from services.data.exports.store import WriteStore
from tests.data.killed import before, die
from tests.data.tables import add
from tests.data.test_exports_written import begin, started
from tests.support.house import until

POINTS = ("writing", "written")  # its child has not committed, or has
ROWS = 300_000


async def main(home: Path, point: str) -> None:
    async with started(home) as running:
        await add(running, "many", {"text": ["word " * 12] * ROWS})
        if point == "written":
            before(WriteStore, "finish")
        print(await begin(running, data_set="many"), flush=True)
        if point == "writing":
            database = home / "import" / "acme" / "own.db"
            await until(lambda: database.stat().st_size > 4 * 2**20)
            die()
        await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
