"""Signs gRPC calls (`aimass.signing`). Needs the package grpcio.

A call is signed as the HTTP/2 request that it is; the digest is that of its message.
"""

from collections.abc import Sequence
from typing import Any

import grpc
from grpc import aio

from aimass.signing import Signer


def signed(channel: grpc.Channel, signer: Signer, target: str) -> grpc.Channel:
    """A channel that signs its calls; `target` is its `host:port`."""
    return grpc.intercept_channel(channel, _Blocking(signer, target))


def interceptors(signer: Signer, target: str) -> Sequence[aio.ClientInterceptor]:
    """The `interceptors=` with which a channel of `grpc.aio` signs its calls."""
    return [kind(signer, target) for kind in (_UnaryUnary, _UnaryStream, _StreamUnary, _StreamStream)]


class _Signing:
    def __init__(self, signer: Signer, target: str) -> None:
        self._signer, self._target = signer, target.lower()

    def _metadata(self, details: Any, request: Any) -> list[tuple[str, Any]]:
        """The call's metadata with a signature; without a body if the request streams."""
        metadata = [(str(key), value) for key, value in details.metadata or ()]
        path = details.method if isinstance(details.method, str) else details.method.decode()
        content = request if isinstance(request, bytes) else request.SerializeToString() if request is not None else b""
        made = self._signer.headers("POST", self._target, path, "", dict(metadata), content)
        made["signed-authority"] = self._target
        return [*((key, value) for key, value in metadata if key not in made), *made.items()]


class _Details(grpc.ClientCallDetails):
    def __init__(self, details: Any, metadata: list[tuple[str, Any]]) -> None:
        self.method, self.timeout, self.metadata = details.method, details.timeout, tuple(metadata)
        self.credentials, self.wait_for_ready = details.credentials, details.wait_for_ready
        self.compression = details.compression


class _Blocking(
    _Signing,
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(_Details(details, self._metadata(details, request)), request)

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(_Details(details, self._metadata(details, request)), request)

    def intercept_stream_unary(self, continuation: Any, details: Any, requests: Any) -> Any:
        return continuation(_Details(details, self._metadata(details, None)), requests)

    def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        return continuation(_Details(details, self._metadata(details, None)), requests)


class _Waiting(_Signing):
    async def _go(self, continuation: Any, details: Any, sent: Any, request: Any) -> Any:
        metadata = aio.Metadata(*self._metadata(details, request))
        return await continuation(details._replace(metadata=metadata), sent)


class _UnaryUnary(_Waiting, aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return await self._go(continuation, details, request, request)


class _UnaryStream(_Waiting, aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return await self._go(continuation, details, request, request)


class _StreamUnary(_Waiting, aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, details: Any, requests: Any) -> Any:
        return await self._go(continuation, details, requests, None)


class _StreamStream(_Waiting, aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        return await self._go(continuation, details, requests, None)
