"""What a recipe means: immutable versions of steps, what a version learned once, and runs. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from services.data.cleaning.kinds_values import Spellings
from services.data.cleaning.steps import Step
from services.kit import resources
from services.kit.errors import Failure

RUNNING, SUCCEEDED, FAILED, CANCELLED = "running", "succeeded", "failed", "cancelled"
Json = dict[str, Any]


@dataclass(frozen=True)
class RecipeVersion:
    """One version: its steps, and once it has run what each of them learned, from which version of the data set."""

    version: int
    steps: tuple[Step, ...]
    create_time: datetime
    learned: tuple[Json, ...] = ()
    learned_from: int = 0

    @property
    def tells(self) -> bool:
        """Whether it holds values of columns: what was learned of them, or spellings of theirs."""
        return bool(self.learned) or any(isinstance(step.kind, Spellings) and step.kind.mapping for step in self.steps)


@dataclass(frozen=True)
class Recipe:
    """A recipe as it stands: what it reads and what it writes."""

    recipe: str
    description: str
    data_set: str
    output: str
    create_time: datetime
    update_time: datetime
    delete_time: datetime | None = None
    latest_version: int = 1
    generation: int = 1


@dataclass(frozen=True)
class RecipeView:
    """A recipe with one of its versions."""

    recipe: Recipe
    version: RecipeVersion


@dataclass(frozen=True)
class Counts:
    """Where the rows went: rows_in = rows_out + quarantined + duplicates."""

    rows_in: int = 0
    rows_out: int = 0
    quarantined: int = 0
    duplicates: int = 0


@dataclass(frozen=True)
class Run:
    """A run; what it needs to go on after a crash, and what came of it."""

    run: str
    recipe: str
    version: int
    data_set: str
    data_set_version: int
    output: str
    operation: str
    state: str
    create_time: datetime
    output_version: int = 0
    counts: Counts = Counts()
    # Of each step, as a child told it.
    report: tuple[Json, ...] = ()
    end_time: datetime | None = None


@dataclass(frozen=True)
class Cleaned:
    """What came of a run: of each step a report, and what it has learned."""

    counts: Counts
    report: tuple[Json, ...]
    learned: tuple[Json, ...]

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Cleaned":
        """As a child tells it."""
        return cls(Counts(**told["counts"]), tuple(told["report"]), tuple(told["learned"]))


def extended(recipe: Recipe, now: datetime) -> Recipe:
    """The recipe with one more version."""
    return resources.changed(recipe, now, latest_version=recipe.latest_version + 1)


def taught(version: RecipeVersion, learned: tuple[Json, ...], data_set_version: int) -> RecipeVersion:
    """The version with what it learned; one that has learned stays as it is."""
    if version.learned_from:
        return version
    return replace(version, learned=learned, learned_from=data_set_version)


def succeeded(run: Run, output_version: int, cleaned: Cleaned, now: datetime) -> Run:
    """The end of a run."""
    return replace(
        run,
        state=SUCCEEDED,
        output_version=output_version,
        counts=cleaned.counts,
        report=cleaned.report,
        end_time=now,
    )


def ended(run: Run, failure: Failure | None, now: datetime) -> Run:
    """The end of a run that wrote nothing."""
    return replace(run, state=FAILED if failure else CANCELLED, end_time=now)
