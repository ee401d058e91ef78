"""What a data set means: versions of a table, their quality and where they came from."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from services.data.datasets.evolution import SchemaChange, check_evolution
from services.data.datasets.layouts import Layout
from services.data.datasets.quality import ColumnQuality, merge
from services.data.schema import Column, ColumnType
from services.kit.errors import FailedPrecondition, InvalidValue, Violation

# How reasons begin of rows that fitted their rule, and not what the data set expects: their records are rows as JSON.
EXPECTED = "expected: "
# What every file of a quarantine holds.
QUARANTINE = tuple(Column(name, ColumnType.STRING, False) for name in ("record", "reason", "origin"))


@dataclass(frozen=True)
class LineageNode:
    """A thing that was read or written, of kind `source`, `rule`, `rule_set`, `recipe`, `data_set` or `feature_set`.

    Version 0: it has none.
    """

    kind: str
    name: str
    version: int = 0


@dataclass(frozen=True)
class WrittenFile:
    """A Parquet file that a child has written and synced: path relative to the table's folder, `sha256:<hex>`.

    `partition` is the number of the one that all its rows belong to; None in a version without partitions. `home` is
    the data set in whose table it was written; empty: that of the version.
    """

    path: str
    rows: int
    bytes: int
    digest: str
    partition: int | None = None
    home: str = ""


@dataclass(frozen=True)
class NewVersion:
    """A version that a run wants to add. The run's id makes it happen once."""

    data_set: str
    run: str
    files: tuple[WrittenFile, ...]
    columns: tuple[Column, ...]
    append: bool
    quarantined: Mapping[str, int] = field(default_factory=dict)
    excluded: Mapping[str, int] = field(default_factory=dict)
    quarantine: tuple[WrittenFile, ...] = ()
    parents: tuple[LineageNode, ...] = ()
    # Of the new rows only.
    statistics: tuple[ColumnQuality, ...] = ()
    # JSON of the caller's own, given back by `recover`: what it needs to end the run after a crash.
    notes: Mapping[str, Any] = field(default_factory=dict)
    # It has the files of this older version, and no new ones.
    restores: int = 0
    # It has the files of a version of this other data set, and no new ones.
    shares: str = ""
    # How its files are divided. A commit divides them as the data set has it, but not files that are there already.
    layout: Layout | None = None
    # It has the rows of this version, which must be the newest, in other files.
    rewrites: int = 0
    # What an inspector found, as JSON of its own, and what of it the quality report says.
    inspected: Any = field(default=None, compare=False)
    warnings: tuple[str, ...] = ()
    # Raw records: nothing is expected of them.
    raw: bool = False

    @property
    def is_old(self) -> bool:
        """Its rows were looked at and divided before: it is made of those of other versions."""
        return bool(self.restores or self.rewrites or self.shares)


@dataclass(frozen=True)
class Quality:
    """What was found in a version: columns over all its rows, counts of what this version's run left out."""

    rows: int
    quarantined: Mapping[str, int] = field(default_factory=dict)
    excluded: Mapping[str, int] = field(default_factory=dict)
    columns: tuple[ColumnQuality, ...] = ()
    # Expectations that do not hold.
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataSet:
    """A table with versions. `latest_version` is 0 while it has none."""

    data_set: str
    description: str
    latest_version: int
    generation: int
    create_time: datetime
    update_time: datetime
    delete_time: datetime | None = None
    owner: str = ""
    # What new versions must not do to its columns.
    refused_changes: tuple[SchemaChange, ...] = ()
    # Columns whose values only callers see who may unmask them.
    masked_columns: tuple[str, ...] = ()
    # How the rows of the newest version, or of the first one to come, are divided.
    layout: Layout | None = None
    # The source whose raw records land in it; nothing else writes it. Empty for other data sets.
    landed_from: str = ""
    # The data set that it is a branch of, and the version of that which it had the rows of when it was made, or merged
    # last. What is masked and refused there is so here.
    branch_of: str = ""
    branch_version: int = 0


@dataclass(frozen=True)
class DataSetVersion:
    """A version: immutable. Its parents are in `parents`; `run` is what wrote it."""

    data_set: str
    version: int
    rows: int
    bytes: int
    rows_added: int
    digest: str
    columns: tuple[Column, ...]
    quality: Quality
    parents: tuple[LineageNode, ...]
    create_time: datetime
    run: str
    delta_version: int
    # The version whose files are the first of this one's: its own number unless it was appended.
    first_version: int
    layout: Layout | None = None


@dataclass(frozen=True)
class Which:
    """A version by its number, by a tag, or as the newest at a time; the newest now if nothing is said."""

    version: int = 0
    tag: str = ""
    as_of: datetime | None = None


NEWEST = Which()


@dataclass(frozen=True)
class Tag:
    """A name for a version."""

    data_set: str
    tag: str
    version: int
    generation: int
    create_time: datetime
    update_time: datetime


@dataclass(frozen=True)
class Lineage:
    """A graph; edges point from what was read to what was written."""

    nodes: tuple[LineageNode, ...]
    edges: tuple[tuple[LineageNode, LineageNode], ...]


@dataclass(frozen=True)
class Location:
    """Where a version lies, for a reader with access to the storage; files in stored order."""

    uri: str
    delta_version: int
    files: tuple[WrittenFile, ...]
    version: DataSetVersion


@dataclass(frozen=True)
class Head:
    """A data set as it stands before a new version: the newest one (with sketches) and its files, if there is one."""

    data_set: DataSet
    version: DataSetVersion | None = None
    files: tuple[WrittenFile, ...] = ()


def types_of(found: DataSetVersion) -> dict[str, ColumnType]:
    """The types of a version's columns by name."""
    return {column.name: column.type for column in found.columns}


def check_which(which: Which) -> None:
    """Raises invalid_value for what names a version in two ways."""
    said = {"version": which.version, "tag": which.tag, "as_of": which.as_of}
    if len(given := [name for name, value in said.items() if value]) > 1:
        rule = f"must not be given together with {given[0]}"
        raise InvalidValue(f"{given[1]} {rule}", [Violation(f"/{given[1]}", rule)])


def extended(old: Sequence[Column], new: Sequence[Column], data_set: str) -> tuple[Column, ...]:
    """The columns of a version that rows with `new` columns were appended to.

    Raises failed_precondition for a column whose type changed or that differs from another by its case only; one that
    is new or gone is NULL where it is not.
    """
    known, spelt = {column.name: column for column in old}, {column.name.lower(): column.name for column in old}
    for column in new:
        before = known.get(column.name)
        if before is None and (other := spelt.get(column.name.lower())):
            raise FailedPrecondition(f"the column {column.name} of the new rows is called {other} in {data_set}")
        if before and before.type is not column.type:
            text = f"the column {column.name} of {data_set} holds {before.type}, the new rows have {column.type}"
            raise FailedPrecondition(text)
    said = {column.name: column for column in new}
    kept = [replace(c, nullable=c.nullable or c.name not in said or said[c.name].nullable) for c in old]
    return (*kept, *(replace(column, nullable=True) for column in new if column.name not in known))


def next_version(head: Head, new: NewVersion, now: datetime) -> DataSetVersion:
    """The version that a run adds; its Delta version is not known yet. Raises failed_precondition."""
    name, number = head.data_set.data_set, head.data_set.latest_version + 1
    if head.data_set.branch_of and not head.version and not new.shares:
        raise FailedPrecondition(f"the branch {name} is still being made: branch again")
    before = head.version if new.append else None
    added = sum(file.rows for file in new.files)
    same = new.restores or new.rewrites
    if head.version and not same:  # going back is asked for: it may undo a change of columns
        check_evolution(name, head.data_set.refused_changes, head.version.columns, new.columns)
    columns = extended(before.columns, new.columns, name) if before else new.columns
    files = (*(head.files if before else ()), *new.files)
    rows = added + (before.rows if before else 0)
    statistics = _statistics(before, columns, new.statistics, added)
    return DataSetVersion(
        data_set=name,
        version=number,
        rows=rows,
        bytes=sum(file.bytes for file in files),
        rows_added=0 if same else added,
        digest=manifest_digest(files, columns),
        columns=columns,
        quality=Quality(rows, new.quarantined, new.excluded, statistics, new.warnings),
        parents=_parents(before, new.parents),
        create_time=now,
        run=new.run,
        delta_version=-1,
        first_version=before.first_version if before else number,
        layout=new.layout,
    )


def _statistics(
    before: DataSetVersion | None, columns: Iterable[Column], new: Iterable[ColumnQuality], added: int
) -> tuple[ColumnQuality, ...]:
    """Over old and new rows; where a side has no such column its rows are NULL."""
    fresh = {quality.column: quality for quality in new}
    known = {quality.column: quality for quality in before.quality.columns} if before else {}
    rows = before.rows if before else 0
    return tuple(
        merge(
            known.get(column.name, ColumnQuality(column.name, nulls=rows)),
            fresh.get(column.name, ColumnQuality(column.name, nulls=added)),
            column.type,
        )
        for column in columns
    )


def _parents(before: DataSetVersion | None, parents: tuple[LineageNode, ...]) -> tuple[LineageNode, ...]:
    own = (LineageNode("data_set", before.data_set, before.version),) if before else ()
    return tuple(dict.fromkeys((*own, *parents)))


def manifest_digest(files: Iterable[WrittenFile], columns: Iterable[Column]) -> str:
    """Of what a version holds, not of how its files are called: digests in stored order, and the columns."""
    manifest = {
        "columns": [[column.name, column.type.value, column.nullable] for column in columns],
        "files": [[file.digest, file.rows] for file in files],
    }
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
