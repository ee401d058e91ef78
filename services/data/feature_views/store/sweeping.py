"""Drops rows of versions of views that are not read any more: first nobody may read them, an hour later they go.

A version is not read any more when it is not the one that is read by default, or its view is deleted, and nobody has
materialised it for some days: who keeps to an old version keeps it fresh. It can be materialised again at any time.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, delete, func, or_, select, update
from sqlalchemy.engine import Connection

from services.data.feature_views.domain import Coverage
from services.data.feature_views.places import Place
from services.data.feature_views.store import Store
from services.data.feature_views.store.definitions import feature_view, row, version
from services.data.feature_views.wire import microseconds_of
from services.kit.auth import Scope
from services.kit.db import Database, within

_ROWS = 2_000  # of one transaction: others must not wait for long
_SAME = [version.c[name] == feature_view.c[name] for name in ("tenant", "project", "feature_view")]
_PLACE = (version.c.tenant, version.c.project, version.c.feature_view, version.c.version)


class Sweeping:
    """The tables, as a sweep sees them."""

    def __init__(self, db: Database, store: Store) -> None:
        self._db, self._store = db, store

    async def old(self, before: datetime) -> Sequence[Place]:
        """The places that nobody has materialised since a time, and that are not read by default."""
        return await self._places(_old(before))

    async def closed(self) -> Sequence[Place]:
        """The places that have rows and cannot be read, because they were closed or never materialised as a whole."""
        return await self._places(version.c.materialise_time.is_(None) & (version.c.stamp > 0))

    async def _places(self, which: ColumnElement[bool]) -> Sequence[Place]:
        query = select(*_PLACE).where(*_SAME, which)
        rows = await self._db.read(lambda connection: connection.execute(query).all())
        return [Place(Scope(*found[:2]), *found[2:]) for found in rows]

    async def close(self, place: Place, before: datetime, now: datetime) -> bool:
        """Keeps everybody from reading a place, if it still is as `old` says and is not being materialised."""

        def work(connection: Connection) -> bool:
            asked = select(version.c.stamp).where(*_SAME, _is(place), _old(before))
            stamp = connection.execute(asked).scalar()
            if stamp is None or self._store.is_running(connection, place):
                return False
            fresh = vars(Coverage(stamp=max(stamp + 1, microseconds_of(now))))
            connection.execute(update(version).where(_is(place)).values(fresh))
            mine = within(feature_view, place.scope) & (feature_view.c.feature_view == place.feature_view)
            served = mine & (feature_view.c.serving_version == place.version)
            connection.execute(update(feature_view).where(served).values(serving_version=0))
            return True

        return await self._db.run(work)

    async def drop(self, place: Place) -> int | None:
        """Drops some rows of a closed place; returns how many, None for a place that is being materialised."""
        here = within(row, place.scope) & (row.c.feature_view == place.feature_view) & (row.c.version == place.version)
        some = select(row.c.key).where(here).limit(_ROWS)

        def work(connection: Connection) -> int | None:
            asked = select(func.count()).where(_is(place), version.c.materialise_time.is_(None))
            if not connection.execute(asked).scalar() or self._store.is_running(connection, place):
                return None
            if gone := connection.execute(delete(row).where(here, row.c.key.in_(some))).rowcount:
                return gone
            connection.execute(update(version).where(_is(place)).values(stamp=0))
            return 0

        return await self._db.run(work)


def _is(place: Place) -> ColumnElement[bool]:
    here = (version.c.feature_view == place.feature_view) & (version.c.version == place.version)
    return within(version, place.scope) & here


def _old(before: datetime) -> ColumnElement[bool]:
    unread = or_(feature_view.c.delete_time < before, feature_view.c.serving_version != version.c.version)
    return unread & (version.c.materialise_time < before)
