"""A key that is revoked while it is used (RELIABILITY V28, A36): refused a second later, five without Redis."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import pytest

from tests.gateway.conftest import FAST, Gateway
from tests.support.house import house, until
from tests.support.servers import Program, address, database

pytestmark = pytest.mark.far
SECRET = "aim_abcdefgh_" + "x" * 43
Seen = list[tuple[float, int]]


@pytest.fixture
async def both(tmp_path: Path, redis_server: Program) -> AsyncIterator[list[Gateway]]:
    """Two gateways with one database and one Redis."""
    key = base64.b64encode(bytes(32)).decode()
    shared = {"AIMASS_GATEWAY_PEPPER": key, "AIMASS_GATEWAY_ADMIN_KEY": SECRET, "AIMASS_SECRETS_KEY": key}
    shared |= {"AIMASS_GATEWAY_DATABASE_URL": database(address("postgres")), "AIMASS_CACHE_URL": redis_server.address}
    shared |= {"AIMASS_GATEWAY_RATE": "100000", "AIMASS_GATEWAY_BURST": "100000"}
    async with AsyncExitStack() as ends:
        found = []
        for name in ("one", "two"):
            running = await ends.enter_async_context(house(tmp_path / name, "gateway", **FAST, **shared))
            found.append(Gateway(running, tmp_path / name, {}))
        yield found


async def calling(gateway: Gateway, key: str, seen: Seen, stop: asyncio.Event) -> None:
    """One caller who goes on whatever he is told."""
    async with gateway.client(key) as client:
        while not stop.is_set():
            begun = time.monotonic()
            seen.append((begun, (await client.get("/v1/whoami")).status_code))
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(("redis_is_away", "seconds"), [(False, 1.0), (True, 5.0)])
async def test_a_key_that_is_revoked_under_load_is_refused_everywhere(
    both: list[Gateway], redis_server: Program, redis_is_away: bool, seconds: float
) -> None:
    async with both[0].client(SECRET) as admin:
        key = (await admin.post("/v1/api-keys", json={"permissions": ["models.get"]})).json()["secret"]
        for gateway in both:
            await until(lambda gateway=gateway: accepted(gateway, key), 5)  # type: ignore[misc]
        if redis_is_away:
            redis_server.kill()
        stop, seen = asyncio.Event(), [Seen() for _ in both]
        callers = [asyncio.create_task(calling(both[n % 2], key, seen[n % 2], stop)) for n in range(8)]
        await until(lambda: all(len(found) > 50 for found in seen), 20)
        answer: httpx2.Response = await admin.delete(f"/v1/api-keys/{key[4:12]}")
        late = time.monotonic() + seconds
        await until(lambda: all(len([1 for begun, _ in found if begun > late]) > 50 for found in seen), 20)
        stop.set()
        await asyncio.gather(*callers)

    assert answer.status_code == 200
    for found in seen:
        assert {status for _, status in found[:50]} == {200}
        assert {status for begun, status in found if begun > late} <= {401, 429}


async def accepted(gateway: Gateway, key: str) -> bool:
    async with gateway.client(key) as client:
        return (await client.get("/v1/whoami")).status_code == 200
