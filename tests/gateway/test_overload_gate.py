"""The way to one service when it has too much to do: seeded stories on a clock of their own."""

import asyncio
import random
from collections import Counter

import pytest

from services.gateway.overload.gate import Gate
from services.gateway.overload.gradient import Bounds
from services.gateway.overload.priority import Priority
from services.kit.errors import Code, Failure
from tests.support.virtual import simulate

FEW = Bounds(least=2, most=4, start=2, quick=10)


class Service:
    """Answers each call in some seconds, behind a gate."""

    def __init__(self, bounds: Bounds, seconds: float = 1.0) -> None:
        self.now = asyncio.get_running_loop().time
        self.gate, self.seconds = Gate("registry", bounds, self.now), seconds
        self.order: list[str] = []
        self.waited: Counter[str] = Counter()

    async def ask(self, name: str, priority: Priority = Priority.INTERACTIVE, patience: float = 100.0) -> str:
        """How a call ended; how long it took when it was refused is kept."""
        came = self.now()
        try:
            async with self.gate.call("get", priority, came + patience):
                self.order.append(name)
                await asyncio.sleep(self.seconds)
            return "ok"
        except Failure as failure:
            self.waited[failure.code.text] = max(self.waited[failure.code.text], int(1000 * (self.now() - came)))
            assert failure.code is not Code.OVERLOADED or (failure.retry_after or 0) >= 1
            return failure.code.text


async def together(*calls: "asyncio.Task[str]") -> list[str]:
    return [await call for call in calls]


def test_as_many_wait_as_may_be_under_way_and_the_rest_is_refused_at_once() -> None:
    async def story() -> tuple[list[str], int]:
        service = Service(FEW)
        tasks = [asyncio.create_task(service.ask(str(n))) for n in range(6)]
        return await together(*tasks), service.waited["overloaded"]

    assert simulate(story()) == (["ok"] * 4 + ["overloaded"] * 2, 0)


def test_the_urgent_go_first() -> None:
    async def story() -> list[str]:
        service = Service(Bounds(least=4, most=4, start=4, quick=10))
        tasks = [asyncio.create_task(service.ask("first")) for _ in range(4)]
        await asyncio.sleep(0)
        for name, priority in (("search", Priority.SEARCH), ("write", Priority.WRITE), ("admin", Priority.ADMIN)):
            tasks.append(asyncio.create_task(service.ask(name, priority)))
        await together(*tasks)
        return service.order[4:]

    assert simulate(story()) == ["admin", "write", "search"]


def test_who_is_displaced_is_told_that_there_is_too_much() -> None:
    async def story() -> list[str]:
        service = Service(FEW)
        tasks = [asyncio.create_task(service.ask("search", Priority.SEARCH)) for _ in range(4)]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(service.ask("admin", Priority.ADMIN)))
        return await together(*tasks)

    assert simulate(story()) == ["ok", "ok", "overloaded", "ok", "ok"]


def test_a_deadline_that_cannot_be_met_is_refused_at_once() -> None:
    async def story() -> tuple[str, int, list[str]]:
        service = Service(FEW)
        for _ in range(10):
            await service.ask("before")
        return await service.ask("late", patience=0.5), service.waited["deadline_exceeded"], service.order[10:]

    assert simulate(story()) == ("deadline_exceeded", 0, [])


def test_who_runs_out_of_time_while_he_waits_is_not_begun() -> None:
    async def story() -> tuple[list[str], list[str]]:
        service = Service(FEW)
        tasks = [asyncio.create_task(service.ask("long")) for _ in range(2)]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(service.ask("short", patience=0.5)))
        return await together(*tasks), service.order

    assert simulate(story()) == (["ok", "ok", "deadline_exceeded"], ["long", "long"])


@pytest.mark.parametrize("seed", range(20))
def test_whoever_goes_away_leaves_his_place(seed: int) -> None:
    async def story() -> tuple[int, int]:
        dice, service = random.Random(seed), Service(FEW, 0.1)
        tasks = []
        for n in range(100):
            tasks.append(asyncio.create_task(service.ask(str(n), dice.choice(list(Priority)))))
            await asyncio.sleep(dice.uniform(0, 0.1))
            dice.choice(tasks).cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return service.gate.busy, service.gate.line.count

    assert simulate(story()) == (0, 0)


@pytest.mark.parametrize("seed", range(5))
def test_health_is_answered_while_searches_come_five_times_too_often(seed: int) -> None:
    async def story() -> tuple[Counter[str], Counter[str]]:
        dice, service = random.Random(seed), Service(Bounds(least=2, most=8, start=4, quick=0.01), 0.1)
        ends: dict[Priority, Counter[str]] = {Priority.ADMIN: Counter(), Priority.SEARCH: Counter()}
        tasks = []

        async def ask(priority: Priority) -> None:
            ends[priority][await service.ask("", priority)] += 1

        for n in range(2000):
            priority = Priority.ADMIN if n % 50 == 0 else Priority.SEARCH
            tasks.append(asyncio.create_task(ask(priority)))
            await asyncio.sleep(dice.expovariate(200))
        await asyncio.gather(*tasks)
        return ends[Priority.ADMIN], ends[Priority.SEARCH]

    admin, search = simulate(story())
    assert admin == {"ok": 40}
    assert search["ok"] > 200
    assert search["overloaded"] > 200
