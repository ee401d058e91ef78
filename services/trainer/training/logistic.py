"""Logistic regression by L-BFGS, on features scaled to zero mean and unit variance."""

from collections.abc import Callable, Sequence

import numpy as np

from services.kit.errors import FailedPrecondition
from services.trainer.jobs.domain import LogisticRegression
from services.trainer.training.table import Array

Point = Callable[[str, int, float], None]


def train(
    features: Array, labels: Array, names: Sequence[str], how: LogisticRegression, point: Point
) -> tuple[Array, float]:
    """Weights [columns] and intercept for features [rows, columns] as they are, FP64; scaling is folded in.

    Minimises mean log loss + |w|^2 / (2 c rows); reports the value as `train_loss` after every iteration.
    Raises failed_precondition for a feature with missing values.
    """
    from scipy.optimize import minimize  # type: ignore[import-untyped]

    if len(broken := np.flatnonzero(~np.isfinite(features).all(axis=0))):
        raise FailedPrecondition(f"{names[broken[0]]} has missing values: logistic regression needs an imputation")
    rows, columns = features.shape
    mean = features.mean(axis=0, dtype=np.float64)
    squares = np.einsum("ij,ij->j", features, features, dtype=np.float64) / rows  # without a copy in FP64
    spread = np.sqrt(np.maximum(squares - mean**2, 0))
    # A feature that hardly varies would get a huge weight.
    scale = np.where(spread > 1e-9 * np.maximum(np.abs(mean), 1.0), 1 / np.maximum(spread, 1e-300), 0.0)
    last = [np.inf]

    def loss(weights: Array) -> tuple[float, Array]:
        slope = weights[:-1] * scale
        odds = (features @ slope.astype(np.float32)).astype(np.float64) + (weights[-1] - slope @ mean)
        rest = 1 / (1 + np.exp(-np.clip(odds, -500, 500))) - labels
        value = np.mean(np.logaddexp(0, odds) - labels * odds) + weights[:-1] @ weights[:-1] / (2 * how.c * rows)
        down = (rest.astype(np.float32) @ features).astype(np.float64) - rest.sum() * mean
        last[0] = float(value)
        return float(value), np.append(down * scale / rows + weights[:-1] / (how.c * rows), rest.mean())

    steps = 0

    def tell(_: Array) -> None:
        nonlocal steps
        steps += 1
        point("train_loss", steps, last[0])

    start = np.zeros(columns + 1)
    options = {"maxiter": how.iterations, "ftol": 1e-6, "gtol": 1e-6}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", callback=tell, options=options).x
    slope = found[:-1] * scale
    return slope, float(found[-1] - slope @ mean)
