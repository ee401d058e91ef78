"""A gateway, a registry and an inference service with a model that serves, and callers from outside."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2

from aimass.v1 import access_pb2, models_pb2, releases_pb2
from aimass.v1.access_pb2_grpc import AccessStub
from aimass.v1.releases_pb2_grpc import ReleasesStub
from tests.support.house import House, house, until
from tests.support.models import register

DOORS = {
    "AIMASS_GATEWAY_HTTP_PORT": "0",
    "AIMASS_GATEWAY_GRPC_PORT": "0",
    "AIMASS_GATEWAY_DRAIN_ACCEPT_SECONDS": "0",
    "AIMASS_GATEWAY_DRAIN_SILENT_SECONDS": "0.1",
    "AIMASS_GATEWAY_RATE": "100000",
    "AIMASS_GATEWAY_BURST": "100000",
}


class Serving:
    """The running house as a client app sees it; its key is tenant default's."""

    def __init__(self, running: House) -> None:
        self.house = running
        self.doors: dict[str, str] = json.loads((running.runtime.home / "doors.json").read_text())
        self.key = (running.runtime.home / "admin-key").read_text().strip()

    async def serve(self, model: str, graph: bytes, **settings: Any) -> int:
        """Registers a graph, with serving settings, and promotes it; returns when the gateway answers with it."""
        serving = models_pb2.ServingSettings(**settings)
        number = await register(self.house, model, graph, tenant="default", serving=serving)
        await self.promote(model, number)
        return number

    async def promote(self, model: str, number: int) -> None:
        stub = self.house.stub(ReleasesStub, "registry", tenant="default")
        await stub.PromoteVersion(releases_pb2.PromoteVersionRequest(model=model, version=number))

        async def serving() -> bool:
            found = await stub.GetRelease(releases_pb2.GetReleaseRequest(model=model))
            return bool(found.state == releases_pb2.RELEASE_STATE_SERVING and found.serving.version == number)

        await until(serving, 20)

    async def new_key(self, *permissions: str, tenant: str = "default") -> str:
        """A key with some permissions."""
        stub = self.house.stub(AccessStub, "gateway", tenant="default")
        if tenant != "default":
            await stub.CreateTenant(access_pb2.CreateTenantRequest(tenant=tenant))
        request = access_pb2.CreateApiKeyRequest(tenant=tenant, permissions=permissions)
        return str((await stub.CreateApiKey(request)).secret)

    def client(self, key: str = "", **headers: str) -> httpx2.AsyncClient:
        own = {"authorization": f"Bearer {key or self.key}"}
        # Nothing is verified: to read the certificates of all authorities would take longer than most calls.
        return httpx2.AsyncClient(base_url=self.doors["http"], headers=own | headers, timeout=30, verify=False)

    async def post(self, path: str, content: Any, key: str = "", **headers: str) -> httpx2.Response:
        """POSTs a document, or bytes as they are; header names with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        async with self.client(key, **named) as client:
            return await client.post(path, content=body)

    async def get(self, path: str, key: str = "") -> httpx2.Response:
        async with self.client(key) as client:
            return await client.get(path)


@contextlib.asynccontextmanager
async def serving(home: Path, **env: str) -> AsyncIterator[Serving]:
    """The house on a home folder, with open doors."""
    async with house(home, "gateway", "registry", "inference", **(DOORS | env)) as running:
        yield Serving(running)
