"""A gateway with open doors, and echoing services behind it."""

import contextlib
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from services.kit.grpc_door import GrpcDoor
from tests.gateway.echo import OWNERS, Echo, echoes
from tests.support.house import House, house, until

FAST = {
    "AIMASS_GATEWAY_HTTP_PORT": "0",
    "AIMASS_GATEWAY_GRPC_PORT": "0",
    "AIMASS_GATEWAY_DRAIN_ACCEPT_SECONDS": "0",
    "AIMASS_GATEWAY_DRAIN_SILENT_SECONDS": "0.2",
}


@dataclass
class Gateway:
    """A running gateway, as a caller from outside sees it."""

    house: House
    home: Path
    services: dict[str, Echo]

    @property
    def doors(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.home / "doors.json").read_text())
        return found

    @property
    def admin(self) -> str:
        return (self.home / "admin-key").read_text().strip()

    def client(self, key: str | None = None, **headers: str) -> httpx2.AsyncClient:
        """An HTTP client with a key; the administrator's if none is given, none for the empty one."""
        key = self.admin if key is None else key
        own = {"authorization": f"Bearer {key}"} if key else {}
        # Nothing is verified: to read the certificates of all authorities would take longer than most calls.
        return httpx2.AsyncClient(base_url=self.doors["http"], headers=own | headers, timeout=30, verify=False)

    async def key(self, **wanted: Any) -> str:
        """A new key's secret."""
        async with self.client() as client:
            answer = await client.post("/v1/api-keys", json=wanted)
            assert answer.status_code == 200, answer.text
            return str(answer.json()["secret"])

    async def tenant(self, name: str) -> str:
        """A new tenant, and a key of its with all permissions."""
        async with self.client() as client:
            await client.post("/v1/tenants", json={"tenant": name})
        return await self.key(tenant=name)


@contextlib.asynccontextmanager
async def gateway_at(home: Path, **env: str) -> AsyncIterator[Gateway]:
    """A gateway on a home folder."""
    async with house(home, "gateway", **(FAST | env)) as running:
        yield Gateway(running, home, {})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """One for a module's tests, with every service behind it."""
    home = tmp_path_factory.mktemp("home")
    guarded, services = echoes(home)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    door = GrpcDoor(f"127.0.0.1:{port}", guarded)
    await door.open()
    where = ",".join(f"{owner}=127.0.0.1:{port}" for owner in OWNERS)
    quick = {"AIMASS_GATEWAY_RATE": "100000", "AIMASS_GATEWAY_BURST": "100000"}
    async with gateway_at(home, AIMASS_DISCOVERY_URL=f"static:{where}", **quick) as running:
        running.services = services
        await until(running.house.runtime.ready)  # before, a model that nobody has is not known to be missing
        yield running
    await door.close(0)
