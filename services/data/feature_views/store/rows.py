"""The newest row of each entity: the durable store, which is also where reads go unless there is a faster one."""

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

from sqlalchemy import bindparam, func, select, tuple_
from sqlalchemy.engine import Connection, make_url

from services.data.feature_views.domain import Entry
from services.data.feature_views.places import Place
from services.data.feature_views.store.definitions import row
from services.kit.auth import Scope
from services.kit.db import Database, upsert
from services.kit.errors import Unavailable

_ENTRY = ("key", "event_time", "data_set_version", "position", "value")
_ORDER = ("event_time", "data_set_version", "position")
_KEPT = [row.c[name] for name in _ENTRY]
_WHERE = tuple(row.c[name] == bindparam(name) for name in ("tenant", "project", "feature_view", "version"))
# Made once, for any number of keys.
_READ = select(*_KEPT).where(*_WHERE, row.c.key.in_(bindparam("keys", expanding=True)))
_PAGE = select(*_KEPT).where(*_WHERE, row.c.key > bindparam("after")).order_by(row.c.key).limit(bindparam("most"))
_SIZE = select(func.count(), func.sum(func.length(row.c.value))).where(*_WHERE)
_NEAR = (
    "SELECT key, event_time, data_set_version, position, value FROM feature_row"
    " WHERE tenant = ? AND project = ? AND feature_view = ? AND version = ? AND key IN ({})"
)
Found = Mapping[bytes, Entry]


class RowStore:
    """The table of rows. Reads of a database in a file have a connection and a thread of their own, and no lock."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._made: dict[str, Any] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="features")
        self._reader: sqlite3.Connection | None = None

    def put(self, connection: Connection, place: Place, entries: Sequence[Entry]) -> None:
        """Stores rows that are newer than what is there, in the caller's transaction."""
        if entries:
            where = _values(place)
            connection.execute(self._upsert(connection), [{**where, **vars(entry)} for entry in entries])

    def _upsert(self, connection: Connection) -> Any:
        kind = connection.dialect.name
        if kind not in self._made:
            new = upsert(connection, row).values({column.name: bindparam(column.name) for column in row.columns})
            newer = tuple_(*(new.excluded[name] for name in _ORDER)) > tuple_(*(row.c[name] for name in _ORDER))
            changes = {name: new.excluded[name] for name in (*_ORDER, "value")}
            key = [column.name for column in row.primary_key]
            self._made[kind] = new.on_conflict_do_update(index_elements=key, set_=changes, where=newer)
        return self._made[kind]

    async def read(self, place: Place, keys: Sequence[bytes]) -> Found:
        """The rows of the keys that have one. Raises unavailable."""
        if self._db.near:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._read_near, tuple(_values(place).values()), keys)
        values = {**_values(place), "keys": list(keys)}
        rows = await self._db.read(lambda connection: connection.execute(_READ, values).all())
        return {found.key: Entry(*found) for found in rows}

    def _read_near(self, place: tuple[Any, ...], keys: Sequence[bytes]) -> Found:
        try:
            if self._reader is None:
                path = quote(make_url(self._db.url).database or "")
                self._reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True, check_same_thread=False)
            query = _NEAR.format(",".join("?" * len(keys)))
            return {found[0]: Entry(*found) for found in self._reader.execute(query, (*place, *keys))}
        except sqlite3.Error:
            raise Unavailable("the database cannot be reached", retry_after=1) from None

    async def page(self, place: Place, after: bytes, most: int) -> list[Entry]:
        """Rows of a place in the order of their keys, from behind one on. Raises unavailable."""
        values = {**_values(place), "after": after, "most": most}
        rows = await self._db.read(lambda connection: connection.execute(_PAGE, values).all())
        return [Entry(*found) for found in rows]

    async def size(self, place: Place) -> tuple[int, int]:
        """How many rows a place has, and the bytes of their values. Raises unavailable."""
        count, size = await self._db.read(lambda connection: connection.execute(_SIZE, _values(place)).one())
        return int(count), int(size or 0)

    async def kept(self) -> dict[Scope, int]:
        """Bytes of the rows of each project of all tenants."""
        which = row.c.tenant, row.c.project
        query = select(*which, func.sum(func.length(row.c.value)).label("size")).group_by(*which)
        rows = await self._db.read(lambda connection: connection.execute(query).all())
        return {Scope(tenant, project): int(size or 0) for tenant, project, size in rows}

    async def close(self) -> None:
        """Closes the connection for reads."""

        def close() -> None:
            if self._reader:
                self._reader.close()

        await asyncio.get_running_loop().run_in_executor(self._thread, close)
        self._thread.shutdown()


def _values(place: Place) -> dict[str, Any]:
    scope, view, version = place
    return {**scope._asdict(), "feature_view": view, "version": version}
