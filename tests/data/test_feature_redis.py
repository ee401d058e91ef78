"""Features in Redis that is killed, emptied, frozen, full or of another time: what is read is right throughout."""

import asyncio
import random
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.data.database import open_database
from services.data.feature_views.domain import Entry
from services.data.feature_views.online import scripts
from services.data.feature_views.places import Place, Standing, Step
from services.data.feature_views.store.rows import RowStore
from services.kit.auth import Scope
from services.kit.cache_scripts import permissions
from services.kit.db import Database
from tests.data.tables import add
from tests.data.test_feature_views import readings
from tests.data.views import create, hours_ago, materialise, reads, values
from tests.support.house import House, house, until
from tests.support.servers import Program

pytestmark = pytest.mark.far
NAMES = [f"s{number}" for number in range(50)]


@pytest.fixture
async def running(home: Path, redis_server: Program, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    from services.data.feature_views.online import far, filling

    monkeypatch.setattr(far, "READ", 0.5)
    for module, name in ((filling, "_EVERY"), (filling, "_SOON"), (filling, "_IDLE"), (far, "_FULL")):
        monkeypatch.setattr(module, name, 0.2)
    async with house(home, "data", AIMASS_DATA_FEATURES_URL=redis_server.address) as found:
        await say(found, 1.0)
        await create(found)
        await materialise(found)
        yield found


async def say(running: House, temp: float) -> None:
    """A new row of each sensor."""
    await add(running, "readings", readings(*((name, hours_ago(1), temp, "x") for name in NAMES)), append=True)


async def right(running: House, temp: float) -> None:
    assert await values(running, *NAMES) == [[temp, "x"]] * len(NAMES)


async def answers(running: House, temp: float) -> None:
    """Reads until Redis answers again; what is read is right all the time."""
    before = reads("redis")
    async with asyncio.timeout(40):
        while reads("redis") == before:
            await right(running, temp)
            await asyncio.sleep(0.05)


async def command(server: Program, *parts: str) -> object:
    async with Redis.from_url(server.address, protocol=2) as client:
        return await client.execute_command(*parts)  # type: ignore[no-untyped-call]


async def test_an_emptied_server_is_filled_again(running: House, redis_server: Program) -> None:
    await answers(running, 1.0)
    before = reads("database")
    await command(redis_server, "FLUSHALL")
    await right(running, 1.0)
    assert reads("database") == before + 1

    await answers(running, 1.0)


async def test_one_that_comes_back_with_old_rows_is_not_read_until_it_has_the_new_ones(
    running: House, redis_server: Program
) -> None:
    redis_server.kill()
    await right(running, 1.0)
    await say(running, 2.0)
    await materialise(running)
    await right(running, 2.0)
    redis_server.start()

    await answers(running, 2.0)


async def test_a_frozen_server_delays_few_reads_and_not_for_long(running: House, redis_server: Program) -> None:
    redis_server.freeze()
    begun = time.perf_counter()
    for _ in range(30):
        await right(running, 1.0)
    assert time.perf_counter() - begun < 15
    redis_server.thaw()

    await answers(running, 1.0)


async def test_one_without_memory_keeps_nobody_from_reading_and_is_filled_when_it_has_some(
    running: House, redis_server: Program
) -> None:
    await command(redis_server, "CONFIG", "SET", "maxmemory", "1")
    await say(running, 2.0)
    assert (await materialise(running)).rows == len(NAMES)
    await asyncio.sleep(1)
    await right(running, 2.0)
    await command(redis_server, "CONFIG", "SET", "maxmemory", "0")

    await answers(running, 2.0)


async def test_a_server_that_evicts_what_it_likes_makes_nothing_wrong(running: House, redis_server: Program) -> None:
    await command(redis_server, "CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    await command(redis_server, "CONFIG", "SET", "maxmemory", "1")
    for turn in range(2, 6):
        await say(running, float(turn))
        await materialise(running)
        await asyncio.sleep(0.3)
        await right(running, float(turn))


async def test_no_more_is_filled_than_is_allowed(home: Path, redis_server: Program) -> None:
    env = {"AIMASS_DATA_FEATURES_URL": redis_server.address, "AIMASS_DATA_FEATURES_MIB": "1"}
    async with house(home, "data", **env) as running:
        large = [(name, hours_ago(1), 1.0, "x" * 40_000) for name in NAMES]
        await add(running, "large", readings(*large))
        await create(running, "large", data_set="large")
        await materialise(running, "large")
        await say(running, 1.0)
        await create(running)
        await materialise(running)

        await until(lambda: _trimmed(redis_server), 40)
        assert await values(running, NAMES[0], name="large") == [[1.0, "x" * 40_000]]
        await answers(running, 1.0)


async def _trimmed(server: Program) -> bool:
    sizes = [await _size(server, name) for name in await _names(server)]
    assert sum(sizes) < 1.5 * 2**20
    return not any(b"/large/" in name for name in await _names(server))


async def _size(server: Program, name: bytes) -> int:
    found = await command(server, "MEMORY", "USAGE", name.decode())
    return int(str(found or 0))


async def _names(server: Program) -> list[bytes]:
    found = await command(server, "KEYS", "*")
    assert isinstance(found, list)
    return found


async def test_rows_lie_sealed_under_the_name_of_their_tenant_and_go_with_it(
    running: House, redis_server: Program
) -> None:
    async with Redis.from_url(redis_server.address, protocol=2) as client:
        (name,) = await client.keys("*")
        assert name == b"aimass:features:acme/default/sensors/1"
        stored = await client.hgetall(name)
        assert len(stored) == len(NAMES) + 1
        assert not any(NAMES[0].encode() in part or b'"x"' in part for pair in stored.items() for part in pair)
        assert 0 < await client.pttl(name) <= 24 * 3600 * 1000

        keys = running.runtime.storage.keys
        assert keys
        await keys.shred("acme")
        running.runtime.forgetting.wake()
        await until(lambda: _empty(client))


async def _empty(client: "Redis") -> bool:
    return not await client.keys("*")


async def test_a_database_that_goes_back_in_time_takes_redis_with_it(home: Path, redis_server: Program) -> None:
    env = {"AIMASS_DATA_FEATURES_URL": redis_server.address}
    async with house(home, "data", **env) as running:
        await say(running, 1.0)
        await create(running)
        await materialise(running)
    if not (home / "data.db").exists():
        pytest.skip("the database is on a server")
    shutil.copytree(home, home.with_name("backup"))
    async with house(home, "data", **env) as running:
        await say(running, 2.0)
        await materialise(running)
        await right(running, 2.0)
    shutil.rmtree(home)
    home.with_name("backup").rename(home)

    async with house(home, "data", **env) as running:
        await right(running, 1.0)
        await answers(running, 1.0)


async def test_the_rights_of_our_user_are_enough(home: Path, redis_server: Program) -> None:
    rights = [*permissions().split(), *scripts.permissions().split()]
    await command(redis_server, "ACL", "SETUSER", "house", "on", ">word", *rights)
    url = redis_server.address.replace("redis://", "redis://house:word@")
    async with house(home, "data", AIMASS_DATA_FEATURES_URL=url) as running:
        await say(running, 1.0)
        await create(running)
        await materialise(running)
        await answers(running, 1.0)
        before = reads("database")
        await command(redis_server, "FLUSHALL")
        await right(running, 1.0)
        assert reads("database") == before + 1
        await answers(running, 1.0)
        keys = running.runtime.storage.keys
        assert keys
        await keys.shred("acme")
        running.runtime.forgetting.wake()
        async with Redis.from_url(redis_server.address, protocol=2) as client:
            await until(lambda: _empty(client))


async def _empties(server: Program, delay: float) -> None:
    await asyncio.sleep(delay)
    await command(server, "FLUSHALL")


async def test_a_user_without_the_rights_makes_it_away_and_is_said_once(
    home: Path, redis_server: Program, caplog: pytest.LogCaptureFixture
) -> None:
    await command(redis_server, "ACL", "SETUSER", "house", "on", ">word", *permissions().split())
    url = redis_server.address.replace("redis://", "redis://house:word@")
    async with house(home, "data", AIMASS_DATA_FEATURES_URL=url) as running:
        await say(running, 1.0)
        await create(running)
        await materialise(running)
        for _ in range(20):
            await right(running, 1.0)
            await asyncio.sleep(0.1)
    assert sum(record.levelname == "WARNING" for record in caplog.records) == 1


async def test_many_entities_are_one_command_and_many_reads_few_connections(
    running: House, redis_server: Program
) -> None:
    await answers(running, 1.0)
    before = await _asked(redis_server)
    await asyncio.gather(*(right(running, 1.0) for _ in range(20)))

    assert await _asked(redis_server) == before + 20
    listed = await command(redis_server, "CLIENT", "LIST")
    assert isinstance(listed, bytes)
    assert listed.count(b"\n") <= 34


async def _asked(server: Program) -> int:
    async with Redis.from_url(server.address, protocol=2) as client:
        return int((await client.info("commandstats"))["cmdstat_hmget"]["calls"])


class Places:
    """One place, and how far it is in the database."""

    def __init__(self) -> None:
        self.stamp, self.running = 0, False

    async def standing(self) -> Sequence[Standing]:
        return [Standing(HERE, self.stamp, True, True, self.running)] if self.stamp else []


CHANCES = {"step": 8, "late": 3, "lost": 1, "empty": 1, "look": 6, "both": 2, "torn": 1, "race": 2}
HERE = Place(Scope("acme"), "sensors", 1)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    made = open_database("", tmp_path, None)
    await made.start()
    yield made
    made.close()


class Measured(RowStore):
    """Counts how often it was asked how large a place is."""

    asked = 0

    async def size(self, place: Place) -> tuple[int, int]:
        self.asked += 1
        return await super().size(place)


async def test_what_does_not_fit_is_not_measured_again_with_each_step_of_its_run(
    database: Database, redis_server: Program
) -> None:
    from services.data.feature_views.online.far import InRedis
    from services.data.feature_views.online.filling import Filling

    places, rows = Places(), Measured(database)
    store = InRedis(rows, redis_server.address, 1)
    filling = Filling(places, rows, store)
    made = [Entry(b"k" * 16, 1, 1, 1, b"value")]
    await database.run(lambda connection: rows.put(connection, HERE, made))
    counts = list[int]()
    for places.stamp, places.running in ((1, True), (2, True), (3, True), (4, True), (5, False), (6, False)):
        await filling.look()
        counts.append(rows.asked)

    assert counts == [0, 1, 1, 1, 2, 3]
    await store.close()
    await rows.close()


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_is_lost_in_whatever_order_no_read_lacks_what_was_committed(
    database: Database, redis_server: Program, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.data.feature_views.online import filling as module
    from services.data.feature_views.online.far import InRedis
    from services.data.feature_views.online.filling import Filling

    monkeypatch.setattr(module, "_PAGE", 3)
    rng, places, rows = random.Random(seed), Places(), RowStore(database)
    stores = [InRedis(rows, redis_server.address, 2**30, read=5.0) for _ in range(2)]
    filling = [Filling(places, rows, store) for store in stores]
    late = list[tuple[Step, list[Entry]]]()
    keys = [bytes([number]) * 16 for number in range(12)]
    before = reads("redis")
    for turn in range(150):
        match rng.choices(list(CHANCES), list(CHANCES.values()))[0]:
            case "empty":
                await command(redis_server, "FLUSHALL")
            case "look":
                await rng.choice(filling).look()
            case "both":
                await asyncio.gather(*(each.look() for each in filling))
            case "race":  # a copy, and a server that is emptied meanwhile
                await asyncio.gather(rng.choice(filling).look(), _empties(redis_server, rng.uniform(0, 0.02)))
            case "torn":  # a copy that ends in its middle
                if await stores[0].begin(HERE, "t" * 32, places.stamp):
                    await stores[0].fill(HERE, "t" * 32, await rows.page(HERE, b"", 3), False)
                    await command(redis_server, "HDEL", "aimass:features:acme/default/sensors/1", "until")
            case "late" if late:
                await rng.choice(stores).put(HERE, *late.pop(rng.randrange(len(late))))
            case what:
                step = Step(places.stamp, places.stamp + rng.randint(1, 3))
                made = [Entry(key, rng.randint(-5, 5), 1, turn, bytes([turn])) for key in rng.sample(keys, 4)]
                await database.run(lambda connection, made=made: rows.put(connection, HERE, made))  # type: ignore[misc]
                places.stamp = step.after
                if what == "step":
                    await rng.choice(stores).put(HERE, step, made)
                elif what == "late":
                    late.append((step, made))
        wanted = {entry.key: entry for entry in await rows.page(HERE, b"", 100)}
        for store in stores:
            assert await store.read(HERE, places.stamp, keys) == wanted, turn
    assert reads("redis") > before + 30
    for store in stores:
        await store.close()
    await rows.close()
