"""What a data set means: versions of a table, their quality and where they came from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from services.data.schema import Column


@dataclass(frozen=True)
class LineageNode:
    """A thing that was read or written: kind `source`, `rule`, `data_set` or `feature_set`; version 0 if it has none."""

    kind: str
    name: str
    version: int = 0


@dataclass(frozen=True)
class WrittenFile:
    """A Parquet file that a child has written and synced: path relative to the table's folder, `sha256:<hex>`."""

    path: str
    rows: int
    bytes: int
    digest: str


@dataclass(frozen=True)
class ColumnQuality:
    """What was found in one column; `sketch` holds the smallest hashes of its values, so that two can be merged."""

    column: str
    nulls: int = 0
    distinct: int = 0
    minimum: str = ""
    maximum: str = ""
    mean: float = 0.0
    # How many values the mean is of.
    numbers: int = 0
    sketch: tuple[int, ...] = ()


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


@dataclass(frozen=True)
class Quality:
    """What was found in a version: columns over all its rows, counts of what this version's run left out."""

    rows: int
    quarantined: Mapping[str, int] = field(default_factory=dict)
    excluded: Mapping[str, int] = field(default_factory=dict)
    columns: tuple[ColumnQuality, ...] = ()


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


@dataclass(frozen=True)
class DataSetVersion:
    """A version: immutable."""

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


@dataclass(frozen=True)
class Location:
    """Where a version lies, for a reader with access to the storage; files in stored order."""

    uri: str
    delta_version: int
    files: tuple[WrittenFile, ...]
    version: DataSetVersion
