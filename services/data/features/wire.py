"""Feature sets between the domain and the wire."""

from collections.abc import Iterable
from typing import Any

from aimass.v1 import features_pb2 as pb
from services.data.features.domain import FeatureSet, FeatureSetVersion, RowRange
from services.data.features.steps import (
    BINS,
    BUCKETS,
    CATEGORIES,
    SMOOTHING,
    Aggregate,
    DatePart,
    Imputation,
    Step,
    Transform,
)
from services.data.wire import schema_to_wire
from services.kit.errors import InvalidValue, Violation
from services.kit.timestamps import to_wire

_UNSET = "UNSPECIFIED"
# Fields that are the same here and there.
_PLAIN = (
    *("constant", "period", "offset", "order", "other", "longitude", "to_latitude", "to_longitude"),
    *("cycle", "exponent", "shift", "group"),
)
# Fields with another default than nothing, and the transforms that know them.
_SPECIAL = {
    "max_categories": (Transform.ONE_HOT, Transform.CROSS, Transform.TEXT_TFIDF),
    "smoothing": (Transform.TARGET,),
    "buckets": (Transform.HASH, Transform.TEXT_HASH),
    "bins": (Transform.BIN_WIDTH, Transform.BIN_QUANTILE),
}


def steps_from_wire(steps: Iterable[pb.FeatureStep]) -> tuple[Step, ...]:
    """Raises invalid_value for a transform that is not set or not known."""
    return tuple(_step_from_wire(step, f"/steps/{index}") for index, step in enumerate(steps))


def _step_from_wire(step: pb.FeatureStep, at: str) -> Step:
    imputed = _word(pb.Imputation, step.imputation, f"{at}/imputation")
    return Step(
        column=step.column,
        transform=Transform[_word(pb.Transform, step.transform, f"{at}/transform", needed=True)],
        imputation=Imputation.NONE if imputed == _UNSET else Imputation[imputed],
        max_categories=step.max_categories or CATEGORIES,
        smoothing=step.smoothing if step.HasField("smoothing") else SMOOTHING,
        buckets=step.buckets or BUCKETS,
        bins=step.bins or BINS,
        edges=tuple(step.edges),
        part=DatePart[_word(pb.DatePart, step.part, f"{at}/part")],
        aggregate=Aggregate[_word(pb.Aggregate, step.aggregate, f"{at}/aggregate")],
        **{name: getattr(step, name) for name in _PLAIN},
    )


def _word(kind: Any, value: int, at: str, needed: bool = False) -> str:
    """The name of a value of an enum without that of the enum. Raises invalid_value for one that is not known."""
    prefix = kind.Name(0).removesuffix(_UNSET)
    found = str(kind.Name(value)).removeprefix(prefix) if value in kind.values() else ""
    if not found or (needed and found == _UNSET):
        rule = Violation(at, "must be one that is known")
        raise InvalidValue(f"{rule.pointer[1:].replace('/', '.')} {rule.rule}", [rule])
    return found


def step_to_wire(step: Step) -> pb.FeatureStep:
    """One step; what is not for its transform is left out."""
    special = {name: getattr(step, name) for name, transforms in _SPECIAL.items() if step.transform in transforms}
    return pb.FeatureStep(
        transform=pb.Transform.Value(f"TRANSFORM_{step.transform.name}"),
        imputation=pb.Imputation.Value(f"IMPUTATION_{step.imputation.name}"),
        part=pb.DatePart.Value(f"DATE_PART_{step.part.name}"),
        aggregate=pb.Aggregate.Value(f"AGGREGATE_{step.aggregate.name}"),
        column=step.column,
        edges=step.edges,
        **{name: getattr(step, name) for name in _PLAIN},
        **special,
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
