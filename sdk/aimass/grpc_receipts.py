"""Receipts of gRPC calls (`aimass.receipts`). Needs the package grpcio.

A receipt is over the bytes of the messages as sent. The stubs would serialize an answer to other bytes, so the channel
serializes and parses the messages itself.
"""

from collections.abc import Callable, Generator, Iterable
from typing import Any

import grpc
from grpc import aio

from aimass.receipts import Keep, Receipt, asking

_DETAIL = "aimass-failure-bin"  # the receipt of a failure is over this metadata
Metadata = list[tuple[str, Any]]


def receipted(channel: grpc.Channel | aio.Channel, keep: Keep, target: str) -> Any:
    """A channel whose unary calls ask for a receipt; `keep` is called with each, and the bytes of request and answer.

    `target` is the `host:port` of the channel. The bytes of a failure are its metadata `aimass-failure-bin`. Streams
    and `future` have no receipts.
    """
    return _Channel(channel, keep, target.lower())


class _Channel:
    def __init__(self, channel: Any, keep: Keep, target: str) -> None:
        self._channel, self._keep, self._target = channel, keep, target

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def unary_unary(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, **options: Any
    ) -> Any:
        """A callable for the method, which serializes and parses its messages."""
        start = self._channel.unary_unary(method, None, None, **options)
        write, read = request_serializer or bytes, response_deserializer or bytes

        def begin(request: Any, metadata: Iterable[tuple[str, Any]] | None) -> _Asked:
            return _Asked(self._keep, self._target, method, write(request), metadata or ())

        if isinstance(self._channel, aio.Channel):
            return _Waiting(start, begin, read)
        plain = self._channel.unary_unary(method, request_serializer, response_deserializer, **options)
        return _Blocking(start, begin, read, plain)


class _Asked:
    """One call that asks for a receipt."""

    def __init__(self, keep: Keep, target: str, path: str, content: bytes, metadata: Iterable[tuple[str, Any]]) -> None:
        self._keep, self._target, self._path, self.content = keep, target, path, content
        self._ended = False
        made = asking(content) | {"signed-authority": target}
        self.metadata: Metadata = [*((key, value) for key, value in metadata if key not in made), *made.items()]

    def ended(self, status: grpc.StatusCode, trailers: Iterable[tuple[str, Any]] | None, answer: bytes) -> None:
        """Keeps the receipt if the answer has one, once."""
        if self._ended:
            return
        self._ended = True
        metadata = {str(key): value for key, value in trailers or ()}
        texts = {name: value for name, value in metadata.items() if isinstance(value, str)}
        receipt = Receipt.of_call(self._path, self._target, self.content, status.value[0], texts)
        if receipt:
            self._keep(receipt, self.content, metadata.get(_DETAIL, b"") if status.value[0] else answer)


_Begin = Callable[[Any, Any], _Asked]


class _Blocking:
    def __init__(self, start: Any, begin: _Begin, read: Any, plain: Any) -> None:
        self._start, self._begin, self._read, self._plain = start, begin, read, plain

    def __call__(self, request: Any, timeout: float | None = None, metadata: Any = None, **options: Any) -> Any:
        return self.with_call(request, timeout, metadata, **options)[0]

    def with_call(self, request: Any, timeout: float | None = None, metadata: Any = None, **options: Any) -> Any:
        """The answer and its call. Raises grpc.RpcError, whose receipt is kept too."""
        asked = self._begin(request, metadata)
        try:
            answer, call = self._start.with_call(asked.content, timeout, asked.metadata, **options)
        except grpc.RpcError as error:
            failed: Any = error  # a call as well
            asked.ended(failed.code(), failed.trailing_metadata(), b"")
            raise
        asked.ended(call.code(), call.trailing_metadata(), answer)
        return self._read(answer), call

    def future(self, *arguments: Any, **options: Any) -> Any:
        """The call without a receipt."""
        return self._plain.future(*arguments, **options)


class _Waiting:
    def __init__(self, start: Any, begin: _Begin, read: Any) -> None:
        self._start, self._begin, self._read = start, begin, read

    def __call__(self, request: Any, *, metadata: Any = None, **options: Any) -> "_Answer":
        asked = self._begin(request, metadata)
        return _Answer(self._start(asked.content, metadata=aio.Metadata(*asked.metadata), **options), asked, self._read)


class _Answer:
    """A call of `grpc.aio` whose receipt is kept when it is awaited."""

    def __init__(self, call: Any, asked: _Asked, read: Any) -> None:
        self._call, self._asked, self._read = call, asked, read

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._whole().__await__()

    async def _whole(self) -> Any:
        try:
            answer = await self._call
        except aio.AioRpcError as error:
            self._asked.ended(error.code(), [*error.trailing_metadata()], b"")
            raise
        self._asked.ended(await self._call.code(), await self._call.trailing_metadata(), answer)
        return self._read(answer)
