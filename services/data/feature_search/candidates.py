"""Steps that may add something: pairs of numbers, pairs of categories, aggregates of groups, parts of times. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np

from services.data.features.constants import Array
from services.data.features.steps import Aggregate, DatePart, Step, Transform
from services.data.schema import ColumnType

MOST_LEVELS = 1000  # different values of a column that are taken for categories
_FEW = 24  # different whole numbers that may be categories as well
_AGGREGATES = (Aggregate.MEAN, Aggregate.DEVIATION, Aggregate.MIN, Aggregate.MAX)
_PARTS = tuple(part for part in DatePart if part)


@dataclass(frozen=True)
class Sampled:
    """A column of the sample: FP64 with NaN, or objects that are str."""

    name: str
    type: ColumnType
    values: Array
    levels: int  # different values

    @property
    def text(self) -> bool:
        return self.type is ColumnType.STRING

    @property
    def time(self) -> bool:
        return self.type in (ColumnType.TIMESTAMP, ColumnType.DATE)

    @property
    def category(self) -> bool:
        """Whether equal values make a group."""
        if self.text:
            return 2 <= self.levels <= MOST_LEVELS
        whole = bool(np.all(self.values[np.isfinite(self.values)] % 1 == 0))
        return not self.time and whole and 2 <= self.levels <= _FEW

    @property
    def measure(self) -> bool:
        """Whether it can be calculated with."""
        return not self.text and not self.time and self.levels > 2


def sampled(name: str, kind: ColumnType, values: Array) -> Sampled:
    """A column with the number of its different values; a missing one is none."""
    known = values[values != ""] if kind is ColumnType.STRING else values[np.isfinite(values)]
    return Sampled(name, kind, values, len(np.unique(known)))


def proposals(columns: Sequence[Sampled]) -> Iterator[Step]:
    """All steps that are tried, those that need few columns first."""
    for time in (column.name for column in columns if column.time):
        yield from (Step(time, Transform.DATE_PART, part=part) for part in _PARTS)
        yield from (Step(time, Transform.DATE_CYCLIC, part=part) for part in _PARTS)
    measures = [column.name for column in columns if column.measure]
    groups = [column.name for column in columns if column.category]
    yield from (Step(name, Transform.COUNT) for name in groups)
    for one, other in combinations(measures, 2):
        yield Step(one, Transform.PRODUCT, other=other)
        yield Step(one, Transform.DIFFERENCE, other=other)
    yield from (Step(one, Transform.RATIO, other=other) for one, other in permutations(measures, 2))
    yield from (Step(one, Transform.CROSS, other=other) for one, other in combinations(groups, 2))
    for group in groups:
        for name in measures:
            if name != group:
                yield from (Step(name, Transform.GROUP, group=group, aggregate=kind) for kind in _AGGREGATES)


def described(step: Step) -> str:
    """A step in words that name its columns."""
    match step.transform:
        case Transform.PRODUCT:
            return f"{step.column} * {step.other}"
        case Transform.DIFFERENCE:
            return f"{step.column} - {step.other}"
        case Transform.RATIO:
            return f"{step.column} / {step.other}"
        case Transform.CROSS:
            return f"{step.column} together with {step.other}"
        case Transform.GROUP:
            return f"{step.aggregate} of {step.column} by {step.group}"
        case Transform.DATE_PART | Transform.DATE_CYCLIC:
            return f"{step.part} of {step.column}" + (" as a cycle" if step.transform is Transform.DATE_CYCLIC else "")
        case _:
            return f"{step.transform} of {step.column}"


def crossed(columns: Mapping[str, Sampled], step: Step) -> Array:
    """A number for each pair of categories."""
    names = (step.column, step.other)
    one, other = (np.unique(columns[name].values, return_inverse=True)[1] for name in names)
    return np.asarray(one * (int(other.max()) + 1) + other)
