"""Feature search on tables with something planted: is it found, is a leak refused, does noise stay without proposals?

`python -m tests.bench.feature_search [seeds] [rows]`, 100 and 4,000 if unset. Ends with 1 when a share is more than
three standard errors below its floor: an interaction among the first three in 95 %, a leak refused in 99 %, no proposal
of noise in 95 %.
"""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.data.feature_search import planted
from tests.data.feature_search.planted import INTERACTIONS, LEAKS

_FOUND, _REFUSED, _RATE = 0.95, 0.99, 0.05


def interaction(kind: str, rows: int, seed: int) -> bool:
    """Whether the columns of the planted one are those of one of the first three, and no column is refused."""
    made = INTERACTIONS[kind](seed, rows)
    found = planted.search(made)
    first = [frozenset(proposal.step.columns.values()) for proposal in found.proposals[:3]]
    return made.planted in first and not found.refusals


def refused(kind: str, rows: int, seed: int) -> bool:
    """Whether the leak, and no other column, is refused."""
    found = planted.search(planted.leak(kind, seed, rows), time="sent", spent=1.0)
    return [refusal.column for refusal in found.refusals] == ["leak"]


def quiet(make: Callable[[int, int], planted.Planted], rows: int, seed: int) -> bool:
    """Whether there is no proposal."""
    return not planted.search(make(seed, rows)).proposals


def trials(rows: int) -> Iterator[tuple[str, Callable[[int], bool], float]]:
    """What is asked of each seed, and the share of seeds that have to pass."""
    for kind in INTERACTIONS:
        yield f"interaction: {kind}", partial(interaction, kind, rows), _FOUND
    for kind in LEAKS:
        yield f"leak: {kind}", partial(refused, kind, rows), _REFUSED
    for make in (planted.noise, planted.separate):
        yield f"nothing: {make.__name__}", partial(quiet, make, rows), 1 - _RATE


def main(seeds: int, rows: int) -> int:
    """Prints the share of seeds that passed."""
    console, table = Console(), Table("planted", "passed", "of", "floor")
    below = 0
    with ProcessPoolExecutor() as pool:
        for name, trial, floor in trials(rows):
            passed = sum(track(pool.map(trial, range(seeds)), name, seeds, console=console, transient=True))
            below += passed < seeds * floor - 3 * (seeds * floor * (1 - floor)) ** 0.5
            table.add_row(name, str(passed), str(seeds), f"{floor:.0%}")
    console.print(table)
    return int(below > 0)


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    sys.exit(main(*numbers, *(100, 4_000)[len(numbers) :]))
