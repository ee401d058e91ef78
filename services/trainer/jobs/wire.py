"""Jobs between the domain and the wire."""

from typing import Any

from aimass.v1 import jobs_pb2 as pb
from aimass.v1.features_pb2 import RowRange as WireRange
from services.kit.errors import InvalidValue, Violation
from services.kit.timestamps import to_wire
from services.trainer.jobs.domain import Job, JobSpec, LightGbm, LogisticRegression, RowRange


def spec_from_wire(spec: pb.JobSpec) -> JobSpec:
    """Raises invalid_value without an estimator. What is not set gets the default that the contract names."""
    return JobSpec(
        model=spec.model,
        feature_set=spec.feature_set,
        feature_set_version=spec.feature_set_version,
        data_set_version=spec.data_set_version,
        train=range_from_wire(spec.train),
        evaluate=range_from_wire(spec.evaluate),
        estimator=_estimator_from_wire(spec),
        seed=spec.seed,
        permute_labels=spec.permute_labels,
        max_attempts=spec.max_attempts or 3,
        timeout_seconds=spec.timeout_seconds or 3600,
        memory_mib=spec.memory_mib or 2048,
        labels=dict(spec.labels),
    )


def _estimator_from_wire(spec: pb.JobSpec) -> LightGbm | LogisticRegression:
    match spec.WhichOneof("estimator"):
        case "lightgbm":
            trees = spec.lightgbm
            rate = trees.learning_rate or 0.05
            return LightGbm(trees.rounds or 200, trees.leaves or 31, rate, trees.min_data_in_leaf or 50)
        case "logistic_regression":
            linear = spec.logistic_regression
            return LogisticRegression(linear.c or 1.0, linear.iterations or 200)
    rule = Violation("/spec", "must name an estimator: lightgbm or logistic_regression")
    raise InvalidValue(f"spec {rule.rule}", [rule])


def spec_to_wire(spec: JobSpec) -> pb.JobSpec:
    """A spec with every setting filled in."""
    how: dict[str, Any] = (
        {"lightgbm": pb.LightGbm(**vars(spec.estimator))}
        if isinstance(spec.estimator, LightGbm)
        else {"logistic_regression": pb.LogisticRegression(**vars(spec.estimator))}
    )
    return pb.JobSpec(
        model=spec.model,
        feature_set=spec.feature_set,
        feature_set_version=spec.feature_set_version,
        data_set_version=spec.data_set_version,
        train=_range_to_wire(spec.train),
        evaluate=_range_to_wire(spec.evaluate),
        seed=spec.seed,
        permute_labels=spec.permute_labels,
        max_attempts=spec.max_attempts,
        timeout_seconds=spec.timeout_seconds,
        memory_mib=spec.memory_mib,
        labels=spec.labels,
        **how,
    )


def range_from_wire(rows: WireRange) -> RowRange:
    """A range; a bound that is not set is open."""
    bounds = (getattr(rows, name) if rows.HasField(name) else None for name in ("from", "to"))
    return RowRange(rows.column, *bounds)


def _range_to_wire(rows: RowRange) -> WireRange:
    bounds: dict[str, Any] = {"from": rows.start, "to": rows.end}
    return WireRange(column=rows.column, **{name: value for name, value in bounds.items() if value is not None})


def job_to_wire(job: Job, waiting_for: str = "") -> pb.Job:
    """A job with its etag."""
    return pb.Job(
        job=job.job,
        spec=spec_to_wire(job.spec),
        state=pb.JobState.Value(f"JOB_STATE_{job.state.name}"),
        attempt=job.attempt,
        progress=job.progress,
        stage=job.stage,
        error=job.error,
        run=job.run,
        operation=job.operation,
        cancel_requested=job.cancel_requested,
        waiting_for=waiting_for,
        etag=str(job.generation),
        create_time=to_wire(job.create_time),
        start_time=to_wire(job.start_time),
        end_time=to_wire(job.end_time),
        delete_time=to_wire(job.delete_time),
        manifest_digest=job.manifest_digest,
        cpu_milliseconds=job.cpu_milliseconds,
    )
