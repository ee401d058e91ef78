"""Is the advised layout about as good as the best one? Tables are laid out in many ways, and their queries measured.

`python -m tests.bench.partition_advice [workloads] [first]`, 36 and 0 if unset. Each workload is a table with queries:
some are known when the advice is made, others of the same mix are then measured, in the advised layout, undivided and
in rivals that are made without the adviser. What is compared is processor time from the opening of a table on, each
query at its best of three. Ends with 1 when fewer than 90 % of the workloads are within 1.2 of the best.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from services.data.datasets.layouts import Layout, Strategy
from services.data.partition_advice.sampling import text_of
from services.data.schema import Column
from tests.data.partition_advice import lab
from tests.data.partition_advice.workloads import Workload, workload

_NEAR, _SHARE = 1.2, 0.9
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


def named(layout: Layout | None, laid: lab.Laid) -> str:
    """A layout in a word."""
    return f"{layout.strategy} {'+'.join(layout.fields)} in {len(laid.files)}" if layout else "undivided"


def judged(made: Workload, folder: Path) -> tuple[float, dict[str, float], str, str]:
    """The advised layout by the best; the times of all; the names of these two."""
    base = lab.laid(folder / "base", made.table)
    advice = lab.advice(base, made.known)
    layouts = dict.fromkeys([None, advice.choice.layout, *rivals(made, base)])
    times, advised = dict[str, float](), ""
    for number, layout in enumerate(layouts):
        laid = lab.divided(base, folder / str(number), layout) if layout else base
        name = named(layout, laid)
        times[name] = sum(laid.seconds(sql) for sql in made.asked)
        advised = name if layout == advice.choice.layout else advised
        if layout:
            rmtree(laid.folder)
    best = min(times, key=lambda name: times[name])
    return times[advised] / times[best], times, advised, best


def main(count: int, first: int) -> int:
    """Prints each workload, and the share of those that are near the best."""
    console, table = Console(width=200), Table("workload", "advised", "ms", "best", "ms", "undivided", "by best", "of")
    near = 0
    for seed in range(first, first + count):
        made = workload(seed)
        with tempfile.TemporaryDirectory() as folder:
            ratio, times, advised, best = judged(made, Path(folder))
        near += ratio <= _NEAR
        ms = [f"{times[name] * 1000 / len(made.asked):.1f}" for name in (advised, best, "undivided")]
        row = made.name, advised, ms[0], best, ms[1], ms[2], f"{ratio:.2f}", str(len(times))
        console.print(" | ".join(row), highlight=False)
        table.add_row(*row)
    console.print(table)
    console.print(f"{near} of {count} within {_NEAR} of the best: {near / count:.0%}")
    return int(near < _SHARE * count)


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    sys.exit(main(*numbers, *(36, 0)[len(numbers) :]))
