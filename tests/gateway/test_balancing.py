"""Predictions by several inference instances in processes of their own, in the way that the table of calls says."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.kit.auth import Scope
from tests.gateway.serving import Serving
from tests.gateway.test_several import ROWS, Estate, calls, count, estate, promoted
from tests.support import models
from tests.support.house import until
from tests.support.servers import address
from tests.support.tenants import Tenant


@pytest.fixture(params=[pytest.param("near"), pytest.param("far", marks=pytest.mark.far)])
async def weighted(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Estate]:
    """Two instances; the first has three times the weight."""
    async with estate(tmp_path, address("redis") if request.param == "far" else "") as found:
        found.weights = (3, 1)
        yield found


async def opened(found: Estate, way: str) -> Serving:
    """A gateway that knows both instances, and that both have the model."""
    file = found.home / "calls.toml"
    file.write_text(f'[balancing]\n"aimass.v1.Engines/InferMany" = "{way}"\n')
    for name, port in (("one", 2), ("two", 3)):
        count(await found.open(name, "inference", port))
    door = await found.gateway("gateway", AIMASS_CALLS_FILE=str(file))
    owner = Tenant(found.houses["registry"], "default")
    await owner.add("late", models.logistic())
    await promoted(owner, 1)
    tasks = door.house.runtime.apps["gateway"].tasks
    traffic = next(there for task in tasks if (there := getattr(getattr(task, "__self__", None), "_traffic", None)))
    await until(lambda: len(traffic.having(Scope("default"), "late", 1)) == 2)
    return door


async def one_by_one(door: Serving, requests: int) -> Counter[int]:
    found = Counter[int]()
    async with door.client() as client:
        for _ in range(requests):
            found[(await client.post("/v2/models/late/infer", json=ROWS)).status_code] += 1
    return found


@pytest.mark.parametrize(("way", "shares"), [("weighted", (0.75, 0.25)), ("round_robin", (0.5, 0.5))])
async def test_predictions_have_the_shares_that_were_said(
    weighted: Estate, way: str, shares: tuple[float, float]
) -> None:
    door = await opened(weighted, way)
    one, two = weighted.houses["one"], weighted.houses["two"]
    began = calls(one), calls(two)

    assert await one_by_one(door, 400) == {200: 400}
    took = calls(one) - began[0], calls(two) - began[1]
    assert sum(took) == 400
    assert abs(took[0] / 400 - shares[0]) <= 0.01


async def test_one_that_is_killed_has_its_share_taken_over(weighted: Estate) -> None:
    door = await opened(weighted, "weighted")
    asked = asyncio.ensure_future(one_by_one(door, 300))
    await until(lambda: calls(weighted.houses["one"]) > 30)
    await weighted.stop("one")

    assert await asked == {200: 300}
