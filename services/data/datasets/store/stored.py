"""Rows of the tables as the domain has them, in a transaction of the caller's."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, insert, select, update
from sqlalchemy.engine import Connection, Row

from services.data.datasets.domain import DataSet, DataSetVersion, LineageNode, Quality, WrittenFile
from services.data.datasets.evolution import SchemaChange
from services.data.datasets.layouts import Layout
from services.data.datasets.quality import ColumnQuality
from services.data.datasets.store.definitions import data_set, file, version
from services.data.schema import Column
from services.kit.auth import Scope
from services.kit.db import within
from services.kit.errors import Code, FailedPrecondition, Failure, NotFound

_COLUMNS, _QUALITY = TypeAdapter(tuple[Column, ...]), TypeAdapter(Quality)
_LAYOUT = TypeAdapter(Layout | None)
_PARENTS = TypeAdapter(tuple[LineageNode, ...])
# Of a version, without what only the next one reads.
LIGHT = [column for column in version.c if column.name != "sketches"]


def find(connection: Connection, scope: Scope, name: str) -> DataSet | None:
    """Also a deleted one."""
    here = within(data_set, scope) & (data_set.c.data_set == name)
    row = connection.execute(select(data_set).where(here)).first()
    return inheriting(connection, scope, data_set_of(row)) if row else None


def inheriting(connection: Connection, scope: Scope, found: DataSet) -> DataSet:
    """A branch with what is masked and refused where it comes from; another data set as it is."""
    return all_inheriting(connection, scope, (found,))[0]


def all_inheriting(connection: Connection, scope: Scope, found: Sequence[DataSet]) -> list[DataSet]:
    """The same of several, with one question."""
    parents = {one.branch_of for one in found if one.branch_of}
    known = _inherited(connection, scope, parents) if parents else {}
    return [_with(one, *known[one.branch_of]) if one.branch_of else one for one in found]


def _with(found: DataSet, masks: Sequence[str], refused: Sequence[SchemaChange]) -> DataSet:
    known = {name.lower() for name in found.masked_columns}
    return replace(
        found,
        masked_columns=(*found.masked_columns, *(name for name in masks if name.lower() not in known)),
        refused_changes=tuple(dict.fromkeys((*found.refused_changes, *refused))),
    )


def _inherited(
    connection: Connection, scope: Scope, parents: Iterable[str]
) -> dict[str, tuple[tuple[str, ...], tuple[SchemaChange, ...]]]:
    columns = select(data_set.c.data_set, data_set.c.masked_columns, data_set.c.refused_changes)
    here = within(data_set, scope) & data_set.c.data_set.in_(parents)
    return {
        row.data_set: (tuple(row.masked_columns), tuple(map(SchemaChange, row.refused_changes)))
        for row in connection.execute(columns.where(here))
    }


def get(connection: Connection, scope: Scope, name: str, deleted: bool = False) -> DataSet:
    """Raises not_found, also for a deleted one unless `deleted` are meant."""
    found = find(connection, scope, name)
    if found is None or (found.delete_time and not deleted):
        raise NotFound(f"there is no data set {name}")
    return found


def writable(found: DataSet) -> DataSet:
    """Raises failed_precondition for a deleted one."""
    if found.delete_time:
        raise FailedPrecondition(f"the data set {found.data_set} is deleted")
    return found


def of_writer(found: DataSet, landed_from: str) -> DataSet:
    """Raises failed_precondition when records of another source land in it, or none do."""
    if found.landed_from != landed_from:
        whose = f"raw records of {found.landed_from} land in it, and nothing else writes it"
        reason = whose if found.landed_from else "something else writes it"
        raise FailedPrecondition(f"the data set {found.data_set} cannot be written: {reason}")
    return found


def save(connection: Connection, scope: Scope, after: DataSet) -> None:
    """Stores a data set that is there; of a branch, what is its own."""
    if after.branch_of:
        masks, refused = _inherited(connection, scope, (after.branch_of,))[after.branch_of]
        known = {name.lower() for name in masks}
        after = replace(
            after,
            masked_columns=tuple(name for name in after.masked_columns if name.lower() not in known),
            refused_changes=tuple(change for change in after.refused_changes if change not in refused),
        )
    here = within(data_set, scope) & (data_set.c.data_set == after.data_set)
    connection.execute(update(data_set).where(here).values(**asdict(after), searched=None))


def forget_text(connection: Connection, scope: Scope, name: str) -> None:
    """The next search makes the text of a data set anew."""
    here = within(data_set, scope) & (data_set.c.data_set == name)
    connection.execute(update(data_set).where(here).values(searched=None))


def data_set_of(row: Row[Any]) -> DataSet:
    """A row of `data_set`."""
    kept = row._asdict()
    values = {name: kept[name] for name in DataSet.__dataclass_fields__}
    values["refused_changes"] = tuple(map(SchemaChange, row.refused_changes))
    values["layout"] = _LAYOUT.validate_python(row.layout)
    return DataSet(**values | {"masked_columns": tuple(row.masked_columns)})


def versions_of(scope: Scope, name: str) -> ColumnElement[bool]:
    """The condition for versions of a data set."""
    return within(version, scope) & (version.c.data_set == name)


def version_of(connection: Connection, scope: Scope, found: DataSet, number: int) -> DataSetVersion:
    """A version; the newest for 0. Raises unknown_version."""
    name = found.data_set
    here = versions_of(scope, name) & (version.c.version == (number or found.latest_version))
    row = connection.execute(select(*LIGHT).where(here)).first()
    if row is None:
        raise Failure(
            Code.UNKNOWN_VERSION, f"{name} has no version {number}" if number else f"{name} has no version yet"
        )
    return version_from(row)


def version_from(row: Row[Any]) -> DataSetVersion:
    """A row of `data_set_version`, without sketches."""
    kept = {name: value for name, value in row._asdict().items() if name in DataSetVersion.__dataclass_fields__}
    return DataSetVersion(
        **{
            **kept,
            "columns": _COLUMNS.validate_python(row.columns),
            "quality": _QUALITY.validate_python(row.quality),
            "parents": _PARENTS.validate_python(row.parents),
            "layout": _LAYOUT.validate_python(row.layout),
        }
    )


def with_sketches(found: DataSetVersion, sketches: dict[str, list[int]]) -> DataSetVersion:
    """The version with the sketches of its columns."""
    known = [replace(quality, sketch=tuple(sketches[quality.column])) for quality in found.quality.columns]
    return replace(found, quality=replace(found.quality, columns=tuple(known)))


def row_of(made: DataSetVersion) -> dict[str, Any]:
    """The row of a version."""
    bare = [_without_sketch(quality) for quality in made.quality.columns]
    return {
        **{name: getattr(made, name) for name in DataSetVersion.__dataclass_fields__},
        "columns": _COLUMNS.dump_python(made.columns, mode="json"),
        "quality": _QUALITY.dump_python(replace(made.quality, columns=tuple(bare)), mode="json"),
        "sketches": {quality.column: quality.sketch for quality in made.quality.columns},
        "parents": _PARENTS.dump_python(made.parents, mode="json"),
        "layout": _LAYOUT.dump_python(made.layout, mode="json"),
    }


def _without_sketch(quality: ColumnQuality) -> ColumnQuality:
    return replace(quality, sketch=())


def files_of(
    connection: Connection, scope: Scope, found: DataSetVersion, quarantine: bool = False
) -> tuple[WrittenFile, ...]:
    """In stored order. Broken rows belong to the version that was written when they were found, to no later one."""
    first = found.version if quarantine else found.first_version
    here = within(file, scope) & (file.c.data_set == found.data_set) & (file.c.quarantine == quarantine)
    here &= file.c.version.between(first, found.version)
    query = select(file.c.path, file.c.rows, file.c.bytes, file.c.digest, file.c.partition, file.c.home)
    query = query.where(here).order_by(file.c.version, file.c.position)
    return tuple(WrittenFile(*row) for row in connection.execute(query))


def insert_files(
    connection: Connection, scope: Scope, made: DataSetVersion, files: Sequence[WrittenFile], quarantine: bool
) -> None:
    """Adds the files that a version adds, in order."""
    key = {**scope._asdict(), "data_set": made.data_set, "version": made.version, "quarantine": quarantine}
    rows = [{**key, "position": position, **vars(written)} for position, written in enumerate(files)]
    if rows:
        connection.execute(insert(file), rows)
