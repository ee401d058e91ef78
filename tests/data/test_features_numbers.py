"""Steps that compute, beside numpy, scikit-learn and the calendar."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import haversine_distances
from sklearn.preprocessing import KBinsDiscretizer

from services.data.features import graph
from services.data.features.constants import Array
from services.data.features.fitting import fit
from services.data.features.steps import DatePart, Imputation, Step, Transform
from services.kit.errors import FailedPrecondition
from tests.data.graphs import run

NAN = float("nan")
RANDOM = np.random.default_rng(3)
WIDE = RANDOM.normal(size=4000) * 10.0 ** RANDOM.integers(-12, 12, 4000)


def outcome(step: Step, values: Array, asked: Array, **others: tuple[str, Array, Array]) -> Array:
    """Of a step that is fitted on values; others by their field: name, values to fit on, values asked for."""
    fitted = fit(step, values, {field: seen for field, (_, seen, _) in others.items()})
    return run(
        graph.compile_graph([fitted]), **{step.column: asked} | {name: want for name, _, want in others.values()}
    )


@pytest.mark.parametrize(("cycle", "offset"), [(24.0, 0), (365.25, 1), (0.7, -3), (1e-3, 0), (1e6, 5)])
def test_a_cycle_of_any_length_is_sine_and_cosine(cycle: float, offset: int) -> None:
    x = RANDOM.uniform(-10, 10, 3000) * cycle
    angle = 2 * np.pi * ((x - offset) / cycle - np.round((x - offset) / cycle))

    found = outcome(Step("x", Transform.CYCLIC, cycle=cycle, offset=offset), x, x)
    np.testing.assert_allclose(found, np.stack([np.sin(angle), np.cos(angle)], axis=1), rtol=1e-6, atol=1e-7)


def test_a_cycle_agrees_with_the_table_of_a_period_and_knows_no_missing_number() -> None:
    hours = np.arange(24.0)

    found = outcome(Step("x", Transform.CYCLIC, cycle=24.0), hours, np.append(hours, [NAN, np.inf, -np.inf]))
    np.testing.assert_allclose(found[:24], outcome(Step("x", Transform.CYCLIC, period=24), hours, hours), atol=1e-7)
    assert not found[24:].any()


@pytest.mark.parametrize("bins", [2, 7, 40])
@pytest.mark.parametrize("values", [WIDE[:500], np.round(RANDOM.normal(size=500)), np.full(5, 3.0)])
@pytest.mark.filterwarnings("ignore:Feature 0 is constant", "ignore:Bins whose width")
def test_bins_are_those_of_scikit_learn(bins: int, values: Array) -> None:
    for transform, strategy in ((Transform.BIN_WIDTH, "uniform"), (Transform.BIN_QUANTILE, "quantile")):
        theirs = KBinsDiscretizer(bins, encode="onehot-dense", strategy=strategy, quantile_method="linear")
        theirs.fit(values[:, None])
        if transform is Transform.BIN_QUANTILE and np.diff(np.unique(values)).min(initial=1) < 1e-8:
            continue  # they join bins that are narrower
        found = outcome(Step("x", transform, bins=bins), values, WIDE)
        np.testing.assert_array_equal(found, theirs.transform(WIDE[:, None]))


def test_an_edge_belongs_to_the_bin_above_it() -> None:
    step = Step("x", Transform.BIN_EDGES, edges=(-1.5, 0.0, 2.0))
    asked = np.array([-np.inf, -1.5, -0.0, 1.99, 2.0, np.inf, NAN])

    assert fit(step, asked).outputs == tuple(f"bin_edges(x)={name}" for name in ("<-1.5", "-1.5", "0", "2"))
    assert outcome(step, asked, asked).argmax(axis=1)[:6].tolist() == [0, 1, 2, 2, 3, 3]
    assert outcome(step, asked, asked).sum(axis=1).tolist() == [1, 1, 1, 1, 1, 1, 0]


def test_one_value_has_one_bin() -> None:
    found = outcome(Step("x", Transform.BIN_WIDTH), np.full(4, 2.0), np.array([1.0, 2.0, np.inf, NAN]))

    assert found.tolist() == [[1], [1], [1], [0]]


def test_logarithms_are_those_of_numpy() -> None:
    values = np.concatenate(
        [np.abs(WIDE), 2.0 ** np.arange(-929, 1024), RANDOM.uniform(0.5, 2, 4000), np.arange(1, 99.0)]
    )
    values = np.concatenate([values, np.nextafter(values, 0), np.nextafter(values, np.inf), [1e-280, 1.7e308]])

    found = outcome(Step("x", Transform.LOG), values, values)[:, 0]
    np.testing.assert_allclose(found, np.log(values), rtol=1.2e-7, atol=1e-14)


def test_logarithms_are_of_what_is_positive_and_finite() -> None:
    asked = np.array([0.0, -1.0, NAN, np.inf, -np.inf, 1e-281])

    assert np.isnan(outcome(Step("x", Transform.LOG), asked, asked)).all()
    assert outcome(Step("x", Transform.LOG, shift=1.0), asked, asked)[0, 0] == 0
    filled = Step("x", Transform.LOG, Imputation.CONSTANT, constant=np.e)
    assert outcome(filled, asked, np.array([NAN]))[0, 0] == 1


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.0, 5.0, 64.0, -1.0, -2.0, 0.5, -0.5, 0.37, -1.7])
def test_powers_are_those_of_numpy_and_missing_where_there_is_none(exponent: float) -> None:
    asked = np.append(WIDE[:1000], [0.0, -1.0, NAN, np.inf])
    with np.errstate(all="ignore"):
        theirs = (asked**exponent).astype(np.float32)

    found = outcome(Step("x", Transform.POWER, exponent=exponent), asked, asked)[:, 0]
    np.testing.assert_allclose(found, np.where(np.isinf(theirs), np.nan, theirs), rtol=1e-6)


def test_parts_of_times_are_those_of_the_calendar() -> None:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    seconds = np.append(RANDOM.uniform(-6.2e10, 2.5e11, 5000), np.arange(-400, 400) * 3600.0 - 1e-6)
    moments = [epoch + timedelta(seconds=int(np.floor(second))) for second in seconds]
    steps = [fit(Step("x", Transform.DATE_PART, part=part), seconds) for part in DatePart if part]

    parts = [[at.hour, at.weekday(), at.month, at.timetuple().tm_yday] for at in moments]
    np.testing.assert_array_equal(run(graph.compile_graph(steps), x=seconds), parts)
    assert [step.outputs[0] for step in steps] == ["hour(x)", "weekday(x)", "month(x)", "day_of_year(x)"]


def test_every_day_of_four_hundred_years_has_its_place() -> None:
    days = [datetime(1900, 1, 1, tzinfo=UTC) + timedelta(days=number) for number in range(146_097)]
    seconds = (np.arange(146_097) - 25_567) * 86_400.0
    steps = [fit(Step("x", Transform.DATE_PART, part=part), seconds) for part in (DatePart.MONTH, DatePart.DAY_OF_YEAR)]

    expected = [[day.month, day.timetuple().tm_yday] for day in days]
    np.testing.assert_array_equal(run(graph.compile_graph(steps), x=seconds), expected)


@pytest.mark.parametrize(("part", "length", "first"), [("hour", 24, 0), ("weekday", 7, 0), ("month", 12, 1)])
def test_parts_go_round(part: str, length: int, first: int) -> None:
    seconds = np.append(RANDOM.uniform(-1e10, 1e10, 500), [NAN, np.inf, 1e14])
    number = outcome(Step("x", Transform.DATE_PART, part=DatePart(part)), seconds, seconds)[:, 0]
    found = outcome(Step("x", Transform.DATE_CYCLIC, part=DatePart(part)), seconds, seconds)

    angle = 2 * np.pi * (number[:500].astype(float) - first) / length
    np.testing.assert_allclose(found[:500], np.stack([np.sin(angle), np.cos(angle)], axis=1), atol=1e-6)
    assert np.isnan(number[500:]).all()
    assert not found[500:].any()


def place(latitude: str, **columns: Array) -> Array:
    others: dict[str, Any] = {"longitude": "b", "to_latitude": "c", "to_longitude": "d"}
    values = {field: (name, columns[name], columns[name]) for field, name in others.items()}
    step = Step(latitude, Transform.GEO_DISTANCE, **others)
    return outcome(step, columns[latitude], columns[latitude], **values)[:, 0]


def test_distances_are_those_of_scikit_learn() -> None:
    south, north = RANDOM.uniform(-90, 90, (2, 1000))
    west, east = RANDOM.uniform(-180, 180, (2, 1000))
    north[:200], east[:200] = south[:200] + RANDOM.normal(0, 1e-4, 200), west[:200]  # neighbours
    north[200:300], east[200:300] = -south[200:300], west[200:300] + 180  # opposite
    degrees = np.radians([south, west, north, east])
    theirs = [haversine_distances([degrees[:2, i]], [degrees[2:, i]])[0, 0] * 6371.0088 for i in range(1000)]

    np.testing.assert_allclose(place("a", a=south, b=west, c=north, d=east), theirs, rtol=1e-6, atol=1e-6)


def test_a_distance_from_nowhere_is_missing() -> None:
    a, b = np.array([52.5, 52.5, NAN]), np.array([13.4, 13.4, 0.0])
    found = place("a", a=a, b=b, c=np.array([48.1, 52.5, 0.0]), d=np.array([11.6, 13.4, 0.0]))

    assert found.tolist()[:2] == [pytest.approx(504, abs=3), 0]
    assert np.isnan(found[2])


def test_two_columns_are_computed_with_and_what_is_beyond_numbers_is_missing() -> None:
    x, y = np.array([6.0, 1.0, NAN, 1e30, 0.0]), np.array([4.0, 0.0, 1.0, 1e30, 0.0])
    kinds = (Transform.PRODUCT, Transform.RATIO, Transform.DIFFERENCE)
    found = [outcome(Step("x", kind, other="y"), x, x, other=("y", y, y))[:, 0] for kind in kinds]

    np.testing.assert_array_equal(found[0], [24, 0, NAN, NAN, 0])
    np.testing.assert_array_equal(found[1], [1.5, NAN, NAN, 1, NAN])
    np.testing.assert_array_equal(found[2], [2, 1, NAN, 0, 0])


def test_each_of_two_columns_is_filled_by_its_own_mean() -> None:
    x, y = np.array([1.0, 3.0, NAN]), np.array([10.0, NAN, 30.0])
    step = Step("x", Transform.DIFFERENCE, Imputation.MEAN, other="y")

    assert outcome(step, x, x, other=("y", y, y))[:, 0].tolist() == [-9, -17, -28]


def test_pairs_of_categories_are_kept_by_how_often_they_occur() -> None:
    texts = np.array(["a", "a|b", "a", "b", "a|b"], object)
    numbers = np.array([1.0, 2.0, 1.0, NAN, 2.0])
    step = Step("x", Transform.CROSS, other="y", max_categories=2)
    fitted = fit(step, texts, {"other": numbers})
    asked = np.array(["a", "a|b", "a", "b", "c", ""], object)

    assert fitted.outputs == ("cross(x,y)=a|1", "cross(x,y)=a\\|b|2")
    found = run(graph.compile_graph([fitted]), x=asked, y=np.array([1.0, 2.0, 2.0, 1.0, 1.0, NAN]))
    assert found.tolist() == [[1, 0], [0, 1], [0, 0], [0, 0], [0, 0], [0, 0]]
    with pytest.raises(FailedPrecondition, match="no training row has both y and x"):
        fit(Step("y", Transform.CROSS, other="x"), np.array([1.0, NAN]), {"other": np.array([NAN, 1.0])})


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), min_size=1, max_size=30))
def test_a_pair_is_known_when_it_occurred(pairs: list[tuple[str, str]]) -> None:
    left, right = (np.array(side, object) for side in zip(*pairs, strict=True))
    asked = [(a, b) for a in "abcd" for b in "xyzw"]
    wanted = [np.array(side, object) for side in zip(*asked, strict=True)]
    found = outcome(Step("x", Transform.CROSS, other="y"), left, wanted[0], other=("y", right, wanted[1]))

    seen = sorted(set(pairs))
    assert found.tolist() == [[float(pair == known) for known in seen] for pair in asked]
