"""Asks for receipts of gRPC calls, as `aimass.receipts` has them. Needs the package grpcio, and stubs of the contract.

A receipt is over the bytes of the messages as they travel, so the calls are watched below the stubs, which would write
an answer that they have read in other bytes.
"""

from collections.abc import Callable, Generator, Iterable
from typing import Any

import grpc
from grpc import aio

from aimass.receipts import Keep, Receipt, asking

_DETAIL = "aimass-failure-bin"  # of a failure: what its receipt is over
Metadata = list[tuple[str, Any]]


def receipted(channel: grpc.Channel | aio.Channel, keep: Keep, target: str) -> Any:
    """A channel for stubs whose calls ask for a receipt; `keep` is given each, with the bytes of request and answer.

    `target` is the `host:port` that the channel was opened for. The bytes of a failure are those of its detail, the
    metadata `aimass-failure-bin`. What streams, and what is asked by `future`, has no receipt.
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
        """The method, its messages written and read around the bytes that travel."""
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

    def __init__(self, keep: Keep, target: str, path: str, content: bytes, said: Iterable[tuple[str, Any]]) -> None:
        self._keep, self._target, self._path, self.content = keep, target, path, content
        self._ended = False
        made = asking(content) | {"signed-authority": target}
        self.metadata: Metadata = [*((key, value) for key, value in said if key not in made), *made.items()]

    def ended(self, status: grpc.StatusCode, trailers: Iterable[tuple[str, Any]] | None, answer: bytes) -> None:
        """Keeps the receipt, if the answer has one; once, whoever waits how often."""
        if self._ended:
            return
        self._ended = True
        said = {str(key): value for key, value in trailers or ()}
        texts = {name: value for name, value in said.items() if isinstance(value, str)}
        receipt = Receipt.of_call(self._path, self._target, self.content, status.value[0], texts)
        if receipt:
            self._keep(receipt, self.content, said.get(_DETAIL, b"") if status.value[0] else answer)


_Begin = Callable[[Any, Any], _Asked]


class _Blocking:
    def __init__(self, start: Any, begin: _Begin, read: Any, plain: Any) -> None:
        self._start, self._begin, self._read, self._plain = start, begin, read, plain

    def __call__(self, request: Any, timeout: float | None = None, metadata: Any = None, **options: Any) -> Any:
        return self.with_call(request, timeout, metadata, **options)[0]

    def with_call(self, request: Any, timeout: float | None = None, metadata: Any = None, **options: Any) -> Any:
        """The answer and its call. Raises grpc.RpcError, whose receipt has been kept as well."""
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
        """The call as it is without receipts."""
        return self._plain.future(*arguments, **options)


class _Waiting:
    def __init__(self, start: Any, begin: _Begin, read: Any) -> None:
        self._start, self._begin, self._read = start, begin, read

    def __call__(self, request: Any, *, metadata: Any = None, **options: Any) -> "_Answer":
        asked = self._begin(request, metadata)
        return _Answer(self._start(asked.content, metadata=aio.Metadata(*asked.metadata), **options), asked, self._read)


class _Answer:
    """A call of `grpc.aio` whose receipt is kept when it is waited for."""

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
