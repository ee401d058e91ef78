"""Where data sets are searched: the text to search is a column, made anew when somebody searches after a change."""

from collections.abc import Sequence
from functools import partial

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.engine import Connection

from services.data.datasets.domain import DataSet
from services.data.datasets.store import stored
from services.data.datasets.store.branches import inheriting
from services.data.datasets.store.definitions import data_set, tag, version
from services.data.datasets.wanted import searched
from services.kit.auth import Scope
from services.kit.db import Database, within
from services.kit.listing import listed
from services.kit.pages import Page

_AT_ONCE = 100  # data sets whose text one transaction makes


class CatalogueStore:
    """The column `searched`, which is NULL from each change to the next search."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def search(self, scope: Scope, words: Sequence[str], page_size: int, page_token: str) -> Page[DataSet]:
        """Data sets whose text has all words, by name; no deleted ones."""
        stale = _there(scope) & data_set.c.searched.is_(None)
        query = select(data_set.c.data_set).where(stale).limit(_AT_ONCE)
        while names := (await self._db.read(lambda connection: connection.execute(query).scalars().all())):
            await self._db.run(partial(_fill, scope=scope, names=names))
        each = (data_set.c.searched.contains(word, autoescape=True) for word in words)
        found = select(data_set).where(_there(scope), *each)
        page = await listed(self._db, found, data_set.c.data_set, stored.data_set_of, page_size, page_token)
        return await inheriting(self._db, scope, page)


def _there(scope: Scope) -> ColumnElement[bool]:
    return within(data_set, scope) & data_set.c.delete_time.is_(None)


def _fill(connection: Connection, scope: Scope, names: Sequence[str]) -> None:
    for name in names:
        found = stored.find(connection, scope, name)
        if found is None:
            continue
        newest = stored.versions_of(scope, name) & (version.c.version == found.latest_version)
        columns = connection.execute(select(version.c.columns).where(newest)).scalar() or []
        tags = connection.execute(select(tag.c.tag).where(within(tag, scope) & (tag.c.data_set == name))).scalars()
        text = searched(found, [column["name"] for column in columns], tags)
        here = within(data_set, scope) & (data_set.c.data_set == name)
        connection.execute(update(data_set).where(here).values(searched=text))
