"""What a pipeline means: declared steps, and runs that take them in order."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.kit.errors import Violation, refuse

RUNNING, SUCCEEDED, FAILED, CANCELLED = "running", "succeeded", "failed", "cancelled"
Cursor = int | str
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}\Z")


@dataclass(frozen=True)
class Condition:
    """Rows for which the expression is true, and a word for them."""

    reason: str
    expression: str


@dataclass(frozen=True)
class Step:
    """One derived data set. With a cursor a run only adds the rows above the last value that a run has seen."""

    data_set: str
    sql: str
    inputs: tuple[str, ...]
    quarantine: tuple[Condition, ...] = ()
    exclude: tuple[Condition, ...] = ()
    cursor: str = ""


@dataclass(frozen=True)
class Pipeline:
    """Declared steps."""

    pipeline: str
    description: str
    steps: tuple[Step, ...]
    generation: int
    create_time: datetime
    update_time: datetime
    delete_time: datetime | None = None


@dataclass(frozen=True)
class Output:
    """What a step came to: the newest version of its data set, and the rows that the step added to it."""

    data_set: str
    version: int
    rows: int


@dataclass(frozen=True)
class Run:
    """A run: steps as they were when it began, versions that it reads, and what it has written so far."""

    run: str
    pipeline: str
    operation: str
    state: str
    steps: tuple[Step, ...]
    inputs: Mapping[str, int]
    outputs: tuple[Output, ...]
    create_time: datetime
    end_time: datetime | None = None

    @property
    def next_step(self) -> int:
        """The index of the first step that is not done."""
        return len(self.outputs)

    def step_run(self, index: int) -> str:
        """What data sets know a step of this run by."""
        return f"{self.run}-{index}"

    def read_by(self, step: Step) -> dict[str, int]:
        """The version of each input: what an earlier step of this run wrote, else what was newest when it began."""
        written = {output.data_set: output.version for output in self.outputs}
        return {name: written.get(name) or self.inputs[name] for name in step.inputs}


def check_steps(steps: Sequence[Step]) -> None:
    """Raises invalid_name or invalid_value, with every rule that the steps break between them."""
    refuse(violation for index, step in enumerate(steps) for violation in _violations(steps, index, step))


def _violations(steps: Sequence[Step], index: int, step: Step) -> Iterable[Violation]:
    at = f"/steps/{index}"
    if step.data_set in (other.data_set for other in steps[:index]):
        yield Violation(f"{at}/data_set", "is written by an earlier step")
    for number, name in enumerate(step.inputs):
        if not _NAME.match(name):
            yield Violation(f"{at}/inputs/{number}", "must be a name: [a-z][a-z0-9_-]{0,62}")
        elif name == step.data_set:
            yield Violation(f"{at}/inputs/{number}", "must not be the data set that the step writes")
        elif name in step.inputs[:number]:
            yield Violation(f"{at}/inputs/{number}", "is there twice")
    for part, conditions in (("quarantine", step.quarantine), ("exclude", step.exclude)):
        reasons = [condition.reason for condition in conditions]
        for number, reason in enumerate(reasons):
            if reason in reasons[:number]:
                yield Violation(f"{at}/{part}/{number}/reason", "is there twice")


def external_inputs(steps: Sequence[Step]) -> tuple[str, ...]:
    """The data sets that a run has to find: inputs that no earlier step writes."""
    found: dict[str, None] = {}
    for index, step in enumerate(steps):
        written = {other.data_set for other in steps[:index]}
        found |= dict.fromkeys(name for name in step.inputs if name not in written)
    return tuple(found)
