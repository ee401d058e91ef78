"""Measures against scikit-learn and against what they mean."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as peer

from services.trainer.training import evaluation
from services.trainer.training.table import Array

PAIRS = st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=2, max_size=80)


def arrays(pairs: list[tuple[bool, int]]) -> tuple[Array, Array]:
    """Labels with both kinds, and probabilities with many ties."""
    whole = [*pairs, (True, 7), (False, 13)]
    return np.array([float(a) for a, _ in whole]), np.array([b / 20 for _, b in whole], np.float32)


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_auc_and_loss_are_those_of_scikit_learn(pairs: list[tuple[bool, int]]) -> None:
    labels, scores = arrays(pairs)

    assert evaluation.auc(labels, scores) == pytest.approx(peer.roc_auc_score(labels, scores))
    clipped = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
    assert evaluation.log_loss(labels, scores) == pytest.approx(peer.log_loss(labels, clipped))


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_the_curve_rises_from_corner_to_corner_with_the_same_area(pairs: list[tuple[bool, int]]) -> None:
    labels, scores = arrays(pairs)
    points = evaluation.roc(labels, scores)
    false = [point["false_positive_rate"] for point in points]
    true = [point["true_positive_rate"] for point in points]

    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert false == sorted(false)
    assert true == sorted(true)
    assert np.trapezoid(true, false) == pytest.approx(evaluation.auc(labels, scores))


def test_a_curve_of_many_rows_has_at_most_200_points() -> None:
    random = np.random.default_rng(1)
    scores = random.random(10_000).astype(np.float32)
    labels = (random.random(10_000) < scores).astype(float)
    points = evaluation.roc(labels, scores)

    assert len(points) <= 200
    area = np.trapezoid([p["true_positive_rate"] for p in points], [p["false_positive_rate"] for p in points])
    assert area == pytest.approx(evaluation.auc(labels, scores), abs=0.001)


def test_what_is_said_and_what_came_meet_in_the_bins() -> None:
    bins = evaluation.calibration(np.array([0.0, 1.0, 1.0, 1.0]), np.array([0.05, 0.05, 0.95, 1.0], np.float32))

    assert (bins[0]["rows"], bins[0]["observed"]) == (2, 0.5)
    assert bins[0]["predicted"] == pytest.approx(0.05)
    assert (bins[9]["rows"], bins[9]["observed"]) == (2, 1.0)
    assert evaluation.calibration_error(bins) == pytest.approx((2 * 0.45 + 2 * 0.025) / 4)


def test_the_report_counts_right_and_wrong() -> None:
    labels, scores = np.array([0.0, 0, 1, 1, 1]), np.array([0.1, 0.9, 0.2, 0.6, 0.7], np.float32)
    metrics, report = evaluation.evaluate(labels, scores)

    assert report["confusion"] == {
        "true_negative": 1,
        "false_negative": 1,
        "false_positive": 1,
        "true_positive": 2,
    }
    assert (metrics["accuracy"], metrics["base_rate"], metrics["evaluate_rows"]) == (0.6, 0.6, 5.0)
