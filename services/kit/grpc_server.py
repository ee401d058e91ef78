"""A gRPC server that no call can stop by the name of its method.

grpc.aio takes all calls in one loop, and decodes the name of the method there: bytes that are not UTF-8, from any
client, end the loop and the server with it (grpcio 1.85). Here methods that exist are registered, so that the transport
tells them apart, and whatever else is called is taken without a look at its name.
"""

import asyncio
import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NoReturn

import grpc

_cygrpc: Any = importlib.import_module("grpc._cython.cygrpc")
_server: Any = importlib.import_module("grpc.aio._server")
_AT_ONCE = 64  # calls of each method that are taken at once before the server stops
_TURN, _TURNS = 0.02, 5  # seconds in which no further call has arrived; how often that is waited for


class Server(_server.Server):  # type: ignore[misc]
    """A `grpc.aio.Server`."""

    def __init__(
        self,
        handlers: Sequence[grpc.GenericRpcHandler],
        paths: Iterable[str],
        options: Sequence[tuple[str, Any]],
        reset: Callable[[str], None] | None = None,
    ) -> None:
        """`paths` are all methods that the handlers know. A call of any other is to them a call of the empty path.

        `reset` is told of each call that was cancelled before it was answered, by gRPC's name of its peer.
        """
        self._loop = _cygrpc.get_working_loop()
        self._server = _Core(self._loop, tuple(handlers), paths, tuple(options), reset)

    async def stop(self, grace: float | None) -> None:
        """As `grpc.aio.Server.stop`, after it has taken the calls that have arrived.

        The transport answers a call that nobody has taken with CANCELLED (grpcio 1.85), also one that arrives before
        its client has heard that the server stops: such a call has had no effect, and its client has to repeat it.
        """
        if grace:
            await self._server.take_all()
        await super().stop(grace)


class _Core(_cygrpc.AioServer):  # type: ignore[misc]
    """Takes calls of each method in a task of its own."""

    def __init__(
        self,
        loop: Any,
        handlers: Sequence[Any],
        paths: Iterable[str],
        options: Sequence[Any],
        reset: Callable[[str], None] | None,
    ) -> None:
        super().__init__(loop, None, handlers, None, options, None)
        self._reset = reset
        self._resolver = _cygrpc._MethodResolver(list(handlers), {})
        self._calls: set[asyncio.Task[None]] = set()
        self._takers: set[asyncio.Task[NoReturn]] = set()
        # How many calls of each method have been taken.
        self._taken = Counter[bytes | None]()
        self.add_registered_method_handlers(dict.fromkeys(paths))

    def _make_request_call_future(self, path: bytes | None) -> "asyncio.Task[NoReturn]":
        """What grpc.aio waits for: it never has a call, and fails when the server stops."""
        return asyncio.get_running_loop().create_task(self._take(path))

    async def take_all(self) -> None:
        """Takes calls many at a time until no more arrive, at most a tenth of a second. For a server that stops."""
        loop, many = asyncio.get_running_loop(), set[bytes | None]()
        for _ in range(_TURNS):
            before = self._taken.total()
            for path in self._taken.keys() - many:
                many.add(path)
                self._takers.update(loop.create_task(self._take(path)) for _ in range(_AT_ONCE))
            await asyncio.sleep(_TURN)
            if self._taken.total() == before:
                break
        for taker in self._takers:
            taker.add_done_callback(_over)

    async def _take(self, path: bytes | None) -> NoReturn:
        loop, name = asyncio.get_running_loop(), path.decode() if path else ""
        while True:
            taken = await (self._request_registered_call(path) if path else self._request_call())
            self._taken[path] += 1
            answer = _cygrpc._handle_rpc(name, self._resolver, (), taken, loop, False)
            call = loop.create_task(_cygrpc._schedule_rpc_coro(answer, taken, loop, name))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
            if self._reset:
                context = _cygrpc._ServicerContext(taken, None, None, loop)
                call.add_done_callback(partial(_ended, context, context.peer(), self._reset))


def _ended(context: Any, peer: str, reset: Callable[[str], None], _call: "asyncio.Task[None]") -> None:
    """Of an ended call only what the context itself keeps may be asked: the peer, for one, is gone with it."""
    late = (left := context.time_remaining()) is not None and left <= 0
    if not (context.done() or late):
        reset(peer)


def _over(taker: "asyncio.Task[NoReturn]") -> None:
    """Of a task that took calls: that the server has stopped is no error."""
    if not taker.cancelled():
        taker.exception()
