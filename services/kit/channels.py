"""Channels to services in other processes: calls find an instance, statuses become failures, all have deadlines."""

import time
from collections.abc import AsyncIterator, Collection, Iterable
from typing import TYPE_CHECKING, Any

import orjson
from grpc import StatusCode, aio

from services.kit import contract, telemetry
from services.kit.balancing import Balancer
from services.kit.breaker import Outcome
from services.kit.calls import CallTable
from services.kit.errors import DeadlineExceeded, Disconnected, Failure
from services.kit.frames import Line
from services.kit.member import Instance, Member, connector
from services.kit.pool import Pool
from services.kit.status import FAIR, failure_of, outcome_by, outcome_of

if TYPE_CHECKING:
    from services.kit.tls import Credentials

Metadata = Iterable[tuple[str, str]]
_HOP = 0.01  # seconds of a deadline that are kept for the way back


class BalancedChannel:
    """Calls of a service by whichever instance is best for each. Has the four methods that generated stubs use."""

    def __init__(self, pool: Pool, calls: CallTable | None = None) -> None:
        """`calls` says how long a call may take."""
        self._pool, self.service, self._calls = pool, pool.service, calls or CallTable()

    def unary_unary(
        self, path: str, request_serializer: Any = None, response_deserializer: Any = None, **_: Any
    ) -> Any:
        return self._single("unary_unary", path, request_serializer, response_deserializer)

    def stream_unary(
        self, path: str, request_serializer: Any = None, response_deserializer: Any = None, **_: Any
    ) -> Any:
        return self._single("stream_unary", path, request_serializer, response_deserializer)

    def unary_stream(
        self, path: str, request_serializer: Any = None, response_deserializer: Any = None, **_: Any
    ) -> Any:
        return self._many("unary_stream", path, request_serializer, response_deserializer)

    def stream_stream(
        self, path: str, request_serializer: Any = None, response_deserializer: Any = None, **_: Any
    ) -> Any:
        return self._many("stream_stream", path, request_serializer, response_deserializer)

    def _single(self, *method: Any) -> Any:
        def call(request: Any, timeout: float | None = None, metadata: Any = ()) -> "RemoteCall":
            return RemoteCall(self, method, request, self._deadline(method[1], timeout), metadata)

        return call

    def _many(self, *method: Any) -> Any:
        async def call(request: Any, timeout: float | None = None, metadata: Any = ()) -> AsyncIterator[Any]:
            until = time.monotonic() + self._deadline(method[1], timeout)
            member = await self.member(until - time.monotonic(), method[1])
            ticket, outcome = member.begin(), Outcome.UNKNOWN
            try:
                sent = member.method(*method)(request, timeout=_left(until), metadata=_traced(metadata))
                async for item in sent:
                    outcome = Outcome.WELL
                    yield item
                outcome = Outcome.WELL
            except aio.AioRpcError as error:
                outcome = Outcome.WELL if error.code() is StatusCode.DEADLINE_EXCEEDED else outcome_of(error, 0.0)
                raise failure_of(error, self.service) from None
            finally:
                member.end(ticket, outcome)

        return call

    async def member(self, seconds: float, path: str) -> Member:
        """The instance for a call of a method. Raises unavailable."""
        by = self._pool.by(path)
        return self._pool.choose(None, by) or await self._pool.wait(seconds, None, by)

    def _deadline(self, path: str, timeout: float | None) -> float:
        method = contract.all_methods().get(path)
        longest = self._calls.deadline(method) if method else 10.0
        return min(timeout or longest, longest)

    async def close(self) -> None:
        """Closes the connections of the pool."""
        await self._pool.close()


class SomeChannel(BalancedChannel):
    """Calls of some instances of a service, by their ids."""

    def __init__(
        self,
        pool: Pool,
        among: Collection[str],
        calls: CallTable | None = None,
        by: Balancer[Member] | None = None,
        chosen: Member | None = None,
    ) -> None:
        """`by` chooses among them; None: the balancer of the method. `chosen`: the choice has been made."""
        super().__init__(pool, calls)
        self._among, self._by, self._chosen = among, by, chosen
        # The id of the last instance that was chosen; empty before.
        self.picked = ""

    async def member(self, seconds: float, path: str) -> Member:
        by = self._by or self._pool.by(path)
        found = self._chosen or self._pool.choose(self._among, by) or await self._pool.wait(seconds, self._among, by)
        self.picked = found.instance.id
        return found

    def of(self, chosen: Member) -> "SomeChannel":
        """The channel to an instance that it has chosen."""
        return SomeChannel(self._pool, self._among, self._calls, chosen=chosen)


class RemoteChannel(BalancedChannel):
    """Calls of the one process at an address."""

    def __init__(self, address: str, service: str, credentials: "Credentials | None" = None) -> None:
        """`service` is the name in error texts, and with credentials what the other side has to be."""
        super().__init__(Pool(service, [Instance(address, address)], connector(credentials)))

    def renew(self) -> None:
        """A new connection for new calls, as when certificates have changed."""
        self._pool.renew()


class RemoteCall:
    """A call under way: await it for the reply, then ask for its trailers."""

    def __init__(self, channel: BalancedChannel, method: Any, request: Any, seconds: float, metadata: Any) -> None:
        self._channel, self._method, self._request = channel, method, request
        self._seconds, self._metadata = seconds, metadata
        self._call: Any = None

    def __await__(self) -> Any:
        return self._wait().__await__()

    async def _wait(self) -> Any:
        until = time.monotonic() + self._seconds
        member = await self._channel.member(self._seconds, self._method[1])
        ticket, outcome, began = member.begin(), Outcome.UNKNOWN, time.monotonic()
        try:
            seconds = _left(until)
            send = member.method(*self._method)
            self._call = send(self._request, timeout=seconds, metadata=_traced(self._metadata))
            reply = await self._call
            outcome = Outcome.WELL
            return reply
        except aio.AioRpcError as error:
            outcome = outcome_of(error, seconds)
            raise failure_of(error, self._channel.service) from None
        finally:
            member.end(ticket, outcome, began)

    async def trailing_metadata(self) -> Any:
        return await self._call.trailing_metadata()


async def framed(line: Line, member: Member, metadata: Metadata, message: bytes, timeout: float) -> bytes:
    """The reply to a message that is sent by frames. Raises its failure, deadline_exceeded, or Disconnected."""
    line.alive = lambda: member.connected
    ticket, outcome, began = member.begin(), Outcome.UNKNOWN, time.monotonic()
    seconds = _left(began + timeout)
    try:
        reply = await line.call(orjson.dumps(dict(_traced(metadata))), message, seconds)
        outcome = Outcome.WELL
        return reply
    except Disconnected:
        outcome = Outcome.LOST
        raise
    except DeadlineExceeded:
        outcome = Outcome.BADLY if seconds >= FAIR else Outcome.UNKNOWN
        raise
    except Failure as failure:
        outcome = outcome_by(failure.code)
        raise
    finally:
        member.end(ticket, outcome, began)


def _left(until: float) -> float:
    """The timeout of the other side: what is left, less the way back."""
    left = until - time.monotonic()
    return max(left - _HOP, left / 2, 0.001)


def _traced(metadata: Any) -> tuple[tuple[str, str], ...]:
    sent = tuple(metadata or ())
    trace = telemetry.traceparent()
    return (*sent, ("traceparent", trace)) if trace and not any(key == "traceparent" for key, _ in sent) else sent
