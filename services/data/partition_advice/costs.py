"""What a query costs by what it reads. Pure.

The prices were fitted to measured queries by `python -m tests.bench.partition_prices`, of other tables than those by
which the advice is judged. What counts is how they compare: another machine is slower in all of them.
"""

from typing import NamedTuple


class Reading(NamedTuple):
    """What a query reads of a version; averages are fractions."""

    listed: float = 0.0  # files that the version has
    opened: float = 0.0  # files
    tested: float = 0.0  # columns of row groups by which rows are chosen
    chunks: float = 0.0  # others
    values_tested: float = 0.0  # of the former
    values: float = 0.0  # of the others, in row groups that have a row that is wanted


class Costs(NamedTuple):
    """Seconds of each."""

    query: float
    listed: float
    opened: float
    tested: float
    chunk: float
    value_tested: float
    value: float

    def of(self, read: Reading) -> float:
        """Of a query, without the start of the process that runs it."""
        return self.query + sum(price * count for price, count in zip(self[1:], read, strict=True))


COSTS = Costs(query=4.8e-3, listed=7e-6, opened=2.1e-4, tested=2.5e-4, chunk=8.6e-5, value_tested=5.3e-8, value=9.7e-9)
