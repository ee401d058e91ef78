"""Health by gRPC's own protocol, grpc.health.v1, without a token."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from services.kit.errors import Failure, NotFound
from services.kit.status import refuse
from services.kit.underway import Underway

NAME = "grpc.health.v1.Health"
_EVERY = 1.0  # seconds between two looks of `Watch`


class Health:
    """Servicer of grpc.health.v1.Health: all services of a door have the door's status."""

    def __init__(self, names: Iterable[str], ready: Callable[[], bool]) -> None:
        self._names, self._ready = {"", *names}, ready

    def _status(self) -> Any:
        serving = health_pb2.HealthCheckResponse.SERVING
        return health_pb2.HealthCheckResponse(
            status=serving if self._ready() else health_pb2.HealthCheckResponse.NOT_SERVING
        )

    async def Check(self, request: Any, context: Any) -> Any:
        if request.service not in self._names:
            raise NotFound(f"there is no service {request.service[:200]}")
        return self._status()

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        last = None
        while True:
            status = await self.Check(request, context)
            if status != last:
                yield (last := status)
            await asyncio.sleep(_EVERY)


class HealthHandlers(grpc.GenericRpcHandler):
    """The handlers of an internal door, for container probes and load balancers."""

    def __init__(self, health: Health, underway: Underway) -> None:
        self._health, self._underway = health, underway
        codec = (health_pb2.HealthCheckRequest.FromString, health_pb2.HealthCheckResponse.SerializeToString)
        self._handlers = {
            f"/{NAME}/Check": grpc.unary_unary_rpc_method_handler(self._check, *codec),
            f"/{NAME}/Watch": grpc.unary_stream_rpc_method_handler(self._watch, *codec),
        }

    @property
    def paths(self) -> Collection[str]:
        """The full names of its methods."""
        return self._handlers.keys()

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        return self._handlers.get(details.method)

    async def _check(self, request: Any, context: Any) -> Any:
        try:
            return await self._health.Check(request, context)
        except Failure as failure:
            return await refuse(context, failure)

    async def _watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async for status in self._underway.each(self._health.Watch(request, context)):
                yield status
        except Failure as failure:
            await refuse(context, failure)
