"""Scaling steps beside scikit-learn, and turned back again by the client."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn import preprocessing

from aimass import Failure, unscale
from aimass.v1 import features_pb2 as pb
from services.data.features import graph
from services.data.features.constants import Array, Trend
from services.data.features.fitting import fit
from services.data.features.steps import Imputation, Step, Transform
from services.kit.errors import FailedPrecondition
from tests.data.graphs import run

RANDOM = np.random.default_rng(11)
SKEWED = RANDOM.lognormal(3, 2, 500) - 40
THEIRS: dict[Transform, Any] = {
    Transform.STANDARDIZE: preprocessing.StandardScaler(),
    Transform.MIN_MAX: preprocessing.MinMaxScaler(),
    Transform.MIN_MAX_SIGNED: preprocessing.MinMaxScaler((-1, 1)),
    Transform.MAX_ABS: preprocessing.MaxAbsScaler(),
    Transform.ROBUST: preprocessing.RobustScaler(),
}


@pytest.mark.parametrize("transform", THEIRS)
@pytest.mark.parametrize("values", [SKEWED, SKEWED[:2], np.full(9, 7.5), np.zeros(3)], ids=["many", "two", "7.5", "0"])
def test_scales_are_those_of_scikit_learn(transform: Transform, values: Array) -> None:
    theirs = THEIRS[transform].fit_transform(values[:, None])

    found = run(graph.compile_graph([fit(Step("x", transform), values)]), x=values)
    np.testing.assert_allclose(found, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("transform", [*THEIRS, Transform.DECIMAL, Transform.STANDARDIZE_TREND])
@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), seed=st.integers(0, 9))
@example(values=[0.0, 0.0, 0.0, 4.0, 1.1754943508222875e-38], seed=0)
def test_each_scaling_is_turned_back(transform: Transform, values: list[float], seed: int) -> None:
    x, t = np.array(values), np.random.default_rng(seed).normal(1e9, 1e6, len(values))
    trend = transform is Transform.STANDARDIZE_TREND
    step = fit(Step("x", transform, order="t" if trend else ""), x, {"order": t} if trend else {})
    outputs = run(graph.compile_graph([step]), x=x, **({"t": t} if trend else {}))[:, 0]
    version = pb.FeatureSetVersion(scalings=[pb.Scaling(**vars(scaling)) for scaling in step.scalings])

    back = unscale(version, {step.outputs[0]: outputs.tolist()}, {"t": t.tolist()})[step.outputs[0]]
    # Of outputs in FP32.
    np.testing.assert_allclose(back, x, rtol=2e-7, atol=2e-7 * (1 + float(np.max(np.abs(x)))))


def test_what_was_not_scaled_is_not_turned_back() -> None:
    made = fit(Step("x", Transform.STANDARDIZE_TREND, order="t"), SKEWED, {"order": np.arange(500.0)})
    version = pb.FeatureSetVersion(scalings=[pb.Scaling(**vars(scaling)) for scaling in made.scalings])

    with pytest.raises(Failure, match="hour was not made by a scaling step"):
        unscale(version, {"hour": [1.0]})
    with pytest.raises(Failure, match="needs as many values of t as it has itself"):
        unscale(version, {made.outputs[0]: [1.0, 2.0]}, {"t": [1.0]})
    assert fit(Step("x", Transform.IDENTITY), SKEWED).scalings == ()
    assert fit(Step("x", Transform.COUNT), SKEWED).scalings == ()


def test_a_trend_is_the_line_of_least_squares() -> None:
    t = RANDOM.normal(5, 3, 400)
    x = 7 - 2 * t + RANDOM.normal(0, 0.5, 400)
    slope, shift = np.polyfit(t, x, 1)
    left = x - shift - slope * t

    found = run(
        graph.compile_graph([fit(Step("x", Transform.STANDARDIZE_TREND, order="t"), x, {"order": t})]), x=x, t=t
    )
    np.testing.assert_allclose(found[:, 0], left / left.std(), rtol=1e-5, atol=1e-6)
    assert abs(float(found.mean())) < 1e-6
    assert float(found.std()) == pytest.approx(1, abs=1e-6)


def test_a_trend_of_rows_without_an_order_is_that_of_the_others() -> None:
    nan = float("nan")
    x, t = np.array([1.0, 2.0, nan, 90.0, np.inf]), np.array([1.0, 2.0, 3.0, nan, 4.0])
    step = fit(Step("x", Transform.STANDARDIZE_TREND, Imputation.CONSTANT, 5.0, order="t"), x, {"order": t})

    assert step.work == Trend(1.5, 1.0, 1.0, 1.5)  # both lie on the line: nothing is left to divide by
    assert run(graph.compile_graph([step]), x=x, t=t)[:, 0].tolist() == [
        0,
        0,
        2,
        pytest.approx(nan, nan_ok=True),
        np.inf,
    ]


def test_a_trend_over_one_moment_is_a_constant() -> None:
    x = np.array([1.0, 3.0])

    assert fit(Step("x", Transform.STANDARDIZE_TREND, order="t"), x, {"order": np.ones(2)}).work == Trend(2, 1, 0, 1)


@pytest.mark.parametrize(
    ("x", "t", "says"),
    [
        ([np.nan, 1.0], [1.0, np.nan], "no training row has both x and t"),
        ([1e308, 1.2e308], [1.0, 2.0], "x holds numbers that are too large"),
    ],
)
def test_a_trend_that_cannot_be_fitted_is_refused(x: list[float], t: list[float], says: str) -> None:
    with pytest.raises(FailedPrecondition, match=says):
        fit(Step("x", Transform.STANDARDIZE_TREND, order="t"), np.array(x), {"order": np.array(t)})


@pytest.mark.parametrize(
    ("most", "width"),
    [(1000.0, 1e4), (999.9, 1e3), (-0.05, 0.1), (0.1, 1.0), (1.0, 10.0), (0.0, 1.0), (1e300, 1e301), (1e-300, 1e-299)],
)
def test_a_decimal_scale_brings_the_largest_below_one(most: float, width: float) -> None:
    (scaling,) = fit(Step("x", Transform.DECIMAL), np.array([0.0, most])).scalings

    assert scaling.width == width
