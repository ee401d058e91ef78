"""How the columns of a data set may change from one version to the next. Pure."""

from collections.abc import Iterator, Sequence
from enum import StrEnum

from services.data.schema import Column
from services.kit.errors import FailedPrecondition


class SchemaChange(StrEnum):
    """What can happen to columns. A data set names those that it refuses."""

    ADD_COLUMN = "add_column"
    DROP_COLUMN = "drop_column"
    CHANGE_TYPE = "change_type"
    ALLOW_NULL = "allow_null"


def schema_changes(before: Sequence[Column], after: Sequence[Column]) -> Iterator[tuple[SchemaChange, str]]:
    """Each change from the columns of a version to those of new rows, and what it is in words."""
    old, new = {column.name: column for column in before}, {column.name: column for column in after}
    for column in before:
        there = new.get(column.name)
        if there is None:
            yield SchemaChange.DROP_COLUMN, f"the new rows have no column {column.name}"
        elif there.type is not column.type:
            text = f"the column {column.name} holds {column.type}, the new rows have {there.type}"
            yield SchemaChange.CHANGE_TYPE, text
        elif there.nullable and not column.nullable:
            yield SchemaChange.ALLOW_NULL, f"the column {column.name} is never NULL, and may be in the new rows"
    for name in new:
        if name not in old:
            yield SchemaChange.ADD_COLUMN, f"the new rows have a column {name}, which is new"


def check_evolution(
    data_set: str, refused: Sequence[SchemaChange], before: Sequence[Column], after: Sequence[Column]
) -> None:
    """Raises failed_precondition, naming the rule, for the first change that the data set refuses."""
    for change, text in schema_changes(before, after):
        if change in refused:
            raise FailedPrecondition(f"the data set {data_set} refuses {change}: {text}")
