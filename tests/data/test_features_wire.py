from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from aimass.v1 import features_pb2 as pb
from services.data.features import wire
from services.data.features.domain import FeatureSetVersion, RowRange, Scaling
from services.data.features.steps import Aggregate, DatePart, Imputation, Step, Transform
from services.data.schema import Column, ColumnType
from services.kit.errors import InvalidValue

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def test_what_is_not_set_gets_the_default_of_the_contract() -> None:
    (step,) = wire.steps_from_wire([pb.FeatureStep(column="x", transform=pb.TRANSFORM_ONE_HOT)])

    assert step == Step("x", Transform.ONE_HOT, Imputation.NONE, max_categories=64)


@pytest.mark.parametrize("transform", Transform)
@pytest.mark.parametrize("imputation", Imputation)
def test_a_step_comes_back_as_it_went(transform: Transform, imputation: Imputation) -> None:
    step = Step("x", transform, imputation, constant=0.5, period=12, offset=1, order="t")
    special: dict[Transform, dict[str, Any]] = {
        Transform.ONE_HOT: {"max_categories": 7},
        Transform.TARGET: {"smoothing": 0.0},
        Transform.HASH: {"buckets": 7},
        Transform.CROSS: {"max_categories": 7, "other": "y"},
        Transform.GROUP: {"group": "g", "aggregate": Aggregate.DEVIATION},
        Transform.TEXT_HASH: {"buckets": 7},
        Transform.TEXT_TFIDF: {"max_categories": 7},
        Transform.BIN_WIDTH: {"bins": 3},
        Transform.BIN_QUANTILE: {"bins": 3},
        Transform.BIN_EDGES: {"edges": (0.5, 1.5)},
        Transform.LOG: {"shift": 1.0},
        Transform.POWER: {"exponent": 0.5},
        Transform.DATE_PART: {"part": DatePart.DAY_OF_YEAR},
        Transform.CYCLIC: {"cycle": 365.25},
        Transform.GEO_DISTANCE: {"longitude": "a", "to_latitude": "b", "to_longitude": "c"},
    }
    step = replace(step, **special.get(transform, {}))

    assert wire.steps_from_wire([wire.step_to_wire(step)]) == (step,)


@pytest.mark.parametrize(
    ("step", "pointer"),
    [
        (pb.FeatureStep(column="x"), "/steps/0/transform"),
        (pb.FeatureStep(column="x", transform=pb.Transform.ValueType(99)), "/steps/0/transform"),
        (
            pb.FeatureStep(column="x", transform=pb.TRANSFORM_COUNT, imputation=pb.Imputation.ValueType(99)),
            "/steps/0/imputation",
        ),
    ],
)
def test_an_unknown_word_is_named(step: pb.FeatureStep, pointer: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        wire.steps_from_wire([step])

    assert [violation.pointer for violation in caught.value.violations] == [pointer]


@pytest.mark.parametrize("rows", [RowRange("m"), RowRange("m", 0.0), RowRange("m", None, 0.0), RowRange("m", 1, 9)])
def test_an_open_end_is_not_a_zero(rows: RowRange) -> None:
    sent = wire.range_to_wire(rows)

    assert sent
    assert wire.range_from_wire(sent) == rows


def test_no_range_is_none() -> None:
    assert wire.range_to_wire(None) is None


def test_a_version_says_what_its_graph_takes_and_gives() -> None:
    inputs = (Column("carrier", ColumnType.STRING),)
    what = (RowRange("month", None, 9), 10, "sha256:1", inputs, ("a", "b"), (Step("x", Transform.COUNT),))
    sent = wire.version_to_wire(FeatureSetVersion("late", 2, "flights", 3, *what, "late", "id", NOW))

    assert (sent.version, sent.data_set_version, sent.rows, sent.digest) == (2, 3, 10, "sha256:1")
    assert (sent.inputs.columns[0].name, list(sent.outputs), sent.label, sent.key) == (
        "carrier",
        ["a", "b"],
        "late",
        "id",
    )
    assert sent.create_time.ToDatetime(tzinfo=UTC) == NOW


def test_a_version_says_how_its_columns_were_scaled() -> None:
    scaling = Scaling("standardize_trend(x by t)", "x", 1.5, 2.0, "t", 0.25, 10.0)
    what = (None, 10, "sha256:1", (), ("a",), (), "late", "id", NOW, (scaling,))
    (sent,) = wire.version_to_wire(FeatureSetVersion("late", 2, "flights", 3, *what)).scalings

    assert {field.name: getattr(sent, field.name) for field in sent.DESCRIPTOR.fields} == vars(scaling)
