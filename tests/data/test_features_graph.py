"""The graph is what plain numpy computes, whatever the batch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.data.features import graph, nodes
from services.data.features.constants import Array
from services.data.features.fitting import fit
from services.data.features.steps import Aggregate, DatePart, Imputation, Step, Transform
from services.kit.errors import FailedPrecondition
from tests.data.graphs import OPTIONS, in_batches, run

NUMBERS = st.lists(
    st.floats(-1e6, 1e6) | st.just(float("nan")) | st.integers(-3, 12).map(float), min_size=1, max_size=40
)
TEXTS = st.lists(st.sampled_from(["", "UA", "é", "AA", "日本"]) | st.text("ab", max_size=2), min_size=1, max_size=40)


def numbers(*values: float) -> Array:
    return np.array(values, np.float64)


def texts(*values: str) -> Array:
    return np.array(values, object)


def outcome(step: Step, trained: Array, asked: Array) -> Array:
    return run(graph.compile_graph([fit(step, trained)]), x=asked)


def filled(values: Array, step: Step, trained: Array) -> Array:
    finite = trained[np.isfinite(trained)]
    match step.imputation:
        case Imputation.NONE:
            return values
        case Imputation.CONSTANT:
            fill = step.constant
        case Imputation.MEAN:
            fill = finite.mean()
        case Imputation.MEDIAN:
            fill = np.median(finite)
    return np.where(np.isnan(values), fill, values)


def scaled(shift: Callable[[Array], Any], width: Callable[[Array], Any]) -> Callable[[Array, Step, Array], Array]:
    def reference(asked: Array, step: Step, trained: Array) -> Array:
        finite = trained[np.isfinite(trained)]
        found: Array = (filled(asked, step, trained) - shift(finite)) / (width(finite) or 1.0)
        return found.astype(np.float32)[:, None]

    return reference


def signed(asked: Array, step: Step, trained: Array) -> Array:
    finite = trained[np.isfinite(trained)]
    half = ((np.max(finite) - np.min(finite)) or 1.0) / 2
    found: Array = (filled(asked, step, trained) - (np.min(finite) + half)) / half
    return found.astype(np.float32)[:, None]


def magnitude(values: Array) -> float:
    most = np.max(np.abs(values))
    return next((10.0**power for power in range(-5, 10) if most < 10.0**power), 1.0) if most else 1.0


def counted(asked: Array, step: Step, trained: Array) -> Array:
    seen, wanted = filled(trained, step, trained), filled(asked, step, trained)
    return np.array([[np.sum(seen == value)] for value in wanted], np.float32)


def one_hot(asked: Array, step: Step, trained: Array) -> Array:
    seen = filled(trained, step, trained)
    keys, counts = np.unique(seen[np.isfinite(seen)] + 0.0, return_counts=True)
    most = sorted(zip(-counts, keys, strict=True))[: step.max_categories]
    same: Array = filled(asked, step, trained)[:, None] == np.array(sorted(key for _, key in most))[None]
    return same.astype(np.float32)


def cyclic(asked: Array, step: Step, trained: Array) -> Array:
    place = filled(asked, step, trained) - step.offset
    inside = (place >= 0) & (place < step.period) & (place == np.floor(place))
    angle = 2 * np.pi * np.where(inside, place, 0) / step.period
    rows = np.stack([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)
    return np.where(inside[:, None], rows, np.float32(0))


REFERENCES = {
    Transform.IDENTITY: scaled(lambda x: 0.0, lambda x: 1.0),
    Transform.STANDARDIZE: scaled(np.mean, np.std),
    Transform.MIN_MAX: scaled(np.min, lambda x: np.max(x) - np.min(x)),
    Transform.MIN_MAX_SIGNED: signed,
    Transform.MAX_ABS: scaled(lambda x: 0.0, lambda x: np.max(np.abs(x))),
    Transform.ROBUST: scaled(np.median, lambda x: np.subtract(*np.percentile(x, (75, 25)))),
    Transform.DECIMAL: scaled(lambda x: 0.0, magnitude),
    Transform.ONE_HOT: one_hot,
    Transform.COUNT: counted,
    Transform.CYCLIC: cyclic,
}


@pytest.mark.parametrize("transform", REFERENCES)
@settings(max_examples=25, deadline=None)
@given(imputation=st.sampled_from(Imputation), trained=NUMBERS, asked=NUMBERS)
def test_numbers_become_what_numpy_says_bit_for_bit(
    transform: Transform, imputation: Imputation, trained: list[float], asked: list[float]
) -> None:
    step = Step("x", transform, imputation, constant=3.0, period=12, offset=1, max_categories=5)
    seen, wanted = numbers(1.0, *trained), numbers(*asked)

    expected = REFERENCES[transform](wanted, step, seen)
    np.testing.assert_array_equal(outcome(step, seen, wanted), expected)


@settings(max_examples=30, deadline=None)
@given(trained=TEXTS, asked=TEXTS)
def test_texts_are_counted_and_encoded(trained: list[str], asked: list[str]) -> None:
    seen, wanted = texts(*trained), texts(*asked)
    keys = sorted(set(trained))

    counts = outcome(Step("x", Transform.COUNT), seen, wanted)
    hot = outcome(Step("x", Transform.ONE_HOT), seen, wanted)

    assert counts[:, 0].tolist() == [trained.count(text) for text in asked]
    np.testing.assert_array_equal(hot, [[text == key for key in keys] for text in asked])


X, N, S = np.linspace(-3, 9, 41), np.arange(41.0), texts(*["UA", "AA", "UA", ""] * 10, "")
T = texts("An early plane", "a late  plane", "", *["a plane"] * 38)
PLACE = {"longitude": N, "to_latitude": X, "to_longitude": X}
EVERYTHING = [
    fit(Step("x", Transform.STANDARDIZE, Imputation.MEAN), X),
    fit(Step("x", Transform.MIN_MAX, Imputation.MEDIAN), X),
    fit(Step("x", Transform.ONE_HOT), np.arange(12.0)),
    fit(Step("x", Transform.CYCLIC, period=12, offset=1), np.arange(12.0)),
    fit(Step("s", Transform.ONE_HOT), S),
    fit(Step("s", Transform.COUNT), S),
    fit(Step("n", Transform.IDENTITY), N),
    fit(Step("s", Transform.ORDINAL), S),
    fit(Step("s", Transform.HASH, buckets=3), S),
    fit(Step("n", Transform.HASH, buckets=3), N),
    fit(Step("s", Transform.TARGET), S, {"label": N % 2, "fold": N.astype(int) % 5}),
    fit(Step("x", Transform.STANDARDIZE_TREND, order="n"), X, {"order": N}),
    fit(Step("n", Transform.CYCLIC, cycle=0.7), N),
    fit(Step("x", Transform.BIN_QUANTILE, bins=4), X),
    fit(Step("x", Transform.LOG, shift=4.0), X),
    *(fit(Step("n", Transform.POWER, exponent=power), N) for power in (2.0, 3.0, -1.0, 7.0, 0.5, -0.5, 0.37)),
    *(fit(Step("n", Transform.DATE_CYCLIC, part=part), N) for part in DatePart if part),
    *(fit(Step("n", Transform.DATE_PART, part=part), N) for part in DatePart if part),
    fit(Step("x", Transform.GEO_DISTANCE, longitude="n", to_latitude="n", to_longitude="x"), X, PLACE),
    *(fit(Step("x", kind, other="n"), X, {"other": N}) for kind in (Transform.PRODUCT, Transform.RATIO)),
    fit(Step("x", Transform.DIFFERENCE, other="n"), X, {"other": N}),
    fit(Step("s", Transform.CROSS, other="x"), S, {"other": N % 3}),
    fit(Step("x", Transform.GROUP, group="s", aggregate=Aggregate.MEAN), X, {"group": S}),
    fit(Step("t", Transform.TEXT_HASH, buckets=5), T),
    fit(Step("t", Transform.TEXT_TFIDF), T),
]


def test_a_row_gives_the_same_bytes_alone_and_in_any_batch() -> None:
    random = np.random.default_rng(7)
    x = np.where(random.random(1000) < 0.1, np.nan, random.integers(-2, 15, 1000).astype(float))
    columns = {
        "x": x,
        "n": random.normal(size=1000) * 10.0 ** random.integers(-3, 8, 1000),
        "s": random.choice(texts("UA", "AA", "", "??"), 1000),
    }
    said = texts("", "a late plane", "LATE late " * 200, "a plane, an early plane", "é", " a  b ")
    columns["t"] = random.choice(said, 1000)
    data = graph.compile_graph(EVERYTHING)

    alone = in_batches(data, columns, 1, 200).tobytes()
    for size in (2, 7, 17, 64, 1000):
        assert in_batches(data, columns, size)[:200].tobytes() == alone


def test_only_batch_invariant_operators_are_used() -> None:
    model = onnx.load_from_string(graph.compile_graph(EVERYTHING))

    assert {node.op_type for node in model.graph.node} == graph.ALLOWED  # each of them is tried above
    assert not graph.ALLOWED & {"Sin", "Cos", "Log", "LinearClassifier", "LinearRegressor"}
    assert model.ir_version == graph.IR_VERSION
    sets = {s.domain: s.version for s in model.opset_import}
    assert sets == {"": graph.OPSET, nodes.ML: graph.ML_OPSET, nodes.OWN: 1}


def test_the_same_steps_give_the_same_bytes() -> None:
    assert graph.compile_graph(EVERYTHING) == graph.compile_graph(EVERYTHING)


WIDTH = sum(len(step.outputs) for step in EVERYTHING)


def test_inputs_are_columns_of_rows_by_one() -> None:
    session = onnxruntime.InferenceSession(graph.compile_graph(EVERYTHING), OPTIONS)

    assert [(i.name, i.type, i.shape) for i in session.get_inputs()] == [
        ("x", "tensor(double)", ["rows", 1]),
        ("s", "tensor(string)", ["rows", 1]),
        ("n", "tensor(double)", ["rows", 1]),
        ("t", "tensor(string)", ["rows", 1]),
    ]
    assert [(o.name, o.type, o.shape) for o in session.get_outputs()] == [
        ("features", "tensor(float)", ["rows", WIDTH])
    ]


def test_no_rows_are_a_batch_too() -> None:
    assert outcome(Step("x", Transform.ONE_HOT), numbers(1, 2), numbers()).shape == (0, 2)


def test_outputs_are_named_after_what_they_are() -> None:
    names = [name for step in EVERYTHING for name in step.outputs]

    assert names[:2] == ["standardize(x)", "min_max(x)"]
    assert {"one_hot(x)=11", "sine(x)", "cosine(x)", "one_hot(s)=UA", "one_hot(s)=", "count(s)", "n"} <= set(names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("transform", [t for t in REFERENCES if t not in (Transform.IDENTITY, Transform.CYCLIC)])
def test_a_column_without_values_cannot_be_fitted(transform: Transform) -> None:
    with pytest.raises(FailedPrecondition, match="x has no value in the training rows"):
        fit(Step("x", transform), numbers(float("nan")))


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e300])
def test_a_constant_column_is_zero_and_what_differs_from_it_is_finite(value: float) -> None:
    for transform in (Transform.STANDARDIZE, Transform.MIN_MAX):
        found = outcome(Step("x", transform), numbers(*[value] * 7), numbers(value, value + 1))
        assert (found[0, 0], bool(np.isfinite(found[1, 0]))) == (0, True)


def test_categories_that_are_close_are_told_apart() -> None:
    found = outcome(Step("x", Transform.ONE_HOT), numbers(1234567, 1234568), numbers(1234568, 1234567, 1234567.5))

    np.testing.assert_array_equal(found, [[0, 1], [1, 0], [0, 0]])


def test_all_texts_of_a_column_may_be_unseen() -> None:
    for transform in (Transform.ONE_HOT, Transform.COUNT):
        found = outcome(Step("x", transform), texts("a", "b"), texts("c", "", "A", "a "))
        assert not found.any()


def test_as_many_categories_as_may_be_fit_into_a_graph() -> None:
    many = numbers(*range(1000))
    found = outcome(Step("x", Transform.ONE_HOT, max_categories=1000), many, many)

    np.testing.assert_array_equal(found, np.eye(1000))
