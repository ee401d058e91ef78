"""Guarded methods behind a socket: what a gRPC server calls."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import grpc
from google.protobuf.message import Message

from services.kit.calls import Peer
from services.kit.errors import Failure
from services.kit.fields import read
from services.kit.rpc import Guarded, metadata_of
from services.kit.status import refuse
from services.kit.underway import Underway

Who = Callable[[Any], Peer]


class Handlers(grpc.GenericRpcHandler):
    """Guarded methods behind a socket."""

    def __init__(self, guarded: Mapping[str, Guarded], underway: Underway, who: Who = lambda context: None) -> None:
        """`who` gives, by a call's context, the services that its caller may be; None without a certificate."""
        self._handlers = {path: _handler(method, underway, who) for path, method in guarded.items()}

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        return self._handlers.get(details.method)


def _handler(guarded: Guarded, underway: Underway, who: Who) -> Any:
    parse = guarded.request_class.FromString

    async def unary(content: Any, context: Any) -> Any:
        try:
            metadata, left = metadata_of(context), context.time_remaining()
            guarded.timely(left)
            request = content if guarded.client_streams else read(parse, content)
            with underway.waiting():
                reply, trailers = await guarded.unary(request, metadata, left, who(context))
        except Failure as failure:
            return await refuse(context, failure)
        if trailers:
            context.set_trailing_metadata(tuple(trailers.items()))
        return reply

    async def stream(content: Any, context: Any) -> AsyncIterator[Any]:
        try:
            metadata, left = metadata_of(context), context.time_remaining()
            request = content if guarded.client_streams else read(parse, content)
            async for item in underway.each(guarded.stream(request, metadata, left, who(context))):
                yield item
        except Failure as failure:
            await refuse(context, failure)

    kind = f"{'stream' if guarded.client_streams else 'unary'}_{'stream' if guarded.server_streams else 'unary'}"
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    # A single message is parsed by the handler: not before it is known whether the call is hopeless, and for bytes that
    # are no message the caller gets the same failure as on other ways.
    given = parse if guarded.client_streams else None
    return make(stream if guarded.server_streams else unary, given, _serialize)


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
