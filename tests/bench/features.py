"""Features of a million rows, all transforms in one graph: whether any batch gives the same bytes, and how fast.

`python -m tests.bench.features [rows]`. Ends with 1 when the bytes differ.
"""

import sys
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from services.data.features.graph import compile_graph
from tests.data.graphs import in_batches
from tests.data.transforms import columns, fitted

_SIZES = (8192, 4097, 1009, 127, 31)
_ALONE = 20_000
_PORTION = 100_000  # rows that are made and computed at a time


def main(rows: int) -> int:
    """Prints rows per second for each size, and how many portions differ from those of the first size."""
    data = compile_graph(fitted(columns(20_000, seed=6)))
    picked, differ = np.random.default_rng(7), dict.fromkeys((*_SIZES, 1), 0)
    seconds, counted = dict.fromkeys(differ, 0.0), dict.fromkeys(differ, 0)
    for start in range(0, rows, _PORTION):
        given = columns(min(_PORTION, rows - start), seed=start)
        first = in_batches(data, given, _SIZES[0])
        for size in differ:
            chosen = np.arange(len(first))
            if size == 1:
                chosen = np.sort(picked.choice(chosen, min(_ALONE * _PORTION // rows, len(first)), replace=False))
            asked = {name: values[chosen] for name, values in given.items()}
            begun = time.perf_counter()
            found = in_batches(data, asked, size)
            seconds[size] += time.perf_counter() - begun
            counted[size] += len(found)
            differ[size] += found.tobytes() != first[chosen].tobytes()
    table = Table("rows in a batch", "rows", "rows per second", "portions that differ")
    for size, count in counted.items():
        table.add_row(str(size), f"{count:,}", f"{count / seconds[size]:,.0f}", str(differ[size]))
    Console().print(f"{first.shape[1]} features of {len(given)} columns", table)
    return int(any(differ.values()))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
