"""gRPC reflection and health, for callers with a valid key."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import grpc
from google.protobuf.descriptor_pool import Default
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from services.kit.health import NAME, Health


class _Collected:
    """Collects the handlers that generated code would add to a server."""

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


def handlers(
    names: Sequence[str], pools: Sequence[Any], ready: Callable[[], bool]
) -> "dict[str, grpc.RpcMethodHandler[Any, Any]]":
    """Handlers of both services by path; `pools` describe services that are not in the default one."""
    collected = _Collected()
    services = [*names, reflection.SERVICE_NAME, NAME]
    servicer = reflection.aio.ReflectionServicer(services, pool=Pools([Default(), *pools]))
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, collected)
    health_pb2_grpc.add_HealthServicer_to_server(Health(names, ready), collected)
    return collected.handlers
