"""A data service that is killed at a point of a run that downloads: HOME POINT SETTINGS (as JSON)."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from tests.data.extracting import Tenant
from tests.support.downloads import SOURCE, rule
from tests.support.house import house

# While files come; when they are blobs; when the data set was handed the rows; when its log has them.
POINTS = ("fetching", "blobs", "handed over", "logged")


async def die(*_: Any, **__: Any) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


async def run(home: Path, point: str, env: dict[str, str]) -> None:
    async with house(home, "data", **env) as running:
        data: Any = running.runtime.apps["data"]
        data_sets = data.rpc["aimass.v1.DataSets"]._data_sets
        if point == "blobs":
            data_sets.commit_all = die
        if point == "handed over":
            data_sets._tables.write = die
        if point == "logged":
            data_sets._store.add = die
        acme = Tenant(running)
        await acme.rule("photos", SOURCE, rule())
        print((await acme.begin("photos")).operation, flush=True)
        await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])))
