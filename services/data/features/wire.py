"""Feature sets between the domain and the wire."""

from collections.abc import Iterable

from aimass.v1 import features_pb2 as pb
from services.data.features.domain import FeatureSet, FeatureSetVersion, RowRange
from services.data.features.steps import BUCKETS, CATEGORIES, SMOOTHING, Imputation, Step, Transform
from services.data.wire import schema_to_wire
from services.kit.errors import InvalidValue, Violation
from services.kit.timestamps import to_wire


def steps_from_wire(steps: Iterable[pb.FeatureStep]) -> tuple[Step, ...]:
    """Raises invalid_value for a transform that is not set or not known."""
    return tuple(_step_from_wire(step, f"/steps/{index}") for index, step in enumerate(steps))


def _step_from_wire(step: pb.FeatureStep, at: str) -> Step:
    transform = pb.Transform.Name(step.transform) if step.transform in pb.Transform.values() else ""
    imputation = pb.Imputation.Name(step.imputation) if step.imputation in pb.Imputation.values() else ""
    kind = Transform.__members__.get(transform.removeprefix("TRANSFORM_"))
    filled = Imputation.__members__.get(imputation.removeprefix("IMPUTATION_"), Imputation.NONE)
    if kind is None or not imputation:
        rule = Violation(f"{at}/{'imputation' if kind else 'transform'}", "must be one that is known")
        raise InvalidValue(f"{rule.pointer[1:].replace('/', '.')} {rule.rule}", [rule])
    return Step(
        step.column,
        kind,
        filled,
        step.constant,
        step.period,
        step.offset,
        step.max_categories or CATEGORIES,
        step.order,
        step.smoothing if step.HasField("smoothing") else SMOOTHING,
        step.buckets or BUCKETS,
    )


def step_to_wire(step: Step) -> pb.FeatureStep:
    """One step."""
    return pb.FeatureStep(
        column=step.column,
        imputation=pb.Imputation.Value(f"IMPUTATION_{step.imputation.name}"),
        constant=step.constant,
        transform=pb.Transform.Value(f"TRANSFORM_{step.transform.name}"),
        period=step.period,
        offset=step.offset,
        max_categories=step.max_categories if step.transform is Transform.ONE_HOT else 0,
        order=step.order,
        smoothing=step.smoothing if step.transform is Transform.TARGET else None,
        buckets=step.buckets if step.transform is Transform.HASH else 0,
    )


def range_from_wire(rows: pb.RowRange) -> RowRange:
    """A range; a bound that is not set is open."""
    bounds = (getattr(rows, name) if rows.HasField(name) else None for name in ("from", "to"))
    return RowRange(rows.column, *bounds)


def range_to_wire(rows: RowRange | None) -> pb.RowRange | None:
    """A range, or None for none."""
    if rows is None:
        return None
    bounds = {"from": rows.start, "to": rows.end}
    return pb.RowRange(column=rows.column, **{name: value for name, value in bounds.items() if value is not None})


def feature_set_to_wire(feature_set: FeatureSet) -> pb.FeatureSet:
    """A feature set with its etag."""
    return pb.FeatureSet(
        feature_set=feature_set.feature_set,
        description=feature_set.description,
        data_set=feature_set.data_set,
        label=feature_set.label,
        key=feature_set.key,
        steps=[step_to_wire(step) for step in feature_set.steps],
        latest_version=feature_set.latest_version,
        etag=str(feature_set.generation),
        create_time=to_wire(feature_set.create_time),
        update_time=to_wire(feature_set.update_time),
        delete_time=to_wire(feature_set.delete_time),
    )


def version_to_wire(version: FeatureSetVersion) -> pb.FeatureSetVersion:
    """A fitted version."""
    return pb.FeatureSetVersion(
        feature_set=version.feature_set,
        version=version.version,
        data_set=version.data_set,
        data_set_version=version.data_set_version,
        train=range_to_wire(version.train),
        rows=version.rows,
        digest=version.digest,
        inputs=schema_to_wire(version.inputs),
        outputs=version.outputs,
        create_time=to_wire(version.create_time),
        steps=[step_to_wire(step) for step in version.steps],
        label=version.label,
        key=version.key,
        scalings=[pb.Scaling(**vars(scaling)) for scaling in version.scalings],
    )
