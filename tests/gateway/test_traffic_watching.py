"""A gateway with several inference instances, of which one is slow or away."""

import asyncio
from pathlib import Path

import pytest

from services.gateway.traffic.api import release_from_wire
from services.kit.errors import Unavailable
from tests.gateway.peers import ACME, SERVING, WITHDRAWN, peers, release, scattered
from tests.support.house import until
from tests.support.server import free_ports


async def test_instances_are_watched_while_the_database_is_away(tmp_path: Path) -> None:
    releases, [port] = [release("late", 1, SERVING, 1, 1)], free_ports(1)
    elsewhere = f"static:inference=127.0.0.1:{port}"
    async with peers(tmp_path, ("acme", "late", 1), releases=releases, AIMASS_DISCOVERY_URL=elsewhere) as running:
        traffic = running.traffic
        await until(lambda: traffic.having(ACME, "late", 1))
        running.database.close()
        gone = release_from_wire(release("late", 2, WITHDRAWN, 0))
        with pytest.raises(Unavailable):
            await traffic.release_changed(ACME, gone, frozenset())
        del running.runtime.directory.local["inference"]  # its instance has moved
        watching = running.runtime.spawn(running.api.watch())
        await until(lambda: not traffic.having(ACME, "late", 1))
        await asyncio.sleep(0.3)
        assert not watching.done()


async def test_an_instance_that_is_slow_to_say_what_it_has_is_missed(tmp_path: Path) -> None:
    releases = [release("late", 1, SERVING, 1, 1)]
    async with scattered(tmp_path, ("acme", "late", 1), releases=releases) as (running, [_, slow]):
        await until(lambda: len(running.traffic.having(ACME, "late", 1)) == 2)
        slow.speaks.clear()
        assert not await running.api.take_snapshot()
        slow.speaks.set()

        assert await running.api.take_snapshot()
