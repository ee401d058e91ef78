"""Port: the releases of the registry, asked for at the start and at intervals."""

from collections.abc import AsyncIterator
from typing import Protocol

from aimass.v1.releases_pb2 import SnapshotReleasesRequest
from aimass.v1.releases_pb2_grpc import ReleasesStub
from services.inference.domain.engines import Release
from services.inference.wire import release_from_wire
from services.kit.app import Runtime
from services.kit.auth import SYSTEM, Scope

_TIMEOUT = 60.0


class Registry(Protocol):
    """The source of releases."""

    def releases(self) -> AsyncIterator[tuple[Scope, Release]]:
        """Every release of every tenant. Raises Failure."""


class RemoteRegistry:
    """The registry service behind its channel."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def releases(self) -> AsyncIterator[tuple[Scope, Release]]:
        runtime = self._runtime
        metadata = runtime.as_service("inference", "registry", Scope(SYSTEM), "releases.snapshot")
        stub = ReleasesStub(runtime.channel("registry"))
        async for found in stub.SnapshotReleases(SnapshotReleasesRequest(), timeout=_TIMEOUT, metadata=metadata):
            yield Scope(found.tenant, found.project), release_from_wire(found.release)
