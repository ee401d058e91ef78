"""A data service that kills itself while features are joined: `python -m tests.data.killed_joins HOME POINT`."""

import asyncio
import sys
from pathlib import Path

from tests.data.killed import POINTS
from tests.data.tables import add
from tests.data.test_feature_joins import asked, request
from tests.data.test_feature_views import readings
from tests.data.views import create, hours_ago, views
from tests.support.house import house


async def main(home: Path, point: str) -> None:
    async with house(home, "data") as running:
        await add(running, "readings", readings(("a", hours_ago(3), 1.0, "x"), ("a", hours_ago(1), 2.0, "y")))
        await add(running, "asked", asked(("a", hours_ago(2)), ("a", hours_ago(0))))
        await create(running)
        POINTS[point]()
        await views(running).JoinFeatures(request())
        await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
