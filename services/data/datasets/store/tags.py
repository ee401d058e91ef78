"""Where tags of versions are kept."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.engine import Connection, Row

from services.data.datasets.domain import Tag
from services.data.datasets.store import stored
from services.data.datasets.store.definitions import tag
from services.kit.auth import Scope
from services.kit.db import Database, within
from services.kit.errors import Code, Failure, NotFound
from services.kit.listing import listed
from services.kit.pages import Page

_MOST = 1000  # tags of one data set


class TagStore:
    """The table of tags."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.recall = db.recall

    async def put(self, scope: Scope, name: str, number: int, decide: Callable[[Tag | None, int], Tag], of: str) -> Tag:
        """The tag `of` as `decide` makes it of the one before and of a version; 0 is the newest.

        Raises not_found, unknown_version, limit_exceeded and what `decide` raises.
        """

        def work(connection: Connection) -> Tag:
            found = stored.version_of(connection, scope, stored.get(connection, scope, name), number)
            before = _find(connection, scope, name, of)
            after = decide(before, found.version)
            if before is None:
                count = select(func.count()).select_from(tag).where(within(tag, scope) & (tag.c.data_set == name))
                if connection.execute(count).scalar_one() >= _MOST:
                    raise Failure(Code.LIMIT_EXCEEDED, f"{name} has {_MOST} tags already")
                connection.execute(insert(tag).values({**scope._asdict(), **vars(after)}))
                stored.forget_text(connection, scope, name)
            elif after != before:
                connection.execute(update(tag).where(_here(scope, name, of)).values(vars(after)))
            return after

        return await self._db.run(work)

    async def get(self, scope: Scope, name: str, of: str) -> Tag:
        """Raises not_found."""

        def work(connection: Connection) -> Tag:
            stored.get(connection, scope, name)
            return tag_of(connection, scope, name, of)

        return await self._db.read(work)

    async def list(self, scope: Scope, name: str, page_size: int, page_token: str) -> Page[Tag]:
        """By name. Raises not_found."""
        await self._db.read(lambda connection: stored.get(connection, scope, name))
        query = select(tag).where(within(tag, scope) & (tag.c.data_set == name))
        return await listed(self._db, query, tag.c.tag, _tag, page_size, page_token)

    async def delete(self, scope: Scope, name: str, of: str, check: Callable[[Tag], None]) -> Tag:
        """The tag that was there. Raises not_found and what `check` raises."""

        def work(connection: Connection) -> Tag:
            stored.get(connection, scope, name)
            found = tag_of(connection, scope, name, of)
            check(found)
            connection.execute(delete(tag).where(_here(scope, name, of)))
            stored.forget_text(connection, scope, name)
            return found

        return await self._db.run(work)


def tag_of(connection: Connection, scope: Scope, name: str, of: str) -> Tag:
    """Raises not_found."""
    found = _find(connection, scope, name, of)
    if found is None:
        raise NotFound(f"{name} has no tag {of}")
    return found


def _find(connection: Connection, scope: Scope, name: str, of: str) -> Tag | None:
    row = connection.execute(select(tag).where(_here(scope, name, of))).first()
    return _tag(row) if row else None


def _here(scope: Scope, name: str, of: str) -> ColumnElement[bool]:
    return within(tag, scope) & (tag.c.data_set == name) & (tag.c.tag == of)


def _tag(row: Row[Any]) -> Tag:
    kept = row._asdict()
    return Tag(**{name: kept[name] for name in Tag.__dataclass_fields__})
