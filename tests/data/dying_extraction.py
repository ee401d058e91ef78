"""A data service that is killed at a chosen point of an extraction: HOME POINT, and more settings as JSON."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from tests.data.extracting import FLIGHTS, FLIGHTS_SOURCE, Tenant
from tests.support.house import house, until

POINTS = ("reading", "read", "logged")


async def die(*_: Any, **__: Any) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


async def run(home: Path, point: str, env: dict[str, str]) -> None:
    async with house(home, "data", **env) as running:
        acme = Tenant(running)
        data_sets: Any = running.runtime.apps["data"].rpc["aimass.v1.DataSets"]._data_sets
        if point == "read":
            data_sets.commit = die
        if point == "logged":
            data_sets._store.add = die
        await acme.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
        print((await acme.begin("flights")).operation, flush=True)
        if point == "reading":
            await until(lambda: list(home.rglob("part-*")))
            await die()
        await asyncio.sleep(30)


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])))
