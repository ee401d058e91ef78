"""Sizes that are missing: each is asked for once, what is gone has none, and what cannot be asked is asked later."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import BigInteger, Column, MetaData, String, insert, select

from services.kit import sizes
from services.kit.db import Database, scoped
from services.kit.errors import Code, Failure, NotFound, Unavailable
from services.kit.sizes import Sizes
from tests.kit.conftest import migrations

THING = scoped(
    "thing",
    MetaData(),
    Column("thing", String(9), primary_key=True),
    Column("kind", String(9)),
    Column("size", BigInteger),
)


class Things:
    """A table of things, and a store that knows how large they are."""

    def __init__(self, database: Database) -> None:
        self.database, self.asked = database, list[tuple[str, str]]()
        self.lost: dict[str, Failure] = {}
        self.sizes = Sizes(database, THING, THING.c.thing, THING.c.kind == "file")

    async def add(self, *names: str, tenant: str = "acme", kind: str = "file") -> None:
        rows = [{"tenant": tenant, "project": "default", "thing": name, "kind": kind} for name in names]
        await self.database.run(lambda connection: connection.execute(insert(THING), rows) and None)

    async def size(self, tenant: str, name: str) -> int:
        self.asked.append((tenant, name))
        if name in self.lost:
            raise self.lost[name]
        return len(name)

    async def noted(self) -> dict[tuple[str, str], int | None]:
        rows = await self.database.read(lambda connection: connection.execute(select(THING)).all())
        return {(row.tenant, row.thing): row.size for row in rows}


@pytest.fixture
async def things(db_url: str, tmp_path: Path) -> AsyncIterator[Things]:
    database = Database(db_url, migrations(tmp_path))
    await database.start()
    await database.run(lambda connection: THING.create(connection))
    yield Things(database)
    database.close()


async def test_each_size_is_asked_for_once_whoever_it_belongs_to(
    things: Things, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizes, "_PAGE", 2)
    await things.add("a", "bb", "ccc")
    await things.add("a", "dddd", tenant="umbra")
    for _ in range(2):
        await things.sizes.fill(things.size)

    assert sorted(things.asked) == [("acme", "a"), ("acme", "bb"), ("acme", "ccc"), ("umbra", "a"), ("umbra", "dddd")]
    assert {key: size for key, size in (await things.noted()).items() if size != len(key[1])} == {}


async def test_what_does_not_count_is_not_asked_for(things: Things) -> None:
    await things.add("a", kind="open")
    await things.sizes.fill(things.size)

    assert (things.asked, await things.noted()) == ([], {("acme", "a"): None})


@pytest.mark.parametrize("gone", [NotFound("it is gone"), Failure(Code.DIGEST_MISMATCH, "it is damaged")])
async def test_what_is_gone_has_no_size_and_keeps_none_of_the_others_waiting(things: Things, gone: Failure) -> None:
    await things.add("a", "bb")
    things.lost["a"] = gone
    await things.sizes.fill(things.size)

    assert await things.noted() == {("acme", "a"): 0, ("acme", "bb"): 2}


async def test_a_store_that_is_away_is_asked_again_later(things: Things) -> None:
    await things.add("a")
    things.lost["a"] = Unavailable("the store is away")
    with pytest.raises(Failure, match="the store is away"):
        await things.sizes.fill(things.size)
    things.lost.clear()
    await things.sizes.fill(things.size)

    assert await things.noted() == {("acme", "a"): 1}
