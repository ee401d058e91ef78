"""What is left of tenants whose keys are destroyed: dropped by whoever has it, sooner or later, and nobody else's."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

import pytest

from services.kit.adapters import Storage
from services.kit.digests import digest_of
from services.kit.errors import Unavailable
from services.kit.forgetting import Forget, Forgetting, each
from tests.support.house import until
from tests.support.storages import settings, storage

KINDS = [pytest.param("near"), pytest.param("sealed", marks=pytest.mark.far)]
WORDS = b"rows of somebody"


@contextlib.asynccontextmanager
async def running(forgetting: Forgetting, parts: Iterable[Forget], again: float = 10.0) -> AsyncIterator[None]:
    task = asyncio.create_task(forgetting.run(parts, again=again))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Ends:
    """Tenants that have come to their end, and what parts have been told of them."""

    def __init__(self, *names: str) -> None:
        self.names, self.away, self.asked = list(names), False, 0
        self.told: list[str] = []

    async def destroyed(self) -> Sequence[str]:
        self.asked += 1
        if self.away:
            raise Unavailable("the store is away")
        return list(self.names)

    async def forget(self, tenants: Sequence[str]) -> None:
        self.told += tenants


async def fill(kept: Storage, home: Path, tenant: str) -> None:
    """All that a store of bytes has of a tenant: a blob, an upload, files that lay plain, a table, a copy of it."""
    await kept.blobs.put(tenant, WORDS)
    upload = await kept.uploads.begin(tenant)
    await kept.uploads.write(tenant, upload.upload, 0, WORDS)
    (kept.blobs.scratch(tenant) / "graph").write_bytes(WORDS)
    place = f"tables/{tenant}/default/flights"
    if kept.bucket is None:
        (home / place).mkdir(parents=True)
        (home / place / "part").write_bytes(WORDS)
        return
    await kept.bucket.put(f"{place}/part", WORDS)
    await kept.bucket.put(f"blobs/{tenant}/sha256/aa/{'a' * 64}", WORDS)
    async with kept.mirrors.hold(tenant, f"{kept.bucket.uri}/{place}", {"part": digest_of(WORDS)}):
        pass


async def left(kept: Storage, home: Path, tenant: str) -> list[str]:
    """What there is of a tenant, but what says that his keys are destroyed."""
    # os.walk bears that something goes away meanwhile.
    files = [Path(here, name).relative_to(home) for here, _, found in os.walk(home) for name in found]
    names = [str(path) for path in files if tenant in path.parts]
    if kept.bucket:
        for folder in ("blobs", "tables", "uploads", "keys"):
            names += [item.name for item in await kept.bucket.list(f"{folder}/{tenant}")]
    return [name for name in names if not name.endswith(f"{tenant}/0")]


@pytest.mark.parametrize("kind", KINDS)
async def test_of_a_tenant_whose_keys_are_destroyed_no_bytes_are_left(kind: str, tmp_path: Path) -> None:
    kept = storage(tmp_path, settings(kind))
    assert kept.keys
    for tenant in ("gone", "stays"):
        await fill(kept, tmp_path, tenant)
    before = await left(kept, tmp_path, "stays")
    await kept.keys.shred("gone")
    forgetting = Forgetting(kept.destroyed)

    async def dropped() -> bool:
        return not await left(kept, tmp_path, "gone")

    assert not await dropped()
    async with running(forgetting, [kept.forget]):
        await until(dropped)
    assert len(before) >= 5
    assert await left(kept, tmp_path, "stays") == before
    kept.blobs.close()


@pytest.mark.far
async def test_a_process_without_the_installations_key_forgets_all_the_same(tmp_path: Path) -> None:
    env = settings("sealed")
    kept = storage(tmp_path / "one", env)
    assert kept.keys
    await fill(kept, tmp_path / "one", "gone")
    await kept.keys.shred("gone")
    del env["AIMASS_SECRETS_KEY"]
    other = storage(tmp_path / "other", env)

    async def dropped() -> bool:
        return not await left(other, tmp_path / "other", "gone")

    async with running(Forgetting(other.destroyed), [other.forget]):
        await until(dropped)
    for opened in (kept, other):
        opened.blobs.close()


async def test_who_runs_is_woken_by_an_end() -> None:
    ends = Ends("first")
    forgetting = Forgetting(ends.destroyed)
    async with running(forgetting, [ends.forget]):
        await until(lambda: ends.told == ["first"])
        ends.names.append("second")
        forgetting.wake()
        await until(lambda: ends.told == ["first", "first", "second"])
        forgetting.wake()
        await until(lambda: ends.told[3:] == ["second"])


async def test_a_part_that_fails_is_asked_again_and_holds_up_no_other() -> None:
    ends, tries = Ends("first", "gone"), list[str]()

    async def fails(tenant: str) -> None:
        tries.append(tenant)
        if tenant == "first" and len(tries) < 5:
            raise [Unavailable("the database is away"), ValueError("a bug")][len(tries) // 2]

    async with running(Forgetting(ends.destroyed), [each(fails), ends.forget], again=0.01):
        await until(lambda: len(tries) == 6)
    assert tries == ["first", "gone"] * 3
    assert ends.told == ["first", "gone"]


async def test_a_part_that_takes_long_holds_up_no_other() -> None:
    ends, never = Ends("gone"), asyncio.Event()

    async def waits(tenants: Sequence[str]) -> None:
        await never.wait()

    forgetting = Forgetting(ends.destroyed)
    async with running(forgetting, [waits, ends.forget]):
        await until(lambda: ends.told == ["gone"])
        ends.names.append("second")
        forgetting.wake()
        await until(lambda: "second" in ends.told)


async def test_a_store_of_keys_that_is_away_is_asked_again() -> None:
    ends = Ends("gone")
    ends.away = True
    async with running(Forgetting(ends.destroyed), [ends.forget], again=0.01):
        await until(lambda: ends.asked > 1)
        assert ends.told == []
        ends.away = False
        await until(lambda: ends.told == ["gone"])


async def test_a_name_that_leads_elsewhere_is_not_followed() -> None:
    ends = Ends("..", "a/b", "", "gone")
    async with running(Forgetting(ends.destroyed), [ends.forget]):
        await until(lambda: ends.told == ["gone"])


async def test_a_store_of_keys_that_is_away_is_said_once_until_it_answers(caplog: pytest.LogCaptureFixture) -> None:
    ends = Ends()
    forgetting = Forgetting(ends.destroyed)

    async def asked_again() -> None:
        before = ends.asked

        async def again() -> bool:
            return ends.asked > before + 9

        await until(again)

    ends.away = True
    async with running(forgetting, [ends.forget, ends.forget, ends.forget], again=0.01):
        await asked_again()
        assert caplog.text.count("asked again: the store is away") == 1
        ends.away = False
        forgetting.wake()
        await asyncio.sleep(0.1)
        ends.away = True
        forgetting.wake()
        await asked_again()

    assert caplog.text.count("asked again: the store is away") == 2


async def test_what_comes_behind_the_first_look_is_dropped_by_a_later_one() -> None:
    ends = Ends("gone")
    task = asyncio.create_task(Forgetting(ends.destroyed).run([ends.forget], every=0.001))
    try:
        await until(lambda: len(ends.told) >= 3)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
