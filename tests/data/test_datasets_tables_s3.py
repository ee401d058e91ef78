"""Tables on S3: other readers, other writers, a server that dies, bytes that rot."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.data.database import open_database, schema
from services.data.datasets import parquet, tables_s3
from services.data.datasets.comparing import Comparisons
from services.data.datasets.differences import Kind as Change
from services.data.datasets.divider import Divider
from services.data.datasets.domain import DataSetVersion, Location, NewVersion
from services.data.datasets.hot import HotTables
from services.data.datasets.laying import Laying
from services.data.datasets.layouts import Layout, Placing, Strategy
from services.data.datasets.queries import Queries, Table
from services.data.datasets.service import DataSets
from services.data.datasets.store import Store
from services.data.datasets.store.tags import TagStore
from services.data.datasets.tables import open_tables
from services.data.datasets.versions import Versions
from services.data.expectations.domain import Action, Expectation, Kind
from services.data.expectations.service import DataSetExpectations, Inspector
from services.data.expectations.store import ExpectationStore
from services.data.metering.domain import DEFAULT_BUDGET
from services.data.metering.service import Metering
from services.data.partitions.domain import Rewrite
from services.data.partitions.runner import RewriteRunner
from services.data.partitions.store import RewriteStore
from services.data.schema import Column, ColumnType
from services.kit.auth import Scope
from services.kit.db import Database
from services.kit.errors import Code, Failure
from services.kit.process import Limits
from services.kit.space import Space
from services.kit.turns import Turns
from tests.support.house import until
from tests.support.servers import PASSWORD, USER, Program, address, database
from tests.support.storages import objects, own_server, settings, storage

pytestmark = pytest.mark.far
SCOPE = Scope("acme")
COLUMNS = (Column("n", ColumnType.INT64),)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with own_server(tmp_path_factory.mktemp("s3")) as program:
        yield program


class Instance:
    """A data service on a machine of its own, with the database of the others."""

    def __init__(self, home: Path, env: dict[str, str], shared: Database) -> None:
        self.env, self.stored = env, storage(home, env)
        self.tables = open_tables(self.stored, home / "tables")
        self.data_sets = DataSets(Store(shared), self.tables, now, Space(home, 100))
        self.versions = Versions(TagStore(shared), self.data_sets, now)
        kept, limits = ExpectationStore(shared), Limits(30, 2048)
        self.database, free = shared, Turns(1)
        self.data_sets.divider = Divider(self.tables, Limits(30, 2048), free)
        self.data_sets.inspector = Inspector(kept, self.data_sets, limits, Turns(1))
        self.expectations = DataSetExpectations(kept, self.data_sets, Metering(shared), limits, free, now)
        self.comparisons = Comparisons(self.data_sets, Metering(shared), limits, Turns(1))

    async def add(self, run: str, *numbers: int, append: bool = True) -> DataSetVersion:
        """A version as a run adds it."""
        return await self.data_sets.commit(SCOPE, await self.written(run, *numbers, append=append))

    async def written(self, run: str, *numbers: int, append: bool = True) -> NewVersion:
        """What a child has written."""
        writer = parquet.Writer(await self.data_sets.prepare(SCOPE, "flights", run), COLUMNS)
        writer.write(pa.table({"n": numbers}))
        return NewVersion("flights", run, writer.close(), COLUMNS, append)

    async def numbers(self, version: int) -> list[int]:
        """What a version holds, as our own readers see it."""
        page = await self.data_sets.rows(SCOPE, "flights", version, (), 1000, "")
        return [row["n"] for row in page.items]

    def seen(self, version: DataSetVersion) -> list[int]:
        """What another reader of Delta Lake sees of a version."""
        asked = parse_qs(self.env["AIMASS_BLOBS_URL"].partition("?")[2])
        options = {"endpoint_url": asked["endpoint"][0], "region": "us-east-1", "allow_http": "true"}
        options |= {"access_key_id": USER, "secret_access_key": PASSWORD}
        table = deltalake.DeltaTable(
            self.tables.uri(SCOPE, "flights"), version=version.delta_version, storage_options=options
        )
        found = deltalake.QueryBuilder().register("t", table).execute("SELECT n FROM t ORDER BY n").read_all()
        return list(pa.table(found).column("n").to_pylist())

    async def close(self) -> None:
        await self.tables.close()
        self.stored.blobs.close()


@pytest.fixture
async def pair(tmp_path: Path, server: Program) -> AsyncIterator[tuple[Instance, Instance]]:
    env, shared = settings("far", server.address), open_database("", tmp_path)
    await shared.start()
    schema.operations.bind(shared, now)
    made = Instance(tmp_path / "one", env, shared), Instance(tmp_path / "two", env, shared)
    yield made
    for one in made:
        await one.close()
    shared.close()


async def test_other_readers_see_a_delta_table_with_every_version(pair: tuple[Instance, Instance]) -> None:
    versions = [await pair[0].add("r1", 1), await pair[1].add("r2", 2), await pair[0].add("r3", 3, append=False)]

    assert [pair[0].seen(version) for version in versions] == [[1], [1, 2], [3]]
    assert [await pair[1].numbers(version.version) for version in versions] == [[1], [1, 2], [3]]


async def test_an_instance_goes_back_to_a_version_of_another_and_compares(pair: tuple[Instance, Instance]) -> None:
    one, other = pair
    first = await one.add("r1", 1, 2)
    await one.add("r2", 2, 3, append=False)
    etag = str((await other.data_sets.get(SCOPE, "flights")).generation)
    back = await other.versions.roll_back(SCOPE, "flights", 1, etag, None)
    diff = await other.comparisons.diff(SCOPE, "flights", (2, 3), ["n"], (10, ""), 30)
    appended = await one.add("r3", 9)

    assert (back.version, back.digest, other.seen(back)) == (3, first.digest, [1, 2])
    assert [(row.kind, row.before, row.after) for row in diff.rows] == [
        (Change.ADDED, None, {"n": 1}),
        (Change.REMOVED, {"n": 3}, None),
    ]
    assert (await one.numbers(4), one.seen(appended), diff.unchanged) == ([1, 2, 9], [1, 2, 9], 1)
    assert await one.numbers(2) == [2, 3]


async def test_what_is_expected_is_checked_before_anything_is_in_the_bucket(pair: tuple[Instance, Instance]) -> None:
    one, other = pair
    await one.add("r1", 1, 2)
    items = [Expectation(Kind.UNIQUE, Action.QUARANTINE, "n"), Expectation(Kind.RANGE, Action.BLOCK, "n", maximum="9")]
    await one.expectations.set(SCOPE, "flights", items, "")
    made = await other.add("r2", 2, 3)
    with pytest.raises(Failure, match="flights expects that n is at most 9: 1 of 1"):
        await other.add("r3", 10)
    put_aside = await one.data_sets.quarantine(SCOPE, "flights", 2, 10, "")
    checks = await one.expectations.checks(SCOPE, "flights", 10, "")

    assert (made.rows_added, await one.numbers(2), one.seen(made)) == (1, [1, 2, 3], [1, 2, 3])
    assert [(row["record"], row["reason"]) for row in put_aside.items] == [('{"n":2}', "expected: n is unique")]
    assert [check.version for check in checks.items] == [0, 2]


async def test_commits_of_two_instances_to_one_table_all_count(pair: tuple[Instance, Instance]) -> None:
    made = await asyncio.gather(*(pair[number % 2].add(f"r{number}", number) for number in range(8)))
    ordered = sorted(made, key=lambda version: version.version)

    assert [version.version for version in ordered] == list(range(1, 9))
    assert sorted(await pair[0].numbers(8)) == list(range(8))
    for version in ordered:
        assert pair[1].seen(version) == sorted(await pair[0].numbers(version.version))


async def test_commits_of_two_instances_with_pools_of_their_own_all_count(tmp_path: Path, server: Program) -> None:
    where, env = database(address("postgres")), settings("far", server.address)
    databases = [open_database(where, tmp_path) for _ in range(2)]
    for one in databases:
        await one.start()
    pair = [Instance(tmp_path / f"{number}", env, one) for number, one in enumerate(databases)]
    made = await asyncio.gather(*(pair[number % 2].add(f"r{number}", number) for number in range(8)))

    assert sorted(version.version for version in made) == list(range(1, 9))
    for version in made:
        assert pair[0].seen(version) == sorted(await pair[1].numbers(version.version))
    for instance, one in zip(pair, databases, strict=True):
        await instance.close()
        one.close()


async def test_two_instances_that_do_the_same_run_add_one_version(pair: tuple[Instance, Instance]) -> None:
    """Whoever is late finds the version; the files of neither replace those of the other."""
    first, second = await pair[0].written("r1", 1), await pair[1].written("r1", 1, 2)
    made = await asyncio.gather(pair[0].data_sets.commit(SCOPE, first), pair[1].data_sets.commit(SCOPE, second))

    assert made[0] == made[1]
    assert await pair[0].numbers(1) in ([1], [1, 2])


async def test_what_was_kept_by_an_instance_that_died_is_committed_by_another(pair: tuple[Instance, Instance]) -> None:
    new = await pair[0].written("r1", 1, 2)
    await pair[0].tables.keep(SCOPE, new)
    found = await pair[1].data_sets.recover(SCOPE, "flights", "r1")
    assert found
    version = await pair[1].data_sets.commit(SCOPE, found)

    assert pair[1].seen(version) == [1, 2]


async def test_what_a_crash_left_in_the_log_goes_out_with_the_next_commit(pair: tuple[Instance, Instance]) -> None:
    await pair[0].add("r1", 1)
    lost = await pair[0].tables.keep(SCOPE, await pair[0].written("r2", 2))
    await pair[0].tables.write(SCOPE, lost, COLUMNS, lost.files)
    version = await pair[1].add("r3", 3)

    assert pair[1].seen(version) == await pair[1].numbers(2) == [1, 3]


async def test_a_table_is_read_from_its_checkpoint(pair: tuple[Instance, Instance]) -> None:
    for number in range(103):
        version = await pair[0].add(f"r{number}", number, append=number > 98)
    bucket = pair[0].stored.bucket
    assert bucket
    log = [item.name.rpartition("/")[2] for item in await bucket.list("tables/acme/default/flights/_delta_log")]

    assert "_last_checkpoint" in log
    assert pair[1].seen(version) == [98, 99, 100, 101, 102]
    assert pair[1].seen(await pair[1].add("last", 7)) == [7, 98, 99, 100, 101, 102]


async def test_bytes_that_rot_in_the_bucket_are_never_read(pair: tuple[Instance, Instance], server: Program) -> None:
    await pair[0].add("r1", 1, 2, 3)
    location = await pair[1].data_sets.locate(SCOPE, "flights", 1)
    file = next(path for path in objects(server) if path.name == Path(location.files[0].path).name)
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 4
    file.write_bytes(damaged)

    with pytest.raises(Failure) as caught:
        await pair[1].numbers(1)
    assert caught.value.code is Code.DIGEST_MISMATCH
    with pytest.raises(Failure) as caught:
        async with pair[1].data_sets.local(SCOPE, location):
            pytest.fail("damaged rows were given to a child")
    assert caught.value.code is Code.DIGEST_MISMATCH


async def test_what_a_child_did_not_write_is_not_kept(pair: tuple[Instance, Instance]) -> None:
    new = await pair[0].written("r1", 1)
    (next((pair[0].tables._folder).rglob("*.parquet"))).write_bytes(b"other bytes")  # type: ignore[attr-defined]

    with pytest.raises(Failure) as caught:
        await pair[0].tables.keep(SCOPE, new)
    assert caught.value.code is Code.INTERNAL
    assert await pair[1].tables.recall(SCOPE, "flights", "r1") is None


async def test_a_server_that_dies_in_a_commit_is_waited_for(pair: tuple[Instance, Instance], server: Program) -> None:
    kept: list[int] = []
    for number, delay in enumerate((0.0, 0.01, 0.03, 0.06)):
        new = await pair[0].written(f"r{number}", number)
        committing = asyncio.ensure_future(pair[0].data_sets.commit(SCOPE, new))
        await asyncio.sleep(delay)
        server.kill()
        await asyncio.sleep(0.3)
        server.start()
        async with asyncio.timeout(30):
            version = await committing
        kept.append(number)

        assert pair[1].seen(version) == await pair[1].numbers(version.version) == kept


async def test_entries_of_the_log_that_come_in_between_are_told_apart(
    pair: tuple[Instance, Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reading the log and writing to it another instance writes: what was read is read again."""
    await pair[0].add("r1", 1)
    bring, met = tables_s3.S3Tables._bring_log, asyncio.Event()

    async def meet(self: tables_s3.S3Tables, tenant: str, log: str, folder: Path) -> frozenset[str]:
        there = await bring(self, tenant, log, folder)
        if self is pair[0].tables and not met.is_set():
            met.set()
            await pair[1].add("r2", 2)
        return there

    monkeypatch.setattr(tables_s3.S3Tables, "_bring_log", meet)
    version = await pair[0].add("r3", 3)

    assert met.is_set()
    assert (version.version, pair[0].seen(version)) == (3, [1, 2, 3])


def now() -> datetime:
    return datetime.now(UTC)


HASH = Layout(Strategy.HASH, ("n",), count=3)
PLACING = Placing(HASH, {"n": ColumnType.INT64})


async def laid_out(one: Instance) -> None:
    """The data set, which has no version yet, will be divided."""
    store = Store(one.database)
    await store.ensure(SCOPE, "flights", now())
    await one.database.run(lambda connection: store.lay_out(connection, SCOPE, "flights", HASH, now()))


def check_divided(one: Instance, location: Location, expected: list[int]) -> None:
    numbers = one.seen(location.version)
    assert numbers == sorted(expected)
    assert {file.partition for file in location.files} == {PLACING.of((number,)) for number in expected}
    assert sum(file.rows for file in location.files) == len(expected)


async def test_rows_of_two_instances_are_divided_in_the_bucket(pair: tuple[Instance, Instance]) -> None:
    one, two = pair
    await laid_out(one)
    await asyncio.gather(*(each.add(f"r{at}", at, at + 100) for at, each in enumerate((one, two) * 3)))

    location = await two.data_sets.locate(SCOPE, "flights")
    check_divided(two, location, [*range(6), *range(100, 106)])
    assert sorted(await one.numbers(6)) == [*range(6), *range(100, 106)]


@pytest.mark.parametrize(("where", "found"), [("n = 1", [1]), ("n = 1 AND n = 2", [])])
async def test_a_query_brings_only_files_of_partitions_that_it_needs(
    pair: tuple[Instance, Instance], tmp_path: Path, where: str, found: list[int]
) -> None:
    one, two = pair
    await laid_out(one)
    await one.add("r1", *range(30))
    queries = Queries(two.data_sets, Metering(two.database), Limits(30, 2048), Turns(1))
    sql, tables = f"SELECT n FROM flights WHERE {where}", [Table("", "flights")]
    answer = await queries.ask(SCOPE, sql, tables, (0, ""), 30.0)

    assert [row["n"] for row in answer.rows] == found
    assert [(read.files_read, read.files) for read in answer.reads] == [(len(found), 3)]
    assert len([path for path in (tmp_path / "two").rglob("kept/**/*") if path.is_file()]) == 1


async def test_a_query_of_tables_in_memory_fetches_nothing(pair: tuple[Instance, Instance], tmp_path: Path) -> None:
    one, two = pair
    await one.add("r1", *range(30))
    hot = HotTables(2**20)
    queries = Queries(two.data_sets, Metering(two.database), Limits(30, 2048), Turns(1), hot)
    sql, tables, found = "SELECT sum(n) AS s FROM flights", [Table("", "flights")], []
    try:
        for _ in range(3):
            found.append(await queries.ask(SCOPE, sql, tables, (0, ""), 30.0))
            here = [path for path in (tmp_path / "two").rglob("*.parquet") if path.is_file()]
            copies = [path for path in (tmp_path / "two").rglob("kept/**/*") if path.is_file()]
            assert not here
            for path in copies:
                path.unlink()
    finally:
        await hot.close()

    assert [answer.rows for answer in found] == [({"s": 435},)] * 3
    assert [read.in_memory for answer in found for read in answer.reads] == [False, False, True]
    assert copies == []


async def test_a_run_that_was_kept_before_the_data_set_was_divided_is_divided_by_another(
    pair: tuple[Instance, Instance],
) -> None:
    one, two = pair
    new = await one.tables.keep(SCOPE, await one.written("r1", *range(10)))
    await laid_out(two)
    recalled = await two.data_sets.recover(SCOPE, "flights", "r1")
    assert recalled == new
    await two.data_sets.commit(SCOPE, recalled)

    check_divided(one, await one.data_sets.locate(SCOPE, "flights"), list(range(10)))
    async with one.data_sets.local(SCOPE, await one.data_sets.locate(SCOPE, "flights")) as here:
        kept = [(file.partition, pq.read_table(Path(here.uri) / file.path)["n"].to_pylist()) for file in here.files]
        table = deltalake.DeltaTable(here.uri, version=here.delta_version)
    assert all(PLACING.of((number,)) == partition for partition, numbers in kept for number in numbers)
    assert table.metadata().partition_columns == ["__partition"]


async def test_versions_of_another_instance_are_divided_by_a_rewrite_that_they_overtake(
    pair: tuple[Instance, Instance],
) -> None:
    one, two = pair
    await one.add("r1", *range(10))
    store = RewriteStore(one.database, Laying(Store(one.database), now))
    runner = RewriteRunner(store, one.data_sets, Metering(one.database), asyncio.ensure_future, Limits(30, 2048))
    begun = await store.begin(SCOPE, "flights", lambda name: Rewrite(name, "flights", HASH), None, DEFAULT_BUDGET)
    runner.begin(SCOPE, Rewrite(begun.operation, "flights", HASH))
    for at in range(10, 14):
        await two.add(f"r{at}", at)

    async def ended() -> bool:
        return not await store.unfinished()

    await until(ended, 60)
    check_divided(two, await two.data_sets.locate(SCOPE, "flights"), list(range(14)))
    assert await two.numbers(1) == list(range(10))
