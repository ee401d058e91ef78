"""The RPCs of releases, and the events of inference instances and gateways."""

from collections.abc import AsyncIterator

from aimass.v1 import releases_pb2 as pb
from aimass.v1.engines_pb2 import ENGINE_STATE_FAILED, ENGINE_STATE_READY
from aimass.v1.gateway_events_pb2 import ReleaseApplied
from aimass.v1.inference_events_pb2 import EngineChanged
from aimass.v1.operations_pb2 import Operation
from services.kit.auth import SYSTEM
from services.kit.errors import Forbidden
from services.kit.inbox import Delivery
from services.kit.rpc import Call
from services.registry.releases.handshake import Handshake
from services.registry.releases.service import Releases
from services.registry.releases.wire import balancing_from_wire, release_to_wire, rules_from_wire, traffic_to_wire


class ReleasesApi:
    """aimass.v1.Releases, and the two other sides of the handshake."""

    def __init__(self, releases: Releases, handshake: Handshake) -> None:
        self._releases, self._handshake = releases, handshake

    async def PromoteVersion(self, request: pb.PromoteVersionRequest, call: Call) -> Operation:
        return await self._releases.promote(
            call.scope, request.model, request.version, request.reason, request.etag, call.once()
        )

    async def RollbackRelease(self, request: pb.RollbackReleaseRequest, call: Call) -> Operation:
        return await self._releases.roll_back(call.scope, request.model, request.reason, call.once())

    async def WithdrawRelease(self, request: pb.WithdrawReleaseRequest, call: Call) -> Operation:
        return await self._releases.withdraw(call.scope, request.model, request.reason, call.once())

    async def GetRelease(self, request: pb.GetReleaseRequest, call: Call) -> pb.Release:
        return release_to_wire(await self._releases.get(call.scope, request.model))

    async def GetTraffic(self, request: pb.GetTrafficRequest, call: Call) -> pb.Traffic:
        return traffic_to_wire(await self._releases.get(call.scope, request.model))

    async def UpdateTraffic(self, request: pb.UpdateTrafficRequest, call: Call) -> pb.Traffic:
        rules, balancing = rules_from_wire(request.rules), balancing_from_wire(request.balancing)
        changed = await self._releases.update_traffic(call.scope, request.model, rules, balancing, call.etag)
        return traffic_to_wire(changed)

    async def ListReleases(self, request: pb.ListReleasesRequest, call: Call) -> pb.ListReleasesResponse:
        page = await self._releases.page(call.scope, request.page_size, request.page_token)
        return pb.ListReleasesResponse(releases=map(release_to_wire, page.items), next_page_token=page.next_token)

    async def SnapshotReleases(
        self, request: pb.SnapshotReleasesRequest, call: Call
    ) -> AsyncIterator[pb.TenantRelease]:
        if call.scope.tenant != SYSTEM:
            raise Forbidden("releases of all tenants are for services of the installation")
        async for scope, release in self._releases.all():
            yield pb.TenantRelease(tenant=scope.tenant, project=scope.project, release=release_to_wire(release))

    async def engine_changed(self, message: EngineChanged, delivery: Delivery) -> None:
        """An instance has loaded a version, or failed to."""
        engine, scope = message.engine, delivery.scope
        which = engine.model, engine.version, message.generation
        if engine.state == ENGINE_STATE_READY:
            await self._handshake.loaded(scope, *which, engine.instance)
        elif engine.state == ENGINE_STATE_FAILED:
            reason = f"{engine.model} version {engine.version} does not load: {engine.reason}"
            await self._handshake.failed(scope, *which, engine.instance, reason, delivery)

    async def release_applied(self, message: ReleaseApplied, delivery: Delivery) -> None:
        """A gateway answers with a generation from now on."""
        await self._handshake.applied(delivery.scope, message.model, message.instance, message.generation, delivery)
