"""The keys of tenants, in a folder and in a bucket: made once, changed under way, destroyed for good."""

import asyncio
import base64
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from services.kit.adapters import Storage
from services.kit.errors import Code, Failure, Unavailable
from services.kit.key_store import FolderKeys
from services.kit.secrets import Vault
from services.kit.tenant_keys import KeysDestroyed, TenantKeys
from tests.support.house import until
from tests.support.refused import code_of
from tests.support.storages import settings, storage

KINDS = [pytest.param("near"), pytest.param("sealed", marks=pytest.mark.far)]
Make = Callable[..., TenantKeys]


def text(letter: str) -> str:
    return base64.b64encode(letter.encode() * 32).decode()


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Makes what a process has of the keys of one installation."""
    env, opened = settings(request.param), list[Storage]()

    def one(key: str = "a", old: str = "", ticks: Callable[[], float] = lambda: 0.0) -> TenantKeys:
        vault = Vault(tmp_path / "none", text(key), ",".join(map(text, old)))
        made = storage(tmp_path / "home", env)
        opened.append(made)
        assert made.keys
        return TenantKeys(made.keys._store, vault, ticks)

    yield one
    for made in opened:
        made.blobs.close()


async def opens(keys: TenantKeys, tenant: str) -> bool:
    try:
        await keys.current(tenant)
    except Failure:
        return False
    return True


async def count(keys: TenantKeys) -> int:
    return len([done async for done in keys.rewrap()])


async def test_processes_that_come_at_once_have_one_key_for_each_tenant(make: Make) -> None:
    several = [make() for _ in range(4)]
    found = await asyncio.gather(*(keys.current(tenant) for keys in several for tenant in ("acme", "other")))

    assert len({key.secret for key in found}) == 2
    assert {key.number for key in found} == {1}


async def test_a_new_key_seals_and_the_ones_before_open(make: Make) -> None:
    here, there = make(), make()
    first = await there.current("acme")

    assert await here.rotate("acme", 1) == 2
    assert (await here.current("acme")).number == 2
    assert await here.find("acme", 1) == first
    # Another process is told by the number, before it has looked again.
    assert await there.find("acme", 2) == await here.current("acme")
    assert await there.rotate("acme", 1) == 2  # asked again, or by another who saw the same one


async def test_of_two_that_rotate_at_once_one_makes_the_key_for_both(make: Make) -> None:
    here, there = make(), make()
    await here.current("acme")

    assert set(await asyncio.gather(here.rotate("acme", 1), there.rotate("acme", 1))) == {2}


async def test_another_process_seals_with_the_new_key_after_a_while(make: Make) -> None:
    clock = [0.0]
    here, there = make(), make(ticks=lambda: clock[0])
    await there.current("acme")
    await here.rotate("acme", 1)
    clock[0] = 60.0

    assert (await there.current("acme")).number == 2


async def test_keys_are_wrapped_anew_and_the_old_key_is_not_needed_any_more(make: Make) -> None:
    before = [await make("a").current(tenant) for tenant in ("acme", "other")]
    assert await code_of(make("b").current("acme")) is Code.FAILED_PRECONDITION
    assert await count(make("b", "a")) == 2

    assert [await make("b").current(tenant) for tenant in ("acme", "other")] == before
    assert await code_of(make("a").current("acme")) is Code.FAILED_PRECONDITION


async def test_wrapping_anew_goes_on_where_it_was_broken_off(make: Make) -> None:
    tenants = ["a", "b", "c"]
    before = [await make("a").current(tenant) for tenant in tenants]
    broken = make("b", "a").rewrap()
    assert await anext(broken) == (1, 3, 0)
    await broken.aclose()  # type: ignore[attr-defined]

    assert [await make("b", "a").current(tenant) for tenant in tenants] == before
    assert await count(make("b", "a")) == 3
    assert [await make("b").current(tenant) for tenant in tenants] == before


async def test_one_key_that_nothing_opens_keeps_no_other_from_being_wrapped_anew(make: Make) -> None:
    await make("c").current("bad")
    before = await make("a").current("good")

    assert [seen async for seen in make("b", "a").rewrap()] == [(1, 2, 1), (2, 2, 1)]  # one of them stays as it is
    assert await make("b").current("good") == before
    assert (await make("c").current("bad")).number == 1


async def test_a_key_is_wrapped_anew_that_a_process_made_which_still_had_the_old_one_first(make: Make) -> None:
    await make("a").current("early")
    renewing = asyncio.create_task(make("b", "a").renew(every=0.01))
    try:
        await until(lambda: opens(make("b"), "early"))
        late = await make("a", "b").current("late")

        await until(lambda: opens(make("b"), "late"))
        assert await make("b").current("late") == late
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)


async def test_what_is_destroyed_opens_nothing_and_seals_nothing(make: Make) -> None:
    here = make()
    await here.current("acme")
    await here.rotate("acme", 1)
    for _ in range(2):
        await here.shred("acme")

    for keys in (here, make()):
        assert await code_of(keys.current("acme")) is Code.FAILED_PRECONDITION
        assert await code_of(keys.find("acme", 1)) is Code.FAILED_PRECONDITION
        assert await code_of(keys.rotate("acme", 1)) is Code.FAILED_PRECONDITION
    assert dict(await here._store.load("acme")) == {0: b""}
    assert (await here.current("other")).number == 1


async def test_a_tenant_without_keys_is_destroyed_as_well(make: Make) -> None:
    await make().shred("acme")

    assert await code_of(make().current("acme")) is Code.FAILED_PRECONDITION


async def test_another_process_lets_go_of_destroyed_keys_after_a_while(make: Make) -> None:
    clock = [0.0]
    here, there = make(), make(ticks=lambda: clock[0])
    await there.current("acme")
    await here.shred("acme")
    clock[0] = 60.0

    assert await code_of(there.current("acme")) is Code.FAILED_PRECONDITION


class Away(FolderKeys):
    """A folder that can be away."""

    away = False

    async def load(self, tenant: str, *known: Collection[int]) -> dict[int, bytes]:
        if self.away:
            raise Unavailable("the store of keys is away")
        return dict(await super().load(tenant, *known))


async def test_keys_that_a_process_has_stay_while_their_store_is_away(tmp_path: Path) -> None:
    clock, store = [0.0], Away(tmp_path / "keys")
    keys = TenantKeys(store, Vault(tmp_path), lambda: clock[0])
    had = await keys.current("acme")
    store.away, clock[0] = True, 600.0

    assert await keys.current("acme") == had
    assert await keys.find("acme", 1) == had
    assert await code_of(keys.current("other")) is Code.UNAVAILABLE


class Counted(FolderKeys):
    """A folder that notes which keys it was read for."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.read: list[int] = []

    async def load(self, tenant: str, *known: Collection[int]) -> dict[int, bytes]:
        found = dict(await super().load(tenant, *known))
        self.read += sorted(number for number, wrapped in found.items() if wrapped)
        return found


async def test_keys_that_a_process_has_are_not_fetched_again_however_many_there_are(tmp_path: Path) -> None:
    clock, store = [0.0], Counted(tmp_path / "keys")
    keys, other = TenantKeys(store, Vault(tmp_path), lambda: clock[0]), TenantKeys(store, Vault(tmp_path))
    for number in range(1, 4):
        await keys.current("acme")
        await keys.rotate("acme", number)
    store.read.clear()
    clock[0] = 60.0
    assert (await keys.current("acme")).number == 4
    assert store.read == []

    assert (await other.current("acme")).number == 4
    assert store.read == [1, 2, 3, 4]


async def test_a_key_of_one_tenant_is_none_of_another(tmp_path: Path) -> None:
    store = FolderKeys(tmp_path / "keys")
    keys = TenantKeys(store, Vault(tmp_path))
    await keys.current("acme")
    await store.add("rival", 1, (await store.load("acme"))[1])

    assert await code_of(keys.current("rival")) is Code.FAILED_PRECONDITION


async def test_a_key_that_is_destroyed_while_it_is_read_is_one_that_is_not_there(tmp_path: Path) -> None:
    store = FolderKeys(tmp_path / "keys")
    keys = TenantKeys(store, Vault(tmp_path))
    await keys.current("acme")
    (tmp_path / "keys" / "acme" / "2").symlink_to("gone")  # listed, and no file when it is opened

    assert await code_of(keys.find("acme", 2)) is Code.FAILED_PRECONDITION


async def test_what_is_held_is_told_without_a_look_and_one_look_renews_all(make: Make) -> None:
    clock = [0.0]
    here, there = make(), make(ticks=lambda: clock[0])
    assert there.held("acme") is None
    for tenant in ("acme", "gone", "still"):
        await there.current(tenant)
    new = await here.rotate("acme", 1)
    await here.shred("gone")
    await here.current("never asked for")
    assert (there.held("acme"), there.held("acme", 2)) == (await there.find("acme", 1), None)
    assert there.held("gone")

    clock[0] = 60.0
    await there.look()
    first, second = there.held("acme", 1), there.held("acme")
    assert first
    assert second
    assert second.number == new
    assert first == await here.find("acme", 1)
    assert there.held("never asked for") is None
    with pytest.raises(KeysDestroyed):
        there.held("gone")


async def test_one_look_is_enough_to_believe_all_that_is_held(tmp_path: Path) -> None:
    clock, store = [0.0], Away(tmp_path / "keys")
    keys = TenantKeys(store, Vault(tmp_path), lambda: clock[0])
    had = {tenant: await keys.current(tenant) for tenant in ("acme", "other")}
    clock[0] = 60.0
    await keys.look()
    store.away = True  # nothing of one tenant can be read

    assert {tenant: await keys.current(tenant) for tenant in had} == had


async def test_a_key_that_does_not_open_keeps_nobody_from_what_others_have(tmp_path: Path) -> None:
    store = FolderKeys(tmp_path / "keys")
    keys, other = TenantKeys(store, Vault(tmp_path)), TenantKeys(store, Vault(tmp_path))
    for tenant in ("acme", "broken", "zebra"):
        await keys.current(tenant)
        await other.rotate(tenant, 1)
    await store.replace("broken", 2, b"\x02" + bytes(80))
    await keys.look()

    assert [getattr(keys.held(tenant), "number", 0) for tenant in ("acme", "broken", "zebra")] == [2, 1, 2]


class Late(FolderKeys):
    """A folder in which a tenant comes to its end before its first key is put there."""

    async def add(self, tenant: str, number: int, wrapped: bytes) -> bool:
        if number == 1:
            await self.destroy(tenant)
        return await super().add(tenant, number, wrapped)


async def test_a_key_that_is_made_while_its_tenant_is_destroyed_does_not_stay(tmp_path: Path) -> None:
    keys = TenantKeys(Late(tmp_path / "keys"), Vault(tmp_path))

    assert await code_of(keys.current("acme")) is Code.FAILED_PRECONDITION
    assert [path.name for path in (tmp_path / "keys" / "acme").iterdir()] == ["0"]
