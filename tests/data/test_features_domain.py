from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from services.data.features import domain, steps
from services.data.features.domain import FeatureSet, Fit, Fitted, RowRange
from services.data.features.steps import Aggregate, DatePart, Imputation, Step, Transform
from services.data.schema import Column, ColumnType
from services.kit.errors import FailedPrecondition, InvalidValue

NOW = datetime(2030, 1, 1, tzinfo=UTC)
STEPS = (
    Step("carrier", Transform.ONE_HOT),
    Step("hour", Transform.CYCLIC, period=24),
    Step("temp", Transform.STANDARDIZE, Imputation.MEAN),
    Step("hour", Transform.MIN_MAX),
)
KINDS = {
    "id": ColumnType.INT64,
    "late": ColumnType.BOOL,
    "carrier": ColumnType.STRING,
    "hour": ColumnType.INT64,
    "temp": ColumnType.DOUBLE,
    "at": ColumnType.TIMESTAMP,
    "features": ColumnType.DOUBLE,
}
COLUMNS = [Column(name, kind) for name, kind in KINDS.items()]
SET = FeatureSet("late", "", "flights", "late", "id", STEPS, 0, 1, NOW, NOW)


@pytest.mark.parametrize(
    ("step", "pointer"),
    [
        (Step("hour", Transform.CYCLIC), "/steps/0/period"),
        (Step("hour", Transform.CYCLIC, period=10_001), "/steps/0/period"),
        (Step("carrier", Transform.ONE_HOT, max_categories=1001), "/steps/0/max_categories"),
        (Step("temp", Transform.IDENTITY, Imputation.CONSTANT, constant=float("inf")), "/steps/0/constant"),
        (Step("carrier", Transform.HASH, buckets=1), "/steps/0/buckets"),
        (Step("carrier", Transform.HASH, buckets=1025), "/steps/0/buckets"),
        (Step("carrier", Transform.TARGET, smoothing=-0.1), "/steps/0/smoothing"),
        (Step("carrier", Transform.TARGET, smoothing=float("nan")), "/steps/0/smoothing"),
        (Step("hour", Transform.CYCLIC, cycle=float("inf")), "/steps/0/cycle"),
        (Step("hour", Transform.CYCLIC, period=24, cycle=24.0), "/steps/0/cycle"),
        (Step("hour", Transform.BIN_WIDTH, bins=1), "/steps/0/bins"),
        (Step("hour", Transform.BIN_QUANTILE, bins=1001), "/steps/0/bins"),
        (Step("hour", Transform.BIN_EDGES), "/steps/0/edges"),
        (Step("hour", Transform.BIN_EDGES, edges=(1.0, 1.0)), "/steps/0/edges"),
        (Step("hour", Transform.BIN_EDGES, edges=(1.0, float("nan"))), "/steps/0/edges"),
        (Step("hour", Transform.BIN_EDGES, edges=tuple(map(float, range(1001)))), "/steps/0/edges"),
        (Step("hour", Transform.LOG, shift=float("nan")), "/steps/0/shift"),
        (Step("hour", Transform.POWER), "/steps/0/exponent"),
        (Step("hour", Transform.POWER, exponent=-65.0), "/steps/0/exponent"),
        (Step("hour", Transform.POWER, exponent=float("nan")), "/steps/0/exponent"),
        (Step("at", Transform.DATE_PART), "/steps/0/part"),
        (Step("hour", Transform.PRODUCT), "/steps/0/other"),
        (Step("hour", Transform.GROUP, group="carrier"), "/steps/0/aggregate"),
        (Step("hour", Transform.GROUP, aggregate=Aggregate.SUM), "/steps/0/group"),
        (Step("hour", Transform.GROUP, group="late", aggregate=Aggregate.SUM), "/steps/0/group"),
        (Step("late", Transform.GROUP, group="carrier", aggregate=Aggregate.MEAN), "/steps/0/column"),
        (Step("x", Transform.GROUP, Imputation.MEAN, group="g", aggregate=Aggregate.SUM), "/steps/0/imputation"),
        (Step("hour", Transform.PRODUCT, other="late"), "/steps/0/other"),
        (Step("hour", Transform.CROSS, other="id"), "/steps/0/other"),
        (Step("hour", Transform.GEO_DISTANCE, longitude="a", to_latitude="b"), "/steps/0/to_longitude"),
        (Step("hour", Transform.LOG, to_latitude="b"), "/steps/0/to_latitude"),
        (Step("hour", Transform.STANDARDIZE, cycle=7.0), "/steps/0/cycle"),
        (Step("hour", Transform.LOG, exponent=2.0), "/steps/0/exponent"),
        (Step("hour", Transform.BIN_WIDTH, edges=(1.0,)), "/steps/0/edges"),
        (Step("hour", Transform.POWER, exponent=2.0, shift=1.0), "/steps/0/shift"),
        (Step("hour", Transform.CYCLIC, period=24, part=DatePart.HOUR), "/steps/0/part"),
        (Step("hour", Transform.COUNT, aggregate=Aggregate.COUNT), "/steps/0/aggregate"),
        (Step("hour", Transform.COUNT, group="carrier"), "/steps/0/group"),
        (Step("late", Transform.IDENTITY), "/steps/0/column"),
        (Step("id", Transform.IDENTITY), "/steps/0/column"),
    ],
)
def test_a_step_that_makes_no_sense_is_named(step: Step, pointer: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        steps.check_steps([step], "late", "id")

    assert [violation.pointer for violation in caught.value.violations] == [pointer]


def test_cycles_and_parts_of_a_column_may_be_several() -> None:
    cycles = [Step("hour", Transform.CYCLIC, cycle=cycle) for cycle in (24.0, 168.0)]
    parts = [Step("at", Transform.DATE_PART, part=part) for part in (DatePart.HOUR, DatePart.MONTH)]
    steps.check_steps([*cycles, *parts], "late", "id")
    with pytest.raises(InvalidValue, match="at has this transform already"):
        steps.check_steps([*parts, *parts], "late", "id")


def test_the_same_step_twice_is_refused_and_the_same_column_twice_is_not() -> None:
    steps.check_steps(STEPS, "late", "id")
    with pytest.raises(InvalidValue, match=r"steps\.4: hour has this transform already"):
        steps.check_steps([*STEPS, STEPS[3]], "late", "id")


def test_inputs_are_the_columns_of_the_steps_in_the_order_of_their_first_use() -> None:
    assert [column.name for column in steps.inputs_of(STEPS, "late", "id", COLUMNS)] == ["carrier", "hour", "temp"]


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (Step("none", Transform.IDENTITY), "the data set has no column none"),
        (Step("carrier", Transform.STANDARDIZE), "carrier holds text, which standardize does not take"),
        (Step("carrier", Transform.COUNT, Imputation.MEAN), "a missing one is the empty text"),
        (Step("at", Transform.IDENTITY), "at is of the type timestamp, which identity does not take"),
        (Step("carrier", Transform.GROUP, group="hour", aggregate=Aggregate.SUM), "carrier holds text, which group"),
        (Step("hour", Transform.GROUP, group="at", aggregate=Aggregate.SUM), "timestamp, which group does not take as"),
        (Step("hour", Transform.TEXT_HASH), "hour is of the type int64, which text_hash does not take"),
        (Step("hour", Transform.DATE_PART), "hour is of the type int64, which date_part does not take"),
        (Step("at", Transform.DATE_CYCLIC, Imputation.MEAN), "at holds times: a missing one is not filled"),
        (Step("hour", Transform.RATIO, other="carrier"), "carrier holds text, which ratio does not take as other"),
        (Step("hour", Transform.CROSS, other="at"), "at is of the type timestamp, which cross does not take as other"),
        (Step("features", Transform.IDENTITY), "the name features is reserved"),
    ],
)
def test_a_step_that_cannot_take_its_column_is_named(step: Step, says: str) -> None:
    with pytest.raises(InvalidValue, match=says):
        steps.inputs_of([step], "late", "id", COLUMNS)


@pytest.mark.parametrize(
    ("label", "key", "pointer"), [("none", "id", "/label"), ("carrier", "id", "/label"), ("late", "none", "/key")]
)
def test_label_and_key_must_be_there(label: str, key: str, pointer: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        steps.inputs_of([], label, key, COLUMNS)

    assert [violation.pointer for violation in caught.value.violations] == [pointer]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (RowRange("carrier"), "must be a numeric column of the data set; carrier is not"),
        (RowRange("none"), "must be a numeric column of the data set; none is not"),
        (RowRange("hour", 9, 1), "from must not be greater than to"),
        (RowRange("hour", float("nan"), 1), "from must not be greater than to"),
    ],
)
def test_a_range_of_no_rows_is_refused(rows: RowRange, says: str) -> None:
    domain.check_range(RowRange("hour", 1, 1), COLUMNS)
    with pytest.raises(InvalidValue, match=says):
        domain.check_range(rows, COLUMNS)


def fit(**values: Any) -> Fit:
    return replace(Fit("data-1", "late", "flights", 2, None, STEPS, "late", "id", (), NOW), **values)


def test_a_fitting_makes_the_next_version_of_what_it_began_with() -> None:
    changed = replace(SET, steps=(), latest_version=3, generation=7)
    after, version = domain.fitted(changed, fit(), Fitted(10, ("a",), "sha256:1", 1), NOW)

    assert (after.latest_version, after.generation) == (4, 8)
    assert (version.version, version.steps, version.data_set_version, version.rows) == (4, STEPS, 2, 10)


def test_a_deleted_feature_set_gets_no_version() -> None:
    with pytest.raises(FailedPrecondition, match="was deleted while it was fitted"):
        domain.fitted(replace(SET, delete_time=NOW), fit(), Fitted(10, (), "", 1), NOW)


@pytest.mark.parametrize(
    ("start", "end", "pointer"),
    [
        (float("nan"), None, "/train/from"),
        (None, float("nan"), "/train/to"),
        (float("-inf"), None, "/train/from"),
        (None, float("inf"), "/train/to"),
        (float("-inf"), 3.0, "/train/from"),
        (float("inf"), None, "/train/from"),
    ],
)
def test_a_bound_that_json_cannot_say_is_refused(start: float | None, end: float | None, pointer: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        domain.check_range(RowRange("hour", start, end), COLUMNS)

    assert [(v.pointer, v.rule) for v in caught.value.violations] == [(pointer, "must be finite")]


@pytest.mark.parametrize(
    "rows", [RowRange("hour"), RowRange("hour", 0), RowRange("temp", None, 1e308), RowRange("late", 1)]
)
def test_a_range_may_be_open_on_any_side(rows: RowRange) -> None:
    domain.check_range(rows, COLUMNS)


def test_every_rule_that_is_broken_is_told_at_once() -> None:
    wrong = [Step("late", Transform.CYCLIC), Step("hour", Transform.COUNT, constant=float("nan"), max_categories=0)]
    with pytest.raises(InvalidValue) as caught:
        steps.check_steps(wrong, "late", "id")

    assert {v.pointer for v in caught.value.violations} == {
        "/steps/0/period",
        "/steps/0/column",
        "/steps/1/constant",
        "/steps/1/max_categories",
    }


@pytest.mark.parametrize(
    "step",
    [
        Step("hour", Transform.CYCLIC, period=2),
        Step("hour", Transform.CYCLIC, period=steps.LONGEST_PERIOD, offset=-5),
        Step("hour", Transform.ONE_HOT, max_categories=1),
        Step("hour", Transform.ONE_HOT, max_categories=steps.MOST_CATEGORIES),
        Step("hour", Transform.IDENTITY, period=-1),
    ],
)
def test_a_step_may_reach_its_limits(step: Step) -> None:
    steps.check_steps([step], "late", "id")


def test_all_columns_that_are_missing_are_named() -> None:
    wrong = [Step("none", Transform.IDENTITY), Step("at", Transform.COUNT), Step("hour", Transform.COUNT)]
    with pytest.raises(InvalidValue, match="label: the data set has no column gone") as caught:
        steps.inputs_of(wrong, "gone", "lost", COLUMNS)

    assert [v.pointer for v in caught.value.violations] == ["/label", "/key", "/steps/0/column", "/steps/1"]


@pytest.mark.parametrize("transform", Transform)
@pytest.mark.parametrize("kind", ColumnType)
def test_a_transform_takes_numbers_and_some_take_texts(transform: Transform, kind: ColumnType) -> None:
    columns = [Column("x", kind), *COLUMNS]
    named: dict[str, Any] = dict.fromkeys(steps.OTHERS.get(transform, ()), "hour")
    step = Step("x", transform, period=12, **named)
    takes = kind in steps.TAKES.get(transform, steps.NUMBERS)
    try:
        found = steps.inputs_of([step], "late", "id", columns)
        assert found[0].name == ("hour" if transform is Transform.GROUP else "x")
    except InvalidValue:
        assert not takes
    else:
        assert takes


def test_text_is_taken_by_those_that_know_categories_and_a_time_by_none_of_those() -> None:
    texts = {transform for transform, types in steps.TAKES.items() if ColumnType.STRING in types}

    categories = {Transform.ONE_HOT, Transform.COUNT, Transform.ORDINAL, Transform.TARGET, Transform.HASH}
    categories |= {Transform.CROSS, Transform.TEXT_HASH, Transform.TEXT_TFIDF}
    assert texts == categories


@pytest.mark.parametrize(
    ("step", "pointer", "says"),
    [
        (Step("temp", Transform.STANDARDIZE_TREND), "/steps/0/order", "must name a column"),
        (Step("temp", Transform.STANDARDIZE, order="hour"), "/steps/0/order", "is not for standardize"),
        (Step("temp", Transform.STANDARDIZE_TREND, order="late"), "/steps/0/order", "late is the label"),
    ],
)
def test_another_column_is_named_where_it_is_needed_and_nowhere_else(step: Step, pointer: str, says: str) -> None:
    with pytest.raises(InvalidValue, match=says) as caught:
        steps.check_steps([step], "late", "id")

    assert [violation.pointer for violation in caught.value.violations] == [pointer]


def test_a_number_that_is_aggregated_is_no_input() -> None:
    step = Step("temp", Transform.GROUP, group="carrier", aggregate=Aggregate.MEAN)

    assert [column.name for column in steps.inputs_of([step], "late", "id", COLUMNS)] == ["carrier"]
    assert step.columns == {"column": "temp", "group": "carrier"}
    both = [step, Step("temp", Transform.GROUP, group="carrier", aggregate=Aggregate.MAX)]
    steps.check_steps(both, "late", "id")


@pytest.mark.parametrize("order", ["hour", "at", "id"])
def test_a_trend_is_over_a_number_a_time_or_the_key(order: str) -> None:
    step = Step("temp", Transform.STANDARDIZE_TREND, order=order)
    steps.check_steps([step], "late", "id")

    assert [column.name for column in steps.inputs_of([step], "late", "id", COLUMNS)] == ["temp", order]


@pytest.mark.parametrize(
    ("order", "says"),
    [("none", "has no column none"), ("carrier", "carrier holds text"), ("features", "is reserved")],
)
def test_a_trend_is_over_nothing_else(order: str, says: str) -> None:
    with pytest.raises(InvalidValue, match=says) as caught:
        steps.inputs_of([Step("temp", Transform.STANDARDIZE_TREND, order=order)], "late", "id", COLUMNS)

    assert [violation.pointer for violation in caught.value.violations] == ["/steps/0/order"]
