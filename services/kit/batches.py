"""Batches bounded in bytes, so that each fits into memory, a message and the timeout of a bus."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Integer, Select, Table, bindparam, func, literal_column, select

SIZE = 4 * 2**20  # bytes; nothing is added to a batch that has as many

T = TypeVar("T")


def first(found: Sequence[T], size: Callable[[T], int]) -> list[T]:
    """The longest prefix that is a batch; at least one item, if there is any."""
    before = itertools.accumulate(map(size, found), initial=0)
    return [one for one, sizes in zip(found, before, strict=False) if sizes < SIZE]


def oldest(table: Table, order: ColumnElement[int], sized: tuple[ColumnElement[bytes], ...], where: Any) -> Select[Any]:
    """A query of the first rows in an order that make a batch, by the sizes of columns: at most `limit`, a parameter.

    It finds at least one row, if there is any; each has in `waiting` how many rows there are up to `limit`, whatever
    their size. Make it once: that costs more than running it.
    """
    size = sum((func.length(column, type_=Integer) for column in sized), literal_column("0", Integer))
    first = (
        select(order.label("place"), size.label("size"))
        .where(where)
        .order_by(order)
        .limit(bindparam("limit"))
        .subquery()
    )
    before = func.sum(first.c.size).over(order_by=first.c.place) - first.c.size
    summed = select(first.c.place, before.label("before"), func.count().over().label("waiting")).subquery()
    query = select(table, summed.c.waiting).join(summed, summed.c.place == order)
    return query.where(summed.c.before < SIZE).order_by(order)
