"""The child of a run: sorts rows by key and time, adds the features, and writes rows and state."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter

from services.data.arrow import arrow_schema, fit
from services.data.datasets import delta, parquet, statistics
from services.data.datasets.domain import QUARANTINE
from services.data.datasets.rows import to_rows
from services.data.engine import Engine
from services.data.schema import Column
from services.data.series import state
from services.data.series.domain import LATE, NO_TIME
from services.data.series.feature import Feature
from services.data.series.keys import number_or_text, texts, ticks_of, value_type
from services.kit.child import Child, Json

_BATCH = 65_536
_PROGRESS = 0.5  # seconds between two words to the parent, each of which is a transaction there
_COLUMNS, _COLUMN = TypeAdapter(tuple[Column, ...]), TypeAdapter(Column)
_FEATURES = TypeAdapter(tuple[Feature, ...])


def main(request: Json, child: Child) -> Json:
    """Raises limit_exceeded when a window has too many rows."""
    return _Run(request, child).result()


class _Run:
    def __init__(self, request: Json, child: Child) -> None:
        from services.data.series.stream import ADDED, VALUE, Stream

        self._request, self._child, self._told = request, child, time.monotonic()
        self._keys = _COLUMNS.validate_python(request["keys"])
        self._time = _COLUMN.validate_python(request["time"])
        self._inputs = _COLUMNS.validate_python(request["inputs"])
        self._features = _FEATURES.validate_python(request["features"])
        self._columns = _COLUMNS.validate_python(request["columns"])
        values = (Column(f"{VALUE}{column.name}", value_type(column.type)) for column in self._inputs)
        self._prepared = (*self._columns, *ADDED, *values)
        types = {column.name: column.type for column in self._inputs}
        added = (Column(feature.name, feature.type_of(types.get(feature.column))) for feature in self._features)
        self._output = (*self._columns, *added)
        folder = Path(request["folder"])
        self._rows, self._aside = parquet.Writer(folder, self._output), parquet.quarantine_writer(folder)
        self._state = state.Writer(Path(request["kept"]), self._inputs)
        self._statistics = statistics.Statistics(self._output)
        self._stream = Stream(self._features, self._inputs)
        self._counts = {LATE: 0, NO_TIME: 0}
        self._written = 0

    def result(self) -> Json:
        """Everything, in order."""
        import pyarrow as pa

        for batch in self._sorted():
            step = self._stream.add(fit(batch, self._prepared))
            columns = [*step.rows.select([column.name for column in self._columns]).columns, *step.features.values()]
            table = fit(pa.table(columns, names=[column.name for column in self._output]), self._output)
            self._rows.write(table)
            self._statistics.add(table)
            self._state.write(step.kept)
            self._put_aside(step.late, LATE)
            self._written += table.num_rows
            self._tell()
        self._state.write(self._stream.close())
        self._state.close()
        return {
            "files": parquet.to_json(self._rows.close()),
            "quarantine": parquet.to_json(self._aside.close()),
            "quarantined": {reason: count for reason, count in self._counts.items() if count},
            "columns": [(column.name, column.type.value) for column in self._output],
            "statistics": statistics.to_json(self._statistics.result()),
            "rows": self._written,
            "late": self._counts[LATE],
        }

    def _tell(self) -> None:
        if time.monotonic() - self._told > _PROGRESS:
            self._told = time.monotonic()
            self._child.progress({"rows": self._written})

    def _sorted(self) -> Iterator[Any]:
        """History and new rows by key and time. What does not fit into memory is sorted in files of the scratch."""
        from services.data.series.stream import SORTED

        scratch = Path(self._request["scratch"])
        table, files = scratch / "table", scratch / "table" / "rows"
        files.mkdir(parents=True)
        writer = parquet.Writer(files, self._prepared)
        for piece in self._history():
            writer.write(piece)
        for piece in self._fresh():
            writer.write(piece)
        version = delta.write(table, "rows", self._prepared, writer.close())
        spill = (str(scratch), int(self._request["sort_mib"]))
        engine = Engine({"rows": {"uri": str(table), "version": version}}, spill)
        yield from engine.run(f"SELECT * FROM rows ORDER BY {SORTED}").batches(_BATCH)

    def _history(self) -> Iterator[Any]:
        """The rows of the state, as the others are prepared."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        from services.data.series.stream import FRESH, ORDER, VALUE

        if not self._request["state"]:
            return
        with pq.ParquetFile(self._request["state"]) as file:
            for batch in file.iter_batches(_BATCH):
                names = {state.PLACE: ORDER} | {column.name: f"{VALUE}{column.name}" for column in self._inputs}
                kept = pa.Table.from_batches([batch])
                kept = kept.rename_columns([names.get(name, name) for name in kept.column_names])
                yield fit(kept.append_column(FRESH, pa.array([False] * kept.num_rows)), self._prepared)

    def _fresh(self) -> Iterator[Any]:
        """New rows in stored order; rows without a time are put aside."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        from services.data.series.stream import FRESH, ORDER, VALUE

        place = int(self._request["skipped"])
        for path in self._request["files"]:
            with pq.ParquetFile(path) as file:
                there = [column.name for column in self._columns if column.name in file.schema_arrow.names]
                for batch in file.iter_batches(_BATCH, columns=there or file.schema_arrow.names[:1]):
                    rows = fit(pa.Table.from_batches([batch]), self._columns)
                    added = [texts([rows[key.name] for key in self._keys], rows.num_rows)]
                    added += [ticks_of(rows[self._time.name]), pa.array([True] * rows.num_rows)]
                    added += [pa.array(range(place, place + rows.num_rows), pa.int64())]
                    names = [state.KEY, state.TIME, FRESH, ORDER, *(f"{VALUE}{c.name}" for c in self._inputs)]
                    added += [number_or_text(rows[column.name]) for column in self._inputs]
                    place += rows.num_rows
                    for name, column in zip(names, added, strict=True):
                        rows = rows.append_column(name, column)
                    yield self._with_time(fit(rows, self._prepared))

    def _with_time(self, rows: Any) -> Any:
        import pyarrow.compute as pc

        known = pc.is_valid(rows[state.TIME])
        if rows[state.TIME].null_count:
            self._put_aside(rows.filter(pc.invert(known)), NO_TIME)
        return rows.filter(known)

    def _put_aside(self, rows: Any, reason: str) -> None:
        """Rows as JSON, with the row of the data set that they are: from 1, in stored order."""
        import pyarrow as pa

        from services.data.series.stream import ORDER

        if not rows.num_rows:
            return
        self._counts[reason] += rows.num_rows
        names, origin = [column.name for column in self._columns], self._request["data_set"]
        records = {
            "record": [orjson.dumps(row).decode() for row in to_rows(rows.select(names), self._columns)],
            "reason": [reason] * rows.num_rows,
            "origin": [f"{origin}:{place + 1}" for place in rows[ORDER].to_pylist()],
        }
        self._aside.write(pa.table(records, schema=arrow_schema(QUARANTINE)))
