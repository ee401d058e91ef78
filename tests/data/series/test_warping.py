"""Dynamic time warping: by its definition, cell by cell, and the numbers of dtaidistance."""

import numpy as np
import pytest

from services.data.series.warping import distances, scaled
from tests.data.series.plain import warped


@pytest.mark.parametrize(
    ("n", "m", "band"), [(2, 2, 0), (9, 9, 1), (9, 9, 3), (12, 5, 1), (5, 12, 2), (30, 31, 0), (7, 3, 1000)]
)
def test_distances_are_those_of_the_table(n: int, m: int, band: int) -> None:
    random = np.random.default_rng(n * m + band)
    series, template = random.normal(size=(6, n)), random.normal(size=m)
    found = distances(series, template, band)

    assert found == pytest.approx([warped(one, template, band) for one in series], rel=1e-12)
    alone = np.concatenate([distances(one[None, :], template, band) for one in series])
    assert found.tobytes() == alone.tobytes()


def test_distances_are_those_of_dtaidistance() -> None:
    """What dtw.distance of dtaidistance 2.5.1 has given for them, whose window is the band and one more."""
    a, b = np.array([0.0, 1, 3, 2, 5, 4, 1, 0, 2, 2, 1]), np.array([1.0, 1, 2, 4, 4, 2, 0, 1])
    c = np.array([0.0, 2, 2, 3, 6, 1, 1, 0, 1, 3, 1])
    found = [float(distances(one[None, :], two, band)[0]) for one, two, band in ((a, b, 0), (b, a, 2), (a, c, 1))]
    assert found == pytest.approx([2.449489742783178, 2.449489742783178, 3.1622776601683795], rel=1e-12)


def test_a_series_is_near_itself_warped_and_far_from_others() -> None:
    wave = np.sin(np.arange(40) / 4)
    late, other = np.sin((np.arange(40) - 3) / 4), np.cos(np.arange(40) / 2)
    straight = np.sqrt(((late - wave) ** 2).sum())
    near, far = distances(np.array([late, other]), wave, 0)
    assert near < straight
    assert far > near
    assert distances(wave[None, :], wave, 1)[0] == 0
    assert distances(late[None, :], wave, 1)[0] >= near, "a band leaves fewer paths"


def test_scaled_series_have_no_level_and_no_size() -> None:
    series = np.array([[1.0, 2.0, 4.0], [5.0, 5.0, 5.0], [1e200, 1e200, 1e200]])
    found = scaled(series)
    assert found[0] == pytest.approx((series[0] - 7 / 3) / np.std(series[0]))
    assert scaled(series[:1] * 1e300) == pytest.approx(found[:1])
    many = np.random.default_rng(4).normal(size=(50, 1000)) * np.logspace(-9, 9, 50)[:, None]
    assert scaled(many).tobytes() == b"".join(scaled(one[None, :]).tobytes() for one in many)
    assert (found[1].tolist(), found[2].tolist()) == ([0, 0, 0], [0, 0, 0])
