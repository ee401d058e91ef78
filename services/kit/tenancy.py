"""Whose rows a transaction may touch: the tenant of the call or event that is being handled, or everybody's.

A store's conditions say it too (`db.within`). This is the second lock: on PostgreSQL a policy on every table with a
tenant compares its rows with what the transaction says here, so that a condition that was forgotten shows nothing.
"""

import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextvars import ContextVar
from functools import lru_cache
from typing import TypeVar

from services.kit.auth import SYSTEM

T = TypeVar("T")
EVERYBODY = "*"  # cannot be a tenant's name
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}\Z")
_current: ContextVar[str] = ContextVar("tenant", default=EVERYBODY)


@lru_cache(maxsize=4096)
def is_name(text: str) -> bool:
    """Whether a text can be a tenant's name, and so a folder's."""
    return _NAME.match(text) is not None


def current() -> str:
    """The tenant that works, or EVERYBODY: the installation's own work."""
    return _current.get()


@contextlib.contextmanager
def of(tenant: str) -> Iterator[None]:
    """Works for a tenant; the installation's own sees all."""
    before = _current.set(EVERYBODY if tenant == SYSTEM else tenant)
    try:
        yield
    finally:
        _current.reset(before)


@contextlib.contextmanager
def everybody() -> Iterator[None]:
    """For the few things that a call may see of all tenants, where something else decides who may make it."""
    with of(EVERYBODY):
        yield


async def each(tenant: str, items: AsyncIterator[T]) -> AsyncGenerator[T]:
    """Items that are made for a tenant. Between two of them the consumer works for whom it did before."""
    while True:
        with of(tenant):
            try:
                item = await anext(items)
            except StopAsyncIteration:
                return
        yield item
