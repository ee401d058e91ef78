"""A registry that is killed at a chosen point of a promotion: version 1 serves, version 2 is on its way."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from services.kit.auth import Scope
from tests.support import models
from tests.support.house import house
from tests.support.tenants import Tenant

POINTS = ("wanted", "begun", "said", "followed")
SCOPE = Scope("acme")


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


async def run(home: Path, point: str) -> None:
    async with house(home, "registry") as running:
        acme = Tenant(running)
        await acme.add("late", models.logistic(), models.logistic(seed=1))
        await acme.serve("late", 1)
        releases: Any = running.runtime.apps["registry"].rpc["aimass.v1.Releases"]._releases
        if point == "wanted":
            await releases._models.want(SCOPE, "late", 2)
            die()
        print(await acme.promote("late", 2), flush=True)
        if point == "begun":
            die()
        if point == "said":
            await acme.switch("late")
            die()
        await releases._models.follow(SCOPE, "late", 2, ())
        die()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), sys.argv[2]))
