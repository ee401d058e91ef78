"""Guarded methods behind a socket: what a gRPC server calls."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
from google.protobuf.message import Message

from services.kit.errors import Failure
from services.kit.rpc import Guarded, metadata_of
from services.kit.status import refuse


class Handlers(grpc.GenericRpcHandler):
    """Guarded methods behind a socket."""

    def __init__(self, guarded: Mapping[str, Guarded]) -> None:
        self._handlers = {path: _handler(method) for path, method in guarded.items()}

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        return self._handlers.get(details.method)


def _handler(guarded: Guarded) -> Any:
    async def unary(request: Any, context: Any) -> Any:
        try:
            reply, trailers = await guarded.unary(request, metadata_of(context), context.time_remaining())
        except Failure as failure:
            return await refuse(context, failure)
        if trailers:
            context.set_trailing_metadata(tuple(trailers.items()))
        return reply

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async for item in guarded.stream(request, metadata_of(context), context.time_remaining()):
                yield item
        except Failure as failure:
            await refuse(context, failure)

    kind = f"{'stream' if guarded.client_streams else 'unary'}_{'stream' if guarded.server_streams else 'unary'}"
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    codec = (guarded.request_class.FromString, _serialize)
    return make(stream if guarded.server_streams else unary, *codec)


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
