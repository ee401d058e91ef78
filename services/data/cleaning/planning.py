"""Whether steps make sense, by themselves and for the columns of a table. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from services.data.cleaning.kinds import Columns, FillMissing, Kind, Outliers
from services.data.cleaning.kinds_values import Units
from services.data.cleaning.steps import Step
from services.data.schema import Column
from services.kit.errors import Violation, refuse

MOST_COLUMNS = 2000


def check_steps(steps: Sequence[Step], known_zone: Callable[[str], bool]) -> None:
    """Raises invalid_value with every rule that the steps break by themselves."""
    found = list[Violation]()
    for index, step in enumerate(steps):
        at = f"/steps/{index}"
        if step.step in (other.step for other in steps[:index]):
            found.append(Violation(f"{at}/step", "is there twice"))
        wrong = [*step.kind.wrong(), *_zones(step.kind, known_zone)]
        found += [Violation(f"{at}/{step.word}/{one.pointer}", one.rule) for one in wrong]
    refuse(found)


def _zones(kind: Kind, known_zone: Callable[[str], bool]) -> Iterator[Violation]:
    zone = getattr(kind, "zone", "")
    if zone and not known_zone(zone):
        yield Violation("zone", "must be a time zone such as Europe/Berlin")


def known_zone(name: str) -> bool:
    """Whether a time zone is in the database of this machine."""
    try:
        return bool(ZoneInfo(name))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False


def planned(steps: Sequence[Step], columns: Sequence[Column], at: str = "/steps") -> tuple[Column, ...]:
    """The columns of what the steps make of a table. Raises invalid_value for the first that does not fit it."""
    known: Columns = {column.name: column for column in columns}
    for index, step in enumerate(steps):
        found = [Violation(f"{at}/{index}/{step.word}/{one.pointer}", one.rule) for one in _unfit(step.kind, known)]
        refuse(found)
        known = step.kind.after(known)
    if len(known) > MOST_COLUMNS > len(columns):
        refuse([Violation(at, f"make more than {MOST_COLUMNS} columns")])
    return tuple(known.values())


def origins(steps: Sequence[Step], columns: Sequence[Column]) -> dict[str, tuple[str, ...]]:
    """The columns that each column of the result is made of: its own, its units, what it marks, what predicts it."""
    found: dict[str, tuple[str, ...]] = {column.name: (column.name,) for column in columns}
    for step in steps:
        made: Mapping[str, tuple[str, ...]] = {}
        if isinstance(step.kind, Outliers):
            made = step.kind.marks
        elif isinstance(step.kind, FillMissing):
            made = {name: (name, *step.kind.predictors) for name in step.kind.columns}
        elif isinstance(step.kind, Units) and step.kind.unit_column:
            made = {name: (name, step.kind.unit_column) for name in step.kind.columns}
        found |= {name: tuple(dict.fromkeys(one for of in read for one in found[of])) for name, read in made.items()}
    return found


def _unfit(kind: Kind, columns: Columns) -> Iterator[Violation]:
    missing = False
    for place, name, types in kind.named():
        if name not in columns:
            missing = True
            yield Violation(place, f"must be a column that is there: {name[:60]} is not")
        elif columns[name].type not in types:
            missing = True
            holds = columns[name].type
            yield Violation(place, f"must hold {', '.join(types)}: {name[:60]} holds {holds}")
    if not missing:
        yield from kind.unfit(columns)
