"""Calls of the inference service, on the hot path."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from aimass.v1 import engines_pb2 as pb
from services.gateway.retries import ATTEMPT, Retries
from services.gateway.traffic.instances import Instances
from services.gateway.traffic.joining import Joined, join, split
from services.kit.app import Runtime
from services.kit.auth import Principal, Scope
from services.kit.balancing import Balancer
from services.kit.channels import Metadata, SomeChannel, framed
from services.kit.errors import Disconnected, Failure, Internal, NotFound, Unavailable
from services.kit.frames import Line, Lines
from services.kit.member import Member
from services.kit.status import failure_from
from services.kit.tensors import Tensor

log = logging.getLogger(__name__)
_PATH = "/aimass.v1.Engines/InferMany"
_ENCODE, _DECODE = pb.InferManyRequest.SerializeToString, pb.InferManyResponse.FromString


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
        if len(self.inputs) == 1:
            return len(self.inputs[0].raw)
        return sum([len(tensor.raw) for tensor in self.inputs])


class Unloaded(Exception):
    """The version is not loaded (any more) where the gateway thought it was."""


Answer = list[Tensor] | Failure


class Engines(Protocol):
    """Port: runs models."""

    async def infer(self, scope: Scope, model: str, version: int, items: Sequence[Item]) -> list[Answer]:
        """An answer for each item, in their order. Raises Unloaded, or Failure when the whole call failed."""


class NearEngines:
    """The inference service of this process, asked without a message.

    Its items and tensors have the shape of ours. It keeps their deadlines; our door has checked the caller's scope.
    """

    def __init__(self, run: Callable[..., Awaitable[list[Any]]], joined: Callable[..., Awaitable[Any]]) -> None:
        """`joined` runs what is one table, as `join` makes it."""
        self._run, self._joined = run, joined

    async def infer(self, scope: Scope, model: str, version: int, items: Sequence[Item]) -> list[Answer]:
        try:
            if (table := join(items)) is None:
                return await self._run(scope, model, version, items)
            whole, answers = await self._joined(scope, model, version, table)
            return answers if whole is None else list(split(table.rows, whole))
        except NotFound:
            raise Unloaded from None
        except (Failure, asyncio.CancelledError):
            raise
        except Exception:
            log.exception("unhandled error in a call of %s", model)
            raise Internal("internal error") from None


class Inference:
    """The inference service where it is: in this process, or behind its channels."""

    def __init__(self, runtime: Runtime, remote: "RemoteEngines") -> None:
        self._runtime, self._remote = runtime, remote
        self._found: Engines | None = None

    async def infer(self, scope: Scope, model: str, version: int, items: Sequence[Item]) -> list[Answer]:
        if self._found is None:
            run, joined = self._runtime.near("inference", "infer"), self._runtime.near("inference", "infer_joined")
            self._found = NearEngines(run, joined) if run and joined else self._remote
        return await self._found.infer(scope, model, version, items)


class RemoteEngines:
    """The inference service in other processes: an instance that has the version, another one when a call is lost."""

    def __init__(self, runtime: Runtime, instances: Instances, retries: Retries) -> None:
        self._runtime, self._instances, self._retries = runtime, instances, retries
        self._lines = Lines("inference")
        # The instances that have a version loaded, and what to call for one that turned out not to. Set by the table.
        self.having: Callable[[Scope, str, int], Collection[str]] = lambda scope, model, version: ()
        self.lost: Callable[[Scope, str, int, str], None] = lambda scope, model, version, instance: None
        # The balancer of a model; None: the default one. Set by the table.
        self.by: Callable[[Scope, str], Balancer[Member] | None] = lambda scope, model: None

    async def infer(self, scope: Scope, model: str, version: int, items: Sequence[Item]) -> list[Answer]:
        pool = self._runtime.directory.pool("inference")
        if pool is None:
            return await self._ask(self._runtime.channel("inference"), scope, model, version, items)
        until = max(item.deadline for item in items)
        tried, lacking, attempt = set[str](), set[str](), 1
        self._retries.asked()
        by = self.by(scope, model)
        while places := self._instances.at(self.having(scope, model, version)) - lacking:
            channel = self._runtime.directory.some(pool, places - tried or places, by)
            try:
                return await self._ask(channel, scope, model, version, items, attempt)
            except Unloaded:
                lacking.add(channel.picked)
                self.lost(scope, model, version, self._instances.id(channel.picked))
            except Unavailable as failure:
                # A prediction has no effect, so it may be repeated: a lost call anywhere, another failure elsewhere.
                tried |= {channel.picked} if channel.picked else places
                others = self._instances.at(self.having(scope, model, version)) - lacking - tried
                again = bool(others) or isinstance(failure, Disconnected)
                if not (again and await self._retries.again(attempt, until)):
                    raise
                attempt += 1
        raise Unloaded

    async def _ask(
        self, channel: Any, scope: Scope, model: str, version: int, items: Sequence[Item], attempt: int = 1
    ) -> list[Answer]:
        principal = _speaker(scope)
        alone = items[0].request_id if len(items) == 1 else ""
        metadata = self._runtime.metadata("inference", principal, alone)
        if alone and items[0].traceparent:
            metadata = (*metadata, ("traceparent", items[0].traceparent))
        if attempt > 1:
            metadata = (*metadata, (ATTEMPT, str(attempt)))
        try:
            return await self._call(channel, pb.InferManyRequest(model=model, version=version), items, metadata)
        except NotFound:
            raise Unloaded from None

    async def _call(
        self, channel: Any, request: pb.InferManyRequest, items: Sequence[Item], metadata: Metadata
    ) -> list[Answer]:
        """Calls by frames where the instance takes them, with joined items where they can be; else over gRPC."""
        now = time.monotonic()
        timeout = max(max([item.deadline for item in items]) - now, 0.001)
        member = await channel.member(timeout, _PATH) if isinstance(channel, SomeChannel) else None
        line = self._line(member) if member else None
        table = join(items) if line else None
        if table:
            request.joined.CopyFrom(_joined_to_wire(table, now))
        else:
            request.items.extend([_item_to_wire(item, now) for item in items])
        if line and member:
            reply = _DECODE(await framed(line, member, metadata, request.SerializeToString(), timeout))
        else:
            chosen = channel.of(member) if member else channel
            call = chosen.unary_unary(_PATH, _ENCODE, _DECODE)
            reply = await call(request, timeout=timeout, metadata=metadata)
        if table and reply.joined:
            return list(split(table.rows, tensors_from_wire(reply.joined)))
        return [_answer_from_wire(result) for result in reply.results]

    def _line(self, member: Member) -> Line | None:
        if not (port := self._instances.frames_port(member.instance.id)):
            return None
        return self._lines.to(member.instance.address.rpartition(":")[0].strip("[]"), port)

    async def close(self) -> None:
        """Ends the lines."""
        await self._lines.close()


@lru_cache(maxsize=1024)
def _speaker(scope: Scope) -> Principal:
    return Principal(scope, "service:gateway", ("models.infer",))


def _item_to_wire(item: Item, now: float) -> pb.InferItem:
    return pb.InferItem(
        request_id=item.request_id,
        deadline_ms=max(int((item.deadline - now) * 1000), 1),
        inputs=tensors_to_wire(item.inputs),
        outputs=item.outputs,
        traceparent=item.traceparent,
    )


def _joined_to_wire(table: Joined, now: float) -> pb.InferJoined:
    left = [max(int((deadline - now) * 1000), 1) for deadline in table.deadlines]
    inputs = tensors_to_wire(table.inputs)
    return pb.InferJoined(rows=table.rows, deadlines_ms=left, inputs=inputs, outputs=table.outputs)


def tensors_to_wire(tensors: Iterable[Tensor]) -> list[pb.Tensor]:
    """Tensors as messages."""
    return [pb.Tensor(name=t.name, datatype=t.datatype, shape=t.shape, raw=t.raw) for t in tensors]


def tensors_from_wire(tensors: Iterable[pb.Tensor]) -> list[Tensor]:
    """Messages as tensors."""
    return [Tensor(t.name, t.datatype, tuple(t.shape), t.raw) for t in tensors]


def _answer_from_wire(result: pb.InferResult) -> Answer:
    if result.HasField("failure"):
        return failure_from(result.failure, result.failure_text)
    return tensors_from_wire(result.outputs)
