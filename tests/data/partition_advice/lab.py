"""Lays tables out in files and asks them, as the service does, without its database."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from services.data.arrow import columns_of, fit
from services.data.datasets import delta, parquet, statistics
from services.data.datasets.dividing import divide
from services.data.datasets.domain import WrittenFile
from services.data.datasets.layouts import Layout, Placing
from services.data.datasets.masking import view_of
from services.data.datasets.pruning import wanted
from services.data.datasets.quality import ColumnQuality
from services.data.engine import Engine
from services.data.partition_advice.choosing import Question, advise
from services.data.partition_advice.domain import Advice, Machine
from services.data.partition_advice.history import Asked, Counts, Shape, folded, shape_of
from services.data.partition_advice.sampling import Sample, sampled
from services.data.schema import Column
from services.data.sql import CheckedQuery, check_query
from services.data.sql.known import Condition

NOW = datetime(2026, 3, 1, tzinfo=UTC)
MACHINE = Machine(2, 2048 * 2**20, 4096 * 2**20)


@dataclass(frozen=True)
class Laid:
    """A table in files."""

    folder: Path
    columns: tuple[Column, ...]
    files: tuple[WrittenFile, ...]
    version: int
    quality: tuple[ColumnQuality, ...]
    layout: Layout | None = None

    @property
    def placing(self) -> Placing | None:
        return Placing(self.layout, {column.name: column.type for column in self.columns}) if self.layout else None

    def wanted(self, condition: Condition) -> list[WrittenFile]:
        """The files that a query reads, as the service chooses them."""
        placing = self.placing
        if placing is None:
            return list(self.files)
        parts = wanted(condition, placing)
        return [file for file in self.files if file.partition in parts] or list(self.files[:1])

    def seconds(self, sql: str) -> float:
        """Processor time of a query, from the opening of the table on.

        Not time of the clock: others work on the same machine, and the engine takes one core.
        """
        checked = check_query(sql, ["t"])
        parts = {file.partition for file in self.wanted(checked.conditions["t"])}
        view = view_of(self.columns, (), "__masked_t", parts) if self.layout else ""  # type: ignore[arg-type]
        begun = time.process_time()
        engine = Engine({"t": {"uri": str(self.folder), "version": self.version, "view": view}})
        for _batch in engine.run(checked.text).batches():
            pass
        return time.process_time() - begun


def parts(placing: Placing, checked: CheckedQuery) -> list[int]:
    """The partitions that a query of the table `t` needs."""
    return sorted(wanted(checked.conditions["t"], placing))


def fitted(base: Laid, table: pa.Table) -> pa.Table:
    """A table with the types of its columns."""
    return fit(table, base.columns)


def measured(tables: Sequence[Laid], queries: Sequence[str], rounds: int = 3) -> list[list[float]]:
    """The seconds of each query, by table: the least of some rounds, in which tables take turns."""
    found = [[float("inf")] * len(queries) for _ in tables]
    for _ in range(rounds):
        for number, sql in enumerate(queries):
            for table, times in zip(tables, found, strict=True):
                times[number] = min(times[number], table.seconds(sql))
    return found


def laid(folder: Path, table: pa.Table) -> Laid:
    """A table as it was added, undivided."""
    columns = columns_of(table.schema)
    (folder / "r0").mkdir(parents=True)
    writer = parquet.Writer(folder / "r0", columns)
    writer.write(fit(table, columns))
    files, found = writer.close(), statistics.Statistics(columns)
    found.add(fit(table, columns))
    return Laid(folder, columns, files, delta.write(folder, "r0", columns, files), found.result())


def divided(base: Laid, folder: Path, layout: Layout) -> Laid:
    """The same table in another folder, divided."""
    (folder / "r0").mkdir(parents=True)
    made: tuple[WrittenFile, ...] = ()
    placing = Placing(layout, {column.name: column.type for column in base.columns})
    paths = [base.folder / file.path for file in base.files]
    for found in divide(paths, base.columns, placing, folder / "r0", "d"):
        if not isinstance(found, int):
            made = found
    version = delta.write(folder, "r0", base.columns, made)
    return replace(base, folder=folder, files=made, version=version, layout=layout)


def history(base: Laid, queries: Sequence[str]) -> list[Asked]:
    """What would be remembered of queries."""
    types, counts = {column.name: column.type for column in base.columns}, dict[Shape, Counts]()
    for sql in queries:
        checked = check_query(sql, ["t"])
        shape = shape_of(checked.conditions["t"], types, base.quality)
        columns = 1.0 if checked.names is None else len(checked.names & types.keys()) / len(types)
        counts[shape] = counts.get(shape, Counts()) + Counts(1, columns)
    return folded([], counts, NOW)


def sample(base: Laid) -> Sample:
    """A sample of all columns that matter."""
    return sampled(base.folder, base.files, base.columns, [column.name for column in base.columns])


def advice(base: Laid, queries: Sequence[str], machine: Machine = MACHINE, appended: Sequence[int] = ()) -> Advice:
    """What is advised."""
    return advise(question(base, queries, machine, appended))


def question(base: Laid, queries: Sequence[str], machine: Machine = MACHINE, appended: Sequence[int] = ()) -> Question:
    """What advice is asked for."""
    asked, types = history(base, queries), {column.name: column.type for column in base.columns}
    return Question(sample(base), base.layout, types, asked, appended, machine)
