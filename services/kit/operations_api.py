"""The RPCs of operations, which every service has."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aimass.v1 import operations_pb2 as pb
from services.kit.operations import Operations
from services.kit.rpc import Call


class OperationsApi:
    """aimass.v1.Operations."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def GetOperation(self, request: pb.GetOperationRequest, call: Call) -> pb.Operation:
        return await self._operations.get(call.scope, request.operation)

    async def ListOperations(self, request: pb.ListOperationsRequest, call: Call) -> pb.ListOperationsResponse:
        page = await self._operations.list(call.scope, request.page_size, request.page_token)
        return pb.ListOperationsResponse(operations=page.items, next_page_token=page.next_token)

    async def CancelOperation(self, request: pb.CancelOperationRequest, call: Call) -> pb.Operation:
        return await self._operations.cancel(call.scope, request.operation)

    async def WaitOperation(self, request: pb.WaitOperationRequest, call: Call) -> pb.Operation:
        seconds = request.timeout.seconds + request.timeout.nanos / 1e9 if request.HasField("timeout") else 30.0
        last = await self._operations.get(call.scope, request.operation)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(max(seconds, 0.0), 60.0, call.remaining() - 0.1)):
                async for operation in self._operations.changes(call.scope, request.operation):
                    last = operation
        return last

    async def StreamOperation(self, request: pb.GetOperationRequest, call: Call) -> AsyncIterator[pb.Operation]:
        async for operation in self._operations.changes(call.scope, request.operation):
            yield operation
