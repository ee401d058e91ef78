"""Trend and seasons: numbers of statsmodels, loess by its definition, planted series, periods that are proposed."""

import numpy as np
import pytest

from services.data.series import decomposition
from services.data.series.decomposition import decompose, filled, proposed, stl


def test_one_period_gives_the_numbers_of_statsmodels() -> None:
    """STL(values, period=6).fit() of statsmodels 0.15.0."""
    values = np.array([(7 * i * i + 3 * i) % 11 / 2 + 0.1 * i + (4 if i % 6 == 2 else 0) for i in range(30)])
    parts = decompose(values, (6,))
    trend = [2.188759315, 3.3060110712, 3.8341619198, 4.4420409351, 4.9877510498]
    season = [-0.8685635488, 0.6234726199, 3.9289932116, -0.6432422532, -0.8719115618, -1.9517078979]

    assert parts.trend[::6] == pytest.approx(trend, abs=1e-9)
    assert parts.seasons[0][:6] == pytest.approx(season, abs=1e-9)
    assert parts.trend + parts.seasons[0] + parts.remainder == pytest.approx(values)


def test_several_periods_give_the_numbers_of_statsmodels() -> None:
    """MSTL(values, periods=(4, 10)).fit() of statsmodels 0.15.0."""
    spikes = [(4 if i % 4 == 2 else 0) + (6 if i % 10 < 3 else 0) for i in range(60)]
    values = np.array([(7 * i * i + 3 * i) % 11 / 2 + 0.1 * i + spike for i, spike in enumerate(spikes)])
    parts = decompose(values, (10, 4))

    assert parts.periods == (4, 10)
    assert parts.trend[::15] == pytest.approx([4.8498308246, 6.3224275268, 7.7837884268, 9.2874847778], abs=1e-9)
    assert parts.seasons[0][-4:] == pytest.approx([1.4416282594, -2.1487155827, 3.4740644973, -3.0569099887], abs=1e-9)
    fourth = [2.0544236389, -0.2320185573, -2.0378219347, -1.6403540132]
    assert parts.seasons[1][:10:3] == pytest.approx(fourth, abs=1e-9)


def test_lines_and_constants_are_their_own_trend() -> None:
    for slope in (0.0, 0.3):
        parts = decompose(5 + slope * np.arange(40.0), (7,))
        assert parts.trend == pytest.approx(5 + slope * np.arange(40))
        assert parts.seasons[0] == pytest.approx(np.zeros(40), abs=1e-9)
        trend, seasons = parts.ahead(10)
        assert (trend, *seasons) == pytest.approx((5 + slope * 49, 0), abs=1e-9)
    assert decompose(np.arange(9.0), ()).ahead(3)[0] == pytest.approx(11)


def test_planted_seasons_are_found_and_forecast() -> None:
    at = np.arange(24 * 21)
    day, week = 5 * np.sin(2 * np.pi * at / 24), 3 * np.cos(2 * np.pi * at / 168)
    noise = np.random.default_rng(1).normal(0, 0.1, len(at))
    parts = decompose(0.01 * at + day + week + noise, (24, 168))
    assert np.abs(parts.seasons[0] - day).mean() < 0.2
    for steps in (1, 20, 200):
        then = len(at) - 1 + steps
        trend, (of_day, of_week) = parts.ahead(steps)
        assert trend + of_day + of_week == pytest.approx(
            0.01 * then + 5 * np.sin(2 * np.pi * then / 24) + 3 * np.cos(2 * np.pi * then / 168), abs=0.6
        )


@pytest.mark.parametrize("period", [3, 7, 12, 24, 50])
def test_a_planted_period_is_proposed(period: int) -> None:
    random, at = np.random.default_rng(period), np.arange(200)
    wave = np.tile(random.normal(0, 3, period), 200)[:200]
    assert proposed(wave + 0.2 * at + random.normal(0, 0.3, 200), 66) == period


def test_no_period_is_proposed_for_noise_lines_and_constants() -> None:
    random = np.random.default_rng(9)
    assert sum(proposed(random.normal(size=200), 66) > 0 for _ in range(100)) <= 2
    assert [proposed(values, 20) for values in (np.ones(60), np.arange(60.0), np.zeros(60), np.ones(3))] == [0] * 4


def test_missing_values_lie_on_lines_between_their_neighbours() -> None:
    none = np.nan
    assert filled(np.array([none, 1, none, none, 4, none])).tolist() == [1, 1, 2, 3, 4, 4]


def test_the_same_values_give_the_same_bytes() -> None:
    values = np.random.default_rng(2).normal(size=90)
    first, again = stl(values, 9, 7), stl(np.concatenate([[1.0], values])[1:], 9, 7)
    assert all(one.tobytes() == other.tobytes() for one, other in zip(first, again, strict=True))


def test_weights_are_kept_up_to_a_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decomposition, "KEPT_BYTES", 4 * 2**20)
    values = np.random.default_rng(1).normal(size=400)
    first = decompose(values, (20,)).trend
    for period in range(20, 60):
        decompose(values, (period,))
        assert sum(weights.nbytes for _, weights in decomposition.kept.values()) <= 4 * 2**20

    assert decompose(values, (20,)).trend.tobytes() == first.tobytes()
