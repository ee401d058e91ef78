import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.logs.monitors.domain import Pair, auc, log_loss, quality, score_at

PAIRS = st.lists(
    st.builds(
        Pair,
        st.just(1),
        st.sampled_from([0.0, 0.1, 0.5, 0.5000001, 1.0]) | st.floats(0, 1),
        st.sampled_from([0.0, 1.0]),
    ),
    max_size=40,
)


@given(PAIRS)
def test_the_area_is_the_share_of_pairs_in_order(pairs: list[Pair]) -> None:
    ones = [pair.score for pair in pairs if pair.value == 1]
    zeros = [pair.score for pair in pairs if pair.value == 0]
    if not ones or not zeros:
        assert auc(pairs) is None
        return
    wins = sum((one > zero) + (one == zero) / 2 for one in ones for zero in zeros)

    assert auc(pairs) == pytest.approx(wins / (len(ones) * len(zeros)), abs=1e-12)


@given(PAIRS)
def test_turning_the_scores_turns_the_area(pairs: list[Pair]) -> None:
    turned = [Pair(1, -pair.score, pair.value) for pair in pairs]
    there, back = auc(pairs), auc(turned)

    assert there is None or back is None or there + back == pytest.approx(1)


def test_the_loss_is_the_mean_of_the_logs() -> None:
    assert log_loss([Pair(1, 0.8, 1), Pair(1, 0.4, 0)]) == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)


def test_a_certain_error_has_a_finite_loss() -> None:
    assert log_loss([Pair(1, 0.0, 1)]) == pytest.approx(34.54, abs=0.01)


def test_scores_that_are_no_chances_have_no_loss() -> None:
    assert log_loss([Pair(1, 1.5, 1), Pair(1, 0.5, 0)]) is None
    assert log_loss([]) is None


def test_a_version_without_outcomes_has_its_count_only() -> None:
    assert (quality(3, 10, []).predictions, quality(3, 10, []).auc) == (10, None)


def test_a_score_is_read_by_its_row() -> None:
    scores = struct.pack("<3d", 0.25, float("nan"), 0.75)

    assert [score_at(scores, row) for row in range(4)] == [0.25, None, 0.75, None]
