"""A gateway's traffic with a registry and an inference service that keep the contract and say what they are told to."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aimass.v1 import engines_pb2, gateway_events_pb2, inference_events_pb2, models_pb2, registry_events_pb2
from aimass.v1 import releases_pb2 as pb
from services.gateway.database import open_database, schema
from services.gateway.ledger.book import Quotabook
from services.gateway.ledger.events import usage_settled
from services.gateway.ledger.spending import Spending
from services.gateway.ledger.store.entries import Entries
from services.gateway.privacy.cleaner import Cleaner
from services.gateway.retries import Retries
from services.gateway.traffic.answers import Answers
from services.gateway.traffic.api import TrafficApi
from services.gateway.traffic.coalescing import Coalescer
from services.gateway.traffic.engines import RemoteEngines
from services.gateway.traffic.instances import Instances
from services.gateway.traffic.lanes import Limits
from services.gateway.traffic.service import Traffic
from services.gateway.traffic.substitutes import Substitutes
from services.kit.app import Runtime
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.errors import Code, NotFound, Unavailable
from services.kit.grpc_door import GrpcDoor
from services.kit.inbox import consume
from services.kit.outbox import Publisher
from services.kit.privacy.policies import Policies
from services.kit.relay import Relay
from services.kit.rpc import Call, guard
from services.kit.telemetry import Record
from tests.support.house import House
from tests.support.server import free_ports

ACME = Scope("acme")
LOADING, SERVING, WITHDRAWN = (
    pb.RELEASE_STATE_LOADING,
    pb.RELEASE_STATE_SERVING,
    pb.RELEASE_STATE_WITHDRAWN,
)
READY, GONE = engines_pb2.ENGINE_STATE_READY, engines_pb2.ENGINE_STATE_UNLOADING
FAILED = engines_pb2.ENGINE_STATE_FAILED


def signature(columns: int = 2) -> models_pb2.Signature:
    """`x` [rows, columns] FP32 and, for those who name it, `note` is not there; `y` [rows, 1] FP32 comes out."""
    return models_pb2.Signature(
        inputs=[models_pb2.TensorSpec(name="x", datatype="FP32", shape=[-1, columns])],
        outputs=[models_pb2.TensorSpec(name="y", datatype="FP32", shape=[-1, 1])],
    )


def version(number: int) -> pb.ReleasedVersion | None:
    """A version of the small model; 0: none."""
    return pb.ReleasedVersion(version=number, digest=f"sha256:{number}", signature=signature()) if number else None


def release(model: str, generation: int, state: Any, desired: int, serving: int = 0, previous: int = 0) -> pb.Release:
    """What the registry would say."""
    return pb.Release(
        model=model,
        generation=generation,
        state=state,
        desired=version(desired),
        serving=version(serving),
        previous=version(previous),
    )


@dataclass
class Registry:
    """Streams the releases that it holds."""

    releases: list[pb.TenantRelease] = field(default_factory=list)
    PromoteVersion = RollbackRelease = WithdrawRelease = GetRelease = ListReleases = None
    GetTraffic = UpdateTraffic = None

    async def SnapshotReleases(
        self, request: pb.SnapshotReleasesRequest, call: Call
    ) -> AsyncIterator[pb.TenantRelease]:
        for one in self.releases:
            yield one


@dataclass
class Inference:
    """Adds up the columns of each row. What lies above 1e6 fails alone; `gate` holds calls back."""

    loaded: set[tuple[str, str, int]] = field(default_factory=set)
    failed: set[tuple[str, str, int]] = field(default_factory=set)
    calls: list[int] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    broken: bool = False
    name: str = "i1"
    # Whether it answers what it has loaded, and whether its engine is there.
    speaks: asyncio.Event = field(default_factory=asyncio.Event)
    away: bool = False
    ListEngines = None

    def __post_init__(self) -> None:
        self.gate.set()
        self.speaks.set()

    async def SnapshotEngines(self, request: Any, call: Call) -> engines_pb2.SnapshotEnginesResponse:
        await self.speaks.wait()
        engines = [
            engines_pb2.TenantEngine(
                tenant=tenant,
                project="default",
                engine=engines_pb2.Engine(instance=self.name, model=model, version=number, state=state),
            )
            for versions, state in ((self.loaded, READY), (self.failed, FAILED))
            for tenant, model, number in sorted(versions)
        ]
        return engines_pb2.SnapshotEnginesResponse(instance=self.name, engines=engines)

    async def InferMany(self, request: engines_pb2.InferManyRequest, call: Call) -> engines_pb2.InferManyResponse:
        self.calls.append(len(request.items))
        await self.gate.wait()
        if self.away:
            raise Unavailable("the model's engine is away", retry_after=1)
        if (call.scope.tenant, request.model, request.version) not in self.loaded:
            raise NotFound("it is not loaded")
        if self.broken and len(request.items) > 1:
            raise RuntimeError("only one at a time")
        return engines_pb2.InferManyResponse(results=[_sum(item) for item in request.items])


def _sum(item: engines_pb2.InferItem) -> engines_pb2.InferResult:
    tensor = item.inputs[0]
    rows, columns = tensor.shape
    values = struct.unpack(f"<{rows * columns}f", tensor.raw)
    sums = [sum(values[row * columns : (row + 1) * columns]) for row in range(rows)]
    result = engines_pb2.InferResult(request_id=item.request_id)
    if max(sums) > 1e6:
        result.failure.code = Code.INVALID_VALUE.text
        result.failure_text = "x is too large"
    else:
        raw = struct.pack(f"<{rows}f", *sums)
        result.outputs.append(engines_pb2.Tensor(name="y", datatype="FP32", shape=[rows, 1], raw=raw))
    return result


class Peers(House):
    """The running parts."""

    def __init__(self, runtime: Runtime, registry: Registry, inference: Inference, limits: Limits) -> None:
        self.runtime, self.registry, self.inference = runtime, registry, inference
        self.database = open_database("", runtime.home)
        self.records: list[Record] = []
        publisher = Publisher(self.database, schema.outbox)
        instances = Instances(runtime.directory)
        remote = RemoteEngines(runtime, instances, Retries())
        coalescer, self.answers = Coalescer(remote, limits), Answers(runtime.cache)
        instead, record = Substitutes(self.answers), self.records.append
        # Nothing is limited or filtered here, and what is used is counted without being settled.
        entries = Entries(self.database, usage_settled)
        spending, cleaner = Spending(entries, Quotabook(), runtime.instance), Cleaner(Policies(lambda purpose: b""))
        own = runtime.instance, runtime.now
        self.traffic = Traffic(publisher, coalescer, record, *own, instead, spending, cleaner, guards={})
        remote.having, remote.lost = self.traffic.having, self.traffic.lost
        remote.by = self.traffic.balancer
        self.api = TrafficApi(self.traffic, instances, runtime, schema.inbox)

    async def start(self) -> None:
        runtime = self.runtime
        await runtime.bus.start()
        await self.database.start()
        schema.tenure.bind(self.database, runtime.instance)
        runtime.spawn(Relay(schema.outbox, schema.tenure, self.database, runtime.bus).run())
        runtime.spawn(consume(runtime.bus, self.api.listener, f"gateway-{runtime.instance}", runtime.now))
        runtime.spawn(self.api.follow())
        runtime.spawn(self.api.watch())

    async def stop(self) -> None:
        await self.runtime.stop_tasks()
        await self.runtime.directory.close()
        self.database.close()
        await self.runtime.bus.close()

    async def say_release(self, release: pb.Release, tenant: str = "acme") -> None:
        """The registry changes a release."""
        message = registry_events_pb2.ReleaseChanged(release=release, generation=release.generation)
        await self.publish(message, "models", release.model, tenant)

    async def say_engine(self, model: str, number: int, state: Any = READY, tenant: str = "acme") -> None:
        """The inference service loads or unloads a version."""
        key = (tenant, model, number)
        (self.inference.loaded.add if state == READY else self.inference.loaded.discard)(key)
        engine = engines_pb2.Engine(instance="i1", model=model, version=number, state=state)
        await self.publish(inference_events_pb2.EngineChanged(engine=engine), "models", model, tenant)

    async def applied(self) -> list[tuple[str, int, int]]:
        """What was reported so far: model, generation, version."""
        events = await self.runtime.bus.reader(["aimass.gateway.v1"], f"applied-{id(object())}")
        found: list[Event] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                while True:
                    found += await events.poll(100)
        heard = [gateway_events_pb2.ReleaseApplied.FromString(event.body) for event in found]
        return [(one.model, one.generation, one.version) for one in heard]


@contextlib.asynccontextmanager
async def peers(
    home: Path,
    *loaded: tuple[str, str, int],
    releases: list[pb.Release] | None = None,
    limits: Limits | None = None,
    **env: str,
) -> AsyncIterator[Peers]:
    """A gateway's traffic with its peers; versions that are loaded, and acme's releases; settings as keywords."""
    runtime = Runtime(("gateway", "registry", "inference"), {"AIMASS_HOME": str(home)} | env)
    listed = [pb.TenantRelease(tenant="acme", project="default", release=one) for one in releases or ()]
    registry, inference = Registry(listed), Inference(set(loaded))
    for name, service, servicer in (
        ("registry", "aimass.v1.Releases", registry),
        ("inference", "aimass.v1.Engines", inference),
    ):
        runtime.directory.local[name].serve(guard({service: servicer}, runtime.identity, name, runtime.now, None))
    running = Peers(runtime, registry, inference, limits or Limits())
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


@contextlib.asynccontextmanager
async def scattered(
    home: Path, *loaded: tuple[str, str, int], releases: list[pb.Release]
) -> AsyncIterator[tuple[Peers, list[Inference]]]:
    """The same with two inference instances, i0 and i1, at addresses of their own; both have loaded the same."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    env = {"AIMASS_HOME": str(home), "AIMASS_DISCOVERY_URL": f"static:inference={'|'.join(addresses)}"}
    runtime = Runtime(("gateway", "registry"), env)
    registry = Registry([pb.TenantRelease(tenant="acme", project="default", release=one) for one in releases])
    guarded = guard({"aimass.v1.Releases": registry}, runtime.identity, "registry", runtime.now, None)
    runtime.directory.local["registry"].serve(guarded)
    found = [Inference(set(loaded), name=f"i{number}") for number in range(2)]
    async with contextlib.AsyncExitStack() as ends:
        for address, one in zip(addresses, found, strict=True):
            offered = guard({"aimass.v1.Engines": one}, runtime.identity, "inference", runtime.now, None)
            door = GrpcDoor(address, offered)
            await door.open()
            ends.push_async_callback(door.close, 0)
        running = Peers(runtime, registry, found[0], Limits(calls=1))
        await running.start()
        ends.push_async_callback(running.stop)
        yield running, found
