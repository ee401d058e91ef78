"""The inference service, as the gateway calls it on the hot path."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol

from aimass.v1 import engines_pb2 as pb
from aimass.v1.engines_pb2_grpc import EnginesStub
from services.gateway.traffic.domain.tensors import Tensor
from services.kit.app import Runtime
from services.kit.auth import Principal, Scope
from services.kit.errors import Failure, Internal, NotFound
from services.kit.status import failure_from

log = logging.getLogger(__name__)


class Item(NamedTuple):
    """One request for one version. `deadline` is on the monotonic clock."""

    request_id: str
    deadline: float
    inputs: Sequence[Tensor]
    # Names of the outputs that are wanted; all if empty.
    outputs: Sequence[str]
    traceparent: str
    rows: int

    @property
    def size(self) -> int:
        """Bytes of its tensors."""
        return sum([len(tensor.raw) for tensor in self.inputs])


class Unloaded(Exception):
    """The version is not loaded (any more) where the gateway thought it was."""


Answer = list[Tensor] | Failure


class Engines(Protocol):
    """What runs models."""

    async def infer(self, scope: Scope, model: str, version: int, items: Sequence[Item]) -> list[Answer]:
        """An answer for each item, in their order. Raises Unloaded, or Failure when the whole call failed."""


class NearEngines:
    """The inference service of this process, asked without a message.

    Its items and tensors have the shape of ours. It keeps their deadlines; whose the scope is our own door has checked.
    """

    def __init__(self, run: Callable[..., Awaitable[list[Any]]]) -> None:
        self._run = run

    async def infer(self, scope: Scope, model: str, version: int, items: Sequence[Item]) -> list[Answer]:
        try:
            return await self._run(scope, model, version, items)
        except NotFound:
            raise Unloaded from None
        except (Failure, asyncio.CancelledError):
            raise
        except Exception:
            log.exception("unhandled error in a call of %s", model)
            raise Internal("internal error") from None


class Inference:
    """The inference service where it is: in this process, or behind its channel."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._found: Engines | None = None

    async def infer(self, scope: Scope, model: str, version: int, items: Sequence[Item]) -> list[Answer]:
        if self._found is None:
            run = self._runtime.near("inference", "infer")
            self._found = NearEngines(run) if run else RemoteEngines(self._runtime)
        return await self._found.infer(scope, model, version, items)


class RemoteEngines:
    """The inference service behind its channel."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._stub: Any = None

    async def infer(self, scope: Scope, model: str, version: int, items: Sequence[Item]) -> list[Answer]:
        if self._stub is None:
            self._stub = EnginesStub(self._runtime.channel("inference"))
        principal = Principal(scope, "service:gateway", ("models.infer",))
        alone = items[0].request_id if len(items) == 1 else ""
        metadata = self._runtime.metadata("inference", principal, alone)
        if alone and items[0].traceparent:
            metadata = (*metadata, ("traceparent", items[0].traceparent))
        now = time.monotonic()
        request = pb.InferManyRequest(model=model, version=version, items=[_to_wire(item, now) for item in items])
        timeout = max(item.deadline for item in items) - now
        try:
            reply = await self._stub.InferMany(request, timeout=max(timeout, 0.001), metadata=metadata)
        except NotFound:
            raise Unloaded from None
        return [_from_wire(result) for result in reply.results]


def _to_wire(item: Item, now: float) -> pb.InferItem:
    return pb.InferItem(
        request_id=item.request_id,
        deadline_ms=max(int((item.deadline - now) * 1000), 1),
        inputs=[pb.Tensor(name=t.name, datatype=t.datatype, shape=t.shape, raw=t.raw) for t in item.inputs],
        outputs=item.outputs,
        traceparent=item.traceparent,
    )


def _from_wire(result: pb.InferResult) -> Answer:
    if result.HasField("failure"):
        return failure_from(result.failure, result.failure_text)
    return [Tensor(t.name, t.datatype, tuple(t.shape), t.raw) for t in result.outputs]
