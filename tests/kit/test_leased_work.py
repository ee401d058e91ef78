"""Long work that one process does at a time, as each kind of it relies on."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty

from aimass.v1 import operations_pb2 as pb
from services.kit import leased_work
from services.kit.auth import Scope
from services.kit.db import Database
from services.kit.errors import Code, Failure, Unavailable
from services.kit.leased_work import LeasedWork
from services.kit.leases import Tenure
from services.kit.schema import Schema
from tests.kit.conftest import SCOPE
from tests.support.house import until


@dataclass(frozen=True)
class Task:
    operation: str


class Doing(LeasedWork[Task]):
    """Work that waits until it is let go; what is kept of it is its operation."""

    def __init__(self, db: Database, schema: Schema, at_once: int = 2) -> None:
        super().__init__(schema, spawn, at_once)
        self.db, self.schema = db, schema
        self.kept: list[Task] = []
        self.begun: list[str] = []
        self.go = asyncio.Event()
        self.fails: Exception | None = None
        self.refused: list[Failure] = []

    async def add(self) -> Task:
        """Work that is kept and that nobody does yet."""
        made = await self.db.run(lambda c: self.schema.operations.create(c, SCOPE, "Make", "things/one"))
        self.kept.append(Task(made.operation))
        return self.kept[-1]

    async def _unfinished(self) -> list[tuple[Any, Task]]:
        return [(SCOPE, work) for work in self.kept]

    async def _do(self, scope: Any, work: Task) -> None:
        self.begun.append(work.operation)
        await self.go.wait()
        if self.fails:
            raise self.fails
        await self.db.run(lambda c: self.schema.operations.end(c, scope, work.operation, response=Empty()))

    async def _give_up(self, scope: Any, work: Task, failure: Failure | None) -> None:
        if self.refused:
            raise self.refused.pop(0)
        await self.db.run(
            lambda c: self.schema.operations.end(c, scope, work.operation, failure=failure, cancelled=failure is None)
        )

    async def state(self, work: Task) -> str:
        found = await self.schema.operations.get(SCOPE, work.operation)
        return pb.OperationState.Name(found.state).removeprefix("OPERATION_STATE_").lower()

    async def ended(self, work: Task) -> pb.Operation:
        async with asyncio.timeout(20):
            return [each async for each in self.schema.operations.changes(SCOPE, work.operation)][-1]


def spawn(work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    return asyncio.get_running_loop().create_task(work)


@pytest.fixture
async def doing(db: Database, schema: Schema) -> Doing:
    return Doing(db, schema)


async def test_work_that_is_begun_ends_and_leaves_nothing_of_itself(doing: Doing) -> None:
    work = await doing.add()
    doing.begin(SCOPE, work)
    doing.go.set()

    assert (await doing.ended(work)).state == pb.OPERATION_STATE_SUCCEEDED
    await until(lambda: not doing._running)
    assert (doing._stoppable, doing._cancelled, doing._tenure.names()) == ({}, set(), [])


async def test_what_is_under_way_is_not_done_twice(doing: Doing) -> None:
    work = await doing.add()
    doing.begin(SCOPE, work)
    doing.begin(SCOPE, work)
    await doing.resume()
    doing.go.set()
    await doing.ended(work)

    assert doing.begun == [work.operation]


async def test_what_was_left_behind_is_taken_up(doing: Doing) -> None:
    works = [await doing.add() for _ in range(2)]
    doing.go.set()
    await doing.resume()

    assert [(await doing.ended(work)).state for work in works] == [pb.OPERATION_STATE_SUCCEEDED] * 2


async def test_what_has_ended_is_not_done_again(doing: Doing) -> None:
    work = await doing.add()
    await doing._give_up(SCOPE, work, None)
    await doing.resume()
    await until(lambda: not doing._running)

    assert doing.begun == []


async def test_no_more_run_at_a_time_than_asked_for(db: Database, schema: Schema) -> None:
    doing = Doing(db, schema, at_once=1)
    works = [await doing.add() for _ in range(2)]
    await doing.resume()
    await until(lambda: doing.begun)
    await asyncio.sleep(0.1)
    assert len(doing.begun) == 1
    doing.go.set()
    for work in works:
        await doing.ended(work)

    assert len(doing.begun) == 2


@pytest.mark.parametrize("begun", [True, False])
async def test_a_wish_ends_it_at_once(doing: Doing, begun: bool) -> None:
    work = await doing.add()
    doing.begin(SCOPE, work)
    if begun:
        await until(lambda: doing.begun)
    cancelled = await doing.schema.operations.cancel(SCOPE, work.operation)

    assert cancelled.state == pb.OPERATION_STATE_CANCELLED, "and the answer says so"


async def test_a_wish_before_the_first_step_is_heard(doing: Doing) -> None:
    work = await doing.add()
    doing.begin(SCOPE, work)
    await doing.cancel(SCOPE, work.operation)

    assert await doing.state(work) == "cancelled"


async def test_who_takes_it_up_finds_the_wish(doing: Doing) -> None:
    work = await doing.add()
    await doing.schema.operations.cancel(SCOPE, work.operation)
    await doing.resume()

    assert (await doing.ended(work)).state == pb.OPERATION_STATE_CANCELLED
    assert doing.begun == []


async def test_a_process_that_stops_leaves_it_to_the_next(doing: Doing) -> None:
    work = await doing.add()
    doing.begin(SCOPE, work)
    await until(lambda: doing.begun)
    task = doing._running[work.operation]
    task.cancel()
    await asyncio.wait([task])

    assert await doing.state(work) == "pending"


@pytest.mark.parametrize(
    ("error", "code"), [(Failure(Code.INVALID_VALUE, "not so"), "invalid_value"), (ValueError("x"), "internal")]
)
async def test_what_fails_says_why(doing: Doing, error: Exception, code: str) -> None:
    doing.fails = error
    doing.go.set()
    work = await doing.add()
    doing.begin(SCOPE, work)

    assert (await doing.ended(work)).error.code == code


async def test_an_end_that_others_write_is_theirs(doing: Doing) -> None:
    doing.fails, doing.refused = ValueError("x"), [Failure(Code.FENCE_STALE, "the lease is in other hands")]
    doing.go.set()
    work = await doing.add()
    doing.begin(SCOPE, work)
    await until(lambda: not doing._running)

    assert (await doing.state(work), doing.refused) == ("pending", [])


@pytest.mark.parametrize("code", [Code.STORAGE_FULL, Code.UNAVAILABLE])
async def test_an_end_that_cannot_be_kept_is_kept_later(
    doing: Doing, monkeypatch: pytest.MonkeyPatch, code: Code
) -> None:
    monkeypatch.setattr(leased_work, "_PATIENCE", (0.01,))
    doing.fails, doing.refused = ValueError("x"), [Failure(code, "not now") for _ in range(3)]
    doing.go.set()
    work = await doing.add()
    doing.begin(SCOPE, work)

    assert (await doing.ended(work)).error.code == "internal"


@pytest.fixture
def other(db: Database, schema: Schema) -> Tenure:
    """Another process of the service, as far as leases go."""
    found = Tenure(schema.tenure._leases)
    found.bind(db, "other")
    return found


@pytest.fixture
async def shared(db: Database, doing: Doing) -> Doing:
    if db.near:
        pytest.skip("a database of one process needs no leases")
    return doing


async def test_what_another_process_does_is_left_to_it(shared: Doing, other: Tenure) -> None:
    work = await shared.add()
    await other.take([work.operation])
    await shared.resume()
    shared.begin(SCOPE, work)
    await until(lambda: not shared._running)

    assert shared.begun == []


async def test_what_another_process_has_taken_up_is_stopped_here(shared: Doing, other: Tenure) -> None:
    work = await shared.add()
    shared.begin(SCOPE, work)
    await until(lambda: shared.begun)
    await shared.db.write(lambda c: other._leases.take(c, [work.operation], "other", 60, seize=True))
    await shared.schema.tenure._renew()
    await until(lambda: not shared._running)

    assert await shared.state(work) == "pending"


async def test_what_is_away_leaves_it_for_later(shared: Doing) -> None:
    shared.fails = Unavailable("the store is away")
    shared.go.set()
    work = await shared.add()
    shared.begin(SCOPE, work)
    await until(lambda: not shared._running)
    assert await shared.state(work) == "pending"
    shared.fails = None
    await shared.resume()

    assert (await shared.ended(work)).state == pb.OPERATION_STATE_SUCCEEDED


async def test_work_of_one_tenant_does_not_wait_for_all_of_another(db: Database, schema: Schema) -> None:
    doing, other = Doing(db, schema, at_once=1), Scope("other", "default")
    for _ in range(5):
        doing.begin(SCOPE, await doing.add())
    await until(lambda: bool(doing.begun))
    made = await db.run(lambda c: schema.operations.create(c, other, "Make", "things/one"))
    doing.begin(other, Task(made.operation))
    await until(lambda: "other" in doing._free._waiting)
    doing.go.set()

    await until(lambda: len(doing.begun) == 6)
    assert doing.begun.index(made.operation) == 1
