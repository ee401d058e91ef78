"""Medoids: no swap gains anything, the best of all choices is found where clusters are apart, the seed decides."""

import itertools
from typing import Any

import numpy as np
import pytest

from services.data.series_clusters.medoids import between, medoids
from tests.data.series.plain import warped

Array = np.ndarray[Any, Any]


def cost(apart: Array, chosen: Any) -> float:
    return float(apart[list(chosen)].min(axis=0).sum())


def points(seed: int, count: int) -> Array:
    """Distances of points in a plane."""
    at = np.random.default_rng(seed).normal(size=(count, 2))
    return np.asarray(np.sqrt(((at[:, None] - at[None]) ** 2).sum(axis=2)))


def test_all_pairs_have_their_distance() -> None:
    series = np.random.default_rng(2).normal(size=(9, 12))
    told: list[float] = []
    found = between(series, 2, told.append)

    assert found == pytest.approx(np.array([[warped(a, b, 2) for b in series] for a in series]), rel=1e-12)
    assert (found == found.T).all()
    assert told == sorted(told)
    assert 0 <= told[0] < told[-1] <= 1


@pytest.mark.parametrize("seed", range(12))
def test_no_single_swap_is_better(seed: int) -> None:
    apart = points(seed, 40)
    found = medoids(apart, 5, seed)

    assert len(set(found.tolist())) == 5
    for out, new in itertools.product(range(5), range(40)):
        if new not in found:
            swapped = [new if index == out else place for index, place in enumerate(found.tolist())]
            assert cost(apart, swapped) >= cost(apart, found) - 1e-9


def test_mostly_the_best_of_all_choices_is_found() -> None:
    """Swaps may end at a choice that is not the best: not often, and never far from it."""
    best, ratios = 0, list[float]()
    for seed in range(30):
        apart = points(seed, 16)
        least = min(cost(apart, chosen) for chosen in itertools.combinations(range(16), 3))
        ratios.append(cost(apart, medoids(apart, 3, seed)) / least)
        best += ratios[-1] < 1 + 1e-9
    assert best >= 28
    assert max(ratios) < 1.05


def test_series_that_are_all_the_same_have_different_medoids() -> None:
    found = medoids(np.zeros((6, 6)), 4, 0)
    assert len(set(found.tolist())) == 4


def test_the_same_seed_gives_the_same() -> None:
    apart = points(3, 300)
    assert medoids(apart, 20, 5).tolist() == medoids(apart, 20, 5).tolist()
    assert len({tuple(medoids(apart, 20, seed).tolist()) for seed in range(4)}) > 1
