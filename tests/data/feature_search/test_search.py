"""What a search finds in tables with something planted; `tests.bench.feature_search` has the shares of a hundred."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.data.feature_search import leaks, measures
from services.data.feature_search.candidates import proposals, sampled
from services.data.feature_search.halves import Halves
from services.data.feature_search.screening import Screening
from services.data.feature_search.search import Searcher, Settings
from services.data.features.steps import Transform, check_steps
from services.data.schema import ColumnType
from services.kit.errors import FailedPrecondition
from tests.data.feature_search import planted

ROWS = 2400


@pytest.mark.parametrize("kind", planted.INTERACTIONS)
def test_a_planted_interaction_is_among_the_first_three(kind: str) -> None:
    made = planted.INTERACTIONS[kind](seed=7, rows=4000)

    found = planted.search(made)
    first = found.proposals[:3]
    assert made.planted in [frozenset(proposal.step.columns.values()) for proposal in first]
    assert all(0 < proposal.gain_low < proposal.gain < proposal.gain_high for proposal in first)
    assert all(proposal.p_value < 0.05 for proposal in first)
    assert found.refusals == ()
    check_steps([proposal.step for proposal in found.proposals], label="y", key="id")


@pytest.mark.parametrize("kind", planted.LEAKS)
def test_a_leak_is_refused_and_no_other_column(kind: str) -> None:
    found = planted.search(planted.leak(kind, seed=7, rows=ROWS), time="sent", spent=1.0)

    assert [refusal.column for refusal in found.refusals] == ["leak"]


@pytest.mark.parametrize("make", [planted.noise, planted.separate])
def test_where_no_columns_say_more_together_nothing_is_proposed(make: object) -> None:
    assert callable(make)
    assert planted.search(make(seed=1, rows=ROWS)).proposals == ()


def test_what_a_step_adds_is_seen_with_trees_and_by_itself() -> None:
    found = planted.search(planted.product(seed=3, rows=ROWS))
    best = found.proposals[0]

    assert best.step.transform is Transform.PRODUCT
    assert best.auc > found.auc + 0.005
    assert found.auc_all >= best.auc_trees - 0.02 > found.auc_trees - 0.02
    assert 0.5 < best.auc_alone < 1
    assert found.rows == ROWS
    assert 0 < found.tested < found.tried == found.candidates


def test_a_step_that_tells_the_label_is_said_to_be_suspicious() -> None:
    random = np.random.default_rng(1)
    begun, labels = random.normal(size=ROWS), (random.random(ROWS) < 0.4).astype(float)
    ended = begun + labels + random.normal(0, 0.05, ROWS)
    columns = [sampled(name, ColumnType.DOUBLE, values) for name, values in (("begun", begun), ("ended", ended))]

    found = planted.search(planted.Planted(columns, labels, frozenset()))
    assert found.proposals[0].step.columns == {"column": "begun", "other": "ended"}
    assert found.proposals[0].suspicious


def test_a_column_that_is_allowed_is_used_whatever_it_says() -> None:
    made = planted.leak("with noise", seed=7, rows=ROWS)

    assert planted.search(made, allow=["leak"], spent=1.0).refusals == ()


def test_a_strong_column_beside_others_is_no_leak() -> None:
    random = np.random.default_rng(5)
    one, other = random.normal(size=ROWS), random.normal(size=ROWS)
    labels = (random.random(ROWS) < 1 / (1 + np.exp(-4 * one - 3 * other))).astype(float)
    columns = [sampled(name, ColumnType.DOUBLE, values) for name, values in (("one", one), ("other", other))]

    assert planted.search(planted.Planted(columns, labels, frozenset()), spent=1.0).refusals == ()


def test_steps_that_are_chosen_hold_the_values_of_no_others() -> None:
    made = planted.product(seed=3, rows=ROWS)
    halves = Halves(made.labels)
    halves.take(made.columns)
    steps = list(proposals(made.columns))
    chosen, tried = Screening({column.name: column for column in made.columns}, halves).best(steps, lambda _: True)

    whole = [one.values if one.values.base is None else one.values.base for one in chosen]
    assert tried == len(steps) > len(chosen) == 64
    assert sum(values.nbytes for values in whole) == sum(one.values.nbytes for one in chosen)


def test_a_search_ends_with_what_it_has_when_its_budget_is_used_up() -> None:
    made = planted.product(seed=7, rows=ROWS)
    steps = iter([0.0] * 2)
    how = Settings(rate=0.05, table_rows=ROWS)

    found = Searcher(made.columns, made.labels, how, lambda: next(steps, 2.0), lambda progress, message: None).run()
    assert (found.tried, found.tested) == (128, 0)
    assert found.tried < found.candidates


@pytest.mark.parametrize(
    ("rows", "ones", "rule"),
    [(900, 400, "needs 1000 rows with a label"), (2000, 30, "of each label 40 or more"), (2000, 2000, "of each label")],
)
def test_too_few_rows_say_nothing(rows: int, ones: int, rule: str) -> None:
    labels = np.random.default_rng(1).permutation(np.arange(rows) < ones).astype(float)
    column = sampled("x", ColumnType.DOUBLE, np.random.default_rng(2).normal(size=rows))

    with pytest.raises(FailedPrecondition, match=rule):
        planted.search(planted.Planted([column], labels, frozenset()))


def test_a_table_of_texts_alone_cannot_be_searched() -> None:
    random = np.random.default_rng(1)
    texts = np.array([f"{random.integers(10**9)} words" for _ in range(ROWS)], object)
    labels = (random.random(ROWS) < 0.5).astype(float)

    with pytest.raises(FailedPrecondition, match="no column is left"):
        planted.search(planted.Planted([sampled("note", ColumnType.STRING, texts)], labels, frozenset()))


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), min_size=10, max_size=60), st.integers(0, 99))
def test_the_mean_of_a_bin_is_never_of_the_row_itself(rows: list[tuple[int, int]], seed: int) -> None:
    codes, labels = (np.array(column) for column in zip(*rows, strict=True))
    folds = measures.folds_of(len(codes), seed)
    means = measures.means(codes, folds, labels.astype(float))

    for row in range(len(codes)):
        flipped = labels.astype(float)
        flipped[folds == folds[row]] = 1 - flipped[folds == folds[row]]
        assert measures.means(codes, folds, flipped)[row] == pytest.approx(means[row])


def test_discoveries_are_those_of_benjamini_and_hochberg() -> None:
    # The example of their paper of 1995: at a rate of 0.05 the four smallest of fifteen are refused.
    values = [
        0.0001,
        0.0004,
        0.0019,
        0.0095,
        0.0201,
        0.0278,
        0.0298,
        0.0344,
        0.0459,
        0.3240,
        0.4262,
        0.5719,
        0.6528,
        0.7590,
        1,
    ]

    assert measures.discoveries(values, 0.05) == [True] * 4 + [False] * 11
    assert measures.discoveries([], 0.05) == []
    assert measures.discoveries([0.04, 0.03], 0.05) == [True, True]


def test_an_area_under_the_curve_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(1)
    scores, labels = random.integers(0, 20, 500).astype(float), random.integers(0, 2, 500).astype(float)
    assert measures.auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert measures.auc(scores, np.ones(500)) == 0.5


def test_a_count_of_rows_is_an_id_and_a_count_of_things_is_none() -> None:
    random = np.random.default_rng(1)
    number, things = np.arange(2000.0), random.integers(0, 2000, 2000).astype(float)
    columns = [sampled("number", ColumnType.INT64, number), sampled("things", ColumnType.INT64, things)]

    assert [refusal.column for refusal in leaks.ids(columns, 2000)] == ["number"]
