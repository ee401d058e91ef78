"""Several gateways on one database: a limit that is set at one of them counts at all of them within a second."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.gateway.database import open_database
from services.gateway.limiting.domain import MODEL, ROWS, Terms
from services.gateway.limiting.service import Limiting
from services.gateway.limiting.store import LimitStore
from services.kit.auth import Principal, Scope
from services.kit.errors import Code, Failure
from tests.support.house import until
from tests.support.servers import address, database

pytestmark = pytest.mark.far
CALLER = Principal(Scope("acme", "default"), "key:abcd1234", ("*",))
TERMS = Terms(MODEL, ROWS, 10, 100)


class Anyone:
    """Tenants that everybody may see, and nobody administers."""

    async def tenant(self, caller: Principal, name: str) -> object:
        return name

    def administers(self, caller: Principal) -> bool:
        return False


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[list[Limiting]]:
    url, made = database(address("postgres")), []
    for number in range(3):
        db = open_database(url, tmp_path / str(number))
        await db.start()
        made.append((db, Limiting(LimitStore(db), Anyone(), list, lambda: datetime.now(UTC))))
    for _, node in made:
        await node.start()
    watching = [asyncio.create_task(node.following.watch()) for _, node in made]
    yield [node for _, node in made]
    for task in watching:
        task.cancel()
    for db, _ in made:
        db.close()


async def seen(nodes: list[Limiting], burst: float | None) -> float:
    """Seconds until all have a limit with a burst, or none."""
    begun = time.monotonic()

    def all_have() -> bool:
        found = [node.book.levels("acme") for node in nodes]
        if burst is None:
            return not any(found)
        limits = [levels.then(CALLER, "any", "fraud") for levels in found if levels]
        return [one[0].limit.burst for one in limits] == [burst] * len(nodes)

    await until(all_have, 5)
    return time.monotonic() - begun


async def test_what_one_gateway_sets_counts_at_all_within_a_second(nodes: list[Limiting]) -> None:
    first = await nodes[0].set(CALLER, "fraud", TERMS, "", "")
    took = [await seen(nodes, 100)]
    await nodes[1].set(CALLER, "fraud", Terms(MODEL, ROWS, 10, 200), "", str(first.generation))
    took.append(await seen(nodes, 200))
    await nodes[2].delete(CALLER, "fraud", "", "*")
    took.append(await seen(nodes, None))

    assert max(took) < 1


async def test_of_two_who_change_a_limit_at_once_one_is_told_so(nodes: list[Limiting]) -> None:
    await nodes[0].set(CALLER, "fraud", TERMS, "", "")
    wanted = [node.set(CALLER, "fraud", Terms(MODEL, ROWS, 10, 200 + n), "", "1") for n, node in enumerate(nodes)]
    found = await asyncio.gather(*wanted, return_exceptions=True)

    lost = [one.code for one in found if isinstance(one, Failure)]
    assert len(lost) == 2
    assert set(lost) <= {Code.ETAG_MISMATCH, Code.CONFLICT}
