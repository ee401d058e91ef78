"""What a difference between two versions is: of columns and of rows. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from services.data.datasets.domain import DataSetVersion
from services.data.schema import Column

Row = Mapping[str, Any]


class Kind(StrEnum):
    """What happened to a row or a column."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True)
class ColumnDiff:
    """A column that is not the same in both versions; None where it is not there."""

    column: str
    kind: Kind
    before: Column | None
    after: Column | None


@dataclass(frozen=True)
class RowDiff:
    """A row that is not the same in both versions, as JSON values; `columns`: whose values differ."""

    kind: Kind
    before: Row | None
    after: Row | None
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Diff:
    """How `after` differs from `before`, with one page of the rows that differ."""

    before: DataSetVersion
    after: DataSetVersion
    counts: dict[Kind, int]
    changed_columns: dict[str, int]
    columns: tuple[ColumnDiff, ...]
    rows: tuple[RowDiff, ...]
    next_token: str

    @property
    def unchanged(self) -> int:
        return self.after.rows - self.counts[Kind.ADDED] - self.counts[Kind.CHANGED]


def columns_diff(before: Sequence[Column], after: Sequence[Column]) -> tuple[ColumnDiff, ...]:
    """Columns that were added, removed, or have another type or nullability: first those of `after`, in its order."""
    old, new = {column.name: column for column in before}, {column.name: column for column in after}
    found = [
        ColumnDiff(column.name, Kind.CHANGED if column.name in old else Kind.ADDED, old.get(column.name), column)
        for column in after
        if old.get(column.name) != column
    ]
    gone = [ColumnDiff(column.name, Kind.REMOVED, column, None) for column in before if column.name not in new]
    return (*found, *gone)
