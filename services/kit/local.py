"""gRPC without a socket: the same stubs and servicers inside one process.

Messages are serialised all the same, so that a caller and a servicer never share one, and the same guards run.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any

from services.kit import telemetry
from services.kit.errors import Code, Failure
from services.kit.fields import read
from services.kit.rpc import Guarded


def _same(message: Any) -> Any:
    return message


class LocalChannel:
    """A server to put guarded methods on, and a channel to give to stubs, in one."""

    def __init__(self) -> None:
        self.methods: dict[str, Guarded] = {}

    def serve(self, guarded: dict[str, Guarded]) -> None:
        """Adds methods."""
        self.methods |= guarded

    def unary_unary(
        self, path: str, request_serializer: Any = None, response_deserializer: Any = None, **_: Any
    ) -> Any:
        encode, decode = request_serializer or _same, response_deserializer or _same

        def call(request: Any, timeout: float | None = None, metadata: Any = ()) -> "LocalCall":
            return LocalCall(self._method(path), lambda kind: read(kind, encode(request)), decode, timeout, metadata)

        return call

    def stream_unary(
        self, path: str, request_serializer: Any = None, response_deserializer: Any = None, **_: Any
    ) -> Any:
        encode, decode = request_serializer or _same, response_deserializer or _same

        def call(requests: Any, timeout: float | None = None, metadata: Any = ()) -> "LocalCall":
            return LocalCall(self._method(path), lambda kind: _each(requests, encode, kind), decode, timeout, metadata)

        return call

    def unary_stream(
        self, path: str, request_serializer: Any = None, response_deserializer: Any = None, **_: Any
    ) -> Any:
        return self._many(path, request_serializer, response_deserializer, streams=False)

    def stream_stream(
        self, path: str, request_serializer: Any = None, response_deserializer: Any = None, **_: Any
    ) -> Any:
        return self._many(path, request_serializer, response_deserializer, streams=True)

    def _many(self, path: str, request_serializer: Any, response_deserializer: Any, streams: bool) -> Any:
        encode, decode = request_serializer or _same, response_deserializer or _same

        async def call(request: Any, timeout: float | None = None, metadata: Any = ()) -> AsyncIterator[Any]:
            method = self._method(path)
            parse = method.request_class.FromString
            sent = _each(request, encode, parse) if streams else read(parse, encode(request))
            async for item in method.stream(sent, _headers(metadata), timeout):
                yield decode(item.SerializeToString())

        return call

    def _method(self, path: str) -> Guarded:
        try:
            return self.methods[path]
        except KeyError:
            raise Failure(Code.METHOD_NOT_ALLOWED, f"there is no method {path}") from None

    async def close(self) -> None:
        """Nothing is held."""


class LocalCall:
    """A call under way: await it for the reply, then ask for its trailers."""

    def __init__(
        self, method: Guarded, request: Callable[[Any], Any], decode: Any, timeout: float | None, metadata: Any
    ) -> None:
        self._method, self._request, self._decode = method, request, decode
        self._timeout, self._metadata = timeout, metadata
        self._trailers: dict[str, str] = {}

    def __await__(self) -> Any:
        return self._run().__await__()

    async def _run(self) -> Any:
        self._method.timely(self._timeout)
        request = self._request(self._method.request_class.FromString)
        reply, self._trailers = await self._method.unary(request, _headers(self._metadata), self._timeout)
        return self._decode(reply.SerializeToString())

    async def trailing_metadata(self) -> Any:
        return tuple(self._trailers.items())


async def _each(requests: Any, encode: Any, decode: Any) -> AsyncIterator[Any]:
    async for request in requests:
        yield decode(encode(request))


def _headers(metadata: Any) -> dict[str, str]:
    headers = dict(metadata or ())
    if "traceparent" not in headers and (trace := telemetry.traceparent()):
        headers["traceparent"] = trace
    return headers
