"""A data service that kills itself while a recipe runs: `python -m tests.data.cleaning.killed HOME POINT`."""

import asyncio
import sys
from pathlib import Path

from aimass.v1 import recipes_pb2 as pb
from aimass.v1.recipes_pb2_grpc import RecipesStub
from tests.data.cleaning.recipes import RAW, create
from tests.data.killed import POINTS
from tests.data.tables import add
from tests.support.house import house


async def main(home: Path, point: str) -> None:
    async with house(home, "data") as running:
        await add(running, "raw", RAW)
        await create(running)
        POINTS[point]()
        await running.stub(RecipesStub, "data").RunRecipe(pb.RunRecipeRequest(recipe="tidy"))
        await asyncio.sleep(30)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
