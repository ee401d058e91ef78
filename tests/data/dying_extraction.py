"""A data service that is killed at a point of an extraction: HOME POINT SETTINGS (as JSON), and `set` for a set."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from tests.data.extracting import FLIGHTS, FLIGHTS_SOURCE, Tenant
from tests.data.rule_sets import LOGIN, SOURCES, wanted
from tests.support.house import house, until

POINTS = ("reading", "read", "logged")
# Of a rule set: also between the data sets that are written down, and between their logs.
SET_POINTS = ("reading", "read", "one kept", "one written", "logged")


async def die(*_: Any, **__: Any) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def once(call: Any) -> Any:
    """Does it once; the second time is the death of the process."""
    done = list[int]()

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        if done:
            await die()
        done.append(1)
        return await call(*args, **kwargs)

    return wrapped


async def begun(acme: Tenant, of: str) -> Any:
    """The operation of an extraction of a rule or of a rule set."""
    if of == "set":
        await acme.rule_set("office", SOURCES["office"], wanted("weighed"), wanted("logins", LOGIN))
        return await acme.begin_set("office")
    await acme.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
    return await acme.begin("flights")


async def run(home: Path, point: str, env: dict[str, str], of: str = "rule") -> None:
    async with house(home, "data", **env) as running:
        acme = Tenant(running)
        data_sets: Any = running.runtime.apps["data"].rpc["aimass.v1.DataSets"]._data_sets
        if point == "read":
            data_sets.commit_all = die
        if point == "logged":
            data_sets._store.add = die
        if point.startswith("one"):
            tables = data_sets._tables
            name = {"one kept": "keep", "one written": "write"}[point]
            setattr(tables, name, once(getattr(tables, name)))
        print((await begun(acme, of)).operation, flush=True)
        if point == "reading":
            await until(lambda: list(home.rglob("part-*")))
            await die()
        await asyncio.sleep(30)


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), *sys.argv[4:]))
