"""How rows of the feature store lie: what opens them, what does not, and what becomes of them when keys change."""

from pathlib import Path

import pytest

from services.data.feature_views.covering import KEY, Cover, Covers
from services.data.feature_views.places import Place
from services.kit.auth import Scope
from services.kit.errors import Code, Failure
from services.kit.key_store import FolderKeys
from services.kit.secrets import Vault
from services.kit.tenant_keys import KeysDestroyed, TenantKeys
from tests.data.tables import add
from tests.data.test_feature_views import readings
from tests.data.views import create, hours_ago, materialise, values
from tests.support.house import house

HERE = Place(Scope("acme"), "sensors", 1)


@pytest.fixture
def keys(tmp_path: Path) -> TenantKeys:
    return TenantKeys(FolderKeys(tmp_path / "tenants"), Vault(tmp_path / "keys"))


def refused(cover: Cover, key: bytes, time: int, sealed: bytes) -> bool:
    with pytest.raises(Failure) as caught:
        cover.opened(key, time, sealed)
    return caught.value.code is Code.DIGEST_MISMATCH


async def test_a_row_opens_as_that_of_its_entity_time_and_version_only(keys: TenantKeys) -> None:
    cover = await Covers(keys).of(HERE)
    key, other = cover.hash(b'["a"]'), cover.hash(b'["b"]')
    sealed = cover.sealed(key, -5, b"[1.0]")

    assert (len(key), b"1.0" in sealed) == (KEY, False)
    assert cover.opened(key, -5, sealed) == b"[1.0]"
    assert refused(cover, other, -5, sealed)
    assert refused(cover, key, -4, sealed)
    assert refused(cover, key, -5, sealed[:-1] + bytes([sealed[-1] ^ 1]))
    assert refused(cover, key, -5, b"")
    for place in (HERE._replace(version=2), HERE._replace(scope=Scope("evil")), HERE._replace(feature_view="other")):
        elsewhere = await Covers(keys).of(place)
        assert elsewhere.hash(b'["a"]') != key
        assert refused(elsewhere, key, -5, sealed)


async def test_a_key_that_another_process_has_rotated_opens_and_rows_keep_their_names(keys: TenantKeys) -> None:
    covers = Covers(keys)
    before = await covers.of(HERE)
    await keys.rotate("acme", 1)
    after = await covers.of(HERE)
    old, new = (cover.sealed(b"k" * KEY, 1, b"[]") for cover in (before, after))

    assert after.hash(b"a") == before.hash(b"a")
    assert after.opened(b"k" * KEY, 1, old) == b"[]"
    assert (after.lacks([old, new]), before.lacks([old])) == (0, 0)
    assert before.lacks([old, new]) == 2
    assert (await Covers(keys).of(HERE, 2)).opened(b"k" * KEY, 1, new) == b"[]"


async def test_without_keys_rows_lie_plain() -> None:
    cover = await Covers(None).of(HERE)

    assert cover.opened(b"k", 1, cover.sealed(b"k", 1, b"[]")) == b"[]"
    assert cover.lacks([b"[]"]) == 0


async def test_a_shredded_tenant_has_no_cover_any_more(keys: TenantKeys) -> None:
    covers = Covers(keys)
    await covers.of(HERE)
    await keys.shred("acme")
    await covers.forget(["acme"])

    with pytest.raises(KeysDestroyed):
        await covers.of(HERE)


async def test_rows_are_read_after_the_key_of_their_tenant_was_rotated(home: Path) -> None:
    async with house(home, "data") as running:
        await add(running, "readings", readings(("a", hours_ago(2), 1.0, "x")), append=True)
        await create(running)
        await materialise(running)
        keys = running.runtime.storage.keys
        assert keys
        await keys.rotate("acme", 1)
        assert await values(running, "a") == [[1.0, "x"]]
        await add(running, "readings", readings(("b", hours_ago(1), 2.0, "y")), append=True)
        await materialise(running)
        assert await values(running, "a", "b") == [[1.0, "x"], [2.0, "y"]]
