"""Layouts to compare the advised one with, made without the adviser."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from services.data.datasets.layouts import Layout, Strategy
from services.data.partition_advice.sampling import text_of
from services.data.schema import Column
from tests.data.partition_advice import lab
from tests.data.partition_advice.workloads import Workload

_COUNTS = (8, 32, 128)


def rivals(made: Workload, base: lab.Laid) -> Iterator[Layout]:
    """Layouts by the columns that queries choose by, in several sizes."""
    columns = {column.name: column for column in base.columns}
    shapes = [asked.shape for asked in lab.history(base, made.asked)]
    names = sorted({test.column for shape in shapes for test in shape}) or ["day", "tenant"]
    for name in names:
        yield from _single(made.table, columns[name])
    pairs = {pair for shape in shapes for pair in combinations(sorted({test.column for test in shape}), 2)}
    for pair in sorted(pairs):
        for order in (pair, pair[::-1]):
            for count in _COUNTS[1:]:
                yield _range(made.table, [columns[name] for name in order], count)
        yield Layout(Strategy.HASH, pair, count=_COUNTS[1])


def _single(table: pa.Table, column: Column) -> Iterator[Layout]:
    for count in _COUNTS:
        yield _range(table, [column], count)
    if column.type == "double":
        return
    for count in _COUNTS[::2]:
        yield Layout(Strategy.HASH, (column.name,), count=count)
    found = table[column.name].value_counts().to_pylist()
    found.sort(key=lambda each: -each["counts"])
    for count in (15, 63):
        keys = [each["values"] for each in found[:count]]
        yield Layout(Strategy.KEY, (column.name,), keys=tuple(((_text(key, column),),) for key in keys))


def _range(table: pa.Table, columns: Sequence[Column], count: int) -> Layout:
    names = [column.name for column in columns]
    rows = table.select(names).sort_by([(name, "ascending") for name in names])
    places = np.unique((np.arange(1, count) * rows.num_rows / count).astype(int))
    found = rows.take(places).to_pylist()
    bounds = dict.fromkeys(tuple(_text(row[column.name], column) for column in columns) for row in found)
    return Layout(Strategy.RANGE, tuple(names), bounds=tuple(bounds))


def _text(value: Any, column: Column) -> str:
    return value.isoformat() if column.type == "date" else text_of(value, column.type)
