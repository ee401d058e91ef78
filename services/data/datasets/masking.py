"""What callers see of masked columns: NULL for values, and no statistics that tell values. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from services.data.datasets.domain import DataSetVersion
from services.data.schema import Column, quoted

NOTHING: frozenset[str] = frozenset()
# Lower-case names of columns: a later version may spell one otherwise.
Hidden = Collection[str]


def hidden_of(columns: Iterable[str]) -> frozenset[str]:
    """Masked columns as the functions below take them."""
    return frozenset(name.lower() for name in columns)


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
    return replace(found, quality=replace(found.quality, columns=columns))


def masked(rows: Iterable[Mapping[str, Any]], hidden: Hidden) -> tuple[Mapping[str, Any], ...]:
    """Rows with NULL in hidden columns."""
    if not hidden:
        return tuple(rows)
    return tuple({name: None if is_hidden(name, hidden) else value for name, value in row.items()} for row in rows)


def view_of(columns: Iterable[Column], hidden: Hidden, table: str) -> str:
    """A SELECT of a table in which hidden columns are NULL, of their own types; empty where nothing is hidden.

    Not a NULL as a literal: conditions on one become constants, which the scan of a Delta table takes for true.
    """
    each = [(quoted(column.name), is_hidden(column.name, hidden)) for column in columns]
    if not any(hide for _, hide in each):
        return ""
    chosen = ", ".join(f"NULLIF({name}, {name}) AS {name}" if hide else name for name, hide in each)
    return f"SELECT {chosen} FROM {quoted(table)}"
