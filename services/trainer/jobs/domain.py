"""What a job means: submitted, queued, leased with a fence, ended once."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from services.kit.errors import Code, FailedPrecondition, Failure, InvalidValue, Violation, match_etag
from services.kit.resources import wrong_labels

MOST_ATTEMPTS = 10


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Act(StrEnum):
    """What happens to a job."""

    LEASE = "lease"
    REQUEUE = "requeue"
    SUCCEED = "succeed"
    FAIL = "fail"
    CANCEL = "cancel"


ENDED = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
# Every legal move; anything else is refused.
MOVES: Mapping[tuple[JobState, Act], JobState] = {
    (JobState.QUEUED, Act.LEASE): JobState.RUNNING,
    (JobState.QUEUED, Act.CANCEL): JobState.CANCELLED,
    (JobState.RUNNING, Act.REQUEUE): JobState.QUEUED,
    (JobState.RUNNING, Act.SUCCEED): JobState.SUCCEEDED,
    (JobState.RUNNING, Act.FAIL): JobState.FAILED,
    (JobState.RUNNING, Act.CANCEL): JobState.CANCELLED,
}


@dataclass(frozen=True)
class RowRange:
    """The rows whose column lies between two numbers, both included; None: open."""

    column: str
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class LightGbm:
    """Gradient-boosted trees."""

    rounds: int
    leaves: int
    learning_rate: float
    min_data_in_leaf: int


@dataclass(frozen=True)
class LogisticRegression:
    """Logistic regression: inverse strength of the L2 penalty on the scaled weights, most iterations."""

    c: float
    iterations: int


@dataclass(frozen=True)
class JobSpec:
    """What a job is to do."""

    model: str
    feature_set: str
    feature_set_version: int
    data_set_version: int
    train: RowRange
    evaluate: RowRange
    estimator: LightGbm | LogisticRegression
    seed: int = 0
    permute_labels: bool = False
    max_attempts: int = 3
    timeout_seconds: int = 3600
    memory_mib: int = 2048
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Inputs:
    """What was looked up at submission; `columns` are names and types in order."""

    data_set: str
    graph_digest: str
    columns: tuple[tuple[str, str], ...]
    outputs: tuple[str, ...]
    label: str
    key: str


@dataclass(frozen=True)
class Job:
    """A job. The fence grows with every lease: writes that carry a lower one are refused."""

    job: str
    spec: JobSpec
    inputs: Inputs
    run: str
    create_time: datetime
    operation: str = ""
    state: JobState = JobState.QUEUED
    attempt: int = 0
    progress: float = 0.0
    stage: str = ""
    error: str = ""
    cancel_requested: bool = False
    generation: int = 1
    fence: int = 0
    worker: str = ""
    lease_expire_time: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    delete_time: datetime | None = None
    manifest_digest: str = ""
    # Milliseconds of processors that all attempts used, as far as they have told, and those before the present one.
    cpu_milliseconds: int = 0
    cpu_before: int = 0


@dataclass(frozen=True)
class File:
    """A file of a run, kept by digest."""

    name: str
    digest: str
    size: int
    media_type: str


@dataclass(frozen=True)
class Package:
    """What a manifest says: the files of a version, what it takes and gives, what it was made with."""

    digest: str
    files: tuple[File, ...]
    signature: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    card: str = ""


def check(spec: JobSpec) -> None:
    """Raises invalid_value with every setting that makes no sense."""
    found = list(_broken(spec))
    if found:
        raise InvalidValue(f"{found[0].pointer[1:].replace('/', '.')} {found[0].rule}", found)


def _broken(spec: JobSpec) -> Iterator[Violation]:
    bounds: dict[str, tuple[float, float, float]] = {
        "max_attempts": (spec.max_attempts, 1, MOST_ATTEMPTS),
        "timeout_seconds": (spec.timeout_seconds, 1, 86_400),
        "memory_mib": (spec.memory_mib, 256, 1_048_576),
        "seed": (spec.seed, 0, 2**63 - 1),
        "feature_set_version": (spec.feature_set_version, 0, 2**31),
        "data_set_version": (spec.data_set_version, 0, 2**31),
    }
    how = spec.estimator
    if isinstance(how, LightGbm):
        bounds |= {
            "lightgbm/rounds": (how.rounds, 1, 10_000),
            "lightgbm/leaves": (how.leaves, 2, 1024),
            "lightgbm/learning_rate": (how.learning_rate, 1e-5, 1.0),
            "lightgbm/min_data_in_leaf": (how.min_data_in_leaf, 1, 1_000_000),
        }
    else:
        bounds |= {
            "logistic_regression/c": (how.c, 1e-9, 1e9),
            "logistic_regression/iterations": (how.iterations, 1, 10_000),
        }
    for name, (value, low, high) in bounds.items():
        if not low <= value <= high:
            yield Violation(f"/spec/{name}", f"must be between {low:g} and {high:g}")
    for name in ("train", "evaluate"):
        rows: RowRange = getattr(spec, name)
        ends = (-math.inf if rows.start is None else rows.start, math.inf if rows.end is None else rows.end)
        if not ends[0] <= ends[1]:
            yield Violation(f"/spec/{name}", "must not end before it begins")
    yield from (violation for _, violation in wrong_labels(spec.labels, "/spec/labels"))
    if _overlap(spec):
        yield Violation("/spec/evaluate", "must have no rows in common with train")


def _overlap(spec: JobSpec) -> bool:
    """Whether rows may be both learnt from and measured on: what is measured then says nothing."""
    first, second = spec.train, spec.evaluate
    if first.column != second.column:
        return False  # cannot be told from the ranges alone
    low = max(-math.inf if rows.start is None else rows.start for rows in (first, second))
    high = min(math.inf if rows.end is None else rows.end for rows in (first, second))
    return low <= high


def _move(job: Job, act: Act, **values: Any) -> Job:
    state = MOVES.get((job.state, act))
    if state is None:
        raise FailedPrecondition(f"job {job.job} is {job.state}: it cannot {act}")
    return replace(job, state=state, generation=job.generation + 1, **values)


def _end(job: Job, act: Act, now: datetime, **values: Any) -> Job:
    return _move(job, act, end_time=now, lease_expire_time=None, worker="", **values)


def lease(job: Job, worker: str, now: datetime, seconds: float) -> Job:
    """Hands a queued job to a worker."""
    times = {"start_time": job.start_time or now, "lease_expire_time": now + timedelta(seconds=seconds)}
    counted = {"fence": job.fence + 1, "attempt": job.attempt + 1, "cpu_before": job.cpu_milliseconds}
    return _move(job, Act.LEASE, worker=worker, progress=0.0, stage="starting", error="", **times, **counted)


def hold(job: Job, fence: int) -> None:
    """Raises fence_stale unless the fence is that of the job's present lease."""
    if job.state is not JobState.RUNNING or fence != job.fence:
        raise Failure(Code.FENCE_STALE, f"fence {fence} of job {job.job} is stale")


def renew(job: Job, fence: int, now: datetime, seconds: float, progress: float, stage: str, cpu: int = 0) -> Job:
    """A sign of life. Whoever holds the fence may renew, also late: nobody else has taken the job."""
    hold(job, fence)
    done = min(max(progress, job.progress), 1.0) if math.isfinite(progress) else job.progress
    used, until = max(job.cpu_milliseconds, job.cpu_before + cpu), now + timedelta(seconds=seconds)
    return replace(job, lease_expire_time=until, progress=done, stage=stage[:100], cpu_milliseconds=used)


def expired(job: Job, now: datetime) -> bool:
    """Whether its worker has been silent for too long."""
    return job.state is JobState.RUNNING and job.lease_expire_time is not None and job.lease_expire_time < now


def lost(job: Job, now: datetime) -> Job:
    """Its worker is gone."""
    return failed(job, "the worker was lost", True, False, now)


def failed(job: Job, reason: str, retry: bool, cancelled: bool, now: datetime) -> Job:
    """An attempt ended without success: cancelled if that was wished, tried again if that may help, else failed."""
    if cancelled or job.cancel_requested:
        return _end(job, Act.CANCEL, now)
    if retry and job.attempt < job.spec.max_attempts:
        return _move(job, Act.REQUEUE, worker="", lease_expire_time=None, stage="", error=reason)
    tries = f" (attempt {job.attempt} of {job.spec.max_attempts})" if retry else ""
    return _end(job, Act.FAIL, now, error=f"{reason}{tries}")


def succeeded(job: Job, fence: int, manifest_digest: str, now: datetime) -> Job:
    """The one accepted completion; a repeat of it changes nothing. Raises fence_stale."""
    if job.state is JobState.SUCCEEDED and (job.fence, job.manifest_digest) == (fence, manifest_digest):
        return job
    hold(job, fence)
    return _end(job, Act.SUCCEED, now, manifest_digest=manifest_digest, progress=1.0, stage="")


def cancel(job: Job, now: datetime) -> Job:
    """A wish: a queued job ends at once, a running one when its worker hears of it, an ended one stays as it is."""
    if job.state in ENDED or job.cancel_requested:
        return job
    if job.state is JobState.QUEUED:
        return _end(replace(job, cancel_requested=True), Act.CANCEL, now)
    return replace(job, cancel_requested=True, generation=job.generation + 1)


def delete(job: Job, etag: str, now: datetime) -> Job:
    """Hides an ended job. Raises etag_mismatch, failed_precondition."""
    if job.delete_time:
        return job
    match_etag(etag, job.generation, f"job {job.job}")
    if job.state not in ENDED:
        raise FailedPrecondition(f"job {job.job} is {job.state}: cancel it first")
    return replace(job, delete_time=now, generation=job.generation + 1)


def undelete(job: Job) -> Job:
    """Brings a deleted job back."""
    return replace(job, delete_time=None, generation=job.generation + 1) if job.delete_time else job
