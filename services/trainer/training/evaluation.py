"""Metrics of binary classification. Pure numpy."""

from typing import Any

import numpy as np

from services.trainer.training.table import Array

BINS = 10
CURVE = 200  # points of a curve, at most


def auc(labels: Array, probabilities: Array) -> float:
    """The probability that a 1 is ranked above a 0; a tie counts half (Mann-Whitney U)."""
    _, place, counts = np.unique(probabilities, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # of equal values: their mean
    ones = labels.sum()
    zeros = len(labels) - ones
    return float((ranks[place][labels == 1].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def log_loss(labels: Array, probabilities: Array) -> float:
    """Mean negative log-likelihood; probabilities are kept 1e-7 away from 0 and 1."""
    kept = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-np.mean(labels * np.log(kept) + (1 - labels) * np.log1p(-kept)))


def calibration(labels: Array, probabilities: Array) -> list[dict[str, float]]:
    """Ten bins of equal width: rows, mean probability, share of ones."""
    bins = np.minimum((probabilities.astype(np.float64) * BINS).astype(int), BINS - 1)
    rows = np.bincount(bins, minlength=BINS)
    predicted = np.bincount(bins, probabilities, BINS) / np.maximum(rows, 1)
    observed = np.bincount(bins, labels, BINS) / np.maximum(rows, 1)
    return [
        {
            "from": i / BINS,
            "to": (i + 1) / BINS,
            "rows": int(rows[i]),
            "predicted": predicted[i],
            "observed": observed[i],
        }
        for i in range(BINS)
    ]


def calibration_error(bins: list[dict[str, float]]) -> float:
    """Expected calibration error: the gap between predicted and observed, weighted by rows."""
    rows = sum(found["rows"] for found in bins)
    return float(sum(found["rows"] * abs(found["predicted"] - found["observed"]) for found in bins) / rows)


def roc(labels: Array, probabilities: Array) -> list[dict[str, float]]:
    """Points of the ROC curve from (0, 0) to (1, 1), at most 200; threshold: rows at or above count as 1."""
    order = np.argsort(-probabilities, kind="stable")
    ones, ranked = np.cumsum(labels[order]), probabilities[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # a tie is one point
    ends = ends[np.unique(np.linspace(0, len(ends) - 1, min(len(ends), CURVE - 1)).astype(int))]
    zeros = ends + 1 - ones[ends]
    points = [{"threshold": 1.0, "false_positive_rate": 0.0, "true_positive_rate": 0.0}]
    for end, false in zip(ends, zeros, strict=True):
        rates = (false / (len(labels) - ones[-1]), ones[end] / ones[-1])
        points.append(dict(zip(points[0], (float(ranked[end]), *map(float, rates)), strict=True)))
    return points


def evaluate(labels: Array, probabilities: Array) -> tuple[dict[str, float], dict[str, Any]]:
    """The metrics by name, and the report with curves. Both labels must occur."""
    bins, guess = calibration(labels, probabilities), probabilities >= 0.5
    metrics = {
        "auc": auc(labels, probabilities),
        "log_loss": log_loss(labels, probabilities),
        "base_rate": float(labels.mean()),
        "calibration_error": calibration_error(bins),
        "accuracy": float(np.mean(guess == (labels == 1))),
        "evaluate_rows": float(len(labels)),
    }
    confusion = {
        f"{'true' if predicted == actual else 'false'}_{'positive' if predicted else 'negative'}": int(
            np.sum((guess == predicted) & (labels == actual))
        )
        for predicted in (0, 1)
        for actual in (0, 1)
    }
    return metrics, {"metrics": metrics, "confusion": confusion, "calibration": bins, "roc": roc(labels, probabilities)}
