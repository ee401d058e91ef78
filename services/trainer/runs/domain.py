"""What a run is: what was tried and what it measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from services.trainer.jobs.domain import File, Job, LightGbm


@dataclass(frozen=True)
class Point:
    """A value that a run measured at a step."""

    metric: str
    step: int
    value: float
    time: datetime


@dataclass(frozen=True)
class Run:
    """One for each job. `metrics` holds the last value of each."""

    run: str
    job: str
    model: str
    state: str
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    files: tuple[File, ...]
    create_time: datetime
    end_time: datetime | None


def parameters(job: Job) -> dict[str, str]:
    """What a job was told, as texts by name."""
    spec = job.spec
    kind = "lightgbm" if isinstance(spec.estimator, LightGbm) else "logistic_regression"
    found: dict[str, object] = {"estimator": kind, **vars(spec.estimator), "seed": spec.seed}
    found |= {
        "feature_set": f"{spec.feature_set}@{spec.feature_set_version}",
        "data_set": f"{job.inputs.data_set}@{spec.data_set_version}",
        "permute_labels": spec.permute_labels,
    }
    for name, rows in (("train", spec.train), ("evaluate", spec.evaluate)):
        ends = ("" if end is None else f"{end:g}" for end in (rows.start, rows.end))
        found[name] = f"{rows.column}: {'..'.join(ends)}"
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in found.items()}
