"""Where branches of data sets are kept: as data sets that name another."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime

from sqlalchemy import ColumnElement, func, insert, select
from sqlalchemy.engine import Connection

from services.data.datasets.domain import DataSet, DataSetVersion
from services.data.datasets.store import stored
from services.data.datasets.store.definitions import data_set, version
from services.kit.auth import Scope
from services.kit.db import Database, within
from services.kit.errors import AlreadyExists, Code, Failure
from services.kit.listing import listed
from services.kit.pages import Page
from services.kit.resources import changed

MOST = 32  # branches of one data set


class BranchStore:
    """The columns of branches."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.recall = db.recall

    async def make(self, scope: Scope, branch: DataSet) -> None:
        """Keeps a branch without a version. One that was left so is taken over.

        Raises already_exists, limit_exceeded.
        """

        def work(connection: Connection) -> None:
            before = stored.find(connection, scope, branch.data_set)
            if before is None:
                check_room(connection, scope, branch.branch_of)
                connection.execute(insert(data_set).values({**scope._asdict(), **asdict(branch)}))
            elif before.branch_of == branch.branch_of and not before.latest_version and not before.delete_time:
                stored.save(connection, scope, replace(branch, generation=before.generation + 1))
            else:
                deleted = " It is deleted." if before.delete_time else ""
                raise AlreadyExists(f"there is a data set {branch.data_set}.{deleted}")

        await self._db.run(work)

    def made(self, connection: Connection, scope: Scope, branch: DataSet, first: DataSetVersion) -> None:
        """In the transaction of its first version, whatever else was asked for by its name meanwhile.

        Raises already_exists when somebody else was faster.
        """
        if first.version != 1:
            raise AlreadyExists(f"there is a data set {branch.data_set}.")
        found = stored.get(connection, scope, branch.data_set)
        after = replace(found, description=branch.description, branch_version=branch.branch_version)
        stored.save(connection, scope, after)

    async def list(self, scope: Scope, name: str, page_size: int, page_token: str) -> Page[DataSet]:
        """By name, without deleted ones. Raises not_found."""
        await self._db.read(lambda connection: stored.get(connection, scope, name))
        query = select(data_set).where(_of(scope, name))
        page = await listed(self._db, query, data_set.c.data_set, stored.data_set_of, page_size, page_token)
        return await inheriting(self._db, scope, page)

    async def since(self, scope: Scope, name: str, number: int, most: int) -> Sequence[DataSetVersion]:
        """At most so many versions after one, oldest first."""
        query = select(*stored.LIGHT).where(stored.versions_of(scope, name) & (version.c.version > number))
        query = query.order_by(version.c.version).limit(most)
        rows = await self._db.read(lambda connection: connection.execute(query).all())
        return [stored.version_from(row) for row in rows]

    def merged(
        self, connection: Connection, scope: Scope, made: DataSetVersion, branch: DataSet, now: datetime
    ) -> None:
        """In the transaction of a merge: the data set gets the branch's masks, the branch goes on from the new version.

        Raises conflict when the branch has another version by now, failed_precondition when it is deleted.
        """
        found = stored.writable(stored.get(connection, scope, branch.data_set, deleted=True))
        if found.latest_version != branch.latest_version:
            raise Failure(Code.CONFLICT, f"{branch.data_set} got another version in the meantime")
        after = stored.get(connection, scope, made.data_set)
        known = {column.lower() for column in after.masked_columns}
        if more := [column for column in found.masked_columns if column.lower() not in known]:
            stored.save(connection, scope, replace(after, masked_columns=(*after.masked_columns, *more)))
        stored.save(connection, scope, changed(found, now, branch_version=made.version))


def check_room(connection: Connection, scope: Scope, name: str) -> None:
    """Raises limit_exceeded when a data set has all branches that it may have; the empty name has none."""
    if not name:
        return
    count = connection.execute(select(func.count()).select_from(data_set).where(_of(scope, name))).scalar_one()
    if count >= MOST:
        raise Failure(Code.LIMIT_EXCEEDED, f"{name} has {MOST} branches already: delete one")


async def inheriting(db: Database, scope: Scope, page: Page[DataSet]) -> Page[DataSet]:
    """With what is masked and refused where the branches of a page come from."""
    if not any(found.branch_of for found in page.items):
        return page
    items = await db.read(lambda connection: stored.all_inheriting(connection, scope, page.items))
    return Page(tuple(items), page.next_token)


def _of(scope: Scope, name: str) -> ColumnElement[bool]:
    return within(data_set, scope) & (data_set.c.branch_of == name) & data_set.c.delete_time.is_(None)
