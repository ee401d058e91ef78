"""Where data sets, their versions, files and lineage are kept."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, func, insert, select, update
from sqlalchemy.engine import Connection, Row

from services.data.database import schema
from services.data.datasets.domain import (
    DataSet,
    DataSetVersion,
    Head,
    Lineage,
    LineageNode,
    NewVersion,
    Quality,
    WrittenFile,
)
from services.data.datasets.quality import ColumnQuality
from services.data.datasets.store import lineage
from services.data.datasets.store.definitions import data_set, file, version
from services.data.schema import Column
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.db import Database, within
from services.kit.errors import Code, FailedPrecondition, Failure, NotFound
from services.kit.listing import listed
from services.kit.pages import Page

_COLUMNS, _QUALITY = TypeAdapter(tuple[Column, ...]), TypeAdapter(Quality)
_PARENTS = TypeAdapter(tuple[LineageNode, ...])
_LIGHT = [column for column in version.c if column.name != "sketches"]
Effects = Callable[[Connection, DataSetVersion], None]


class Store:
    """The tables."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def ensure(self, scope: Scope, name: str, now: datetime) -> DataSet:
        """The data set, made if it is new. Raises failed_precondition for a deleted one."""

        def work(connection: Connection) -> DataSet:
            if found := _find(connection, scope, name):
                return _writable(found)
            made = DataSet(name, "", 0, 1, now, now)
            connection.execute(insert(data_set).values({**scope._asdict(), **asdict(made)}))
            return made

        return await self._db.run(work)

    async def get(self, scope: Scope, name: str) -> DataSet:
        """Raises not_found, also for a deleted one."""
        return await self._db.read(lambda connection: _get(connection, scope, name))

    async def list(self, scope: Scope, page_size: int, page_token: str, show_deleted: bool) -> Page[DataSet]:
        """By name."""
        query = select(data_set).where(within(data_set, scope))
        if not show_deleted:
            query = query.where(data_set.c.delete_time.is_(None))
        return await listed(self._db, query, data_set.c.data_set, _data_set, page_size, page_token)

    async def change(self, scope: Scope, name: str, decide: Callable[[DataSet], DataSet]) -> DataSet:
        """Loads, also a deleted one, decides and saves in one transaction. Raises not_found."""

        def work(connection: Connection) -> DataSet:
            after = decide(_get(connection, scope, name, deleted=True))
            _save(connection, scope, after)
            return after

        return await self._db.run(work)

    async def version(self, scope: Scope, name: str, number: int) -> DataSetVersion:
        """The newest for 0. Raises not_found, unknown_version."""

        def work(connection: Connection) -> DataSetVersion:
            return _version_of(connection, scope, _get(connection, scope, name), number)

        return await self._db.read(work)

    async def located(
        self, scope: Scope, name: str, number: int, quarantine: bool = False
    ) -> tuple[DataSetVersion, tuple[WrittenFile, ...]]:
        """A version with its files, or with those of its quarantine. Raises as `version` does."""

        def work(connection: Connection) -> tuple[DataSetVersion, tuple[WrittenFile, ...]]:
            found = _version_of(connection, scope, _get(connection, scope, name), number)
            return found, _files(connection, scope, found, quarantine)

        return await self._db.read(work)

    async def versions(self, scope: Scope, name: str, page_size: int, page_token: str) -> Page[DataSetVersion]:
        """Newest first. Raises not_found."""
        await self.get(scope, name)
        query = select(*_LIGHT).where(_versions_of(scope, name))
        return await listed(self._db, query, version.c.version, _version, page_size, page_token, newest_first=True)

    async def kept(self) -> dict[Scope, int]:
        """Bytes of the files of each project of all tenants, those of deleted data sets as well."""
        query = select(file.c.tenant, file.c.project, func.sum(file.c.bytes)).group_by(file.c.tenant, file.c.project)
        rows = await self._db.read(lambda connection: connection.execute(query).all())
        return {Scope(tenant, project): int(size) for tenant, project, size in rows}

    async def by_run(self, scope: Scope, name: str, run: str) -> DataSetVersion | None:
        """What a run has added, if it has."""
        query = select(*_LIGHT).where(_versions_of(scope, name) & (version.c.run == run))
        row = await self._db.read(lambda connection: connection.execute(query).first())
        return _version(row) if row else None

    async def head(self, scope: Scope, name: str) -> Head:
        """Raises not_found; failed_precondition for a deleted one."""

        def work(connection: Connection) -> Head:
            found = _writable(_get(connection, scope, name, deleted=True))
            here = _versions_of(scope, name) & (version.c.version == found.latest_version)
            row = connection.execute(select(version).where(here)).first()
            if row is None:
                return Head(found)
            newest = _with_sketches(_version(row), row.sketches)
            return Head(found, newest, _files(connection, scope, newest))

        return await self._db.read(work)

    async def add(
        self,
        scope: Scope,
        made: DataSetVersion,
        new: NewVersion,
        event: Callable[[DataSet], Event],
        effects: Effects | None,
    ) -> DataSetVersion:
        """A version with everything that happens with it. Raises conflict when another came in between."""

        def work(connection: Connection) -> DataSetVersion:
            before = _writable(_get(connection, scope, made.data_set, deleted=True))
            if before.latest_version != made.version - 1:
                raise Failure(Code.CONFLICT, f"{made.data_set} got another version in the meantime")
            time = made.create_time
            after = replace(before, latest_version=made.version, generation=before.generation + 1, update_time=time)
            _save(connection, scope, after)
            connection.execute(insert(version).values({**scope._asdict(), **_row(made)}))
            _insert_files(connection, scope, made, new.files, False)
            _insert_files(connection, scope, made, new.quarantine, True)
            lineage.add(connection, scope, made.parents, LineageNode("data_set", made.data_set, made.version))
            schema.outbox.add(connection, [event(after)])
            if effects:
                effects(connection, made)
            return made

        return await self._db.run(work)

    async def lineage(self, scope: Scope, name: str, number: int) -> Lineage:
        """Around a version. Raises not_found, unknown_version."""

        def work(connection: Connection) -> Lineage:
            found = _version_of(connection, scope, _get(connection, scope, name), number)
            return lineage.around(connection, scope, LineageNode("data_set", name, found.version))

        return await self._db.read(work)

    def link(self, connection: Connection, scope: Scope, parents: Iterable[LineageNode], child: LineageNode) -> None:
        """Says where a thing of another slice came from, in that slice's transaction."""
        lineage.add(connection, scope, parents, child)


def _find(connection: Connection, scope: Scope, name: str) -> DataSet | None:
    here = within(data_set, scope) & (data_set.c.data_set == name)
    row = connection.execute(select(data_set).where(here)).first()
    return _data_set(row) if row else None


def _get(connection: Connection, scope: Scope, name: str, deleted: bool = False) -> DataSet:
    found = _find(connection, scope, name)
    if found is None or (found.delete_time and not deleted):
        raise NotFound(f"there is no data set {name}")
    return found


def _writable(found: DataSet) -> DataSet:
    if found.delete_time:
        raise FailedPrecondition(f"the data set {found.data_set} is deleted")
    return found


def _save(connection: Connection, scope: Scope, after: DataSet) -> None:
    here = within(data_set, scope) & (data_set.c.data_set == after.data_set)
    connection.execute(update(data_set).where(here).values(asdict(after)))


def _data_set(row: Row[Any]) -> DataSet:
    kept = row._asdict()
    return DataSet(**{name: kept[name] for name in DataSet.__dataclass_fields__})


def _versions_of(scope: Scope, name: str) -> ColumnElement[bool]:
    return within(version, scope) & (version.c.data_set == name)


def _version_of(connection: Connection, scope: Scope, found: DataSet, number: int) -> DataSetVersion:
    name = found.data_set
    here = _versions_of(scope, name) & (version.c.version == (number or found.latest_version))
    row = connection.execute(select(*_LIGHT).where(here)).first()
    if row is None:
        raise Failure(
            Code.UNKNOWN_VERSION, f"{name} has no version {number}" if number else f"{name} has no version yet"
        )
    return _version(row)


def _version(row: Row[Any]) -> DataSetVersion:
    kept = {name: value for name, value in row._asdict().items() if name in DataSetVersion.__dataclass_fields__}
    return DataSetVersion(
        **{
            **kept,
            "columns": _COLUMNS.validate_python(row.columns),
            "quality": _QUALITY.validate_python(row.quality),
            "parents": _PARENTS.validate_python(row.parents),
        }
    )


def _with_sketches(found: DataSetVersion, sketches: dict[str, list[int]]) -> DataSetVersion:
    known = [replace(quality, sketch=tuple(sketches[quality.column])) for quality in found.quality.columns]
    return replace(found, quality=replace(found.quality, columns=tuple(known)))


def _row(made: DataSetVersion) -> dict[str, Any]:
    bare = [_without_sketch(quality) for quality in made.quality.columns]
    return {
        **{name: getattr(made, name) for name in DataSetVersion.__dataclass_fields__},
        "columns": _COLUMNS.dump_python(made.columns, mode="json"),
        "quality": _QUALITY.dump_python(replace(made.quality, columns=tuple(bare)), mode="json"),
        "sketches": {quality.column: quality.sketch for quality in made.quality.columns},
        "parents": _PARENTS.dump_python(made.parents, mode="json"),
    }


def _without_sketch(quality: ColumnQuality) -> ColumnQuality:
    return replace(quality, sketch=())


def _files(
    connection: Connection, scope: Scope, found: DataSetVersion, quarantine: bool = False
) -> tuple[WrittenFile, ...]:
    """In stored order. Broken rows belong to the version that was written when they were found, to no later one."""
    first = found.version if quarantine else found.first_version
    here = within(file, scope) & (file.c.data_set == found.data_set) & (file.c.quarantine == quarantine)
    here &= file.c.version.between(first, found.version)
    query = select(file.c.path, file.c.rows, file.c.bytes, file.c.digest).where(here)
    query = query.order_by(file.c.version, file.c.position)
    return tuple(WrittenFile(*row) for row in connection.execute(query))


def _insert_files(
    connection: Connection, scope: Scope, made: DataSetVersion, files: Sequence[WrittenFile], quarantine: bool
) -> None:
    key = {**scope._asdict(), "data_set": made.data_set, "version": made.version, "quarantine": quarantine}
    rows = [{**key, "position": position, **vars(written)} for position, written in enumerate(files)]
    if rows:
        connection.execute(insert(file), rows)
