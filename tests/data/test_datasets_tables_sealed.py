"""Tables in a bucket that lie sealed: rows, minima and the log are under the tenant's key, and work as before."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from services.data.database import open_database
from services.kit.auth import Scope
from services.kit.errors import Code
from services.kit.sealed import number_of
from tests.data.test_datasets_tables_s3 import Instance
from tests.support.refused import code_of
from tests.support.storages import settings

pytestmark = pytest.mark.far
SCOPE = Scope("acme")
Make = Callable[..., Instance]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Makes data services of one installation; one that has no key of it if that is said."""
    env, shared, opened = settings("sealed"), open_database("", tmp_path), list[Instance]()
    await shared.start()

    def one(has_key: bool = True) -> Instance:
        own = {name: value for name, value in env.items() if has_key or name != "AIMASS_SECRETS_KEY"}
        opened.append(Instance(tmp_path / f"home-{len(opened)}", own, shared))
        return opened[-1]

    yield one
    for each in opened:
        await each.close()
    shared.close()


async def lying(instance: Instance) -> dict[str, bytes]:
    """What lies in the bucket, by its name in its table."""
    bucket = instance.stored.bucket
    assert bucket
    items = await bucket.list("tables/acme/default/flights")
    return {item.name.removeprefix("tables/acme/default/flights/"): await bucket.get(item.name) for item in items}


async def test_everything_of_a_table_lies_sealed_and_is_read_by_all(make: Make) -> None:
    here, there = make(), make()
    for number in range(102):
        await here.add(f"r{number}", 777_000_111 + number, append=number > 98)
    found = await lying(here)

    assert {name for name in found if name.endswith(("_last_checkpoint", ".checkpoint.parquet"))}
    assert all(number_of(data) == 1 for data in found.values())
    assert await there.numbers(102) == [777_000_111 + number for number in (98, 99, 100, 101)]
    assert await there.numbers((await there.add("last", 7)).version) == [
        *(777_000_111 + number for number in (98, 99, 100, 101)),
        7,
    ]


async def test_commits_of_two_instances_to_one_sealed_table_all_count(make: Make) -> None:
    pair = make(), make()
    made = await asyncio.gather(*(pair[number % 2].add(f"r{number}", number) for number in range(8)))

    assert sorted(version.version for version in made) == list(range(1, 9))
    assert sorted(await pair[0].numbers(8)) == sorted(await pair[1].numbers(8)) == list(range(8))


async def test_a_table_that_lies_plain_goes_on_sealed(make: Make) -> None:
    before, here = make(has_key=False), make()
    first = await before.add("r1", 1)
    second = await here.add("r2", 2)
    numbers = {number_of(data) for data in (await lying(here)).values()}

    assert (await here.numbers(first.version), await here.numbers(second.version)) == ([1], [1, 2])
    assert numbers == {0, 1}
    assert await code_of(before.add("r3", 3)) is Code.FAILED_PRECONDITION
    assert await code_of(before.numbers(second.version)) is Code.FAILED_PRECONDITION


async def test_what_another_key_has_sealed_opens_until_keys_are_destroyed(make: Make) -> None:
    here, there = make(), make()
    first = await here.add("r1", 1)
    keys = here.stored.keys
    assert keys
    await keys.rotate("acme", 1)
    second = await here.add("r2", 2)

    assert await there.numbers(second.version) == [1, 2]
    await keys.shred("acme")
    stranger = make()  # without a copy
    assert await code_of(stranger.numbers(first.version)) is Code.FAILED_PRECONDITION
    assert await code_of(here.add("r3", 3)) is Code.FAILED_PRECONDITION


async def test_a_run_that_is_kept_by_one_that_died_is_committed_by_another(make: Make) -> None:
    first, second = make(), make()
    await first.tables.keep(SCOPE, await first.written("r1", 1, 2))
    recalled = await second.data_sets.recover(SCOPE, "flights", "r1")
    assert recalled
    version = await second.data_sets.commit(SCOPE, recalled)

    assert await second.numbers(version.version) == [1, 2]
