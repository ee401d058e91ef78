"""The last values of each key of a table, in bounded memory: rows are sorted on the disk. For children."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from services.data.arrow import fit
from services.data.datasets import delta, parquet
from services.data.engine import Engine
from services.data.schema import Column, ColumnType
from services.data.series.keys import number_or_text, texts, ticks_of
from services.data.series.state import KEY, TIME
from services.data.series.stream import ORDER
from services.data.series_clusters.domain import LARGEST, MOST_KEYS, MOST_NUMBERS, Clustering
from services.kit.errors import Code, Failure

Array = np.ndarray[Any, Any]
_BATCH = 65_536
_KNOWN = 2  # such a part of the values must be known
_VALUE, _PART = "__value", "__part_"


@dataclass(frozen=True)
class Series:
    """All keys in order, which of them have values, and these [series, rows], NaN where one is missing."""

    keys: Any
    there: Array
    values: Array
    rows_without_time: int


class Reader:
    """Reads Parquet files for a clustering."""

    def __init__(self, work: Clustering, files: Sequence[str], scratch: Path, sort_mib: int) -> None:
        self._work, self._files, self._scratch, self._sort_mib = work, files, scratch, sort_mib
        parts = (Column(f"{_PART}{index}", key.type) for index, key in enumerate(work.keys))
        added = (Column(KEY, ColumnType.STRING), Column(TIME, ColumnType.INT64), Column(ORDER, ColumnType.INT64))
        self._prepared = (*parts, *added, Column(_VALUE, ColumnType.DOUBLE))
        self._without_time = 0

    def read(self) -> Series:
        """Raises limit_exceeded for too many keys."""
        rows = self._work.wanted.rows
        most = min(MOST_KEYS, MOST_NUMBERS // rows)
        keys, there, values, count = list[Any](), list[Array](), [np.empty((0, rows))], 0
        for table in _whole_keys(self._sorted(), rows):
            begins = _begins(table)
            ends = np.append(begins, table.num_rows)[1:]
            count += len(ends)
            if count > most:
                text = f"more than {most} keys: so many can be clustered by {rows} rows each"
                raise Failure(Code.LIMIT_EXCEEDED, text)
            found = _last(table, begins, ends, rows)
            keys.append(table.select(range(len(self._work.keys))).take(pa.array(ends - 1)))
            enough = found[0]
            there.append(enough)
            values.append(found[1])
        names = [key.name for key in self._work.keys]
        empty = fit(pa.table({}), self._prepared).select(range(len(names)))
        table = pa.concat_tables([empty, *keys]).rename_columns(names)
        return Series(table, np.concatenate([np.zeros(0, bool), *there]), np.concatenate(values), self._without_time)

    def _sorted(self) -> Iterator[Any]:
        """By key and time; of one time as they are stored."""
        files = self._scratch / "table" / "rows"
        files.mkdir(parents=True)
        writer = parquet.Writer(files, self._prepared)
        for rows in self._prepare():
            writer.write(rows)
        version = delta.write(files.parent, "rows", self._prepared, writer.close())
        engine = Engine({"rows": {"uri": str(files.parent), "version": version}}, (str(self._scratch), self._sort_mib))
        found = engine.run(f'SELECT * FROM rows ORDER BY "{KEY}", "{TIME}", "{ORDER}"').batches(_BATCH)
        yield from (fit(batch, self._prepared) for batch in found)

    def _prepare(self) -> Iterator[Any]:
        work, place = self._work, 0
        columns = tuple({column.name: column for column in (*work.keys, work.time, work.column)}.values())
        for path in self._files:
            with pq.ParquetFile(path) as file:
                there = [column.name for column in columns if column.name in file.schema_arrow.names]
                for batch in file.iter_batches(_BATCH, columns=there or file.schema_arrow.names[:1]):
                    rows = fit(pa.Table.from_batches([batch]), columns)
                    keys = [rows[key.name] for key in work.keys]
                    added = [texts(keys, rows.num_rows), ticks_of(rows[work.time.name])]
                    added += [pa.array(range(place, place + rows.num_rows)), number_or_text(rows[work.column.name])]
                    place += rows.num_rows
                    made = pa.table([*keys, *added], names=[column.name for column in self._prepared])
                    known = made[TIME].is_valid()
                    self._without_time += made[TIME].null_count
                    yield made.filter(known)


def _whole_keys(batches: Iterator[Any], rows: int) -> Iterator[Any]:
    """Tables of which no key goes on in the next one; of a key that goes on, its last rows are kept."""
    waiting: list[Any] = []
    for batch in batches:
        table = pa.concat_tables([*waiting, batch]).combine_chunks()
        if not table.num_rows:
            continue
        last = int(_begins(table)[-1])
        if last:
            yield table.slice(0, last)
        waiting = [table.slice(max(last, table.num_rows - rows))]
    yield from waiting


def _begins(table: Any) -> Array:
    codes = np.asarray(table[KEY].combine_chunks().dictionary_encode().indices)
    return np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]]))


def _last(table: Any, begins: Array, ends: Array, rows: int) -> tuple[Array, Array]:
    """Which keys have enough values, none too large, and the last values of those."""
    numbers = np.asarray(table[_VALUE].combine_chunks().fill_null(np.nan), float)
    enough = ends - begins >= rows
    values = numbers[ends[enough][:, None] - rows + np.arange(rows)]
    known = (np.isnan(values).sum(axis=1) * _KNOWN <= rows) & ~(np.abs(values) > LARGEST).any(axis=1)
    enough[np.flatnonzero(enough)[~known]] = False
    return enough, values[known]
