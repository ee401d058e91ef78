"""What rewrites and partitions mean. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.data.datasets.domain import WrittenFile
from services.data.datasets.layouts import Layout, Placing, Strategy

_LONGEST = 200  # characters of a description


@dataclass(frozen=True)
class Rewrite:
    """Work that divides a data set otherwise; its operation is also the run that writes the version."""

    operation: str
    data_set: str
    layout: Layout | None


@dataclass(frozen=True)
class Partition:
    """The rows of a version that lie together; `share` of all its rows."""

    number: int
    rows: int
    bytes: int
    files: int
    share: float
    description: str


@dataclass(frozen=True)
class Division:
    """How a version is divided: the partitions with rows by number, and how many there are."""

    partitions: tuple[Partition, ...] = ()
    layout: Layout | None = None
    count: int = 0
    # Rows of the largest partition by the mean of all.
    skew: float = 0.0


def division(layout: Layout | None, placing: Placing | None, files: Sequence[WrittenFile]) -> Division:
    """What the files of a version say of its partitions."""
    if layout is None or placing is None:
        return Division()
    by_number: dict[int, list[WrittenFile]] = {}
    for file in files:
        if file.partition is not None:
            by_number.setdefault(file.partition, []).append(file)
    rows = {number: sum(file.rows for file in by_number[number]) for number in sorted(by_number)}
    total = sum(rows.values())
    partitions = tuple(
        Partition(
            number,
            count,
            sum(file.bytes for file in by_number[number]),
            len(by_number[number]),
            count / total if total else 0.0,
            described(layout, number),
        )
        for number, count in rows.items()
    )
    skew = max(rows.values()) * placing.count / total if total else 0.0
    return Division(partitions, layout, placing.count, skew)


def described(layout: Layout, number: int) -> str:
    """Which rows a partition has, in words."""
    fields = ", ".join(layout.fields)
    match layout.strategy:
        case Strategy.HASH:
            text = f"hash of {fields} is {number} modulo {layout.count}"
        case Strategy.KEY if number == len(layout.keys):
            text = f"all other values of {fields}"
        case Strategy.KEY:
            text = f"{fields}: " + "; ".join(", ".join(key) for key in layout.keys[number][:100])
        case _ if number > len(layout.bounds):
            text = f"no value in {fields}"
        case _:
            ends = [", ".join(bound) for bound in layout.bounds]
            low = f" from {ends[number - 1]}" if number else ""
            text = f"{fields}{low}" + (f" below {ends[number]}" if number < len(ends) else "")
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "\u2026"
