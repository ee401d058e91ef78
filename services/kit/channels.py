"""Channels to services in other processes: statuses become failures, every call has a deadline and its trace."""

from collections.abc import AsyncIterator
from typing import Any

from grpc import aio

from services.kit import contract, telemetry
from services.kit.rpc import OPTIONS
from services.kit.status import failure_of


class RemoteChannel:
    """A gRPC channel whose calls raise Failure. Has the four methods that generated stubs use."""

    def __init__(self, address: str, service: str) -> None:
        """`service` is how error texts name the other side."""
        self._channel, self._service = aio.insecure_channel(address, options=OPTIONS), service

    def unary_unary(
        self, path: str, request_serializer: Any = None, response_deserializer: Any = None, **_: Any
    ) -> Any:
        return self._single(self._channel.unary_unary(path, request_serializer, response_deserializer), path)

    def stream_unary(
        self, path: str, request_serializer: Any = None, response_deserializer: Any = None, **_: Any
    ) -> Any:
        return self._single(self._channel.stream_unary(path, request_serializer, response_deserializer), path)

    def unary_stream(
        self, path: str, request_serializer: Any = None, response_deserializer: Any = None, **_: Any
    ) -> Any:
        return self._many(self._channel.unary_stream(path, request_serializer, response_deserializer), path)

    def stream_stream(
        self, path: str, request_serializer: Any = None, response_deserializer: Any = None, **_: Any
    ) -> Any:
        return self._many(self._channel.stream_stream(path, request_serializer, response_deserializer), path)

    def _single(self, method: Any, path: str) -> Any:
        def call(request: Any, timeout: float | None = None, metadata: Any = ()) -> "RemoteCall":
            return RemoteCall(method(request, **_options(path, timeout, metadata)), self._service)

        return call

    def _many(self, method: Any, path: str) -> Any:
        async def call(request: Any, timeout: float | None = None, metadata: Any = ()) -> AsyncIterator[Any]:
            try:
                async for item in method(request, **_options(path, timeout, metadata)):
                    yield item
            except aio.AioRpcError as error:
                raise failure_of(error, self._service) from None

        return call

    async def close(self) -> None:
        await self._channel.close()


class RemoteCall:
    """A call under way: await it for the reply, then ask for its trailers."""

    def __init__(self, call: Any, service: str) -> None:
        self._call, self._service = call, service

    def __await__(self) -> Any:
        return self._wait().__await__()

    async def _wait(self) -> Any:
        try:
            return await self._call
        except aio.AioRpcError as error:
            raise failure_of(error, self._service) from None

    async def trailing_metadata(self) -> Any:
        return await self._call.trailing_metadata()


def _options(path: str, timeout: float | None, metadata: Any) -> dict[str, Any]:
    method = contract.all_methods().get(path)
    sent = tuple(metadata or ())
    trace = telemetry.traceparent()
    if trace and not any(key == "traceparent" for key, _ in sent):
        sent = (*sent, ("traceparent", trace))
    # A service that is starting is waited for, as long as the deadline allows.
    return {"timeout": timeout or (method.deadline if method else 10.0), "metadata": sent, "wait_for_ready": True}
