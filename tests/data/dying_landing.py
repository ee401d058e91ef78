"""A data service that is killed at a point of a run that lands: HOME POINT SETTINGS (as JSON)."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from tests.data.dying_extraction import die, once
from tests.data.extracting import FLIGHTS, FLIGHTS_SOURCE, Tenant
from tests.data.landing import LANDED
from tests.support.house import house, until

POINTS = ("reading", "read", "kept", "logged", "landed", "extracted", "rows logged")


async def run(home: Path, point: str, env: dict[str, str]) -> None:
    async with house(home, "data", **env) as running:
        acme = Tenant(running)
        extractions: Any = running.runtime.apps["data"].rpc["aimass.v1.Extractions"]._extractions
        data_sets = extractions._data_sets
        if point == "read":
            data_sets.commit = die
        if point == "kept":
            data_sets._tables.write = die
        if point == "logged":
            data_sets._store.add = die
        if point == "landed":
            extractions._runner.inputs.range = die
        if point == "extracted":
            data_sets.commit_all = once(data_sets.commit_all)
        if point == "rows logged":
            data_sets._store.add = once(data_sets._store.add)
        await acme.rule("flights", {**FLIGHTS_SOURCE, **LANDED}, FLIGHTS)
        print((await acme.begin("flights")).operation, flush=True)
        if point == "reading":
            await until(lambda: list(home.rglob("part-*")))
            await die()
        await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])))
