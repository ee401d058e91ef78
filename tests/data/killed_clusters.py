"""A data service that kills itself while series are clustered: `python -m tests.data.killed_clusters HOME POINT`."""

import asyncio
import sys
from pathlib import Path

from tests.data.killed import POINTS
from tests.data.tables import add
from tests.data.test_series_clusters import planted, readings, request, stub
from tests.support.house import house


async def main(home: Path, point: str) -> None:
    async with house(home, "data") as running:
        await add(running, "readings", readings(planted()))
        POINTS[point]()
        await stub(running).ClusterSeries(request())
        await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
