"""Steps one after the other over the rows of a version, batch by batch. For children.

A step that learns, or looks at all rows, is given what the steps before it have made, written down in between; the
others are applied as the rows pass by. So memory holds a batch, and of all rows a few numbers each.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from services.data.arrow import arrow_schema, fit
from services.data.cleaning.changes import Report, bounded
from services.data.cleaning.converting import Converting
from services.data.cleaning.filling import Filling, Finding
from services.data.cleaning.forest import Forest
from services.data.cleaning.kinds import Columns, FillMissing, Method, Outliers
from services.data.cleaning.measuring import Measuring, Zoning
from services.data.cleaning.modelling import Modelling
from services.data.cleaning.operators import ROW, Array, Json, Operator
from services.data.cleaning.outlying import Outlying
from services.data.cleaning.repeated import Repeated
from services.data.cleaning.rolling import Smoothing
from services.data.cleaning.steps import Step
from services.data.cleaning.texts import Repairing, Unifying
from services.data.schema import Column, ColumnType
from services.kit.child import Child

BATCH = 65_536  # rows
_SHOWN = 1_000  # values that are learned, of all steps
_OPERATORS: dict[str, Any] = {
    "find_missing": Finding,
    "convert": Converting,
    "fill_missing": Filling,
    "outliers": Outlying,
    "duplicates": Repeated,
    "units": Measuring,
    "time_zone": Zoning,
    "encoding": Repairing,
    "spellings": Unifying,
    "smooth": Smoothing,
}

# Of a row that is in the result, and of one that is a duplicate; others have the place of their reason, from 1.
_KEPT, _DUPLICATE = 0, -1


class Source:
    """The rows of a version, each with its number; at most so many."""

    def __init__(self, files: Sequence[tuple[str, int]], columns: Sequence[Column], most: int | None = None) -> None:
        self._files, self._columns = files, tuple(columns)
        rows = sum(count for _, count in files)
        self.rows = rows if most is None else min(rows, most)

    def tables(self, names: Sequence[str] | None = None) -> Iterator[Any]:
        """Batches, in stored order."""
        columns = self._columns if names is None else [c for c in self._columns if c.name in names]
        at = 0
        for table in _batches(self._read(columns)):
            left = self.rows - at
            if left <= 0:
                return
            yield _numbered(table.slice(0, left), at)
            at += table.num_rows

    def _read(self, columns: Sequence[Column]) -> Iterator[Any]:
        import pyarrow.parquet as pq

        for path, _ in self._files:
            with pq.ParquetFile(path, memory_map=True) as file:
                there = file.schema_arrow.names
                names = [column.name for column in columns if column.name in there]
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group, columns=names or there[:1], use_threads=False)
                    yield fit(table, columns)


class Written:
    """Rows as they stand between two steps: in a file, or in memory where there is no folder."""

    def __init__(self, tables: Iterator[Any], path: Path | None, columns: Sequence[Column]) -> None:
        import pyarrow.parquet as pq

        self._path, self._kept = path, list[Any]()
        if path is None:
            self._kept = list(tables)
            return
        schema = arrow_schema((*columns, Column(ROW, ColumnType.INT64, False)))
        with pq.ParquetWriter(path, schema, compression="lz4") as writer:
            for table in tables:
                writer.write_table(table.select(schema.names).cast(schema), row_group_size=BATCH)

    def tables(self, names: Sequence[str] | None = None) -> Iterator[Any]:
        """Batches, in the order of the version that is read."""
        import pyarrow.parquet as pq

        wanted = None if names is None else [*dict.fromkeys((*names, ROW))]
        if self._path is None:
            yield from (table.select(wanted) if wanted else table for table in self._kept)
            return
        with pq.ParquetFile(self._path, memory_map=True) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns=wanted, use_threads=False)

    def remove(self) -> None:
        """Its file is not needed any more."""
        if self._path:
            self._path.unlink()


class Chain:
    """Steps at work, and what becomes of each row."""

    def __init__(self, source: Source, columns: Sequence[Column], steps: Sequence[Step], child: Child) -> None:
        import numpy as np

        self.source, self._steps, self._child = source, steps, child
        self.columns: Columns = {column.name: column for column in columns}
        self.reasons: list[str] = []
        self.fate: Array = np.zeros(source.rows, np.int16)  # of each row
        self.operators: list[Operator[Any]] = []
        self.reports: list[Report] = []
        self._waiting: list[int] = []  # steps that are ready and were not applied yet

    def rows(self, learned: Sequence[Json] | None, folder: Path | None) -> Iterator[Any]:
        """The rows of the result, with their numbers; `learned`: what the steps learned before."""
        stage: Source | Written = self.source
        for index, step in enumerate(self._steps):
            self._child.progress({"progress": index / (len(self._steps) + 1), "message": f"the step {step.step}"})
            operator = _operator(step, self.columns)
            if learned is not None and operator.learns:
                operator.state = learned[index]["state"]
            if operator.whole or (operator.learns and learned is None):
                stage = self._written(stage, folder and folder / f"_stage-{index:05d}.parquet")
                if learned is None:
                    operator.learn(stage)
                operator.look(stage)
            self.operators.append(operator)
            self.reports.append(Report(step.step, self.columns, operator.after, operator.names))
            self._waiting.append(index)
            self.columns = operator.after
        yield from self._passed(stage)
        if isinstance(stage, Written):
            stage.remove()

    def _written(self, stage: Source | Written, path: Path | None) -> Source | Written:
        """What the steps that wait make of the rows."""
        if not self._waiting:
            return stage
        after = Written(self._passed(stage), path, tuple(self.columns.values()))
        if isinstance(stage, Written):
            stage.remove()
        return after

    def _passed(self, stage: Source | Written) -> Iterator[Any]:
        waiting, self._waiting = self._waiting, []
        for table in stage.tables():
            for index in waiting:
                table = self._applied(index, table)
            if table.num_rows:
                yield table

    def _applied(self, index: int, table: Any) -> Any:
        """A batch after a step, without the rows that the step takes out."""
        import numpy as np
        import pyarrow as pa

        name, report = self._steps[index].step, self.reports[index]
        done = self.operators[index].apply(table)
        numbers = table.column(ROW).to_numpy()
        fate = np.zeros(table.num_rows, np.int16)
        if done.duplicates is not None:
            fate[done.duplicates] = _DUPLICATE
        for reason, broken in done.broken:
            fate[broken & (fate == _KEPT)] = self._place(f"{name}: {reason}") if broken.any() else _KEPT
        self.fate[numbers] = fate
        kept = pa.array(fate == _KEPT)
        report.count(fate.size, int((fate > _KEPT).sum()), int((fate == _DUPLICATE).sum()))
        report.compare(table.filter(kept), after := done.table.filter(kept))
        return after

    def _place(self, reason: str) -> int:
        if reason not in self.reasons:
            self.reasons.append(reason)
        return self.reasons.index(reason) + 1

    def learned(self) -> list[Json]:
        """What each step has learned, and how it is shown."""
        left, found = _SHOWN, list[Json]()
        for step, operator in zip(self._steps, self.operators, strict=True):
            shown = operator.shown()[:left]
            left -= len(shown)
            found.append({"step": step.step, "state": operator.state if operator.learns else {}, "shown": shown})
        return found

    def report(self) -> list[Json]:
        """What each step did."""
        each = zip(self.reports, self.operators, strict=True)
        return bounded([report.to_json(operator.notes, operator.told) for report, operator in each])

    def counts(self) -> Json:
        """Where the rows went."""
        broken, twice = int((self.fate > _KEPT).sum()), int((self.fate == _DUPLICATE).sum())
        rows = self.source.rows
        return {"rows_in": rows, "rows_out": rows - broken - twice, "quarantined": broken, "duplicates": twice}


def _batches(tables: Iterator[Any]) -> Iterator[Any]:
    """The same rows in larger pieces."""
    import pyarrow as pa

    waiting, count = list[Any](), 0
    for table in tables:
        waiting.append(table)
        count += table.num_rows
        if count >= BATCH:
            yield pa.concat_tables(waiting)
            waiting, count = [], 0
    if waiting:
        yield pa.concat_tables(waiting)


def _numbered(table: Any, first: int) -> Any:
    import numpy as np
    import pyarrow as pa

    numbers = pa.array(np.arange(first, first + table.num_rows, dtype=np.int64))
    return table.append_column(pa.field(ROW, pa.int64(), False), numbers)


def _operator(step: Step, columns: Columns) -> Operator[Any]:
    found = _OPERATORS[step.word]
    if isinstance(step.kind, FillMissing) and step.kind.modelled:
        found = Modelling
    elif isinstance(step.kind, Outliers) and step.kind.method == Method.FOREST:
        found = Forest
    operator: Operator[Any] = found(step.kind, columns)
    return operator
