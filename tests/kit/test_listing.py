"""Lists are read page by page in the order of a column."""

import pytest
from sqlalchemy import Column, Integer, MetaData, Row, String, Table, insert, select
from sqlalchemy.engine import Connection

from services.kit import pages
from services.kit.db import Database
from services.kit.errors import InvalidValue
from services.kit.listing import listed

THINGS = Table("thing", MetaData(), Column("name", String(9), primary_key=True), Column("number", Integer))
NAMES = [f"n{number:03}" for number in range(101)]


def name(row: Row[tuple[str, int]]) -> str:
    return str(row.name)


@pytest.fixture
async def things(db: Database) -> Database:
    rows = [{"name": name, "number": -number} for number, name in enumerate(NAMES)]

    def work(connection: Connection) -> None:
        THINGS.create(connection)
        connection.execute(insert(THINGS), rows)

    await db.run(work)
    return db


async def whole(things: Database, column: str, page_size: int, newest_first: bool) -> list[list[str]]:
    token, found = "", list[list[str]]()
    while not found or token:
        page = await listed(things, select(THINGS), THINGS.c[column], name, page_size, token, newest_first)
        token = page.next_token
        found.append(list(page.items))
    return found


async def test_pages_follow_one_another_to_the_end(things: Database) -> None:
    assert await whole(things, "name", 60, False) == [NAMES[:60], NAMES[60:]]
    assert await whole(things, "number", 60, True) == [NAMES[:60], NAMES[60:]]


async def test_the_other_order_begins_at_the_other_end(things: Database) -> None:
    assert await whole(things, "name", 0, True) == [NAMES[:0:-1], NAMES[:1]]


async def test_the_conditions_of_a_query_hold_on_every_page(things: Database) -> None:
    query = select(THINGS).where(THINGS.c.number < -97)
    first = await listed(things, query, THINGS.c.name, name, 2, "")
    second = await listed(things, query, THINGS.c.name, name, 2, first.next_token)

    assert (first.items, second.items, second.next_token) == (("n098", "n099"), ("n100",), "")


async def test_a_token_of_another_column_is_refused(things: Database) -> None:
    with pytest.raises(InvalidValue, match="page_token"):
        await listed(things, select(THINGS), THINGS.c.number, name, 0, pages.token("n001"))
