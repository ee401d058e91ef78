"""How far those are behind that follow data sets, of any number of them with two statements for some hundreds."""

from collections.abc import Sequence
from functools import partial

from sqlalchemy import select, tuple_
from sqlalchemy.engine import Connection

from services.data.datasets.following import Behind, Followed
from services.data.datasets.store.definitions import data_set, version
from services.kit.db import Database

_AT_ONCE = 400
_NAME = (data_set.c.tenant, data_set.c.project, data_set.c.data_set)
_VERSION = (version.c.tenant, version.c.project, version.c.data_set, version.c.version)


class FollowingStore:
    """The tables of data sets and versions, as followers see them."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def behind(self, followed: Sequence[Followed]) -> list[Behind | None]:
        """Of each; None for a data set that is deleted or not there. Raises unavailable."""
        found = list[Behind | None]()
        for start in range(0, len(followed), _AT_ONCE):
            found += await self._db.read(partial(_find, followed=followed[start : start + _AT_ONCE]))
        return found


def _find(connection: Connection, followed: Sequence[Followed]) -> list[Behind | None]:
    names = {(*each.scope, each.data_set) for each in followed}
    there = select(*_NAME, data_set.c.latest_version).where(tuple_(*_NAME).in_(names), data_set.c.delete_time.is_(None))
    newest = {tuple(row[:3]): int(row[3]) for row in connection.execute(there)}
    following = {
        (*each.scope, each.data_set, each.version + 1)
        for each in followed
        if newest.get((*each.scope, each.data_set), 0) > each.version
    }
    began = {}
    if following:
        asked = select(*_VERSION, version.c.create_time).where(tuple_(*_VERSION).in_(following))
        began = {tuple(row[:4]): row[4] for row in connection.execute(asked)}
    found = list[Behind | None]()
    for scope, name, number in followed:
        latest = newest.get((*scope, name))
        since = began.get((*scope, name, number + 1))
        found.append(None if latest is None else Behind(max(0, latest - number), since))
    return found
