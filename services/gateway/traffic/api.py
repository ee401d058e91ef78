"""Events and snapshots of releases and engines, from the registry and from inference."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable

from google.protobuf.message import Message

from aimass.v1 import engines_pb2, inference_events_pb2, models_pb2, registry_events_pb2, releases_pb2
from aimass.v1.engines_pb2_grpc import EnginesStub
from aimass.v1.releases_pb2_grpc import ReleasesStub
from services.gateway.traffic.domain.ladder import Ladder
from services.gateway.traffic.domain.routing import Release, Version
from services.gateway.traffic.domain.sharing import Rule, Share
from services.gateway.traffic.domain.tensors import Signature
from services.gateway.traffic.instances import Instances
from services.gateway.traffic.service import Traffic
from services.gateway.traffic.table import Loaded
from services.kit.app import Runtime
from services.kit.auth import SYSTEM, Scope
from services.kit.balancing import Way
from services.kit.config import ConfigError
from services.kit.errors import Failure, Unavailable
from services.kit.inbox import Delivery, Handler, Inbox, Listener
from services.kit.tensors import Spec

log = logging.getLogger(__name__)
_BALANCING = {
    releases_pb2.BALANCING_POWER_OF_TWO: Way.POWER_OF_TWO,
    releases_pb2.BALANCING_LEAST_CONNECTIONS: Way.LEAST_CONNECTIONS,
    releases_pb2.BALANCING_ROUND_ROBIN: Way.ROUND_ROBIN,
    releases_pb2.BALANCING_WEIGHTED: Way.WEIGHTED,
}
_RETRY = 0.5  # seconds between tries of the first snapshot, and until the second; then twice as long each time
_ANSWER = 5.0  # seconds that an instance may take to say what it has
_OTHERS = 1.0  # seconds that it may take when another has answered
_LOOK = 0.1  # seconds between looks at the instances; one that leaves may close its door two seconds later
_AGAIN = 30.0  # seconds until the table is compared with its sources again, should an event have been lost
_SLOW = 4.0  # the same while an instance that can be reached did not say in time what it has
_PATIENCE = 10.0  # seconds that a gateway which has begun is not ready because what serves is still being loaded


class TrafficApi:
    """Keeps the table of routes as the registry and the inference service say."""

    def __init__(self, traffic: Traffic, instances: Instances, runtime: Runtime, inbox: Inbox) -> None:
        self._traffic, self._instances, self._runtime = traffic, instances, runtime
        # What served when the table was first complete, and was not loaded, each with the instances that could not load
        # it; and until when that is waited for.
        self._awaited, self._until = dict[Loaded, set[str]](), 0.0
        heard: dict[type[Message], Handler] = {
            registry_events_pb2.ReleaseChanged: self.release_changed,
            inference_events_pb2.EngineChanged: self.engine_changed,
        }
        self.listener = Listener(heard, inbox, broadcast=True)

    def ready(self) -> bool:
        """The table has been complete once, and what served then is loaded, could be loaded nowhere, or takes long.

        From then on the table is used as it is, also when its sources are away.
        """
        if self._awaited:
            patient = time.monotonic() < self._until
            self._awaited = {
                one: failed for one, failed in self._awaited.items() if patient and self._waits(one, failed)
            }
        return self._traffic.whole and not self._awaited

    def _waits(self, one: Loaded, failed: set[str]) -> bool:
        """Whether a version is loaded nowhere, and an instance is there that may still load it."""
        tried = bool(failed) and self._instances.at(failed) >= set(self._instances.places())
        return self._traffic.lacks(one) and not tried

    def _fail(self, one: Loaded, instance: str) -> None:
        if one in self._awaited:
            self._awaited[one].add(instance)

    async def release_changed(self, message: registry_events_pb2.ReleaseChanged, delivery: Delivery) -> None:
        expected = self._instances.connected()
        await self._traffic.release_changed(delivery.scope, release_from_wire(message.release), expected)

    async def engine_changed(self, message: inference_events_pb2.EngineChanged, delivery: Delivery) -> None:
        engine = message.engine
        ready, failed = engine.state == engines_pb2.ENGINE_STATE_READY, engine.state == engines_pb2.ENGINE_STATE_FAILED
        loaded = Loaded(delivery.scope, engine.model, engine.version)
        if failed:
            self._fail(loaded, engine.instance)
        await self._traffic.engine_changed(loaded, engine.instance, ready, failed)

    async def follow(self) -> None:
        """Takes snapshots for ever: until the first succeeds, when the table turned out wrong, and at intervals."""
        rest = _RETRY
        while True:
            try:
                whole = await self.take_snapshot()
            except Failure as failure:
                log.info("the table of releases waits: %s", failure)
                await asyncio.sleep(_RETRY)
                continue
            except ConfigError as error:
                # A gateway without registry or inference forwards what there is; it has no predictions to be ready for.
                log.warning("no predictions here: %s", error)
                self._traffic.whole = True
                return
            # The listener begins to hear somewhat later than the first snapshot; how much later is the bus's to say. So
            # others follow soon, and what it missed is made up for within as long as it took.
            if not self._traffic.whole:
                self._traffic.whole, self._awaited = True, {one: set() for one in self._traffic.lacking()}
                self._until = time.monotonic() + _PATIENCE
            await self._rest(rest if self.ready() else _RETRY)
            rest = min(2 * rest, _AGAIN if whole else _SLOW)

    async def _rest(self, seconds: float) -> None:
        stale = self._traffic.stale
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # not wait_for: that of Python 3.11 can lose a cancellation
                await stale.wait()
            await asyncio.sleep(_LOOK)  # what else turns out at once is asked for together
        stale.clear()

    async def watch(self) -> None:
        """Follows instances that come and go; in one process with inference there are none."""
        directory, seen = self._runtime.directory, frozenset[str]()
        while "inference" not in directory.local:
            if self._instances.joined():
                self._traffic.stale.set()
            try:
                if seen != (places := frozenset(self._instances.places())):
                    await self._traffic.only(self._instances.known())
                    self._traffic.stale.set()
                    seen = places
                await self._traffic.hurry(time.monotonic())
            except Failure as failure:
                # The routes have changed, but the registry does not know: the next snapshot tells it again.
                log.info("the registry is told later: %s", failure)
                self._traffic.stale.set()
                await asyncio.sleep(_RETRY)
            await asyncio.sleep(_LOOK)

    async def take_snapshot(self) -> bool:
        """Asks for all releases, and each instance for what it has loaded; whether all that can be reached have said.

        Raises Failure when the registry is away or no instance answers; of one that does not, what was known goes on.
        """
        traffic, system = self._traffic, Scope(SYSTEM)
        traffic.begin_snapshot()
        as_gateway = self._runtime.as_service("gateway", "registry", system, "releases.snapshot")
        registry = ReleasesStub(self._runtime.channel("registry"))
        asked = registry.SnapshotReleases(releases_pb2.SnapshotReleasesRequest(), metadata=as_gateway)
        async for found in asked:
            scope, release = Scope(found.tenant, found.project), release_from_wire(found.release)
            await traffic.release_changed(scope, release, self._instances.connected())
        self._runtime.channel("inference")  # raises when it is known to be nowhere
        answers = await self._answers()
        for place, answer in answers.items():
            if not isinstance(answer, BaseException):
                self._instances.met(place, answer.instance, answer.frames_port)
                await traffic.take_snapshot(answer.instance, _in_state(answer, engines_pb2.ENGINE_STATE_READY))
                for one in _in_state(answer, engines_pb2.ENGINE_STATE_FAILED):
                    self._fail(one, answer.instance)
        await traffic.only(self._instances.known())
        failures = {place: answer for place, answer in answers.items() if isinstance(answer, BaseException)}
        if len(failures) == len(answers):
            raise next(iter(failures.values()), Unavailable("no inference instance is there"))
        return self._instances.reached().isdisjoint(failures)

    async def _answers(self) -> dict[str, engines_pb2.SnapshotEnginesResponse | BaseException]:
        """The snapshot of each place. Once one has answered, the others have little time."""
        asked = {place: asyncio.ensure_future(self._ask(place)) for place in self._instances.places()}
        try:
            if asked:
                await asyncio.wait(asked.values(), timeout=_OTHERS)
            if not any(task.done() and not task.exception() for task in asked.values()):
                await asyncio.gather(*asked.values(), return_exceptions=True)
        finally:
            for task in asked.values():
                task.cancel()
        answers = await asyncio.gather(*asked.values(), return_exceptions=True)
        return dict(zip(asked, answers, strict=True))

    async def _ask(self, place: str) -> engines_pb2.SnapshotEnginesResponse:
        stub = EnginesStub(self._runtime.directory.channel("inference", place))
        as_gateway = self._runtime.as_service("gateway", "inference", Scope(SYSTEM), "engines.snapshot")
        request = engines_pb2.SnapshotEnginesRequest()
        snapshot: engines_pb2.SnapshotEnginesResponse = await stub.SnapshotEngines(
            request, timeout=_ANSWER, metadata=as_gateway
        )
        return snapshot


def _in_state(snapshot: engines_pb2.SnapshotEnginesResponse, state: int) -> list[Loaded]:
    return [
        Loaded(Scope(one.tenant, one.project), one.engine.model, one.engine.version)
        for one in snapshot.engines
        if one.engine.state == state
    ]


def release_from_wire(release: releases_pb2.Release) -> Release:
    """A release as the table needs it."""
    return Release(
        release.model,
        release.generation,
        _version(release.desired),
        _version(release.serving),
        _version(release.previous),
        release.state == releases_pb2.RELEASE_STATE_LOADING or bool(release.operation),
        tuple(_rule(rule) for rule in release.traffic.rules),
        tuple(_known(version) for version in release.shared),
        _BALANCING.get(release.traffic.balancing, Way.POWER_OF_TWO) if release.traffic.balancing else "",
    )


def _rule(rule: releases_pb2.TrafficRule) -> Rule:
    return Rule(
        tuple(Share(share.version, share.percent) for share in rule.shares),
        rule.header,
        frozenset(rule.values),
        tuple(rule.callers),
        rule.sticky != releases_pb2.STICKY_UNSPECIFIED,
        rule.sticky_header,
    )


def _version(version: releases_pb2.ReleasedVersion) -> Version | None:
    return _known(version) if version.version else None


def _known(version: releases_pb2.ReleasedVersion) -> Version:
    signature = Signature(_specs(version.signature.inputs), _specs(version.signature.outputs))
    return Version(version.version, version.digest, signature, dict(version.labels), _ladder(version.serving))


def _ladder(serving: models_pb2.ServingSettings) -> Ladder:
    return Ladder(serving.cached_seconds, serving.previous_version, serving.smaller_model)


def _specs(specs: Iterable[models_pb2.TensorSpec]) -> tuple[Spec, ...]:
    return tuple(Spec(spec.name, spec.datatype, tuple(spec.shape)) for spec in specs)
