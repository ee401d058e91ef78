"""The near bus of another process, over gRPC, and the servicer that offers this process's bus to others."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from google.protobuf.empty_pb2 import Empty

from aimass.v1 import bus_pb2 as pb
from aimass.v1.bus_pb2_grpc import BusStub
from services.kit.auth import SYSTEM, Identity, Scope, service_principal
from services.kit.bus import Event, NearBus
from services.kit.channels import RemoteChannel
from services.kit.errors import Code, Failure
from services.kit.rpc import Call

if TYPE_CHECKING:
    from services.kit.tls import Credentials

_PERMISSIONS = ("bus.publish", "bus.read")
_PAUSE = 0.2  # seconds between tries to reach the bus
_AWAY = (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)
_STALE = 5.0  # seconds after which a token may have expired while its call waited for the bus


class RemoteBus:
    """Publishes to and reads from the bus at grpc://host:port."""

    def __init__(self, url: str, identity: Identity, service: str, credentials: "Credentials | None" = None) -> None:
        """`service` is the name that this process authenticates with."""
        self._channel = RemoteChannel(url.removeprefix("grpc://"), "bus", credentials)
        self._stub, self._identity, self._service = BusStub(cast(Any, self._channel)), identity, service

    async def start(self) -> None:
        """Nothing: calls wait until the other process is there."""

    async def publish(self, events: Sequence[Event]) -> None:
        if events:
            request = pb.PublishRequest(events=[_to_wire(event) for event in events])
            await self._stub.Publish(request, metadata=self.metadata())

    async def reader(self, topics: Sequence[str], group: str, from_end: bool = False) -> "RemoteReader":
        return RemoteReader(self, list(topics), group, from_end)

    async def lag(self) -> dict[str, int]:
        """Nothing: the process that has the log reports it."""
        return {}

    def fetch(self, request: pb.FetchRequest) -> Any:
        """A stream of the events that a group has not committed."""
        return self._stub.Fetch(request, metadata=self.metadata())

    async def commit(self, request: pb.CommitRequest) -> None:
        await self._stub.Commit(request, metadata=self.metadata())

    def metadata(self) -> Any:
        """A fresh token of this process for the bus."""
        principal = service_principal(self._service, Scope(SYSTEM), _PERMISSIONS)
        return (("authorization", f"Bearer {self._identity.token('bus', principal)}"),)

    def renew(self) -> None:
        """Opens a new connection for new calls, after certificates have changed."""
        self._channel.renew()

    async def close(self) -> None:
        await self._channel.close()


class RemoteReader:
    """A group's stream of events; one that breaks is opened again, after what was committed."""

    def __init__(self, bus: RemoteBus, topics: list[str], group: str, from_end: bool) -> None:
        self._bus, self._topics, self._group, self._from_end = bus, topics, group, from_end
        self._stream: Any = None
        self._begun = 0.0

    async def poll(self, limit: int) -> list[Event]:
        """Waits for a bus that is unavailable as well; raises other failures."""
        while True:
            if self._stream is None:
                request = pb.FetchRequest(topics=self._topics, group=self._group, limit=limit, from_end=self._from_end)
                self._stream, self._begun = self._bus.fetch(request), time.monotonic()
            try:
                return [_from_wire(event) for event in (await anext(self._stream)).events]
            except StopAsyncIteration:
                self._stream = None
            except Failure as failure:
                self._stream = None
                if failure.code not in _AWAY and not self._stale(failure):
                    raise
            await asyncio.sleep(_PAUSE)

    def _stale(self, failure: Failure) -> bool:
        return failure.code is Code.TOKEN_INVALID and time.monotonic() - self._begun > _STALE

    async def commit(self, events: Sequence[Event]) -> None:
        await self._bus.commit(pb.CommitRequest(group=self._group, events=[_place(event) for event in events]))

    async def close(self) -> None:
        """Ends with the channel."""


class BusApi:
    """Servicer of the bus of this process."""

    def __init__(self, bus: NearBus) -> None:
        self._bus, self._ended = bus, False
        self._polling: set[asyncio.Future[list[Event]]] = set()

    def end(self) -> None:
        """Ends the streams: a door that closes would wait for them."""
        self._ended = True
        for polling in self._polling:
            polling.cancel()

    async def Publish(self, request: pb.PublishRequest, call: Call) -> Empty:
        await self._bus.publish([_from_wire(event) for event in request.events])
        return Empty()

    async def Fetch(self, request: pb.FetchRequest, call: Call) -> AsyncIterator[pb.FetchResponse]:
        reader = await self._bus.reader(list(request.topics), request.group, request.from_end)
        while not self._ended:
            polling = asyncio.ensure_future(reader.poll(min(request.limit or 100, 1000)))
            self._polling.add(polling)
            try:
                events = await polling
            except asyncio.CancelledError:
                if self._ended:
                    return
                raise
            finally:
                self._polling.discard(polling)
            yield pb.FetchResponse(events=[_to_wire(event) for event in events])

    async def Commit(self, request: pb.CommitRequest, call: Call) -> Empty:
        await self._bus.commit(request.group, [_from_wire(event) for event in request.events])
        return Empty()


def _to_wire(event: Event) -> pb.BusEvent:
    return pb.BusEvent(topic=event.topic, key=event.key, body=event.body, headers=event.headers, offset=event.offset)


def _place(event: Event) -> pb.BusEvent:
    return pb.BusEvent(topic=event.topic, offset=event.offset, partition=event.partition)


def _from_wire(event: pb.BusEvent) -> Event:
    return Event(event.topic, event.key, event.body, dict(event.headers), event.offset, event.partition)
