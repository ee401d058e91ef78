"""Words of texts beside scikit-learn, and numbers of groups beside pandas."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer

from services.data.features import graph
from services.data.features.constants import WORDS, Array
from services.data.features.fit_text import words
from services.data.features.fitting import fit
from services.data.features.steps import Aggregate, Step, Transform
from services.kit.errors import FailedPrecondition
from tests.data.graphs import run

NAN = float("nan")
RANDOM = np.random.default_rng(8)
VOCABULARY = np.array(["Late", "plane,", "gate", "GATE", "é", "日本", "a", "x1", "crew", "storm"], object)
TEXTS = np.array([" ".join(RANDOM.choice(VOCABULARY, RANDOM.integers(0, 12))) for _ in range(200)], object)
ASKED = np.array([*TEXTS[:40], "never seen", "", "   ", " late  gate ", "a\tb\nc", "late " * 300], object)


def outcome(step: Step, values: Array, asked: Array) -> Array:
    return run(graph.compile_graph([fit(step, values)]), x=asked)


@pytest.mark.parametrize("buckets", [2, 16, 1024])
def test_words_are_hashed_as_scikit_learn_hashes_them(buckets: int) -> None:
    theirs = HashingVectorizer(n_features=buckets, analyzer=words, norm=None, alternate_sign=False)

    found = outcome(Step("x", Transform.TEXT_HASH, buckets=buckets), TEXTS, ASKED)
    np.testing.assert_array_equal(found, theirs.transform(ASKED).toarray())


@pytest.mark.parametrize("most", [1, 3, 64])
def test_words_are_weighed_as_scikit_learn_weighs_them(most: int) -> None:
    step = Step("x", Transform.TEXT_TFIDF, max_categories=most)
    names = [name.removeprefix("text_tfidf(x)=") for name in fit(step, TEXTS).outputs]
    theirs = TfidfVectorizer(analyzer=words, vocabulary=names).fit(TEXTS)

    np.testing.assert_allclose(outcome(step, TEXTS, ASKED), theirs.transform(ASKED).toarray(), rtol=1e-6, atol=1e-7)
    if most == 64:
        assert names == sorted(TfidfVectorizer(analyzer=words).fit(TEXTS).vocabulary_)


def test_the_most_frequent_words_are_kept_and_of_equals_the_first() -> None:
    values = np.array(["c c b", "a a b", "d"], object)

    assert fit(Step("x", Transform.TEXT_TFIDF, max_categories=3), values).outputs == tuple(
        f"text_tfidf(x)={word}" for word in "abc"
    )


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("aZ é\t,\n日\0İ"), max_size=30))
def test_the_graph_finds_the_words_that_fitting_found(text: str) -> None:
    values = np.array([text, "anchor"], object)
    found = outcome(Step("x", Transform.TEXT_TFIDF), values, values)

    said = words(text)
    assert [name for name, weight in zip(sorted({*said, "anchor"}), found[0], strict=True) if weight] == sorted(
        set(said)
    )


def test_only_the_first_words_of_a_text_count() -> None:
    long = np.array([" ".join([*["a"] * WORDS, "b"]), "b"], object)

    assert outcome(Step("x", Transform.TEXT_TFIDF), long, long).tolist() == [[1, 0], [0, 1]]
    assert outcome(Step("x", Transform.TEXT_HASH), long, long).sum(axis=1).tolist() == [WORDS, 1]


@pytest.mark.parametrize("transform", [Transform.TEXT_HASH, Transform.TEXT_TFIDF])
def test_no_rows_and_rows_of_no_words_are_batches_too(transform: Transform) -> None:
    step = Step("x", transform, buckets=3, max_categories=3)
    values = np.array(["a b c"], object)

    assert outcome(step, values, np.array([], object)).shape == (0, 3)
    assert outcome(step, values, np.array(["", " "], object)).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_texts_without_words_teach_nothing() -> None:
    with pytest.raises(FailedPrecondition, match="x has no word in the training rows"):
        fit(Step("x", Transform.TEXT_TFIDF), np.array(["", "  "], object))


THEIRS = {Aggregate.DEVIATION: lambda numbers: numbers.std(ddof=0)} | {
    kind: lambda numbers, kind=kind: getattr(numbers, kind)() for kind in Aggregate if kind and kind != "deviation"
}


def grouped(aggregate: Aggregate, values: Array, keys: Array, asked: Array) -> list[float]:
    step = fit(Step("x", Transform.GROUP, group="g", aggregate=aggregate), values, {"group": keys})
    assert step.outputs == (f"{aggregate}(x by g)",)
    found: list[float] = run(graph.compile_graph([step]), g=asked)[:, 0].tolist()
    return found


@pytest.mark.parametrize("aggregate", THEIRS)
@pytest.mark.parametrize("text", [True, False])
def test_aggregates_are_those_of_pandas(aggregate: Aggregate, text: bool) -> None:
    values = np.where(RANDOM.random(500) < 0.1, np.nan, RANDOM.normal(5, 30, 500))
    numbers = RANDOM.integers(0, 20, 500).astype(float)
    keys = np.array([f"k{int(number)}" for number in numbers], object) if text else numbers
    theirs = THEIRS[aggregate](pd.Series(values).groupby(keys))

    found = grouped(aggregate, values, keys, np.array(theirs.index, keys.dtype))
    np.testing.assert_allclose(found, theirs, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("aggregate", THEIRS)
def test_a_group_that_is_unseen_or_has_no_number_has_that_of_all_rows_or_nothing_to_count(aggregate: Aggregate) -> None:
    values, keys = np.array([1.0, 2.0, 6.0, NAN, np.inf]), np.array(["a", "a", "b", "c", "c"], object)
    everyone = 0.0 if aggregate in ("count", "sum") else THEIRS[aggregate](pd.Series([1.0, 2.0, 6.0]))

    found = grouped(aggregate, values, keys, np.array(["c", "d", ""], object))
    assert found == [pytest.approx(everyone)] * 3


def test_a_missing_number_is_no_group() -> None:
    values, keys = np.array([1.0, 5.0, 9.0]), np.array([1.0, 2.0, NAN])

    assert grouped(Aggregate.MEAN, values, keys, np.array([1.0, 2.0, NAN, 3.0])) == [1, 5, 5, 5]


@pytest.mark.parametrize(
    ("values", "says"),
    [([NAN], "x has no value in the training rows"), ([1e308, 1e308], "x holds numbers")],
)
def test_numbers_that_cannot_be_aggregated_are_refused(values: list[float], says: str) -> None:
    with pytest.raises(FailedPrecondition, match=says):
        grouped(Aggregate.SUM, np.array(values), np.zeros(len(values)), np.zeros(1))
