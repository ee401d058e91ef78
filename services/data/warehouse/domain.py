"""What landing means: which records of a source have landed, and which of them a run reads again. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from services.kit.errors import FailedPrecondition, InvalidValue, Violation

# Of a table: names and declared types of its columns.
Shape = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Landing:
    """Records that landed together: a version of the landed data set, with the numbers `first` to `last`."""

    source: str
    version: int
    run: str
    first: int
    last: int
    time: datetime
    shape: Shape = ()

    @property
    def records(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True)
class Position:
    """How far a source has landed: the number of the last record, and the cursor in the place that it was read from."""

    last: int = 0
    place: str = ""
    cursor: dict[str, Any] = field(default_factory=dict)
    # When it was read last.
    time: datetime | None = None
    # How often it has changed.
    generation: int = 0

    def cursor_in(self, place: str) -> dict[str, Any]:
        """Where to go on; a source that has become another place is read from its start."""
        return self.cursor if self.place == place else {}


@dataclass(frozen=True)
class Wanted:
    """Landings by their versions and times; 0 and None are open."""

    first_version: int = 0
    last_version: int = 0
    first_time: datetime | None = None
    last_time: datetime | None = None


ALL = Wanted()


@dataclass(frozen=True)
class Range:
    """The records above `after`, up to `upto`.

    `last`: the last one that there is, where a run may end before it, and even before `upto` when its time is up; the
    next one goes on. 0: all of them are wanted.
    """

    after: int
    upto: int
    last: int = 0


def check_wanted(wanted: Wanted) -> None:
    """Raises invalid_value for a range that no landing can be in."""
    for name in ("first_version", "last_version"):
        if getattr(wanted, name) < 0:
            raise _wrong(name, "must be a version: 1 or more")
    if wanted.last_version and wanted.first_version > wanted.last_version:
        raise _wrong("first_version", "must not be above last_version")
    if wanted.first_time and wanted.last_time and wanted.first_time > wanted.last_time:
        raise _wrong("first_time", "must not be after last_time")


def chosen(landings: Sequence[Landing], wanted: Wanted, source: str) -> Range:
    """The records of the landings that are wanted, in their order. Raises failed_precondition when there are none."""
    found = [landing for landing in landings if _is_wanted(landing, wanted)]
    if not found:
        text = "in these versions and times" if landings else "yet"
        raise FailedPrecondition(f"nothing of {source} has landed {text}")
    return Range(found[0].first - 1, found[-1].last)


def _is_wanted(landing: Landing, wanted: Wanted) -> bool:
    return (
        landing.version >= wanted.first_version
        and (not wanted.last_version or landing.version <= wanted.last_version)
        and (wanted.first_time is None or landing.time >= wanted.first_time)
        and (wanted.last_time is None or landing.time <= wanted.last_time)
    )


def _wrong(name: str, rule: str) -> InvalidValue:
    return InvalidValue(f"landed.{name} {rule}", [Violation(f"/landed/{name}", rule)])
