"""The child that computes a step: runs its SQL, sorts out rows by its conditions, writes the rest."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from services.data.arrow import fit
from services.data.datasets import parquet, statistics
from services.data.datasets.domain import QUARANTINE
from services.data.datasets.rows import to_rows
from services.data.engine import Engine
from services.data.schema import Column, ColumnType, quoted
from services.kit.child import Child, Json
from services.kit.errors import FailedPrecondition

_REASON = "__reason"
_EPOCH, _TICK = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_PROGRESS = 0.5  # seconds between two words to the parent, each of which is a transaction there
# How the last value of a cursor is written, by its type.
_LITERALS: dict[ColumnType, Callable[[Any], str]] = {
    ColumnType.INT64: lambda value: str(int(value)),
    ColumnType.STRING: lambda value: "'" + str(value).replace("'", "''") + "'",
    # Not as a text: the engine reads those as nanoseconds, which end in 2262.
    ColumnType.TIMESTAMP: lambda value: f"to_timestamp_micros({(datetime.fromisoformat(value) - _EPOCH) // _TICK})",
    ColumnType.DATE: lambda value: f"DATE '{date.fromisoformat(value)}'",
}


def main(request: Json, child: Child) -> Json:
    """Raises query_invalid, failed_precondition for a cursor that is not unique."""
    engine = Engine(request["tables"])
    columns = engine.run(request["sql"]).columns()
    cursor = _cursor_column(columns, request["cursor"])
    conditions, told = [*request["quarantine"], *request["exclude"]], time.monotonic()
    output = _Output(request["data_set"], Path(request["folder"]), columns, cursor, len(request["quarantine"]))
    for batch in engine.run(_sorted_out(request, cursor, [text for _, text in conditions])).batches():
        output.add(batch, [reason for reason, _ in conditions])
        if time.monotonic() - told > _PROGRESS:
            told = time.monotonic()
            child.progress({"rows": output.rows})
    return output.result(request["after"])


def _cursor_column(columns: tuple[Column, ...], name: str) -> Column | None:
    if not name:
        return None
    found = next((column for column in columns if column.name == name), None)
    if found is None:
        raise FailedPrecondition(f"the result has no column {name} to be the cursor")
    if found.type not in _LITERALS:
        raise FailedPrecondition(f"the column {name} holds {found.type}, which cannot be a cursor")
    return found


def _sorted_out(request: Json, cursor: Column | None, conditions: list[str]) -> str:
    """The step's SQL with the index of the first condition that is true for a row; -1 for none."""
    branches = " ".join(f"WHEN {text} THEN {index}" for index, text in enumerate(conditions))
    reason = f"CASE {branches} ELSE -1 END" if conditions else "-1"
    sql = f'SELECT *, {reason} AS "{_REASON}" FROM ({request["sql"]}) AS "__result"'
    order = list(request["order"])
    if cursor:
        name = quoted(cursor.name)
        order = [name]
        if request["after"] is not None:
            # A row without a cursor must not be passed over in silence: it fails the step below.
            sql += f" WHERE {name} > {_LITERALS[cursor.type](request['after'])} OR {name} IS NULL"
    return f"{sql} ORDER BY {', '.join(order)}" if order else sql


@dataclass
class _Output:
    """Where the rows of a result go."""

    data_set: str
    folder: Path
    columns: tuple[Column, ...]
    cursor: Column | None
    broken: int  # conditions before this index quarantine their rows
    rows: int = 0
    last: Any = None
    counts: tuple[Counter[str], Counter[str]] = field(default_factory=lambda: (Counter(), Counter()))

    def __post_init__(self) -> None:
        self._kept = parquet.Writer(self.folder, self.columns)
        self._aside = parquet.quarantine_writer(self.folder)
        self._statistics = statistics.Statistics(self.columns)
        self._seen = 0

    def add(self, batch: Any, reasons: list[str]) -> None:
        """Takes the next rows of the result."""
        import pyarrow.compute as pc

        found, table = batch.column(_REASON), fit(batch, self.columns)
        if self.cursor:
            self._follow(table.column(self.cursor.name))
        for entry in pc.value_counts(found).to_pylist():
            if (index := entry["values"]) >= 0:
                self.counts[index >= self.broken][reasons[index]] += entry["counts"]
        kept = table.filter(pc.equal(found, -1))
        self._kept.write(kept)
        self._statistics.add(kept)
        self.rows += kept.num_rows
        aside = pc.and_(pc.greater_equal(found, 0), pc.less(found, self.broken))
        if pc.any(aside).as_py():
            self._put_aside(table, found, aside, reasons)
        self._seen += table.num_rows

    def _follow(self, values: Any) -> None:
        """Raises failed_precondition unless the cursor goes up from row to row."""
        import pyarrow as pa
        import pyarrow.compute as pc

        assert self.cursor
        name = self.cursor.name
        if values.null_count:
            raise FailedPrecondition(f"the cursor {name} of {self.data_set} is NULL in a row")
        joined = pa.chunked_array([pa.array([self.last], values.type)] if self.last is not None else [], values.type)
        joined = pa.chunked_array([*joined.chunks, *values.chunks], values.type)
        if len(joined) > 1 and not pc.all(pc.greater(joined[1:], joined[:-1])).as_py():
            raise FailedPrecondition(f"the cursor {name} of {self.data_set} has a value twice")
        try:
            self.last = joined[-1].as_py() if len(joined) else None
        except (OverflowError, ValueError):
            text = f"the cursor {name} of {self.data_set} has a time outside of the years 1 to 9999"
            raise FailedPrecondition(text) from None

    def _put_aside(self, table: Any, found: Any, aside: Any, reasons: list[str]) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        rows = to_rows(table.filter(aside), self.columns)
        places = pc.indices_nonzero(aside).to_pylist()
        records = {
            "record": [orjson.dumps(row).decode() for row in rows],
            "reason": [reasons[index] for index in found.filter(aside).to_pylist()],
            "origin": [f"{self.data_set}:{self._origin(row, at)}" for row, at in zip(rows, places, strict=True)],
        }
        self._aside.write(pa.table({column.name: records[column.name] for column in QUARANTINE}))

    def _origin(self, row: dict[str, Any], place: int) -> Any:
        return row[self.cursor.name] if self.cursor else self._seen + place + 1

    def result(self, after: int | str | None) -> Json:
        """Ends the files."""
        last = self.last.isoformat() if isinstance(self.last, date) else self.last
        return {
            "files": parquet.to_json(self._kept.close()),
            "quarantine": parquet.to_json(self._aside.close()),
            "columns": [(column.name, column.type.value) for column in self.columns],
            "statistics": statistics.to_json(self._statistics.result()),
            "quarantined": dict(self.counts[0]),
            "excluded": dict(self.counts[1]),
            "cursor": after if last is None else last,
        }
