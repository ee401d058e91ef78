"""Long work as those who do it and those who watch it see it."""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from sqlalchemy import update

from aimass.v1 import models_pb2
from aimass.v1 import operations_pb2 as pb
from services.kit.auth import Scope
from services.kit.db import Database
from services.kit.errors import Code, Failure, InvalidValue, NotFound, Violation
from services.kit.schema import Schema
from tests.kit.conftest import SCOPE

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
Made = tuple[Schema, Database, str]


@pytest.fixture
async def made(db: Database, schema: Schema) -> Made:
    """An operation that has just been made."""
    created = await db.run(lambda c: schema.operations.create(c, SCOPE, "aimass.v1.Jobs/SubmitJob", "jobs/1"))
    return schema, db, created.operation


async def end(made: Made, **how: Any) -> pb.Operation:
    schema, db, name = made
    await db.run(lambda c: schema.operations.end(c, SCOPE, name, **how))
    return await schema.operations.get(SCOPE, name)


async def test_an_id_says_whose_operation_it_is(made: Made) -> None:
    assert made[2].startswith("data-")
    assert len(made[2]) == len("data-") + 36


async def test_a_result_is_unpacked_as_the_message_it_was(made: Made) -> None:
    found = await end(made, response=models_pb2.Model(model="late"))
    model = models_pb2.Model()

    assert found.response.Unpack(model)
    assert (model.model, found.progress, found.state) == ("late", 1.0, pb.OPERATION_STATE_SUCCEEDED)
    assert found.response.type_url == "type.aimass.dev/aimass.v1.Model"


async def test_a_failure_keeps_its_code_and_violations(made: Made) -> None:
    failure = InvalidValue("rule is wrong", [Violation("/rule", "must be active")])
    found = await end(made, failure=failure)

    assert (found.error.code, found.error.detail) == ("invalid_value", "rule is wrong")
    assert [(v.pointer, v.rule) for v in found.error.violations] == [("/rule", "must be active")]
    assert not found.HasField("response")


@pytest.mark.parametrize("first", [{"cancelled": True}, {"response": models_pb2.Model()}, {"failure": NotFound("x")}])
@pytest.mark.parametrize("second", [{"cancelled": True}, {"response": models_pb2.Model()}, {"failure": NotFound("y")}])
async def test_what_has_ended_stays_as_it_ended(made: Made, first: dict[str, Any], second: dict[str, Any]) -> None:
    once = await end(made, **first)

    assert await end(made, **second) == once


async def test_progress_after_the_end_changes_nothing(made: Made) -> None:
    schema, _, name = made
    ended = await end(made, cancelled=True)
    await schema.operations.progress(SCOPE, name, 0.5, "late")

    assert await schema.operations.get(SCOPE, name) == ended


async def test_a_transaction_that_fails_ends_nothing(made: Made) -> None:
    schema, db, name = made

    def work(connection: Any) -> None:
        schema.operations.end(connection, SCOPE, name)
        raise KeyError("no")

    with pytest.raises(KeyError):
        await db.run(work)
    assert not (await schema.operations.get(SCOPE, name)).HasField("end_time")


@pytest.mark.parametrize(("stage", "message"), [("reading", "3 of 4"), ("s" * 500, "m" * 5000), ("", "")])
async def test_progress_says_stage_and_message_within_bounds(made: Made, stage: str, message: str) -> None:
    schema, _, name = made
    await schema.operations.progress(SCOPE, name, 0.25, stage, message)
    found = await schema.operations.get(SCOPE, name)

    assert (found.stage, found.message) == (stage[:100], message[:1000])
    assert (found.state, found.progress) == (pb.OPERATION_STATE_RUNNING, 0.25)


@pytest.mark.parametrize(("progress", "seconds", "left"), [(0.5, 100, 100), (0.25, 100, 300), (1.0, 100, 0)])
async def test_the_end_is_estimated_at_the_pace_so_far(made: Made, progress: float, seconds: int, left: int) -> None:
    schema, db, name = made
    await schema.operations.progress(SCOPE, name, progress, "reading")
    times = {"create_time": NOON, "update_time": NOON + timedelta(seconds=seconds)}
    await db.run(lambda c: c.execute(update(schema.operations.table).values(times)) and None)
    found = await schema.operations.get(SCOPE, name)

    assert found.estimated_end_time.ToDatetime(tzinfo=UTC) == NOON + timedelta(seconds=seconds + left)


@pytest.mark.parametrize("progress", [0.0, 0.01])
async def test_too_little_progress_is_no_ground_for_an_estimate(made: Made, progress: float) -> None:
    schema, _, name = made
    await schema.operations.progress(SCOPE, name, progress, "reading")

    assert not (await schema.operations.get(SCOPE, name)).HasField("estimated_end_time")


@pytest.mark.parametrize("scope", [Scope("other"), Scope("acme", "lab")])
async def test_nobody_else_changes_it(made: Made, scope: Scope) -> None:
    schema, db, name = made
    await db.run(lambda c: schema.operations.end(c, scope, name, cancelled=True))
    await schema.operations.progress(scope, name, 0.5, "reading")
    with pytest.raises(NotFound):
        await schema.operations.cancel(scope, name)

    found = await schema.operations.get(SCOPE, name)
    assert (found.state, found.cancel_requested) == (pb.OPERATION_STATE_PENDING, False)
    assert (await schema.operations.list(scope, 10, "")).items == ()


async def test_a_wish_to_cancel_is_told_to_who_works(made: Made) -> None:
    schema, _, name = made
    calls: list[tuple[Scope, str]] = []

    async def hear(scope: Scope, operation: str) -> None:
        calls.append((scope, operation))

    schema.operations.on_cancel.append(hear)
    found = await schema.operations.cancel(SCOPE, name)

    assert calls == [(SCOPE, name)]
    assert (found.cancel_requested, found.state) == (True, pb.OPERATION_STATE_PENDING)


async def test_a_wish_that_comes_after_the_end_is_not_kept(made: Made) -> None:
    schema, _, name = made
    await end(made, response=models_pb2.Model())

    assert not (await schema.operations.cancel(SCOPE, name)).cancel_requested


async def test_every_watcher_sees_the_end(made: Made) -> None:
    schema, db, name = made

    async def last() -> int:
        return [o.state async for o in schema.operations.changes(SCOPE, name)][-1]

    watching = [asyncio.create_task(last()) for _ in range(5)]
    await asyncio.sleep(0)
    await db.run(lambda c: schema.operations.end(c, SCOPE, name))
    await schema.operations.tell()

    async with asyncio.timeout(5):
        assert set(await asyncio.gather(*watching)) == {pb.OPERATION_STATE_SUCCEEDED}


async def test_a_watcher_of_what_has_ended_gets_it_once(made: Made) -> None:
    await end(made, cancelled=True)

    assert len([o async for o in made[0].operations.changes(SCOPE, made[2])]) == 1


async def test_a_watcher_who_leaves_holds_nobody_up(made: Made) -> None:
    schema, _, name = made
    watching = schema.operations.changes(SCOPE, name)
    assert (await anext(watching)).state == pb.OPERATION_STATE_PENDING
    waiting = asyncio.ensure_future(anext(watching))
    await asyncio.sleep(0.01)
    waiting.cancel()
    async with asyncio.timeout(2):
        await asyncio.wait([waiting])
        await schema.operations.progress(SCOPE, name, 0.5, "reading")

    assert waiting.cancelled()


@pytest.mark.parametrize("seconds", [-5, 0])
async def test_waiting_no_time_is_looking(operations: Any, admin: Any, made: Made, seconds: int) -> None:
    request = pb.WaitOperationRequest(operation=made[2], timeout=Duration(seconds=seconds))

    assert (await operations.WaitOperation(request, metadata=admin)).operation == made[2]


async def test_waiting_ends_with_the_work(operations: Any, admin: Any, made: Made) -> None:
    request = pb.WaitOperationRequest(operation=made[2], timeout=Duration(seconds=30))
    waiting = asyncio.ensure_future(_awaited(operations.WaitOperation(request, metadata=admin)))
    await asyncio.sleep(0.02)
    await end(made, response=models_pb2.Model())
    await made[0].operations.tell()

    async with asyncio.timeout(5):
        assert (await waiting).state == pb.OPERATION_STATE_SUCCEEDED


async def _awaited(call: Any) -> Any:
    return await call


async def test_a_cancellation_by_rpc_is_seen_by_get(operations: Any, admin: Any, made: Made) -> None:
    await operations.CancelOperation(pb.CancelOperationRequest(operation=made[2]), metadata=admin)

    found = await operations.GetOperation(pb.GetOperationRequest(operation=made[2]), metadata=admin)
    assert found.cancel_requested


@pytest.mark.parametrize("kind", ["GetOperation", "CancelOperation", "WaitOperation", "StreamOperation"])
async def test_what_is_not_there_is_not_found_everywhere(operations: Any, admin: Any, kind: str) -> None:
    requests = {"GetOperation": pb.GetOperationRequest, "StreamOperation": pb.GetOperationRequest}
    request = requests.get(kind, getattr(pb, f"{kind}Request", pb.GetOperationRequest))(operation="data-none")
    call = getattr(operations, kind)(request, metadata=admin)

    with pytest.raises(Failure) as caught:
        await (anext(call) if kind == "StreamOperation" else call)
    assert caught.value.code is Code.NOT_FOUND


@pytest.mark.parametrize(("size", "token"), [(-1, ""), (5, "garbage"), (5, "WzFd")])
async def test_a_page_that_cannot_be_is_refused(made: Made, size: int, token: str) -> None:
    with pytest.raises(InvalidValue):
        await made[0].operations.list(SCOPE, size, token)


async def test_pages_hold_every_operation_once(db: Database, schema: Schema) -> None:
    create = partial(schema.operations.create, scope=SCOPE, method="m", resource="r")
    names = [(await db.run(lambda c: create(c))).operation for _ in range(7)]
    found, token = list[str](), ""
    while True:
        page = await schema.operations.list(SCOPE, 3, token)
        found, token = [*found, *(o.operation for o in page.items)], page.next_token
        if not token:
            break

    assert found == names[::-1]


async def test_a_wish_that_another_process_was_told_is_heard_by_the_one_that_works(made: Made) -> None:
    schema, db, name = made
    calls: list[str] = []

    async def hear(scope: Scope, operation: str) -> None:
        calls.append(operation)

    if db.near:
        await schema.operations.listen(lambda: [name])  # nobody else can have been told: it ends at once
        return
    schema.operations.on_cancel.append(hear)
    listening = asyncio.create_task(schema.operations.listen(lambda: [name]))
    # As another process writes it down.
    wish = update(schema.operations.table).values(cancel_requested=True)
    await db.run(lambda c: c.execute(wish) and None)
    async with asyncio.timeout(10):
        while not calls:
            await asyncio.sleep(0.02)
    listening.cancel()

    assert set(calls) == {name}
