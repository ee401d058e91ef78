"""Arrays of JSON taken apart: a row for each element, with what stands around the array in each of them. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from services.data.reading import paths
from services.data.reading.paths import EACH, Path
from services.kit.errors import InvalidValue

ROWS = 10_000  # of a record
REPEATED = 4 * 2**20  # characters of texts in the rows of a record that stand around its arrays


class Unfit(Exception):
    """A record whose arrays are not taken apart, or an inner rule that does not take its text.

    `reason` says it as a refusal does.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason


@dataclass(frozen=True)
class _Level:
    """What is found in an element: values with their places in the row, and the next array with its name."""

    values: tuple[tuple[int, Path], ...]
    array: Path = ()
    name: str = ""


def check(sources: Sequence[str], steps: Sequence[Path]) -> None:
    """Raises invalid_value for paths through arrays of which none lies in the other."""
    longest, said = (), ""  # type: tuple[Path, str]
    for source, path in zip(sources, steps, strict=True):
        array = _arrays(path)[-1] if EACH in path else ()
        if array != longest[: len(array)] and longest != array[: len(longest)]:
            rule = f"{said} and {source} are in two arrays of which none is in the other"
            raise InvalidValue(f"{rule}: make a rule for each, and a rule set that gives each record to all")
        if len(array) > len(longest):
            longest, said = array, source


def spreader(steps: Sequence[Path], keep_empty: bool) -> Callable[[Any], list[list[Any]]]:
    """What gives the raw values of the rows of a document. Raises Unfit.

    An array that is missing, null or empty gives no row or, with `keep_empty`, one without values of its elements.
    """
    levels, size = _levels(steps), len(steps)

    def spread(document: Any) -> list[list[Any]]:
        rows: list[list[Any]] = []
        repeated = 0

        def add(row: list[Any], before: list[Any]) -> None:
            nonlocal repeated
            repeated += sum(len(value) for value in before if isinstance(value, str))
            rows.append(row)
            _check_size(len(rows), repeated)

        def walk(number: int, element: Any, before: list[Any]) -> None:
            level, row = levels[number], before.copy()
            for place, path in level.values:
                row[place] = paths.find(element, path)
            if not level.name:
                add(row, before)
                return
            elements = paths.find(element, level.array)
            if elements is None or elements == []:
                if keep_empty:
                    add(row, before)
                return
            if not isinstance(elements, list):
                raise Unfit(f"{level.name} is not an array")
            for one in elements:
                walk(number + 1, one, row)

        walk(0, document, [None] * size)
        return rows

    return spread


def _check_size(rows: int, repeated: int) -> None:
    if rows > ROWS:
        raise Unfit(f"the record gives more than {ROWS} rows")
    if repeated > REPEATED:
        raise Unfit("the texts around the array repeat to more than 4 MiB")


def _arrays(path: Path) -> list[Path]:
    """The arrays that a path goes through, from the outside."""
    return [path[: place + 1] for place, step in enumerate(path) if step == EACH]


def _levels(steps: Sequence[Path]) -> list[_Level]:
    arrays = max((_arrays(path) for path in steps), key=len)
    levels = list[_Level]()
    for number, begin in enumerate([(), *arrays]):
        own = [(place, path[len(begin) :]) for place, path in enumerate(steps) if len(_arrays(path)) == number]
        if number == len(arrays):
            levels.append(_Level(tuple(own)))
        else:
            levels.append(_Level(tuple(own), arrays[number][len(begin) : -1], said(arrays[number][:-1])))
    return levels


def said(path: Path) -> str:
    """A path as it is written."""
    return "$" + "".join(map(paths.step, path))
