"""Leases in the shared cache: who is there, who has left, and what nobody believes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from services.kit.auth import SYSTEM, Identity, Principal, Scope
from services.kit.cache import Cache, NearCache
from services.kit.cache_redis import RedisCache
from services.kit.discovery import Directory
from services.kit.discovery_redis import Leases
from services.kit.errors import Unavailable
from tests.support.house import until
from tests.support.servers import address, make

PLACES = {"registry": "10.0.0.1:9101", "gateway": ""}


class Machines:
    """Processes that share a cache and a folder of keys."""

    def __init__(self, folder: Path, cache: Callable[[], Cache]) -> None:
        self._folder, self._cache, self.cache = folder, cache, cache()
        self._running: list[Directory] = []

    async def process(self, name: str, folder: str = "keys", **places: str) -> Directory:
        """One that looks often, and says where it is if it hosts anything."""
        identity = Identity(name, self._folder / folder)
        directory = Directory((), Leases(self._cache(), identity, look=0.02))
        self._running.append(directory)
        await directory.start()
        if places:
            await directory.source.announce(places)
        return directory

    async def close(self) -> None:
        await self.cache.close()
        for directory in self._running:
            await directory.close()


@pytest.fixture(params=[pytest.param("near"), pytest.param("far", marks=pytest.mark.far)])
async def machines(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Machines]:
    shared = NearCache()
    url = address("redis") if request.param == "far" else ""
    found = Machines(tmp_path, lambda: RedisCache(url) if url else shared)
    await found.cache.start()
    for left in await found.cache.members("discovery"):  # by the test before
        await found.cache.withdraw("discovery", left)
    yield found
    await found.close()


def there(directory: Directory, service: str = "registry") -> dict[str, str]:
    return {one.id: one.address for one in directory.instances(service)}


async def test_a_process_is_found_where_it_says(machines: Machines) -> None:
    reader = await machines.process("gateway-1")
    await machines.process("registry-1", registry="10.0.0.1:9101")
    await machines.process("registry-2", registry="10.0.0.2:9101")

    await until(lambda: there(reader) == {"registry-1": "10.0.0.1:9101", "registry-2": "10.0.0.2:9101"})


async def test_a_process_that_hosts_several_services_is_found_for_each(machines: Machines) -> None:
    reader = await machines.process("gateway-1")
    await machines.process("all-1", registry="10.0.0.1:9101", data="10.0.0.1:9102")

    await until(lambda: there(reader) and there(reader, "data"))


async def test_one_that_listens_nowhere_lives_and_is_not_called(machines: Machines) -> None:
    reader = await machines.process("registry-1")
    await machines.process("gateway-1", gateway="")

    await until(lambda: reader.living("gateway") == frozenset({"gateway-1"}))
    assert there(reader, "gateway") == {}


async def test_one_that_leaves_is_gone_at_the_next_look(machines: Machines) -> None:
    reader = await machines.process("gateway-1")
    leaving = await machines.process("registry-1", registry="10.0.0.1:9101")
    await until(lambda: there(reader))
    await leaving.source.withdraw()

    await until(lambda: not there(reader), 0.5)
    assert reader.living("registry") == frozenset()


async def test_nothing_is_left_of_a_process_that_has_ended(machines: Machines) -> None:
    ended = await machines.process("registry-1", registry="10.0.0.1:9101")
    await ended.source.withdraw()
    assert await machines.cache.members("discovery")
    await ended.close()

    assert await machines.cache.members("discovery") == {}


async def test_one_whose_lease_is_missing_soon_counts_as_dead_and_is_called_a_little_longer(
    machines: Machines,
) -> None:
    reader = await machines.process("gateway-1")
    await machines.process("registry-1", registry="10.0.0.1:9101")
    await until(lambda: there(reader))
    await machines.cache.withdraw("discovery", "registry/registry-1")

    await until(lambda: not reader.living("registry"), 0.5)
    assert there(reader)
    await until(lambda: not there(reader), 2)


async def test_every_service_of_the_contract_may_turn_up(machines: Machines) -> None:
    reader = await machines.process("gateway-1")

    assert [reader.knows(name) for name in ("registry", "logs", "nothing", "any-1")] == [True, True, False, False]


async def forged(machines: Machines, tmp_path: Path, kind: str) -> bytes:
    """What somebody writes who may write to the cache."""
    honest = Identity("registry-1", tmp_path / "keys")
    stranger = Identity("registry-1", tmp_path / "elsewhere")

    def token(identity: Identity, said: str, service: str = "registry", tenant: str = SYSTEM) -> str:
        return identity.token(f"discovery/{said}", Principal(Scope(tenant), f"service:{service}", ()))

    mine = "registry/registry-1/10.9.9.9:1/False"
    lease: Any = {"address": "10.9.9.9:1", "leaving": False, "token": ""}
    match kind:
        case "no json":
            return b"{"
        case "no lease":
            return b'{"address":"10.9.9.9:1"}'
        case "no object":
            return b"7"
        case "a key of nobody":
            lease["token"] = token(stranger, mine)
        case "another address":
            lease["token"] = token(honest, "registry/registry-1/10.0.0.1:9101/False")
        case "another process":
            lease["token"] = token(honest, "registry/registry-2/10.9.9.9:1/False")
        case "another service":
            lease["token"] = token(honest, mine, service="logs")
        case "a tenant":
            lease["token"] = token(honest, mine, tenant="acme")
    return orjson.dumps(lease)


@pytest.mark.parametrize(
    "kind",
    [
        "no json",
        "no lease",
        "no object",
        "a key of nobody",
        "another address",
        "another process",
        "another service",
        "a tenant",
    ],
)
async def test_a_forged_registration_changes_no_table(
    machines: Machines, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    reader = await machines.process("gateway-1")
    value = await forged(machines, tmp_path, kind)
    await machines.cache.announce("discovery", "registry/registry-1", value, 10)

    await until(lambda: "is ignored" in caplog.text, 2)
    assert there(reader) == {}
    assert caplog.text.count("is ignored") == 1


class Away(NearCache):
    """A cache that can be away, and come back empty."""

    away = False
    # How many announcements it does not take.
    deaf = 0
    asked = 0

    @property
    def up(self) -> bool:  # type: ignore[override]
        return not self.away

    async def announce(self, group: str, member: str, value: bytes, seconds: float) -> None:
        self.asked += 1
        if self.away or self.asked <= self.deaf:
            raise Unavailable("the cache does not answer")
        await super().announce(group, member, value, seconds)

    async def members(self, group: str) -> dict[str, bytes]:
        if self.away:
            raise Unavailable("the cache is away")
        return await super().members(group)

    def empty(self) -> None:
        self._members.clear()


async def test_the_last_good_table_is_used_while_the_cache_is_away_and_when_it_comes_back_empty(
    tmp_path: Path,
) -> None:
    shared = Away()
    machines = Machines(tmp_path, lambda: shared)
    reader = await machines.process("gateway-1")
    await machines.process("registry-1", registry="10.0.0.1:9101")
    await until(lambda: there(reader))
    shared.away = True
    await asyncio.sleep(0.5)
    assert there(reader)

    shared.empty()
    shared.away = False
    await asyncio.sleep(0.1)
    assert there(reader)
    await machines.close()


@pytest.mark.far
async def test_a_redis_that_is_killed_and_comes_back_costs_nothing(tmp_path: Path) -> None:
    address("redis")
    server = make("redis", tmp_path / "redis").start()
    machines = Machines(tmp_path, lambda: RedisCache(server.address))
    with contextlib.ExitStack() as ends:
        ends.callback(server.kill)
        reader = await machines.process("gateway-1")
        await machines.process("registry-1", registry="10.0.0.1:9101")
        await until(lambda: there(reader))
        server.kill()
        await asyncio.sleep(1.5)
        assert there(reader)
        await asyncio.to_thread(server.start)
        await machines.process("registry-2", registry="10.0.0.2:9101")

        await until(lambda: set(there(reader)) == {"registry-1", "registry-2"}, 20)
        await machines.close()


async def test_who_could_not_be_announced_at_once_is_announced_before_he_counts_as_started(tmp_path: Path) -> None:
    shared = Away()
    shared.deaf = 2
    machines = Machines(tmp_path, lambda: shared)
    await machines.process("registry-1", registry="10.0.0.1:9101")

    assert list(await shared.members("discovery")) == ["registry/registry-1"]
    await machines.close()


async def test_who_starts_without_the_cache_is_announced_soon_after_it_is_back(tmp_path: Path) -> None:
    shared = Away()
    shared.away = True
    machines = Machines(tmp_path, lambda: shared)
    async with asyncio.timeout(1):
        await machines.process("registry-1", registry="10.0.0.1:9101")
    shared.away = False

    await until(lambda: shared.members("discovery"), 1)
    await machines.close()
