"""gRPC reflection and health, for callers who have a key."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import grpc
from google.protobuf.descriptor_pool import Default
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from services.kit.errors import NotFound

_EVERY = 1.0  # seconds between looks of those who watch


class _Collected:
    """Takes what generated code would add to a server."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: Iterable[Any]) -> None:
        """The registered handlers are the same, by method."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        self.handlers |= {f"/{service}/{name}": handler for name, handler in handlers.items()}


class Pools:
    """Several descriptor pools as one, for reading."""

    def __init__(self, pools: Sequence[Any]) -> None:
        self._pools = pools

    def __getattr__(self, name: str) -> Any:
        def look(*arguments: Any) -> Any:
            for pool in self._pools[:-1]:
                try:
                    return getattr(pool, name)(*arguments)
                except KeyError:
                    continue
            return getattr(self._pools[-1], name)(*arguments)

        return look


class Health:
    """Servicer of grpc.health.v1.Health: a public service is as ready as the process."""

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


def handlers(
    names: Sequence[str], pools: Sequence[Any], ready: Callable[[], bool]
) -> "dict[str, grpc.RpcMethodHandler[Any, Any]]":
    """Handlers of both services by path; `pools` describe services that are not in the default one."""
    collected = _Collected()
    services = [*names, reflection.SERVICE_NAME, "grpc.health.v1.Health"]
    servicer = reflection.aio.ReflectionServicer(services, pool=Pools([Default(), *pools]))
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, collected)
    health_pb2_grpc.add_HealthServicer_to_server(Health(names, ready), collected)
    return collected.handlers
