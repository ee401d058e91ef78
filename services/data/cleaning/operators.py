"""What an operator is: it learns once from all rows, may look at them in each run, and is applied to batches.

For children.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from services.data.cleaning.kinds import Columns, Kind
from services.data.datasets.statistics import timestamps
from services.data.schema import Column, ColumnType

ROW = "__row"  # the column with the number of a row in the version that is read, from 0
Json = dict[str, Any]
Array = Any  # of numpy
WHOLE = (-(2.0**63), 2.0**63 - 1024)  # the doubles between which all are whole numbers of 64 bits
K = TypeVar("K", bound=Kind)


class Rows(Protocol):
    """All rows as they stand before a step, batch by batch in their order; each time from the first."""

    def tables(self, names: Sequence[str] | None = None) -> Iterator[Any]: ...


@dataclass
class Applied:
    """A batch after a step, as long as before; which of its rows broke what, and which are duplicates."""

    table: Any
    broken: list[tuple[str, Array]] = field(default_factory=list)
    duplicates: Array | None = None


class Operator(ABC, Generic[K]):
    """A step at work."""

    learns: bool = False
    # Whether it looks at all rows in each run.
    whole: ClassVar[bool] = False

    def __init__(self, kind: K, columns: Columns) -> None:
        self.kind, self.before = kind, columns
        self.names, self.after = kind.read(columns), kind.after(columns)
        self.notes: list[str] = []
        # Notes that tell values, each with the column that these are of.
        self.told: list[tuple[str, str]] = []
        self.state: Json = {}

    def learn(self, rows: Rows) -> None:
        """Fills `state`, which is JSON and kept."""

    def look(self, rows: Rows) -> None:
        """Looks at all rows, for what is not kept."""

    @abstractmethod
    def apply(self, table: Any) -> Applied:
        """A batch after the step; batches come in their order."""

    def shown(self) -> list[dict[str, str]]:
        """What it has learned, in words: column, name, value."""
        return []


def column_of(rows: Rows, column: Column) -> Any:
    """One column of all rows."""
    import pyarrow as pa

    from services.data.arrow import arrow_type

    chunks = [chunk for table in rows.tables([column.name]) for chunk in table.column(column.name).chunks]
    return pa.chunked_array(chunks, arrow_type(column.type))


def missing(values: Any) -> Any:
    """Which values of a column are NULL or NaN."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.is_null(values, nan_is_null=True) if pa.types.is_floating(values.type) else pc.is_null(values)


def whole_numbers(values: Any, kind: ColumnType) -> Array:
    """Values that are there, as int64: dates in days, timestamps in microseconds."""
    import pyarrow as pa

    wide = values.cast(pa.int32()) if kind is ColumnType.DATE else values
    return wide.drop_null().cast(pa.int64()).to_numpy()


def finite(values: Any) -> Array:
    """Numbers that are there and finite, as doubles."""
    import numpy as np
    import pyarrow as pa

    found = values.drop_null().cast(pa.float64(), safe=False).to_numpy()
    return found[np.isfinite(found)]


def mask(values: Any) -> Array:
    """A column of truth values as numpy has it; NULL is false."""
    import numpy as np
    import pyarrow.compute as pc

    return np.asarray(pc.fill_null(values, False).to_numpy(zero_copy_only=False), bool)


def replaced(table: Any, name: str, values: Any) -> Any:
    """The table with other values in a column, or with one more."""
    if name not in table.column_names:
        return table.append_column(name, values)
    return table.set_column(table.column_names.index(name), name, values)


def to_state(value: Any, kind: ColumnType) -> Any:
    """An Arrow scalar as JSON."""
    import pyarrow as pa

    if kind is ColumnType.TIMESTAMP:
        return value.value
    return value.cast(pa.int32()).as_py() if kind is ColumnType.DATE else value.as_py()


def of_state(value: Any, kind: ColumnType) -> Any:
    """What `to_state` was given."""
    import pyarrow as pa

    from services.data.arrow import arrow_type

    if kind is ColumnType.DATE:
        return pa.array([value], pa.int32()).cast(pa.date32())[0]
    if kind is ColumnType.TIMESTAMP:
        return pa.array([value], pa.int64()).cast(arrow_type(kind))[0]
    return pa.scalar(value, arrow_type(kind))


def in_words(value: Any, kind: ColumnType) -> str:
    """A value of `to_state` as quality reports have it."""
    import pyarrow as pa

    scalar = of_state(value, kind)
    if kind is ColumnType.TIMESTAMP:
        return str(timestamps(pa.array([scalar.value], scalar.type))[0].as_py())
    if kind is ColumnType.DOUBLE:
        return repr(scalar.as_py())
    return str(scalar.cast(pa.string()).as_py())[:200]
