"""Is the advised layout about as good as the best one? Tables are laid out in many ways, and their queries measured.

`python -m tests.bench.partition_advice [workloads] [first]`, 36 and 0 if unset. Each workload is a table with queries:
some are known when the advice is made, others of the same mix are then measured, in the advised layout, undivided and
in rivals that are made without the adviser. What is compared is processor time from the opening of a table on, each
query at its best of three rounds. Ends with 1 when fewer than 90 % of the workloads are within 1.2 of the best.
"""

import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from services.data.datasets.layouts import Layout
from tests.data.partition_advice import lab
from tests.data.partition_advice.rivals import rivals
from tests.data.partition_advice.workloads import Workload, workload

_NEAR, _SHARE = 1.2, 0.9


def named(layout: Layout | None, laid: lab.Laid) -> str:
    """A layout in a word."""
    return f"{layout.strategy} {'+'.join(layout.fields)} in {len(laid.files)}" if layout else "undivided"


def judged(made: Workload, folder: Path) -> tuple[float, dict[str, float], str, str]:
    """The advised layout by the best; the times of all; the names of these two."""
    base = lab.laid(folder / "base", made.table)
    advice = lab.advice(base, made.known)
    layouts = dict.fromkeys([None, advice.choice.layout, *rivals(made, base)])
    tables = {layout: lab.divided(base, folder / str(number), layout) if layout else base
              for number, layout in enumerate(layouts)}  # fmt: skip
    seconds = lab.measured(list(tables.values()), made.asked)
    times = {named(*each): sum(taken) for each, taken in zip(tables.items(), seconds, strict=True)}
    advised = named(advice.choice.layout, tables[advice.choice.layout])
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
