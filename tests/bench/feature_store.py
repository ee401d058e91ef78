"""20 features by key, beside a bare read by its key: `python -m tests.bench.feature_store [reads]`.

Twice: in the database, which is SQLite, and in Redis, if it can be had. One process, one machine, the same rows; the
kinds of reads take turns, each of another entity. Ours is the whole RPC inside the process: token, permission, rules of
fields, key hashed, row decrypted, answer as a message. A bare one is a prepared statement on an open connection of
SQLite, called directly and from an event loop in a thread; or one HMGET on an open connection of Redis, of a hash with
20 fields. Printed: p50 and p99 in microseconds, and p99 as a ratio to the bare ones. Nothing here is asserted.
"""

import asyncio
import gc
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from redis.asyncio import Redis

from tests.data.tables import add
from tests.data.views import create, materialise, reads, request, views
from tests.support import servers
from tests.support.house import House, house

ENTITIES, FEATURES, BATCH = 100_000, 20, 100
NAMES = [f"f{number}" for number in range(FEATURES)]
Read = Callable[[int], Awaitable[object]]


def table() -> pa.Table:
    """A row for each entity, an hour old."""
    values = np.random.default_rng(7).normal(size=(FEATURES, ENTITIES))
    at = datetime.now(UTC) - timedelta(hours=1)
    times = pa.array([at] * ENTITIES, pa.timestamp("us", tz="UTC"))
    return pa.table({"id": np.arange(ENTITIES), "at": times, **dict(zip(NAMES, values, strict=True))})


def bare(path: Path, rows: pa.Table) -> sqlite3.Connection:
    """The same rows as a table with a primary key."""
    connection = sqlite3.connect(path, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    columns = ", ".join(f"{name} REAL" for name in NAMES)
    connection.execute(f"CREATE TABLE entity (id INTEGER PRIMARY KEY, {columns})")
    each = zip(*(rows.column(name).to_pylist() for name in ("id", *NAMES)), strict=True)
    connection.executemany(f"INSERT INTO entity VALUES ({', '.join('?' * (FEATURES + 1))})", each)
    connection.commit()
    return connection


def bare_reads(connection: sqlite3.Connection, thread: ThreadPoolExecutor) -> dict[str, Read]:
    """Those of SQLite by name."""
    query, loop = f"SELECT {', '.join(NAMES)} FROM entity WHERE id = ?", asyncio.get_running_loop()

    async def direct(key: int) -> object:
        return connection.execute(query, (key,)).fetchone()

    async def threaded(key: int) -> object:
        return await loop.run_in_executor(thread, lambda: connection.execute(query, (key,)).fetchone())

    return {"bare": direct, "bare in a thread": threaded}


async def bare_redis(client: Redis, rows: pa.Table) -> dict[str, Read]:
    """The same rows as a hash of each entity, and a read of one."""
    each = zip(*(rows.column(name).to_pylist() for name in ("id", *NAMES)), strict=True)
    while some := list(islice(each, 1000)):
        pipe = client.pipeline(transaction=False)
        for key, *values in some:
            pipe.hset(f"entity:{key}", mapping=dict(zip(NAMES, values, strict=True)))
        await pipe.execute()

    async def direct(key: int) -> object:
        return await client.hmget(f"entity:{key}", NAMES)

    return {"bare": direct}


def our_reads(running: House) -> dict[str, Read]:
    """Ours by name."""
    stub = views(running, "feature_views.read")

    async def ours(key: int) -> object:
        return await stub.ReadFeatures(request(key, name="entities"))

    async def many(key: int) -> object:
        return await stub.ReadFeatures(request(*range(key, key + BATCH), name="entities"))

    return {"one entity": ours, f"{BATCH} entities": many}


async def measure(kinds: dict[str, Read], count: int) -> dict[str, list[float]]:
    """Microseconds of each kind, in turns."""
    rng, found = random.Random(11), {name: list[float]() for name in kinds}
    gc.disable()
    for turn in range(count):
        for name, read in kinds.items():
            if name.startswith(str(BATCH)) and turn % 20:
                continue
            key = rng.randrange(ENTITIES - BATCH)
            begun = time.perf_counter_ns()
            await read(key)
            found[name].append((time.perf_counter_ns() - begun) / 1000)
        if turn % 500 == 0:
            gc.collect()
    gc.enable()
    return found


async def compared(home: Path, rows: pa.Table, bare: dict[str, Read], count: int, **env: str) -> None:
    """Materialises, measures and prints."""
    async with house(home, "data", **env) as running:
        await add(running, "entities", rows)
        await create(running, "entities", data_set="entities", keys=["id"], features=NAMES)
        begun = time.perf_counter()
        await materialise(running, "entities")
        print(f"materialised {ENTITIES} rows of {FEATURES} features in {time.perf_counter() - begun:.1f} s")
        kinds = bare | our_reads(running)
        await measure(kinds, 200)
        before = reads("database")
        found = await measure(kinds, count)
        if env:
            print(f"{reads('database') - before:.0f} reads went to the database")
    tails = {name: float(np.percentile(times, 99)) for name, times in found.items()}
    for name, times in found.items():
        middle, tail = float(np.percentile(times, 50)), tails[name]
        ratios = ", ".join(f"{tail / tails[peer]:.1f} x {peer}" for peer in bare)
        print(f"{name:>18}: p50 {middle:8.0f} us, p99 {tail:8.0f} us; p99 is {ratios}")


async def main(folder: Path, count: int) -> None:
    """Both stores."""
    rows = table()
    connection, thread = bare(folder / "bare.db", rows), ThreadPoolExecutor(1)
    print("in the database (SQLite)")
    await compared(folder / "near", rows, bare_reads(connection, thread), count)
    thread.shutdown()
    connection.close()
    try:
        server = servers.make("redis", folder / "redis").start()
    except servers.Missing as missing:
        print(missing)
        return
    try:
        async with Redis.from_url(server.address.replace("/0", "/1"), protocol=2) as client:
            peers = await bare_redis(client, rows)
            print("in Redis")
            await compared(folder / "far", rows, peers, count, AIMASS_DATA_FEATURES_URL=server.address)
    finally:
        server.end()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(main(Path(name), int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
