"""Predictions when there are too many: seeded stories of the coalescer on a clock of their own."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from services.gateway.overload.priority import Priority
from services.gateway.traffic.coalescing import Coalescer
from services.gateway.traffic.engines import Answer, Item
from services.gateway.traffic.lanes import Awaited, Limits, Target, Waiting
from services.kit.auth import Scope
from services.kit.errors import Code, Failure
from services.kit.tensors import Tensor
from tests.support.virtual import simulate

LATE = Target(Scope("acme"), "late", 1)
BATCH = Priority.BATCH


class Engine:
    """One thread that takes some seconds for each row, and a little for each call."""

    def __init__(self, seconds: float, each_call: float = 0.0005) -> None:
        self.seconds, self.each_call, self.rows = seconds, each_call, 0
        self._free = asyncio.Lock()

    async def infer(self, scope: Scope, model: str, version: int, items: Sequence[Item]) -> list[Answer]:
        async with self._free:
            await asyncio.sleep(self.each_call + self.seconds * len(items))
        self.rows += len(items)
        return [[Tensor("y", "FP32", (1, 1), b"....")] for _ in items]


class Story:
    """Callers who come by chance."""

    def __init__(self, seconds: float, seed: int, each_call: float = 0.0005) -> None:
        self.loop, self.dice = asyncio.get_running_loop(), random.Random(seed)
        self.engine = Engine(seconds, each_call)
        self.coalescer = Coalescer(self.engine, clock=self.loop.time)
        self.ends: Counter[str] = Counter()
        self.took: dict[str, list[float]] = {"ok": [], "overloaded": [], "deadline_exceeded": []}
        self.waiting = 0

    async def ask(self, patience: float, priority: Priority = Priority.INTERACTIVE) -> str:
        came = self.loop.time()
        item = Item("", came + patience, [Tensor("x", "FP32", (1, 1), b"....")], (), "", 1)
        try:
            self.coalescer.screen(LATE, item.deadline, priority)
            if self.dice.random() < 0.5:
                asked = Awaited()
                self.coalescer.submit(LATE, item, asked, priority)
                await asked.answer
            else:
                await self.coalescer.infer(LATE, item, priority)
            end = "ok"
        except Failure as failure:
            end = failure.code.text
        self.ends[end] += 1
        self.took[end].append(self.loop.time() - came)
        return end

    async def offer(self, rate: float, seconds: float, patience: float = 10.0) -> int:
        """Callers at a rate; how many were answered in a second."""
        tasks, until, before = [], self.loop.time() + seconds, self.ends["ok"]
        while self.loop.time() < until:
            tasks.append(asyncio.create_task(self.ask(patience)))
            await asyncio.sleep(self.dice.expovariate(rate))
            lane = self.coalescer._lanes[LATE]
            self.waiting = max(self.waiting, lane.line.count - lane.gradient.limit)
        rate = (self.ends["ok"] - before) / seconds
        await asyncio.gather(*tasks)
        return int(rate)

    def p99(self, end: str) -> float:
        found = sorted(self.took[end])
        return found[len(found) * 99 // 100] if found else 0.0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("times", [2, 5])
@pytest.mark.parametrize("seconds", [0.005, 0.05])
def test_too_many_requests_cost_neither_those_that_are_answered_nor_much_time(
    seed: int, times: int, seconds: float
) -> None:
    async def story() -> tuple[float, float, float, float, float]:
        told = Story(seconds, seed)
        peak = 1 / seconds
        await told.offer(0.7 * peak, 20)
        calm = told.p99("ok")
        told.took["ok"].clear()
        await told.offer(times * peak, 5)  # until it is known how many it bears
        for found in told.took.values():
            found.clear()
        goodput = await told.offer(times * peak, 30 if seconds > 0.01 else 10)  # 600 answers and more
        assert told.waiting <= 0
        return goodput / peak, told.p99("ok"), calm, told.p99("overloaded"), told.ends["overloaded"]

    goodput, p99, calm, refusal, refused = simulate(story())
    assert goodput >= 0.9
    assert p99 <= max(4 * calm, 60 * seconds)
    assert refusal <= max(4 * calm, 60 * seconds)
    assert refused > 100


@pytest.mark.parametrize("seed", range(3))
def test_after_a_storm_everything_is_as_before_within_ten_seconds(seed: int) -> None:
    async def story() -> tuple[float, float]:
        told = Story(0.02, seed)
        await told.offer(35, 20)
        calm = told.p99("ok")
        await told.offer(250, 20)
        await told.offer(35, 10)
        told.took["ok"].clear()
        await told.offer(35, 20)
        return told.p99("ok"), calm

    p99, calm = simulate(story())
    assert p99 <= 2 * calm


@pytest.mark.parametrize("seed", range(3))
def test_calls_stay_as_large_as_is_worth_it(seed: int) -> None:
    async def story() -> tuple[float, int]:
        told = Story(0.002, seed, each_call=0.04)  # 24 a second one by one, 500 in very large calls
        await told.offer(15, 10)
        await told.offer(600, 10)
        return await told.offer(600, 20), told.coalescer._lanes[LATE].gradient.floor

    goodput, floor = simulate(story())
    assert floor >= 16
    assert goodput >= 200


def test_what_cannot_be_answered_in_time_is_not_begun() -> None:
    async def story() -> tuple[str, int, float]:
        told = Story(0.2, 1)
        for _ in range(10):
            await told.ask(10)
        told.engine.rows = 0
        return await told.ask(0.05), told.engine.rows, told.took["deadline_exceeded"][0]

    assert simulate(story()) == ("deadline_exceeded", 0, 0.0)


def test_predictions_come_before_batch_work() -> None:
    async def story() -> tuple[Counter[str], Counter[str]]:
        told, ends = Story(0.01, 3), {Priority.INTERACTIVE: Counter[str](), BATCH: Counter[str]()}

        async def ask(priority: Priority) -> None:
            ends[priority][await told.ask(10, priority)] += 1

        tasks = []
        for n in range(6000):
            tasks.append(asyncio.create_task(ask(BATCH if n % 4 else Priority.INTERACTIVE)))
            await asyncio.sleep(told.dice.expovariate(200))
        await asyncio.gather(*tasks)
        return ends[Priority.INTERACTIVE], ends[BATCH]

    interactive, batch = simulate(story())
    assert interactive["ok"] >= 0.95 * interactive.total()
    assert batch["overloaded"] >= 0.3 * batch.total()


def test_one_version_does_not_take_all_calls_of_the_pool() -> None:
    async def story() -> dict[str, int]:
        told = Story(0.01, 5)
        told.coalescer.pool.limit = 1

        async def ask(model: str) -> None:
            item = Item("", told.loop.time() + 10, [Tensor("x", "FP32", (1, 1), b"....")], (), "", 1)
            try:
                await told.coalescer.infer(LATE._replace(model=model), item)
                told.ends[model] += 1
            except Failure as failure:
                assert failure.code is Code.OVERLOADED

        tasks = [asyncio.create_task(ask(f"m{n % 10}")) for n in range(200)]
        await asyncio.gather(*tasks)
        return dict(told.ends)

    assert simulate(story()) == {f"m{n}": 20 for n in range(10)}


def test_who_asks_in_the_turn_in_which_a_call_landed_goes_along_with_those_who_waited() -> None:
    sizes: list[int] = []

    class Sizes(Engine):
        async def infer(self, scope: Scope, model: str, version: int, items: Sequence[Item]) -> list[Answer]:
            sizes.append(len(items))
            return await super().infer(scope, model, version, items)

    class Again(Awaited):
        """Asks anew when he is told."""

        def answered(self, outputs: list[Tensor]) -> None:
            super().answered(outputs)
            asyncio.get_running_loop().call_soon(ask)

    asked = list[Awaited]()

    def ask(kind: type[Awaited] = Awaited) -> None:
        asked.append(kind())
        until = asyncio.get_running_loop().time() + 10
        item = Item("", until, [Tensor("x", "FP32", (1, 1), b"....")], (), "", 1)
        coalescers[0].submit(LATE, item, asked[-1])

    coalescers = list[Coalescer]()

    async def story() -> None:
        coalescers.append(Coalescer(Sizes(0.001), Limits(calls=1), clock=asyncio.get_running_loop().time))
        ask(Again)
        await asyncio.sleep(0.0005)
        ask()
        await asked[1].answer
        await asked[2].answer

    simulate(story())
    assert sizes == [1, 2]


def test_what_fails_together_is_asked_for_alone_for_those_who_still_wait() -> None:
    asked: list[int] = []

    class Failing(Engine):
        """Answers nobody who is not alone."""

        async def infer(self, scope: Scope, model: str, version: int, items: Sequence[Item]) -> list[Answer]:
            found = await super().infer(scope, model, version, items)
            asked.append(len(items))
            if len(items) > 1:
                raise Failure(Code.INTERNAL, "internal error")
            return found

    async def story() -> list[str]:
        loop, ends = asyncio.get_running_loop(), list[str]()
        coalescer = Coalescer(Failing(0.003), clock=loop.time)

        def ask(seconds: float) -> tuple[Waiting, Awaited]:
            item = Item("", loop.time() + seconds, [Tensor("x", "FP32", (1, 1), b"....")], (), "", 1)
            return coalescer.submit(LATE, item, awaited := Awaited()), awaited

        gone, late, stays = ask(10), ask(0.002), ask(10)
        await asyncio.sleep(0.001)
        coalescer.cancel(gone[0])
        ends.append("ok" if await stays[1].answer else "")
        with pytest.raises(Failure, match="took too long"):
            await late[1].answer
        return ends

    assert simulate(story()) == ["ok"]
    assert asked == [3, 1]


@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("task", [True, False])
@pytest.mark.parametrize("behind", [True, False], ids=["behind another", "alone"])
def test_who_goes_away_in_any_turn_leaves_room_for_the_next_one(turns: int, task: bool, behind: bool) -> None:
    """A call that is given up before its task has begun is over as well: another one may be made."""

    async def story() -> bool:
        loop = asyncio.get_running_loop()
        coalescer = Coalescer(Engine(0.001, 0.001), Limits(calls=1), clock=loop.time)

        def item() -> Item:
            return Item("", loop.time() + 1, [Tensor("x", "FP32", (1, 1), b"....")], (), "", 1)

        def go() -> Callable[[], object]:
            """Somebody asks; what he goes away with."""
            if task:
                return asyncio.ensure_future(coalescer.infer(LATE, item())).cancel
            return partial(coalescer.cancel, coalescer.submit(LATE, item(), Awaited()))

        other = asyncio.ensure_future(coalescer.infer(LATE, item())) if behind else None
        await asyncio.sleep(0.001)
        leave = go()
        if other:
            await other
        for _ in range(turns):
            await asyncio.sleep(0)
        leave()
        await asyncio.sleep(0.01)
        return len(await coalescer.infer(LATE, item())) == 1

    assert simulate(story())
