import asyncio
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from aimass.v1 import operations_pb2 as pb
from services.kit.auth import Identity, Scope
from services.kit.db import Database
from services.kit.errors import Code, Failure
from services.kit.schema import Schema
from tests.kit.conftest import SCOPE, as_key
from tests.support.refused import code_of


async def create(db: Database, schema: Schema, scope: Scope = SCOPE) -> pb.Operation:
    return await db.run(lambda c: schema.operations.create(c, scope, "aimass.v1.Jobs/SubmitJob", "jobs/1"))


async def test_an_operation_is_read_back(operations: Any, admin: Any, db: Database, schema: Schema) -> None:
    made = await create(db, schema)

    assert await operations.GetOperation(pb.GetOperationRequest(operation=made.operation), metadata=admin) == made


async def test_a_failure_survives_the_wire(operations: Any, admin: Any) -> None:
    with pytest.raises(Failure, match="there is no operation data-1") as caught:
        await operations.GetOperation(pb.GetOperationRequest(operation="data-1"), metadata=admin)

    assert caught.value.code is Code.NOT_FOUND


async def test_every_broken_rule_is_named(operations: Any, admin: Any) -> None:
    with pytest.raises(Failure) as caught:
        await operations.ListOperations(pb.ListOperationsRequest(service="../etc"), metadata=admin)

    assert caught.value.code is Code.INVALID_NAME
    assert [v.pointer for v in caught.value.violations] == ["/service"]


async def test_nobody_gets_in_without_a_token(operations: Any) -> None:
    assert await code_of(operations.GetOperation(pb.GetOperationRequest(operation="a"))) is Code.UNAUTHENTICATED


async def test_a_token_for_another_service_is_refused(operations: Any, identity: Identity) -> None:
    from services.kit.auth import Principal

    token = identity.token("logs", Principal(SCOPE, "key:x", ("*",)))
    call = operations.GetOperation(
        pb.GetOperationRequest(operation="a"), metadata=(("authorization", f"Bearer {token}"),)
    )
    assert await code_of(call) is Code.TOKEN_INVALID


async def test_a_permission_is_needed(operations: Any, identity: Identity) -> None:
    metadata = as_key(identity, "operations.list")

    call = operations.GetOperation(pb.GetOperationRequest(operation="a"), metadata=metadata)
    assert await code_of(call) is Code.FORBIDDEN


@pytest.mark.parametrize(("things", "code"), [("operations/a", Code.NOT_FOUND), ("operations/b*", Code.FORBIDDEN)])
async def test_the_service_itself_asks_for_the_right_on_the_object(
    operations: Any, identity: Identity, things: str, code: Code
) -> None:
    metadata = as_key(identity, f"operations.get@{things}")

    call = operations.GetOperation(pb.GetOperationRequest(operation="a"), metadata=metadata)
    assert await code_of(call) is code


async def test_a_list_needs_the_right_on_all(operations: Any, identity: Identity) -> None:
    metadata = as_key(identity, "operations.list@operations/*")

    call = operations.ListOperations(pb.ListOperationsRequest(service="test"), metadata=metadata)
    assert await code_of(call) is Code.FORBIDDEN


async def test_another_tenants_operation_is_not_found(
    operations: Any, admin: Any, db: Database, schema: Schema
) -> None:
    made = await create(db, schema, Scope("other"))

    call = operations.GetOperation(pb.GetOperationRequest(operation=made.operation), metadata=admin)
    assert await code_of(call) is Code.NOT_FOUND


async def test_a_watcher_sees_progress_and_the_end(operations: Any, admin: Any, db: Database, schema: Schema) -> None:
    made = await create(db, schema)

    async def work() -> None:
        await asyncio.sleep(0.05)
        await schema.operations.progress(SCOPE, made.operation, 0.5, "reading")
        await db.run(
            lambda c: schema.operations.end(c, SCOPE, made.operation, failure=Failure(Code.LIMIT_EXCEEDED, "x"))
        )
        await schema.operations.tell()

    doing = asyncio.create_task(work())
    request = pb.GetOperationRequest(operation=made.operation)
    seen = [o async for o in operations.StreamOperation(request, metadata=admin, timeout=5)]
    await doing

    assert seen[0].state == pb.OPERATION_STATE_PENDING
    assert seen[-1].state == pb.OPERATION_STATE_FAILED
    assert seen[-1].error.code == "limit_exceeded"


async def test_waiting_ends_at_its_timeout(operations: Any, admin: Any, db: Database, schema: Schema) -> None:
    made = await create(db, schema)

    request = pb.WaitOperationRequest(operation=made.operation, timeout=Duration(nanos=50_000_000))
    assert (await operations.WaitOperation(request, metadata=admin)).state == pb.OPERATION_STATE_PENDING


async def test_pages_come_newest_first(operations: Any, admin: Any, db: Database, schema: Schema) -> None:
    made = [(await create(db, schema)).operation for _ in range(3)]

    first = await operations.ListOperations(pb.ListOperationsRequest(service="data", page_size=2), metadata=admin)
    request = pb.ListOperationsRequest(service="data", page_size=2, page_token=first.next_page_token)
    second = await operations.ListOperations(request, metadata=admin)

    assert [o.operation for o in (*first.operations, *second.operations)] == made[::-1]
    assert not second.next_page_token
