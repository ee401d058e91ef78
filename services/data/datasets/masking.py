"""What callers see of masked columns: NULL for values, and no statistics that tell values. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from services.data.datasets.delta import PARTITION
from services.data.datasets.domain import DataSet, DataSetVersion
from services.data.datasets.layouts import Layout
from services.data.schema import Column, quoted
from services.kit.auth import Principal

NOTHING: frozenset[str] = frozenset()
# Who has this permission sees the values of masked columns.
UNMASK = "data_sets.unmask"
# Lower-case names of columns: a later version may spell one otherwise.
Hidden = Collection[str]


def hidden_of(columns: Iterable[str]) -> frozenset[str]:
    """Masked columns as the functions below take them."""
    return frozenset(name.lower() for name in columns)


def hidden_from(principal: Principal, found: DataSet) -> frozenset[str]:
    """The columns of a data set whose values a caller must not see: of a branch, who may unmask both sees them."""
    names = (found.data_set, found.branch_of or found.data_set)
    if all(principal.may(UNMASK, f"data-sets/{name}") for name in names):
        return NOTHING
    return hidden_of(found.masked_columns)


def is_hidden(name: str, hidden: Hidden) -> bool:
    """Whether a column is among them."""
    return name.lower() in hidden


def veiled(found: DataSetVersion, hidden: Hidden) -> DataSetVersion:
    """A version without what its quality report tells of values in hidden columns."""
    if not hidden:
        return found
    columns = tuple(
        replace(quality, minimum="", maximum="", mean=0.0, sketch=()) if is_hidden(quality.column, hidden) else quality
        for quality in found.quality.columns
    )
    quality = replace(found.quality, columns=columns)
    return replace(found, quality=quality, layout=veiled_layout(found.layout, hidden))


def veiled_layout(layout: Layout | None, hidden: Hidden) -> Layout | None:
    """Without its keys and bounds where a field is hidden: they are values of it."""
    if layout and any(is_hidden(name, hidden) for name in layout.fields):
        return replace(layout, keys=(), bounds=())
    return layout


def masked(rows: Iterable[Mapping[str, Any]], hidden: Hidden) -> tuple[Mapping[str, Any], ...]:
    """Rows with NULL in hidden columns."""
    if not hidden:
        return tuple(rows)
    return tuple({name: None if is_hidden(name, hidden) else value for name, value in row.items()} for row in rows)


def view_of(columns: Iterable[Column], hidden: Hidden, table: str, partitions: Collection[int] | None = None) -> str:
    """A SELECT of a table in which hidden columns are NULL, of their own types; empty where it would change nothing.

    `partitions`: of a divided table, those whose rows are wanted. Not a NULL as a literal: conditions on one become
    constants, which the scan of a Delta table takes for true.
    """
    each = [(quoted(column.name), is_hidden(column.name, hidden)) for column in columns]
    if partitions is None and not any(hide for _, hide in each):
        return ""
    chosen = ", ".join(f"NULLIF({name}, {name}) AS {name}" if hide else name for name, hide in each)
    text = f"SELECT {chosen} FROM {quoted(table)}"
    if partitions is None:
        return text
    return f"{text} WHERE {quoted(PARTITION)} IN ({', '.join(map(str, sorted(partitions) or [-1]))})"
