"""Measures what the prices of `partition_advice.costs` are: queries of tables in several layouts, and what they read.

`python -m tests.bench.partition_prices` prints a price for each count of a Reading, fitted by least squares of relative
errors, none below 0; and by how much the fitted times miss the measured ones.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from scipy.optimize import nnls  # type: ignore[import-untyped]

from services.data.partition_advice.candidates import candidates
from services.data.partition_advice.costs import Costs
from services.data.partition_advice.draws import Draw, drawn
from services.data.partition_advice.history import Kind, Selector, Shape
from services.data.partition_advice.simulating import Simulator, as_it_is, laid_out
from services.data.sql.known import All, Among, Between, Condition, Constant
from tests.data.partition_advice import lab
from tests.data.partition_advice.workloads import workload

# Shapes, and the share of columns that a query names.
_SHAPES: tuple[tuple[Shape, float], ...] = (
    ((Selector("tenant", Kind.EQUAL),), 0.25),
    ((Selector("id", Kind.EQUAL),), 1.0),
    ((Selector("day", Kind.RANGE, 4),), 0.375),
    ((Selector("day", Kind.RANGE, 3), Selector("tenant", Kind.EQUAL)), 0.5),
    ((), 0.375),
    ((), 0.125),
    ((Selector("note", Kind.EQUAL),), 0.125),
    ((Selector("amount", Kind.RANGE, 6),), 0.125),
)
_TABLES, _FIELDS, _COUNTS = {1001: 40_000, 1002: 200_000}, ("tenant", "id", "day"), (9, 64, 254)


def query(draw: Draw, names: list[str]) -> str:
    """A draw as SQL."""
    chosen = [part.column for part in draw.chosen]
    shown = [*dict.fromkeys([*chosen, *names])][: max(round(draw.columns * len(names)), len(chosen), 1)]
    if not chosen:
        return f"SELECT {', '.join(f'count({name}) AS {name}' for name in shown)} FROM t"
    return f"SELECT {', '.join(shown)} FROM t WHERE {_where(draw.condition)}"


def _where(condition: Condition) -> str:
    match condition:
        case All():
            return " AND ".join(map(_where, condition.parts))
        case Among():
            return f"{condition.column} IN ({', '.join(map(_literal, condition.values))})"
        case Between():
            ends = ((">=", condition.low), ("<=", condition.high))
            return " AND ".join(f"{condition.column} {sign} {_literal(end)}" for sign, end in ends if end) or "TRUE"
    raise AssertionError


def _literal(constant: Constant) -> str:
    text = constant.text if constant.kind == "number" else f"'{constant.text}'"
    return f"DATE {text}" if constant.kind == "date" else text


def measured(seed: int, rows: int, folder: Path) -> list[tuple[list[float], float]]:
    """What queries of a table read, by the simulator, and their seconds."""
    base = lab.laid(folder / "base", workload(seed, rows).table)
    sample, names = lab.sample(base), [column.name for column in base.columns]
    draws = drawn(sample, [(shape, 0.05, columns) for shape, columns in _SHAPES])
    simulator = Simulator(sample, draws, ())
    layouts = [(base, as_it_is(sample, None, None))]
    for name in _FIELDS:
        found = {candidate.placing.count: candidate for candidate in candidates(sample, [(name,)], 256)}
        for count in _COUNTS:
            candidate = found[min(found, key=lambda each: abs(each - count))]
            layouts.append(
                (lab.divided(base, folder / f"{name}-{count}", candidate.layout), laid_out(sample, candidate))
            )
    made = []
    for draw, *reads in zip(draws, *(simulator.readings(simulated) for _, simulated in layouts), strict=True):
        seconds = lab.measured([laid for laid, _ in layouts], [query(draw, names)])
        made += [([1.0, *read], taken) for read, (taken,) in zip(reads, seconds, strict=True)]
    return made


def main() -> int:
    """Prints the prices."""
    console, made = Console(), list[tuple[list[float], float]]()
    for seed, rows in _TABLES.items():
        with tempfile.TemporaryDirectory() as folder:
            made += measured(seed, rows, Path(folder))
    reads, seconds = np.asarray([read for read, _ in made]), np.asarray([taken for _, taken in made])
    prices = nnls(reads / seconds[:, None], np.ones(len(seconds)))[0]
    for name, price in zip(Costs._fields, prices, strict=True):
        console.print(f"{name}={price:.2g}", highlight=False)
    missed = np.percentile(reads @ prices / seconds, [5, 25, 50, 75, 95])
    console.print(f"fitted by measured, from 5 to 95 of 100 queries: {', '.join(f'{each:.2f}' for each in missed)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
