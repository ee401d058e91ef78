"""Predictions that an inference instance refuses although it has the version, as while its engine is away."""

from pathlib import Path

import pytest

from services.kit.errors import Unavailable
from tests.gateway.peers import ACME, SERVING, release, scattered
from tests.gateway.test_traffic import ask, query, sums
from tests.support.house import until


async def test_a_prediction_that_one_instance_refuses_is_asked_of_another(tmp_path: Path) -> None:
    releases = [release("late", 1, SERVING, 1, 1)]
    async with scattered(tmp_path, ("acme", "late", 1), releases=releases) as (running, [one, other]):
        await until(lambda: len(running.traffic.having(ACME, "late", 1)) == 2)
        one.away = True
        for _ in range(10):
            assert sums(await ask(running, query(1, 2))) == [3]

        assert len(other.calls) == 10


async def test_a_prediction_that_every_instance_refuses_is_asked_of_each_once(tmp_path: Path) -> None:
    releases = [release("late", 1, SERVING, 1, 1)]
    async with scattered(tmp_path, ("acme", "late", 1), releases=releases) as (running, found):
        await until(lambda: len(running.traffic.having(ACME, "late", 1)) == 2)
        for one in found:
            one.away = True
        with pytest.raises(Unavailable, match="engine is away"):
            await ask(running, query(1, 2))

        assert [len(one.calls) for one in found] == [1, 1]
