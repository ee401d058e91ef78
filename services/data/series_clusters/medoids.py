"""k-medoids: series that stand for others, such that those are near them (Kaufman and Rousseeuw 1990). Pure numpy.

Begun as k-means++ is, by the seed, then improved by swaps as in FasterPAM (Schubert and Rousseeuw 2021), until it gains
nothing to swap a medoid for another series; of several beginnings the best. The same distances and seed give the same.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from services.data.series.warping import distances

Array = np.ndarray[Any, Any]
_LEAST = 1e-9  # a swap that gains less, as a part of the sum of distances, is one of rounding
_ROUNDS = 100  # through all series
_STARTS = 8


def between(series: Array, band: int, tell: Callable[[float], None]) -> Array:
    """The distances of all pairs of `series` [count, values]; `tell` hears which part is done."""
    count = len(series)
    found = np.zeros((count, count))
    for place in range(count - 1):
        found[place, place + 1 :] = distances(series[place + 1 :], series[place], band)
        tell(1 - (1 - place / count) ** 2)
    return found + found.T


def medoids(apart: Array, clusters: int, seed: int) -> Array:
    """The places of the medoids, rising, for the distances of all pairs; at least as many series as clusters."""
    random = np.random.default_rng(seed)
    found = [np.sort(_improved(apart, _begun(apart, clusters, random))) for _ in range(_STARTS)]
    return min(found, key=lambda each: float(apart[each].min(axis=0).sum()))


def _begun(apart: Array, clusters: int, random: np.random.Generator) -> Array:
    """Each the likelier, the farther it is from those before, by the square of the distance."""
    found = [int(random.integers(len(apart)))]
    while len(found) < clusters:
        weights = apart[found].min(axis=0) ** 2
        weights[found] = 0.0
        weights = weights if weights.max() > 0 else np.isin(np.arange(len(apart)), found, invert=True).astype(float)
        reached = np.cumsum(weights / weights.max())
        place = int(np.searchsorted(reached, random.random() * reached[-1], side="right"))
        # Rounding may lead behind the last one that has a weight.
        found.append(min(place, int(np.flatnonzero(weights)[-1])))
    return np.array(found)


def _improved(apart: Array, found: Array) -> Array:
    """Tries each series in turn, and swaps it with the medoid for which that gains most."""
    count = len(apart)
    near, first, second = nearest(apart[found])
    tried = 0  # since the last swap
    for turn in range(_ROUNDS * count):
        if tried == count:
            break
        place, tried = turn % count, tried + 1
        if place in found:
            continue
        far = apart[place]
        # What the sum of distances changes by, when this series comes and each medoid goes.
        instead = np.where(far < first, 0.0, np.minimum(far, second) - first)
        change = np.bincount(near, instead, len(found)) + np.minimum(far - first, 0.0).sum()
        least = int(np.argmin(change))
        if change[least] < -_LEAST * first.sum():
            found[least], tried = place, 0
            near, first, second = nearest(apart[found])
    return found


def nearest(far: Array) -> tuple[Array, Array, Array]:
    """For distances [medoids, series], at least two: of each series the nearest medoid, and the least two distances."""
    least = np.partition(far, 1, axis=0)
    return far.argmin(axis=0), least[0], least[1]
