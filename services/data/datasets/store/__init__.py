"""Where data sets, their versions, files and lineage are kept."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import case, func, insert, select
from sqlalchemy.engine import Connection

from services.data.database import schema
from services.data.datasets.domain import (
    DataSet,
    DataSetVersion,
    Head,
    Lineage,
    LineageNode,
    NewVersion,
    Which,
    WrittenFile,
)
from services.data.datasets.layouts import Layout
from services.data.datasets.store import lineage, stored, tags
from services.data.datasets.store.branches import check_room, inheriting
from services.data.datasets.store.definitions import data_set, file, version
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.db import Database, Once, within
from services.kit.errors import Code, Failure
from services.kit.listing import listed
from services.kit.pages import Page
from services.kit.resources import changed

Effects = Callable[[Connection, DataSetVersion], None]
AllEffects = Callable[[Connection, Sequence[DataSetVersion]], None]


class Added(NamedTuple):
    """A version, and what the run that adds it has said."""

    made: DataSetVersion
    new: NewVersion


class Store:
    """The tables."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def ensure(
        self, scope: Scope, name: str, now: datetime, landed_from: str = "", masked_columns: tuple[str, ...] = ()
    ) -> DataSet:
        """The data set, made if it is new.

        Raises failed_precondition for a deleted one, and for one that something else lands in.
        """

        def work(connection: Connection) -> DataSet:
            if found := stored.find(connection, scope, name):
                return stored.of_writer(stored.writable(found), landed_from)
            made = DataSet(name, "", 0, 1, now, now, masked_columns=masked_columns, landed_from=landed_from)
            connection.execute(insert(data_set).values({**scope._asdict(), **asdict(made)}))
            return made

        return await self._db.run(work)

    def is_there(self, connection: Connection, scope: Scope, name: str, deleted: bool = True) -> bool:
        """In the caller's transaction; also a deleted one, unless those are not meant."""
        found = stored.find(connection, scope, name)
        return found is not None and (deleted or found.delete_time is None)

    async def parent(self, scope: Scope, name: str) -> str:
        """What a data set is a branch of; empty if of nothing, also if it is not there."""
        found = await self.those(scope, (name,))
        return found[0].branch_of if found else ""

    def check_newest(self, connection: Connection, scope: Scope, name: str, number: int) -> None:
        """Raises conflict when a version is not the newest any more, in the caller's transaction."""
        if stored.get(connection, scope, name).latest_version != number:
            raise Failure(Code.CONFLICT, f"{name} got another version in the meantime")

    async def get(self, scope: Scope, name: str) -> DataSet:
        """Raises not_found, also for a deleted one."""
        return await self._db.read(lambda connection: stored.get(connection, scope, name))

    async def list(self, scope: Scope, page_size: int, page_token: str, show_deleted: bool) -> Page[DataSet]:
        """By name."""
        query = select(data_set).where(within(data_set, scope))
        if not show_deleted:
            query = query.where(data_set.c.delete_time.is_(None))
        page = await listed(self._db, query, data_set.c.data_set, stored.data_set_of, page_size, page_token)
        return await inheriting(self._db, scope, page)

    async def change(
        self,
        scope: Scope,
        name: str,
        decide: Callable[[DataSet], DataSet],
        then: Callable[[Connection, Scope, str], None] | None = None,
    ) -> DataSet:
        """Loads, also a deleted one, decides and saves in one transaction, and what `then` does. Raises not_found."""

        def work(connection: Connection) -> DataSet:
            before = stored.get(connection, scope, name, deleted=True)
            after = decide(before)
            if before.delete_time and not after.delete_time:
                check_room(connection, scope, after.branch_of)
            stored.save(connection, scope, after)
            if then:
                then(connection, scope, name)
            return after

        return await self._db.run(work)

    async def those(self, scope: Scope, names: Iterable[str]) -> Sequence[DataSet]:
        """Those of some data sets that are there, deleted ones among them."""
        return await self._db.read(lambda c: [one for name in names if (one := stored.find(c, scope, name))])

    def mask_as(
        self, connection: Connection, scope: Scope, source: str, name: str, origins: Mapping[str, Sequence[str]]
    ) -> None:
        """Masks columns that are made of masked ones of another data set; other masks stay."""
        masks = {column.lower() for column in stored.get(connection, scope, source, deleted=True).masked_columns}
        after = stored.get(connection, scope, name)
        known = {column.lower() for column in after.masked_columns}
        new = [
            made
            for made, of in origins.items()
            if made.lower() not in known and any(one.lower() in masks for one in of)
        ]
        if new:
            stored.save(connection, scope, replace(after, masked_columns=(*after.masked_columns, *new)))

    async def version(self, scope: Scope, name: str, number: int) -> DataSetVersion:
        """The newest for 0. Raises not_found, unknown_version."""

        def work(connection: Connection) -> DataSetVersion:
            return stored.version_of(connection, scope, stored.get(connection, scope, name), number)

        return await self._db.read(work)

    async def located(
        self, scope: Scope, name: str, number: int, quarantine: bool = False
    ) -> tuple[DataSetVersion, tuple[WrittenFile, ...]]:
        """A version with its files, or with those of its quarantine. Raises as `version` does."""

        def work(connection: Connection) -> tuple[DataSetVersion, tuple[WrittenFile, ...]]:
            found = stored.version_of(connection, scope, stored.get(connection, scope, name), number)
            return found, stored.files_of(connection, scope, found, quarantine)

        return await self._db.read(work)

    async def versions(self, scope: Scope, name: str, page_size: int, page_token: str) -> Page[DataSetVersion]:
        """Newest first. Raises not_found."""
        await self.get(scope, name)
        query = select(*stored.LIGHT).where(stored.versions_of(scope, name))
        return await listed(
            self._db, query, version.c.version, stored.version_from, page_size, page_token, newest_first=True
        )

    async def kept(self) -> dict[Scope, int]:
        """Bytes of the files of each project of all tenants, those of deleted data sets as well."""
        # Versions that were restored name files of others again, and so do branches.
        home = case((file.c.home == "", file.c.data_set), else_=file.c.home).label("home")
        each = select(file.c.tenant, file.c.project, home, file.c.path, file.c.bytes).distinct().subquery()
        query = select(each.c.tenant, each.c.project, func.sum(each.c.bytes)).group_by(each.c.tenant, each.c.project)
        rows = await self._db.read(lambda connection: connection.execute(query).all())
        return {Scope(tenant, project): int(size) for tenant, project, size in rows}

    async def by_run(self, scope: Scope, name: str, run: str) -> DataSetVersion | None:
        """What a run has added, if it has."""
        query = select(*stored.LIGHT).where(stored.versions_of(scope, name) & (version.c.run == run))
        row = await self._db.read(lambda connection: connection.execute(query).first())
        return stored.version_from(row) if row else None

    async def number(self, scope: Scope, name: str, which: Which) -> int:
        """Of a version that is said by a tag or a time. Raises not_found, unknown_version."""

        def work(connection: Connection) -> int:
            stored.get(connection, scope, name)
            if which.tag:
                return tags.tag_of(connection, scope, name, which.tag).version
            then = stored.versions_of(scope, name) & (version.c.create_time <= which.as_of)
            number = connection.execute(select(func.max(version.c.version)).where(then)).scalar()
            if number is None:
                raise Failure(Code.UNKNOWN_VERSION, f"{name} had no version at {which.as_of}")
            return int(number)

        return await self._db.read(work)

    async def whole(self, scope: Scope, name: str, number: int) -> tuple[DataSetVersion, tuple[WrittenFile, ...]]:
        """A version with its sketches and files. Raises not_found, unknown_version."""

        def work(connection: Connection) -> tuple[DataSetVersion, tuple[WrittenFile, ...]]:
            wanted = stored.version_of(connection, scope, stored.get(connection, scope, name), number)
            here = stored.versions_of(scope, name) & (version.c.version == wanted.version)
            sketches = connection.execute(select(version.c.sketches).where(here)).scalar_one()
            wanted = stored.with_sketches(wanted, sketches)
            return wanted, stored.files_of(connection, scope, wanted)

        return await self._db.read(work)

    async def head(self, scope: Scope, name: str) -> Head:
        """Raises not_found; failed_precondition for a deleted one."""

        def work(connection: Connection) -> Head:
            found = stored.writable(stored.get(connection, scope, name, deleted=True))
            here = stored.versions_of(scope, name) & (version.c.version == found.latest_version)
            row = connection.execute(select(version).where(here)).first()
            if row is None:
                return Head(found)
            newest = stored.with_sketches(stored.version_from(row), row.sketches)
            return Head(found, newest, stored.files_of(connection, scope, newest))

        return await self._db.read(work)

    async def add(
        self,
        scope: Scope,
        added: Sequence[Added],
        event: Callable[[DataSet, DataSetVersion], Event],
        effects: AllEffects | None,
        once: Once | None = None,
    ) -> tuple[DataSetVersion, ...]:
        """Versions with everything that happens with them. Raises conflict when another came in between."""

        def work(connection: Connection) -> tuple[DataSetVersion, ...]:
            for made, new in added:
                _add(connection, scope, made, new)
            versions = tuple(made for made, _ in added)
            if effects:
                effects(connection, versions)
            # After the effects, which may mask columns.
            found = [stored.get(connection, scope, made.data_set) for made in versions]
            schema.outbox.add(connection, [event(*each) for each in zip(found, versions, strict=True)])
            return versions

        return await self._db.run(work, once)

    async def lineage(self, scope: Scope, name: str, number: int) -> Lineage:
        """Around a version. Raises not_found, unknown_version."""

        def work(connection: Connection) -> Lineage:
            found = stored.version_of(connection, scope, stored.get(connection, scope, name), number)
            return lineage.around(connection, scope, LineageNode("data_set", name, found.version))

        return await self._db.read(work)

    async def described(self, scope: Scope, nodes: Iterable[LineageNode]) -> dict[LineageNode, DataSetVersion]:
        """The versions among some nodes, but those of deleted data sets."""

        def work(connection: Connection) -> dict[LineageNode, DataSetVersion]:
            found = dict[LineageNode, DataSetVersion]()
            for node in nodes:
                there = stored.find(connection, scope, node.name) if node.kind == "data_set" else None
                if there and not there.delete_time:
                    found[node] = stored.version_of(connection, scope, there, node.version)
            return found

        return await self._db.read(work)

    def current(self, connection: Connection, scope: Scope, name: str) -> DataSet:
        """Also a deleted one. Raises not_found."""
        return stored.get(connection, scope, name, deleted=True)

    def lay_out(self, connection: Connection, scope: Scope, name: str, layout: Layout | None, now: datetime) -> bool:
        """Keeps how the first version will be divided; False when there is one.

        Raises not_found, failed_precondition for a deleted one, and for one that raw records land in.
        """
        found = stored.of_writer(stored.writable(self.current(connection, scope, name)), "")
        if not found.latest_version:
            stored.save(connection, scope, changed(found, now, layout=layout))
        return not found.latest_version

    def link(self, connection: Connection, scope: Scope, parents: Iterable[LineageNode], child: LineageNode) -> None:
        """Says where a thing of another slice came from, in that slice's transaction."""
        lineage.add(connection, scope, parents, child)


def _add(connection: Connection, scope: Scope, made: DataSetVersion, new: NewVersion) -> None:
    before = stored.writable(stored.get(connection, scope, made.data_set, deleted=True))
    if before.latest_version != made.version - 1:
        raise Failure(Code.CONFLICT, f"{made.data_set} got another version in the meantime")
    time = made.create_time
    after = replace(before, latest_version=made.version, generation=before.generation + 1, update_time=time)
    after = replace(after, layout=made.layout)
    stored.save(connection, scope, after)
    connection.execute(insert(version).values({**scope._asdict(), **stored.row_of(made)}))
    stored.insert_files(connection, scope, made, new.files, False)
    stored.insert_files(connection, scope, made, new.quarantine, True)
    lineage.add(connection, scope, made.parents, LineageNode("data_set", made.data_set, made.version))
