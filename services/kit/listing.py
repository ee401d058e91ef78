"""Lists in pages, from a database."""

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Column, Row, Select

from services.kit import pages
from services.kit.db import Database
from services.kit.pages import Page

T = TypeVar("T")


async def listed(
    db: Database,
    query: Select[Any],
    key: Column[Any],
    read: Callable[[Row[Any]], T],
    page_size: int,
    page_token: str,
    newest_first: bool = False,
) -> Page[T]:
    """A page of a query's rows, each as `read` makes it, in the order of `key`: a column in which no two are equal.

    Raises invalid_value for a negative size, and for a token that was never given out.
    """
    size = pages.size(page_size)
    if last := pages.after(page_token, key.type.python_type):
        query = query.where(key < last[0] if newest_first else key > last[0])
    query = query.order_by(key.desc() if newest_first else key).limit(size + 1)
    page = pages.cut(await db.read(lambda c: c.execute(query).all()), size, lambda row: (row._mapping[key],))
    return Page(tuple(map(read, page.items)), page.next_token)
